// What a crash left of packs that were being written, and the way of a finished one into the storage.
#ifndef HOLDFAST_STORAGE_PACK_SPOOL_FILE_H_
#define HOLDFAST_STORAGE_PACK_SPOOL_FILE_H_

#include <optional>
#include <string_view>

#include "core/base/status.h"
#include "core/io/io.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"

namespace holdfast {

// A spool file left by a crash: cuts it behind its last good record and finishes it as Finish would; a file that is
// already finished is only checked. nullopt: nothing in it was worth keeping, the file was removed. Reads all of it.
// What cannot have come from a crash is kept: a whole first record that this key does not open is set aside as
// <path>.unreadable (nullopt, and so is every later call for that name); a finished file that it does not open is
// PERMISSION_DENIED, an unknown version FAILED_PRECONDITION.
absl::StatusOr<std::optional<PackSummary>> RecoverSpoolFile(Io io, std::string_view path, const CatalogKey& key);

// Puts a finished spool file under its name. OK when it is there afterwards (also if it already was).
absl::Status PutPack(BlobStore& store, Io io, std::string_view spool_path, const PackSummary& summary);

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_SPOOL_FILE_H_
