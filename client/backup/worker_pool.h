// The workers of a backup. Each runs jobs to completion (read, hash, ask, compress, seal, send) on an upload stream of
// its own; large files are shared by all. The first failure stops all of them and is returned by every later call.
#ifndef HOLDFAST_CLIENT_BACKUP_WORKER_POOL_H_
#define HOLDFAST_CLIENT_BACKUP_WORKER_POOL_H_

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/backup/large_file.h"
#include "client/backup/small_files.h"
#include "client/upload/chunk_uploader.h"

namespace holdfast {

class WorkerPool {
 public:
  struct Options {
    int compression_level = 2;
    const std::atomic<bool>* cancel = nullptr;  // looked at while waiting
  };
  // One worker per transport.
  WorkerPool(std::vector<std::unique_ptr<UploadTransport>> transports, const SealingKeys& keys, OfferedIds& offered,
             UploadCounters& counters, Options options);
  ~WorkerPool();  // stops; unfinished jobs are dropped

  // Blocks while kJobsMax jobs wait. These three are CANCELLED soon after `cancel` became true.
  absl::Status Add(BundleJob job);
  absl::Status Add(std::shared_ptr<LargeFileJob> job);
  // Every chunk offered so far has been taken by the server.
  absl::Status Flush();
  // Blocks until `ready`, which is asked again whenever a job made progress.
  absl::Status Wait(const std::function<bool()>& ready);
  absl::Status status();

 private:
  static constexpr size_t kJobsMax = 32;
  using Job = std::variant<BundleJob, std::shared_ptr<LargeFileJob>>;
  absl::Status AddJob(Job job);
  void Work(UploadTransport& transport);
  // Waits for a step forward, a little; CANCELLED or the pool's failure end all waiting.
  absl::Status WaitABit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Fail(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const SealingKeys& keys_;
  OfferedIds& offered_;
  UploadCounters& counters_;
  SealVerifier verifier_;
  const Options options_;
  std::vector<std::unique_ptr<UploadTransport>> transports_;

  absl::Mutex mu_;
  absl::CondVar work_, progress_;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t flush_wanted_ ABSL_GUARDED_BY(mu_) = 0;
  size_t flushed_ ABSL_GUARDED_BY(mu_) = 0;   // workers that have reached flush_wanted_
  uint64_t events_ ABSL_GUARDED_BY(mu_) = 0;  // jobs that made progress
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_WORKER_POOL_H_
