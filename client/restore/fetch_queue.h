// Batches on their way from the planner to the workers. Thread-safe.
#ifndef HOLDFAST_CLIENT_RESTORE_FETCH_QUEUE_H_
#define HOLDFAST_CLIENT_RESTORE_FETCH_QUEUE_H_

#include <cstddef>
#include <deque>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/restore/file_tasks.h"

namespace holdfast {

class FetchQueue {
 public:
  explicit FetchQueue(size_t batches_max) : batches_max_(batches_max) {}

  // Blocks while the queue is full.
  void Push(std::unique_ptr<FetchBatch> batch);
  // Blocks until there is one; null: closed, and there is no more. Every batch is followed by Done.
  std::unique_ptr<FetchBatch> Pop();
  void Done();
  // Until every batch so far is done.
  void WaitUntilIdle();
  void Close();

 private:
  const size_t batches_max_;
  absl::Mutex mu_;
  std::deque<std::unique_ptr<FetchBatch>> batches_ ABSL_GUARDED_BY(mu_);
  size_t busy_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_FETCH_QUEUE_H_
