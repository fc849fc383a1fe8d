// What a restore tells its caller: progress and problems while it runs, counts at the end.
#ifndef HOLDFAST_CLIENT_RESTORE_RESTORE_OBSERVER_H_
#define HOLDFAST_CLIENT_RESTORE_RESTORE_OBSERVER_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "core/base/status.h"

namespace holdfast {

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

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_RESTORE_OBSERVER_H_
