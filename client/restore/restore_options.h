// What a restore is asked to do.
#ifndef HOLDFAST_CLIENT_RESTORE_RESTORE_OPTIONS_H_
#define HOLDFAST_CLIENT_RESTORE_RESTORE_OPTIONS_H_

#include <unistd.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/tree/entry.h"

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

// What a filter says of a path.
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
  // Path in the snapshot, from its root. Empty: everything.
  std::function<FilterResult(const Components& path, bool is_directory)> filter;
  int threads = 3;                      // 1..64
  uint64_t memory_bytes = 64ull << 20;  // at least 1 MiB is used
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_RESTORE_OPTIONS_H_
