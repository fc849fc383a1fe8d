// What reading one file gave.
#ifndef HOLDFAST_CLIENT_BACKUP_FILE_RESULT_H_
#define HOLDFAST_CLIENT_BACKUP_FILE_RESULT_H_

#include <atomic>
#include <optional>
#include <vector>

#include "client/scan/scanner.h"
#include "core/tree/entry.h"

namespace holdfast {

struct FileResult {
  enum class Outcome { kStored, kVanished, kFailed };
  Outcome outcome = Outcome::kStored;
  SourceStat stat;    // as of the reading
  uint64_t size = 0;  // bytes really read
  uint32_t flags = 0;
  Content content;  // large files: filled by the consumer from the pieces
  std::vector<Hole> holes;
  std::optional<FileDigest> digest;
  std::vector<Xattr> xattrs;
  bool has_large_xattrs = false;   // more than are kept here: to be read when their turn comes
  SourceError error;               // of kFailed
  std::atomic<bool> ready{false};  // everything above is final; released by the worker
};

// True when nothing that content depends on changed between two looks at a file.
inline bool IsSameVersion(const SourceStat& a, const SourceStat& b) {
  return a.size == b.size && a.mtime == b.mtime && a.ctime == b.ctime && a.identity.inode == b.identity.inode;
}

// Up to kXattrBytesKeptMax are kept with the result: thousands of results may wait for their turn.
inline constexpr size_t kXattrBytesKeptMax = 4096;
void KeepXattrs(FileResult& result, std::vector<Xattr> xattrs);

// Sets outcome and error from a failed open or read of `name`.
void SetSourceFailure(FileResult& result, const SourceDirectory& directory, std::string_view name,
                      std::string_view operation, const absl::Status& status);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_FILE_RESULT_H_
