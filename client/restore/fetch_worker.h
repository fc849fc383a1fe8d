// What a worker does with a batch: fetches its chunks and hands each file its bytes.
#ifndef HOLDFAST_CLIENT_RESTORE_FETCH_WORKER_H_
#define HOLDFAST_CLIENT_RESTORE_FETCH_WORKER_H_

#include "client/restore/fetch_queue.h"
#include "client/restore/file_tasks.h"
#include "client/restore/file_writer.h"
#include "client/restore/restore_run.h"
#include "client/restore/target_directories.h"
#include "core/tree/chunk_source.h"

namespace holdfast {

// Thread-safe: a worker is a thread in Work.
class FetchWorker {
 public:
  // Borrowed.
  FetchWorker(RestoreRun& run, ChunkSource& source, FileWriter& writer) : run_(run), source_(source), writer_(writer) {}

  // Until the queue is closed. After a failure batches still come and are dropped, so that the planner never hangs.
  void Work(FetchQueue& queue);

 private:
  class Sink;
  void WriteBatch(const FetchBatch& batch, PinnedDir& pinned);
  void UseChunk(const WantedChunk& wanted, const absl::StatusOr<OpenedChunk>& chunk, PinnedDir& pinned);
  void Abandon(const WantedChunk& wanted, PinnedDir& pinned);
  // The content of the task.
  absl::StatusOr<std::string_view> SliceOf(const SliceTask& task, std::string_view bundle);

  RestoreRun& run_;
  ChunkSource& source_;
  FileWriter& writer_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_FETCH_WORKER_H_
