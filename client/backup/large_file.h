// One large file, cut into chunks by several workers at once. Cutting is sequential by nature (a chunk begins where the
// one before ended), so it happens under the file's lock; hashing, compressing and sending happen outside. With a
// previous version its chunks are tried first, in parallel, at their old places (core/chunking/hints.h).
#ifndef HOLDFAST_CLIENT_BACKUP_LARGE_FILE_H_
#define HOLDFAST_CLIENT_BACKUP_LARGE_FILE_H_

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/backup/file_result.h"
#include "client/backup/previous_version.h"
#include "client/scan/scanner.h"
#include "client/upload/chunk_uploader.h"
#include "core/chunking/chunker.h"
#include "core/chunking/hints.h"

namespace holdfast {

class LargeFileJob {
 public:
  LargeFileJob(std::shared_ptr<SourceDirectory> directory, std::string name, PreviousVersion previous,
               const Chunker& chunker, int level);

  enum class Step { kWorked, kNothingNow, kExhausted };
  // Does a piece of the work. Any worker, several at once. kExhausted: all work is handed out. Fails only for reasons
  // of the repository or server.
  absl::StatusOr<Step> Run(ChunkUploader& uploader);

  // For the consumer: appends the pieces that follow those taken before; true when the file is complete (or failed) and
  // result() is final.
  bool Take(std::vector<ChunkPiece>* pieces);
  FileResult& result() { return result_; }
  uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }

 private:
  enum class State { kNew, kVerifying, kScanning, kSequential, kDone };
  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FindRuns() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void StartSequential() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Step> VerifyOne(ChunkUploader& uploader, char* room) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Step> ScanOne(ChunkUploader& uploader) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Step> CutOne(ChunkUploader& uploader, char* room) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FinishPlanned() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FinishFile() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FinishIfLast() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A finished file may wait long for its turn in the tree: it holds no descriptor meanwhile.
  void ReleaseIfDone() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Fail(std::string_view operation, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Reads and cuts one chunk at `offset` of a run that ends at `end`: its length, or 0 at an early end of the file.
  absl::StatusOr<size_t> ReadChunk(uint64_t offset, uint64_t end, char* room);

  const std::shared_ptr<SourceDirectory> directory_;
  const std::string name_;
  PreviousVersion previous_;  // read outside the lock while active_ > 0
  const Chunker& chunker_;
  const int level_;
  std::atomic<uint64_t> bytes_read_{0};

  absl::Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kNew;
  std::unique_ptr<SourceFile> file_;  // reads are positional: several workers may read at once
  SourceStat opened_ ABSL_GUARDED_BY(mu_);
  std::vector<DataRun> runs_ ABSL_GUARDED_BY(mu_);
  int active_ ABSL_GUARDED_BY(mu_) = 0;  // steps under way outside the lock
  // Planned (with a previous version).
  std::unique_ptr<RechunkPlanner> planner_ ABSL_GUARDED_BY(mu_);
  size_t next_verify_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<uint64_t> scan_starts_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, ChunkPiece> scanned_ ABSL_GUARDED_BY(mu_);
  // Sequential.
  size_t run_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t offset_ ABSL_GUARDED_BY(mu_) = 0;
  // Pieces in file order; those of chunks under way are empty (length 0).
  std::deque<ChunkPiece> pieces_ ABSL_GUARDED_BY(mu_);
  uint64_t first_piece_ ABSL_GUARDED_BY(mu_) = 0;  // number of pieces_.front()
  uint64_t next_piece_ ABSL_GUARDED_BY(mu_) = 0;
  FileResult result_;  // stable once state_ is kDone
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_LARGE_FILE_H_
