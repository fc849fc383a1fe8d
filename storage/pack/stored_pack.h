// Packs as the storage has them: what they hold, what is left of a damaged one, whether all of one is as it was.
#ifndef HOLDFAST_STORAGE_PACK_STORED_PACK_H_
#define HOLDFAST_STORAGE_PACK_STORED_PACK_H_

#include <cstdint>

#include "core/base/status.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"

namespace holdfast {

// Reads and authenticates the trailer. DATA_LOSS when damaged, NOT_FOUND when missing.
absl::StatusOr<PackSummary> ReadPackTrailer(BlobStore& store, PackKind kind, const PackId& id, uint64_t blob_bytes,
                                            const CatalogKey& key);
// The records of a pack whose trailer is damaged, as far as frames can be read: what is lost is only what was damaged.
// Every body it returns was read and has its digest. Reads the whole blob. DATA_LOSS when the pack's header is damaged
// (without the salt no frame opens).
absl::StatusOr<PackSummary> SalvagePack(BlobStore& store, PackKind kind, const PackId& id, uint64_t blob_bytes,
                                        const CatalogKey& key);
// Reads the whole blob and compares every frame and body with the summary (from ReadPackTrailer): DATA_LOSS names the
// records that are damaged. For scrubs and before a copy.
absl::Status VerifyPack(BlobStore& store, const PackSummary& summary, const CatalogKey& key);

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_STORED_PACK_H_
