#include "client/restore/restore.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/restore/beneath.h"
#include "client/restore/fetch_queue.h"
#include "client/restore/fetch_window.h"
#include "client/restore/fetch_worker.h"
#include "client/restore/file_writer.h"
#include "client/restore/hard_links.h"
#include "client/restore/read_back.h"
#include "client/restore/restore_planner.h"
#include "client/restore/restore_run.h"
#include "client/restore/target_directories.h"
#include "client/restore/target_files.h"

namespace holdfast {
namespace {

constexpr uint64_t kMemoryBytesMin = 1 << 20;

// What is restored. Null `top`: its own entry is lost.
struct Top {
  Components path;
  std::optional<Entry> entry;
  bool is_directory() const { return !entry.has_value() || entry->type == EntryType::kDirectory; }
  // Of the directory that becomes the target.
  std::string SnapshotPrefix() const {
    std::string prefix;
    for (size_t i = 0; i + (is_directory() ? 0 : 1) < path.size(); ++i) absl::StrAppend(&prefix, "/", path[i]);
    return prefix;
  }
};

absl::StatusOr<Top> FindTop(RestoreInput& input, const Components& path_inside, RestoreRun& run) {
  Top top{path_inside, std::nullopt};
  absl::StatusOr<Entry> found = input.LookupPath(path_inside);
  if (found.ok()) {
    if (found->type != EntryType::kDirectory) {
      RETURN_IF_ERROR(CheckName(found->name));
    } else if (found->xattr_chunk.has_value()) {
      if (absl::Status s = input.ResolveSideChunks(*found); !s.ok()) {
        run.ReportRepositoryProblem("/", "read extended attributes", s);
      }
    }
    top.entry = *std::move(found);
  } else if (found.status().code() == absl::StatusCode::kDataLoss) {
    // Perhaps what is below is not lost.
    const std::string prefix = top.SnapshotPrefix();
    run.ReportRepositoryProblem(prefix.empty() ? "/" : prefix, "read directory entry", found.status());
  } else {
    return found.status();
  }
  return top;
}

// Joins the parts: this thread plans, workers fetch and write, and when all is there it is read back.
void RunParts(RestoreInput& input, const Top& top, RestoreRun& run, TargetDirectories& directories) {
  const uint64_t memory_bytes = std::max(run.options.memory_bytes, kMemoryBytesMin);
  const int threads = std::clamp(run.options.threads, 1, 64);
  TargetFiles files(run, directories);
  HardLinks links(run, directories, files, memory_bytes / 8);
  ReadBack read_back(run, directories, memory_bytes / 8);
  FileWriter writer(run, directories, files, links, run.options.verify ? &read_back : nullptr);
  FetchQueue queue(size_t{2} * threads);
  FetchWindow window(memory_bytes / 2, queue, [&] { return links.waiting(); });
  FetchWorker worker(run, input.source(), writer);
  RestorePlanner planner({input, run, directories, files, links, window, writer},
                         top.is_directory() && top.entry.has_value() ? &*top.entry : nullptr, memory_bytes / 8);

  run.observer.OnPhase(RestorePhase::kRestoring);
  std::vector<std::thread> workers;
  workers.reserve(threads);
  for (int i = 0; i < threads; ++i) workers.emplace_back([&] { worker.Work(queue); });
  if (top.is_directory()) {
    planner.PlanTree(top.path);
  } else {
    planner.PlanOne(*top.entry);
  }
  do {
    window.DispatchAll();
    queue.WaitUntilIdle();
  } while (!run.stopping() && planner.PlanRetries());
  queue.Close();
  for (std::thread& thread : workers) thread.join();
  planner.Close();  // the target's own metadata
  if (run.options.verify && !run.stopping()) {
    run.observer.OnPhase(RestorePhase::kVerifying);
    read_back.Run(threads);
  }
  run.observer.OnPhase(RestorePhase::kDone);
}

}  // namespace

absl::StatusOr<RestoreStats> Restore(RestoreInput& input, const Components& path_inside, const RestoreOptions& options,
                                     RestoreObserver& observer) {
  RestoreRun run(options, observer);
  ASSIGN_OR_RETURN(const Top top, FindTop(input, path_inside, run));
  ASSIGN_OR_RETURN(std::unique_ptr<TargetDirectories> directories, TargetDirectories::Open(run, top.SnapshotPrefix()));
  RunParts(input, top, run, *directories);
  RETURN_IF_ERROR(run.failure());
  return run.stats();
}

}  // namespace holdfast
