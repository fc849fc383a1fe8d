#include "client/restore/fetch_queue.h"

#include <utility>

namespace holdfast {

void FetchQueue::Push(std::unique_ptr<FetchBatch> batch) {
  absl::MutexLock lock(&mu_);
  auto has_room = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return batches_.size() < batches_max_; };
  mu_.Await(absl::Condition(&has_room));
  batches_.push_back(std::move(batch));
}

std::unique_ptr<FetchBatch> FetchQueue::Pop() {
  absl::MutexLock lock(&mu_);
  auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return closed_ || !batches_.empty(); };
  mu_.Await(absl::Condition(&has_work));
  if (batches_.empty()) return nullptr;
  std::unique_ptr<FetchBatch> batch = std::move(batches_.front());
  batches_.pop_front();
  ++busy_;
  return batch;
}

void FetchQueue::Done() {
  absl::MutexLock lock(&mu_);
  --busy_;
}

void FetchQueue::WaitUntilIdle() {
  absl::MutexLock lock(&mu_);
  auto is_idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return batches_.empty() && busy_ == 0; };
  mu_.Await(absl::Condition(&is_idle));
}

void FetchQueue::Close() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
}

}  // namespace holdfast
