// Lists one directory: its names, sorted and without what the rules leave out, with their stat, in blocks of up to
// kBlockNames: all of a small directory at once, a huge one piece by piece, its names waiting sorted (and beyond
// names_bytes_max in a spill file). What order directories are taken in is the scanner's affair (posix_source_fs.cc).
#ifndef HOLDFAST_CLIENT_SCAN_DIRECTORY_LISTER_H_
#define HOLDFAST_CLIENT_SCAN_DIRECTORY_LISTER_H_

#include <unistd.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/scan/ignore_rules.h"
#include "client/scan/posix_directory.h"
#include "client/scan/scanner.h"
#include "client/scan/sorted_names.h"

namespace holdfast {

// Something to tell the observer when the consumer gets there.
struct ScanEvent {
  enum class Kind : uint8_t { kError, kSkipped, kVanished };
  Kind kind;
  SkipReason reason = SkipReason::kExcluded;
  int error_number = 0;
  const char* operation = "";
  // The path is made when it is told: kept ready, those of deep directories would take any memory.
  std::shared_ptr<PosixDirectory> directory;
  std::string name;
};

// Consecutive entries of one directory.
struct ScanBlock {
  struct Item {
    uint32_t name_offset;
    uint32_t flags;
    SourceStat stat;
    uint16_t name_size;
  };
  std::shared_ptr<PosixDirectory> directory;
  std::string names;
  std::vector<Item> items;
  std::vector<ScanEvent> events;
  bool last = false;    // of its directory
  int fatal_error = 0;  // of the root
  uint64_t charged_bytes = 0;
};

// The subdirectories of one directory that nobody has started.
struct ScanBranch {
  static constexpr uint64_t kBytesMax = 4 << 20;  // of names waiting in memory
  explicit ScanBranch(std::string spill_directory) : queue(kBytesMax, std::move(spill_directory)) {}
  std::shared_ptr<PosixDirectory> directory;
  std::shared_ptr<const IgnoreChain> rules;
  RecordQueue queue;  // FileIdentity, name
};

// A directory that was started. Whoever set `busy` owns the first part; the second belongs to the
// scanner's lock.
struct ScanNode {
  std::shared_ptr<PosixDirectory> directory;
  std::shared_ptr<const IgnoreChain> rules;
  std::shared_ptr<SharedFd> fd;        // while names are left
  std::unique_ptr<SortedNames> names;  // null: not listed yet, or no name is left
  std::string path;                    // relative, with a '/' at the end unless empty; only if there are rules
  bool only_cache_tag = false;
  std::unique_ptr<ScanBranch> branch;  // being filled

  bool busy = false;
  bool done = false;                              // no more blocks will come
  uint64_t charged_bytes = 0;                     // for the names
  std::vector<std::unique_ptr<ScanBlock>> ready;  // first one first
};

// What each thread needs for listing.
struct Workbench {
  static constexpr size_t kBufferBytes = 64 << 10;
  std::unique_ptr<char[]> buffer{new char[kBufferBytes]};
  std::string path;
};

// Thread-safe; one thread at a time per node.
class DirectoryLister {
 public:
  explicit DirectoryLister(const ScanOptions& options);  // borrowed

  // Why the root of a scan, a directory open as `fd`, is not entered; nothing if it is.
  std::optional<SkipReason> WhyNotScan(int fd, const FileIdentity& root);
  // The next entries of the directory, which is listed first if it was not. Errors are events of the block.
  std::unique_ptr<ScanBlock> MakeBlock(ScanNode* node, Workbench* bench);

 private:
  // Which directories are entered.
  bool IsPseudo(int parent_fd, const char* name, uint64_t device);
  std::optional<SkipReason> WhyNotDescend(int parent_fd, const char* name, const FileIdentity& parent,
                                          const SourceStat& st);
  bool HasRules(const ScanNode& node) const { return node.rules != nullptr || !command_line_.empty(); }

  bool List(ScanNode* node, ScanBlock* block, Workbench* bench);
  void ReadIgnoreFile(ScanNode* node, ScanBlock* block);
  bool IsExcluded(const ScanNode& node, std::string_view name, bool is_directory, Workbench* bench) const;
  int ReadSmallFile(int directory_fd, const char* name, size_t size_max, std::string* out);

  const ScanOptions& options_;
  const bool reads_everything_ = geteuid() == 0;
  std::vector<FileIdentity> own_state_;
  IgnoreList command_line_;

  absl::Mutex pseudo_mu_;
  std::map<uint64_t, bool> pseudo_ ABSL_GUARDED_BY(pseudo_mu_);  // by st_dev
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SCAN_DIRECTORY_LISTER_H_
