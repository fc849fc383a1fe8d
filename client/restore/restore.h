// Restore: writes a snapshot, or one path inside it, to a file system.
//
// What goes where. `path_inside` names a directory (empty: the root of the snapshot): its contents go into
// options.target, and the target gets that directory's own metadata. It names anything else: it becomes
// target/<its name>. The target is created when absent (parents too); existing directories are merged into and get the
// snapshot's metadata at the end.
//
// Safety. Every object is reached from a descriptor of the target, one checked name at a time, never through a symbolic
// link, whether it was there before, was restored, or appears meanwhile. A name that is empty, "." or "..", too long,
// or has '/' or NUL in it, is refused and listed. New directories are 0700 and new files closed to strangers until
// their owner is set. A directory's own metadata is set as soon as everything below it is done, so deepest first.
//
// Errors. Restore fails as a whole only when the chunk source or the target as a whole fails (source unreachable, no
// such path, disk full, read-only target, cancelled). Everything else is a RestoreProblem given to the observer, and
// the rest is restored:
//   kRepository  chunks or pages missing or damaged (DATA_LOSS, NOT_FOUND), or content that the backup could not read
//                (FAILED_PRECONDITION). The file is not there afterwards: a partly written one is removed; one that was
//                there before and was to be replaced stays as it was.
//   kTarget      the target refused (errno), a name is hostile, or re-reading found other bytes (DATA_LOSS).
//   kNote        not an error: something could not be kept but nothing is wrong with the content. Hard link members
//                whose content differs (restored apart), files that changed while they were read, attributes below.
// An ordinary user restoring files of his own gets no errors: owners are not restored (option off unless root),
// setuid and setgid are dropped from files whose owner or group is not restored, and extended attributes refused with
// EPERM/EACCES (trusted.*, security.*), or not supported by the target, are counted and noted once per attribute name.
// Attributes that exist on the target but not in the snapshot are left alone, but for access ACLs, which are rights.
//
// Threads and cost. Blocks; the calling thread plans (walks entries, makes directories, links and special files),
// options.threads workers fetch and write. Sets the umask of the process to 0 meanwhile: one Restore per process at a
// time. About 5 system calls per small file. Memory: options.memory_bytes on top of what the source holds, and about 60
// bytes per hard link group of which not all members have been seen. No fsync (but with `verify`).
#ifndef HOLDFAST_CLIENT_RESTORE_RESTORE_H_
#define HOLDFAST_CLIENT_RESTORE_RESTORE_H_

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/tree/chunk_source.h"
#include "core/tree/entry.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {

// What to do where something other than a directory is in the place of something other than a directory. A directory is
// never replaced by a file (kTarget error). A file or link in the place of a directory: replaced with kAlways only
// (by unlinking it), otherwise refused, with everything below.
enum class OverwriteMode {
  kNever,  // leave it and list an error
  // Same type, size and mtime: only metadata is set; otherwise replace. Setuid, setgid and files with capabilities are
  // always replaced. Not to be trusted with what a restore left that lost power: it does not fsync.
  kIfChanged,
  kAlways,  // replace: the new file is written beside it and renamed over it
  kSkip,    // leave it and count it as skipped
};

enum class FilterResult {
  kRestore,
  kLeaveOut,  // of a directory: everything below, too
  kDescend,   // directories: made only when something below is restored (as kRestore for others)
};

struct RestoreOptions {
  std::string target;
  OverwriteMode overwrite = OverwriteMode::kNever;
  bool owner = geteuid() == 0;  // set uid and gid
  bool numeric_owner = false;   // true: stored numbers; false: stored names where this machine knows them
  bool xattrs = true;           // with ACLs and capabilities
  bool times = true;
  bool sparse = true;  // false: blocks of holes are allocated
  // Afterwards: flush the target to disk, drop it from the page cache and compare every file with what was written.
  bool verify = false;
  // With `verify` and this key, contents are also checked against the digests in the entries (kRepository if wrong).
  std::optional<Key256> file_digest_key;
  // Path in the snapshot, from its root. Empty: everything.
  std::function<FilterResult(const Components& path, bool is_directory)> filter;
  int threads = 3;                      // 1..64
  uint64_t memory_bytes = 64ull << 20;  // at least 1 MiB is used
};

struct RestoreStats {
  uint64_t files = 0;  // written (with those replaced)
  uint64_t directories = 0;
  uint64_t others = 0;       // symbolic links, FIFOs, sockets, devices
  uint64_t hard_links = 0;   // further names of something counted above
  uint64_t bytes = 0;        // content written, without holes
  uint64_t skipped = 0;      // left as they were (kSkip, kIfChanged)
  uint64_t left_out = 0;     // by the filter; a directory left out counts once
  uint64_t not_reached = 0;  // below a directory that could not be made
  uint64_t verified = 0;     // files re-read and found right
  uint64_t notes = 0;
  uint64_t xattrs_not_restored = 0;  // not permitted or not supported
  uint64_t repository_errors = 0;
  uint64_t target_errors = 0;
  uint64_t errors() const { return repository_errors + target_errors; }
};

enum class RestoreProblemKind { kRepository, kTarget, kNote };
struct RestoreProblem {
  RestoreProblemKind kind = RestoreProblemKind::kTarget;
  std::string path;       // in the snapshot, from its root, with a leading '/'
  std::string operation;  // "open", "fetch", "set owner", ...
  absl::Status status;    // notes: the reason
};

enum class RestorePhase { kRestoring, kVerifying, kDone };

// Shared by the caller (a progress bar may read the counters at any time) and the restore.
class RestoreObserver {
 public:
  virtual ~RestoreObserver() = default;
  // Any thread, one call at a time.
  virtual void OnProblem(const RestoreProblem& problem) {}
  // The thread that called Restore; no worker runs meanwhile.
  virtual void OnPhase(RestorePhase phase) {}

  std::atomic<uint64_t> entries_seen{0};
  std::atomic<uint64_t> files_done{0};
  std::atomic<uint64_t> bytes_done{0};
  std::atomic<bool> cancel{false};  // set by the caller: Restore ends soon with CANCELLED
};

// What restore asks of a snapshot (the meaning of each call is SnapshotReader's). Called from one thread; source() must
// be thread-safe.
class RestoreInput {
 public:
  virtual ~RestoreInput() = default;
  virtual absl::StatusOr<Entry> LookupPath(const Components& path) = 0;
  virtual std::unique_ptr<EntryIterator> ScanSubtree(const Components& directory) = 0;
  virtual absl::Status ForEachPiece(const Content& content,
                                    const std::function<absl::Status(const ChunkPiece&)>& visit) = 0;
  virtual absl::Status ResolveSideChunks(Entry& entry) = 0;
  virtual ChunkSource& source() = 0;
};

// Statistics are returned whatever files had errors: look at errors().
absl::StatusOr<RestoreStats> Restore(RestoreInput& input, const Components& path_inside, const RestoreOptions& options,
                                     RestoreObserver& observer);
// The same for a snapshot in a repository (snapshot_restore.cc).
absl::StatusOr<RestoreStats> Restore(const SnapshotReader& snapshot, const Components& path_inside,
                                     const RestoreOptions& options, RestoreObserver& observer);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_RESTORE_H_
