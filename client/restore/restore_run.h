// What every part of one restore shares: its options, counters, problems, and the reason to stop. Thread-safe.
#ifndef HOLDFAST_CLIENT_RESTORE_RESTORE_RUN_H_
#define HOLDFAST_CLIENT_RESTORE_RESTORE_RUN_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "client/restore/restore_observer.h"
#include "client/restore/restore_options.h"
#include "core/base/status.h"

namespace holdfast {

class RestoreRun {
 public:
  // Both borrowed.
  RestoreRun(const RestoreOptions& options, RestoreObserver& observer) : options(options), observer(observer) {}

  // Each counts a problem and tells the observer; `path` is that of the snapshot, with a leading '/'.
  void ReportNote(std::string path, std::string_view operation, const absl::Status& why);
  // Of one object what is damaged or lost. That nothing can be had at the moment is nobody's damage: it ends the
  // restore.
  void ReportRepositoryProblem(std::string path, std::string_view operation, const absl::Status& status);
  // A full disk ends the restore; anything else is a problem of this path.
  void ReportTargetProblem(std::string path, std::string_view operation, const absl::Status& status);
  // Notes attributes of one kind (user.*, trusted.*, ...) once.
  void ReportXattrNotRestored(const std::string& path, const std::string& name, const absl::Status& why);

  // Ends the restore. The first failure wins.
  void Fail(const absl::Status& status);
  bool stopping() const {
    return stop_.load(std::memory_order_relaxed) || observer.cancel.load(std::memory_order_relaxed);
  }
  // Why the restore ended early; CANCELLED when the observer wanted it.
  absl::Status failure();
  RestoreStats stats() const;

  const RestoreOptions& options;
  RestoreObserver& observer;
  struct Counters {
    std::atomic<uint64_t> files{0}, directories{0}, others{0}, hard_links{0}, bytes{0}, skipped{0}, left_out{0},
        not_reached{0}, verified{0}, notes{0}, xattrs_not_restored{0}, repository_errors{0}, target_errors{0};
  } counters;

 private:
  void Report(RestoreProblemKind kind, std::string path, std::string_view operation, const absl::Status& status);

  std::atomic<bool> stop_{false};
  absl::Mutex mu_;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<std::string> noted_xattrs_ ABSL_GUARDED_BY(mu_);
  absl::Mutex observer_mu_ ABSL_ACQUIRED_AFTER(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_RESTORE_RUN_H_
