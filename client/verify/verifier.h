// Checks that snapshots can be restored: fetches and opens every page and every chunk, and compares every file with the
// digest in its entry. A chunk that several files or snapshots share is fetched once per Verifier.
#ifndef HOLDFAST_CLIENT_VERIFY_VERIFIER_H_
#define HOLDFAST_CLIENT_VERIFY_VERIFIER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/io/io.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {

struct VerifyResult {
  uint64_t entries = 0;
  uint64_t files = 0;
  uint64_t bytes = 0;
  uint64_t damaged = 0;          // files, or ranges of entries, that cannot be restored
  uint64_t not_in_snapshot = 0;  // files that the backup could not read
};

// One snapshot at a time, from one thread. Memory: about 84 bytes per chunk, 8 per small file, and 128 MiB.
class Verifier {
 public:
  // `on_problem` gets a path from the root of the snapshot (or what stands for a range) and why; one call at a time,
  // any thread, at most one per file. `io` and `cancel` are borrowed.
  using OnProblem = std::function<void(const std::string& path, const absl::Status& status)>;
  Verifier(OnProblem on_problem, Io& io, const std::atomic<bool>& cancel);
  ~Verifier();

  // Damage is a problem and not an error. Errors: whatever says nothing about the snapshot (the server cannot be
  // reached, refuses or makes no sense); CANCELLED.
  absl::StatusOr<VerifyResult> Verify(const SnapshotReader& snapshot);

  // Over all snapshots, readable at any time.
  std::atomic<uint64_t> files_done{0}, bytes_done{0}, chunks_fetched{0}, chunk_bytes_fetched{0};

 private:
  struct File;
  struct Use;
  struct Job;
  struct Batch;
  class Sink;
  struct Run;

  absl::Status Plan(Run& run);
  absl::Status AddFile(Run& run, const Entry& entry, const Components& directory);
  absl::Status AddUse(Run& run, const ChunkRef& ref, Use use);
  absl::Status Push(Run& run);
  void Work(Run& run);
  void Check(Run& run, Job& job, const absl::StatusOr<OpenedChunk>& chunk);
  void Fail(Run& run, File& file, const absl::Status& status);

  const OnProblem on_problem_;
  Io& io_;
  const std::atomic<bool>& cancel_;

  absl::Mutex mu_;
  // By the whole reference: the wrong key opens nothing, whatever the right one does.
  absl::flat_hash_map<ChunkRef, uint64_t> good_ ABSL_GUARDED_BY(mu_);  // plaintext bytes
  absl::flat_hash_map<ChunkRef, absl::Status> bad_ ABSL_GUARDED_BY(mu_);
  // Hashes of where a slice is and of its digest; of good chunks.
  absl::flat_hash_set<uint64_t> good_slices_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_VERIFY_VERIFIER_H_
