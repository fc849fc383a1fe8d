// The open packs of a repository: takes records from many streams at once, finishes full packs in the background and
// stores them. Knows nothing of sessions. Thread-safe; Append blocks while all packs are busy or too many wait to be
// finished.
//
// When a pack cannot be written (disk full, I/O error) the records in it that are not yet stored are lost. Then `lost`
// is called once, before anything else can observe it: whoever was told that these chunks are here must not commit.
#ifndef HOLDFAST_SERVER_REPOSITORY_PACK_POOL_H_
#define HOLDFAST_SERVER_REPOSITORY_PACK_POOL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "core/io/wait_queue.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"
#include "storage/pack/pack_writer.h"

namespace holdfast {

struct PackPoolOptions {
  int open_packs_max = 3;       // per kind, each with a stream's thread inside at most
  int finishing_packs_max = 3;  // per pool, waiting or being finished
  int finisher_threads = 1;
};

struct PoolRecord {
  const RecordHeader* header;
  std::string_view header_bytes;
  absl::Span<const std::string_view> body;
};

class PackPool {
 public:
  struct Callbacks {
    std::function<absl::Status(const PackSummary&)> stored;  // after the pack is under its name: index it
    std::function<void(const absl::Status&)> lost;           // see above
    std::function<void(std::string_view)> crash_point;       // tests
  };
  PackPool(Io io, BlobStore& store, CatalogKey key, std::string spool_directory, PackPoolOptions options,
           Callbacks callbacks);
  ~PackPool();  // without finishing: spool files stay and are recovered at the next start

  // All records are of `kind`. On error some may have been written.
  absl::Status Append(PackKind kind, absl::Span<const PoolRecord> records);
  // The uploader of a data chunk that is appended but not yet indexed, or nothing. Tree records are not told: they are
  // promised to others only once a committed snapshot reaches them.
  std::optional<uint32_t> PendingUploader(const ChunkId& id) const;
  // Everything appended before the call is on disk (spool or storage).
  absl::Status Sync();
  // Everything appended before the call is stored and indexed.
  absl::Status StoreAll();

 private:
  struct OpenPack {
    uint64_t number = 0;  // in order of creation
    std::unique_ptr<PackWriter> writer;
    std::vector<ChunkId> ids;
  };
  struct Kind {
    std::vector<std::unique_ptr<OpenPack>> idle;
    int open = 0;  // idle and in use
  };
  std::unique_ptr<OpenPack> Acquire(PackKind kind, absl::Status* status);
  void Release(PackKind kind, std::unique_ptr<OpenPack> pack);
  void Discard(std::unique_ptr<OpenPack> pack, const absl::Status& why);
  std::unique_ptr<OpenPack> TakeIdleLocked(uint64_t number, PackKind* kind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EnqueueLocked(PackKind kind, std::unique_ptr<OpenPack> pack) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status FinishPack(OpenPack& pack);
  void FinisherLoop();
  Kind& kind_of(PackKind kind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return kind == PackKind::kData ? data_ : tree_; }

  const Io io_;
  BlobStore& store_;
  const CatalogKey key_;
  const std::string spool_directory_;
  const PackPoolOptions options_;
  const Callbacks callbacks_;

  mutable absl::Mutex mu_;
  WaitQueue changed_;
  Kind data_ ABSL_GUARDED_BY(mu_), tree_ ABSL_GUARDED_BY(mu_);
  std::deque<std::unique_ptr<OpenPack>> finishing_ ABSL_GUARDED_BY(mu_);
  uint64_t next_number_ ABSL_GUARDED_BY(mu_) = 1;
  std::set<uint64_t> live_ ABSL_GUARDED_BY(mu_);    // packs that are neither stored nor lost
  uint64_t finish_below_ ABSL_GUARDED_BY(mu_) = 0;  // packs with smaller numbers take no more records
  int being_finished_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t losses_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status last_loss_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_map<ChunkId, uint32_t> pending_ ABSL_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Thread>> finishers_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_PACK_POOL_H_
