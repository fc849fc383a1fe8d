#include "client/restore/restore_run.h"

#include <utility>

namespace holdfast {

void RestoreRun::Report(RestoreProblemKind kind, std::string path, std::string_view operation,
                        const absl::Status& status) {
  absl::MutexLock lock(&observer_mu_);
  observer.OnProblem({kind, std::move(path), std::string(operation), status});
}

void RestoreRun::ReportNote(std::string path, std::string_view operation, const absl::Status& why) {
  ++counters.notes;
  Report(RestoreProblemKind::kNote, std::move(path), operation, why);
}

void RestoreRun::ReportRepositoryProblem(std::string path, std::string_view operation, const absl::Status& status) {
  if (!IsOfTheObject(status)) {
    if (!stopping()) Fail(Annotate(status, operation));
    return;
  }
  ++counters.repository_errors;
  Report(RestoreProblemKind::kRepository, std::move(path), operation, status);
}

void RestoreRun::ReportTargetProblem(std::string path, std::string_view operation, const absl::Status& status) {
  if (status.code() == absl::StatusCode::kResourceExhausted) {  // ENOSPC, EDQUOT, EMFILE, ENOMEM
    Fail(Annotate(status, absl::StrCat(AbslView(operation), " ", path)));
  }
  ++counters.target_errors;
  Report(RestoreProblemKind::kTarget, std::move(path), operation, status);
}

void RestoreRun::ReportXattrNotRestored(const std::string& path, const std::string& name, const absl::Status& why) {
  ++counters.xattrs_not_restored;
  {
    absl::MutexLock lock(&mu_);
    // user.* and the like have any number of names: one note for the class is enough.
    if (!noted_xattrs_.insert(name.substr(0, name.find('.'))).second) return;
  }
  ReportNote(path, "set extended attribute " + name, why);
}

void RestoreRun::Fail(const absl::Status& status) {
  absl::MutexLock lock(&mu_);
  if (failure_.ok()) failure_ = status;
  stop_.store(true);
}

absl::Status RestoreRun::failure() {
  absl::MutexLock lock(&mu_);
  if (!failure_.ok()) return failure_;
  if (observer.cancel.load()) return absl::CancelledError("the restore was cancelled");
  return absl::OkStatus();
}

RestoreStats RestoreRun::stats() const {
  const Counters& c = counters;
  return {.files = c.files,
          .directories = c.directories,
          .others = c.others,
          .hard_links = c.hard_links,
          .bytes = c.bytes,
          .skipped = c.skipped,
          .left_out = c.left_out,
          .not_reached = c.not_reached,
          .verified = c.verified,
          .notes = c.notes,
          .xattrs_not_restored = c.xattrs_not_restored,
          .repository_errors = c.repository_errors,
          .target_errors = c.target_errors};
}

}  // namespace holdfast
