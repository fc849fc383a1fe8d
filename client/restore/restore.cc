#include "client/restore/restore.h"

#include <sys/stat.h>
#include <unistd.h>

#include <thread>
#include <utility>
#include <vector>

#include "client/restore/restorer.h"
#include "client/restore/target_errno.h"

namespace holdfast {
namespace restore_internal {
namespace {

class UmaskGuard {
 public:
  UmaskGuard() : old_(::umask(0)) {}
  ~UmaskGuard() { ::umask(old_); }

 private:
  const mode_t old_;
};

}  // namespace

absl::Status Restorer::Execute(const Components& path_inside, const std::optional<Entry>& top) {
  const bool is_directory = !top.has_value() || top->type == EntryType::kDirectory;
  for (size_t i = 0; i + (is_directory ? 0 : 1) < path_inside.size(); ++i)
    absl::StrAppend(&prefix_, "/", path_inside[i]);
  run_.observer.OnPhase(RestorePhase::kRestoring);
  Level root;
  const bool has_metadata = is_directory && top.has_value();
  root.dir = target_.Root(has_metadata, has_metadata ? target_.MetadataOf(*top) : Metadata());
  levels_.push_back(std::move(root));
  std::vector<std::thread> workers;
  for (int i = 0; i < std::clamp(options_.threads, 1, 64); ++i) workers.emplace_back([this] { Work(); });
  if (is_directory) {
    PlanTree(path_inside);
    while (levels_.size() > 1) Leave();
    if (!run_.stopping()) FinishUnvisited(levels_[0], {}, nullptr, nullptr);
  } else {
    PlanEntry(levels_[0].dir, *top);
  }
  while (true) {
    DispatchAll();
    WaitUntilIdle();
    if (!have_retries_.load() || run_.stopping()) break;
    Retry();
  }
  {
    absl::MutexLock lock(&queue_mu_);
    no_more_ = true;
  }
  for (std::thread& worker : workers) worker.join();
  planner_dir_.Release();
  if (cached_fd_ >= 0) ::close(cached_fd_);
  {
    absl::flat_hash_map<LinkKey, std::vector<LinkWaiter>> waiters;
    std::vector<LinkWaiter> retries;
    absl::MutexLock lock(&links_mu_);
    waiters.swap(waiters_);
    retries.swap(retries_);
  }
  levels_.clear();  // the target's own metadata
  if (options_.verify && !run_.stopping()) VerifyAll();
  run_.observer.OnPhase(RestorePhase::kDone);
  return run_.failure();
}

}  // namespace restore_internal

absl::StatusOr<RestoreStats> Restore(RestoreInput& input, const Components& path_inside, const RestoreOptions& options,
                                     RestoreObserver& observer) {
  RestoreRun run(options, observer);
  absl::StatusOr<Entry> found = input.LookupPath(path_inside);
  std::optional<Entry> top;
  if (found.ok()) {
    top = *std::move(found);
    if (top->xattr_chunk.has_value() && top->type == EntryType::kDirectory) {
      if (absl::Status s = input.ResolveSideChunks(*top); !s.ok()) {
        run.Problem(RestoreProblemKind::kRepository, "/", "read extended attributes", s);
      }
    }
    if (top->type != EntryType::kDirectory) RETURN_IF_ERROR(CheckName(top->name));
  } else if (found.status().code() == absl::StatusCode::kDataLoss) {
    // Its own entry is lost: perhaps not what is below.
    std::string path;
    for (const std::string& name : path_inside) absl::StrAppend(&path, "/", name);
    run.Problem(RestoreProblemKind::kRepository, path.empty() ? "/" : path, "read directory entry", found.status());
  } else {
    return found.status();
  }
  std::string prefix;
  const size_t shown = path_inside.size() - (top.has_value() && top->type != EntryType::kDirectory ? 1 : 0);
  for (size_t i = 0; i < shown && i < path_inside.size(); ++i) absl::StrAppend(&prefix, "/", path_inside[i]);
  ASSIGN_OR_RETURN(std::unique_ptr<Target> target, Target::Open(run, prefix));
  {
    restore_internal::UmaskGuard umask;
    restore_internal::Restorer restorer(input, run, *target);
    RETURN_IF_ERROR(restorer.Execute(path_inside, top));
  }
  return run.stats();
}

}  // namespace holdfast
