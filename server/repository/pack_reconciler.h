// Brings an index level with the packs that the storage holds.
#ifndef HOLDFAST_SERVER_REPOSITORY_PACK_RECONCILER_H_
#define HOLDFAST_SERVER_REPOSITORY_PACK_RECONCILER_H_

#include "core/base/status.h"
#include "server/index/chunk_index.h"
#include "server/repository/crash_point.h"
#include "server/repository/warnings.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"
#include "storage/pack/pack_reader.h"

namespace holdfast {

// Keeps no state: threads may use it at once, each with an index of its own. Blocking.
class PackReconciler {
 public:
  // References are borrowed.
  PackReconciler(BlobStore& store, PackReader& reader, CatalogKey key, Warnings& warnings, CrashPoint crash_point);

  // Adds the packs that `index` lacks; of a damaged one what can be read. Sets `lost` when chunks that were stored are
  // no longer, as a pack is gone or damaged: the index must then be made anew, as it may still promise them or what is
  // above them. Damage is named in the warnings. UNAVAILABLE: an outage. Cost: a listing, and a read of the trailer of
  // each pack that is added.
  absl::Status Reconcile(ChunkIndex& index, bool* lost);

 private:
  absl::Status KeepReadable(PackSummary& summary);

  BlobStore& store_;
  PackReader& reader_;
  const CatalogKey key_;
  Warnings& warnings_;
  const CrashPoint crash_point_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_PACK_RECONCILER_H_
