#include "client/backup/worker_pool.h"

#include <utility>

namespace holdfast {

WorkerPool::WorkerPool(std::vector<std::unique_ptr<UploadTransport>> transports, const SealingKeys& keys,
                       OfferedIds& offered, UploadCounters& counters, Options options)
    : keys_(keys),
      offered_(offered),
      counters_(counters),
      verifier_(keys),
      options_(options),
      transports_(std::move(transports)) {
  for (auto& transport : transports_) {
    threads_.emplace_back([this, t = transport.get()] { Work(*t); });
  }
}

WorkerPool::~WorkerPool() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    work_.SignalAll();
    progress_.SignalAll();
  }
  for (std::thread& t : threads_) t.join();
}

absl::Status WorkerPool::Add(BundleJob job) { return AddJob(std::move(job)); }
absl::Status WorkerPool::Add(std::shared_ptr<LargeFileJob> job) { return AddJob(std::move(job)); }

absl::Status WorkerPool::AddJob(Job job) {
  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(status_);
  while (jobs_.size() >= kJobsMax) RETURN_IF_ERROR(WaitABit());
  jobs_.push_back(std::move(job));
  work_.Signal();
  // A large file is work for everybody.
  if (std::holds_alternative<std::shared_ptr<LargeFileJob>>(jobs_.back())) work_.SignalAll();
  return absl::OkStatus();
}

absl::Status WorkerPool::Flush() {
  absl::MutexLock lock(&mu_);
  ++flush_wanted_;
  flushed_ = 0;
  work_.SignalAll();
  while (flushed_ < threads_.size()) RETURN_IF_ERROR(WaitABit());
  return status_;
}

absl::Status WorkerPool::WaitABit() {
  constexpr absl::Duration kLookAtCancel = absl::Milliseconds(100);
  RETURN_IF_ERROR(status_);
  if (options_.cancel && options_.cancel->load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
  progress_.WaitWithTimeout(&mu_, kLookAtCancel);
  return status_;
}

absl::Status WorkerPool::Wait(const std::function<bool()>& ready) {
  while (true) {
    uint64_t seen;
    {
      absl::MutexLock lock(&mu_);
      RETURN_IF_ERROR(status_);
      seen = events_;
    }
    if (ready()) return absl::OkStatus();
    absl::MutexLock lock(&mu_);
    while (events_ == seen) RETURN_IF_ERROR(WaitABit());
  }
}

absl::Status WorkerPool::status() {
  absl::MutexLock lock(&mu_);
  return status_;
}

void WorkerPool::Fail(const absl::Status& status) {
  if (status_.ok()) status_ = status;
  work_.SignalAll();
  progress_.SignalAll();
}

void WorkerPool::Work(UploadTransport& transport) {
  ChunkUploader uploader(transport, keys_, offered_, verifier_, counters_);
  uint64_t flushed = 0;
  size_t idle_turns = 0;  // in a row
  while (true) {
    std::optional<BundleJob> bundle;
    std::shared_ptr<LargeFileJob> large;
    {
      absl::MutexLock lock(&mu_);
      while (!stopping_ && status_.ok() && jobs_.empty() && flush_wanted_ == flushed) work_.Wait(&mu_);
      if (stopping_ || !status_.ok()) return;
      if (flush_wanted_ != flushed) {
        const uint64_t wanted = flush_wanted_;
        mu_.Unlock();
        absl::Status s = uploader.Flush();
        mu_.Lock();
        if (!s.ok()) {
          Fail(s);
          return;
        }
        flushed = wanted;
        if (wanted == flush_wanted_) ++flushed_;
        progress_.SignalAll();
        continue;
      }
      if (BundleJob* b = std::get_if<BundleJob>(&jobs_.front())) {
        bundle = std::move(*b);
        jobs_.pop_front();
        progress_.SignalAll();
      } else {
        large = std::get<std::shared_ptr<LargeFileJob>>(jobs_.front());
        // Behind it may stand work that needs no waiting: take turns when there is more than one job.
        if (jobs_.size() > 1) {
          jobs_.push_back(std::move(jobs_.front()));
          jobs_.pop_front();
        }
      }
    }
    absl::Status status;
    bool exhausted = false, idle = false;
    if (bundle) {
      status = RunBundleJob(*bundle, uploader, options_.compression_level);
      if (status.ok()) {
        for (BundleJob::File& file : bundle->files) file.result->ready.store(true, std::memory_order_release);
      }
    } else {
      absl::StatusOr<LargeFileJob::Step> step = large->Run(uploader);
      status = step.status();
      exhausted = step.ok() && *step == LargeFileJob::Step::kExhausted;
      idle = step.ok() && *step == LargeFileJob::Step::kNothingNow;
    }
    absl::MutexLock lock(&mu_);
    if (!status.ok()) {
      Fail(status);
      return;
    }
    if (exhausted) {
      for (auto it = jobs_.begin(); it != jobs_.end(); ++it) {
        auto* held = std::get_if<std::shared_ptr<LargeFileJob>>(&*it);
        if (held && *held == large) {
          jobs_.erase(it);
          break;
        }
      }
    }
    ++events_;
    progress_.SignalAll();
    // Others are busy with the last steps of the file's phase: look again when one of them has made progress.
    idle_turns = idle ? idle_turns + 1 : 0;
    if (idle_turns >= jobs_.size() && idle && !stopping_ && status_.ok()) {
      idle_turns = 0;
      progress_.WaitWithTimeout(&mu_, absl::Milliseconds(2));
    }
  }
}

}  // namespace holdfast
