// The chunk index of an open repository through its life: opened and brought level with the packs, made anew when it is
// damaged or chunks were lost, and complete or not yet. An index in the making says "not here" of what is here, so
// nobody gets it before it is complete.
//
// Thread-safe; blocking. One thread at a time makes the index, or its marks, anew; others wait for it or are told
// UNAVAILABLE. The lock is never held over a call of the index or the storage.
#ifndef HOLDFAST_SERVER_REPOSITORY_LIVE_INDEX_H_
#define HOLDFAST_SERVER_REPOSITORY_LIVE_INDEX_H_

#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "core/io/wait_queue.h"
#include "server/index/chunk_index.h"
#include "server/index/kv_store.h"
#include "server/repository/crash_point.h"
#include "server/repository/pack_reconciler.h"
#include "server/repository/page_marks.h"
#include "server/repository/warnings.h"
#include "storage/pack/pack.h"

namespace holdfast {

// The index's KvStore, which is destroyed and made anew when it is damaged.
struct KvStoreFactory {
  std::function<absl::StatusOr<std::unique_ptr<KvStore>>()> open;
  std::function<absl::Status()> destroy;
};

class LiveIndex {
 public:
  // Gives the pages of the live snapshots their marks, e.g. by MarkPages.
  using MarkLivePages = std::function<absl::Status(ChunkIndex& index, PageWalk walk)>;

  // References are borrowed.
  LiveIndex(Io io, KvStoreFactory kv, const RepositoryId& repository, PackReconciler& packs, MarkLivePages mark,
            Warnings& warnings, CrashPoint crash_point);

  // At the start, in this order: all packs are indexed; then, once the live snapshots are known, the marks are made,
  // and the index is complete.
  absl::Status Open();
  absl::Status Complete();
  void Flush();  // as far as that works

  // To look something up; hold it briefly, as an index is not made anew while its predecessor is in use (a weak
  // pointer does not count). UNAVAILABLE until it is complete.
  absl::StatusOr<std::shared_ptr<ChunkIndex>> Get() const;
  // It is not complete, and nobody is making it so.
  bool IsMissing() const;
  // Passes the status of a call of the index on. A damaged index is made anew before the next session opens.
  absl::Status Note(absl::Status status);

  // After the pack is under its name (W1). An error, of a disk that is full perhaps, has the index made anew likewise.
  absl::Status AddPack(const PackSummary& summary);
  // These were found damaged: they are not promised until they were sent again, and from the next session on neither is
  // what is above them, so that the next backup heals it. What cannot be noted is in the warnings.
  void NoteDamage(absl::Span<const ChunkId> ids);

  // Before a session opens. OK: the index is complete.
  absl::Status RenewIfBroken();
  // And the marks above damaged chunks are taken back. Costs a lookup when there are none.
  absl::Status RenewStaleMarks();

 private:
  class Work;  // the turn to make something anew

  absl::StatusOr<std::shared_ptr<ChunkIndex>> Unfinished() const;
  absl::Status OpenKv(bool* from_nothing);
  absl::Status Close();
  absl::Status Make(bool from_nothing);
  absl::Status Reconcile(bool* lost);
  absl::Status MarkUnmarked();
  absl::StatusOr<uint64_t> StaleMarks(ChunkIndex& index);

  const Io io_;
  const KvStoreFactory kv_factory_;
  const RepositoryId repository_;
  PackReconciler& packs_;
  const MarkLivePages mark_;
  Warnings& warnings_;
  const CrashPoint crash_point_;

  mutable absl::Mutex mu_;
  WaitQueue free_;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;  // a thread has the turn
  std::shared_ptr<KvStore> kv_ ABSL_GUARDED_BY(mu_);
  std::weak_ptr<KvStore> closing_kv_ ABSL_GUARDED_BY(mu_);  // the last one that was let go
  std::shared_ptr<ChunkIndex> index_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);  // not OK: the index has to be made anew, and why
  bool complete_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_LIVE_INDEX_H_
