// What a server does with the spool files that the last one left: their records are stored again as packs.
#ifndef HOLDFAST_SERVER_REPOSITORY_SPOOL_RECOVERY_H_
#define HOLDFAST_SERVER_REPOSITORY_SPOOL_RECOVERY_H_

#include <string>

#include "core/base/status.h"
#include "core/io/io.h"
#include "server/repository/warnings.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"

namespace holdfast {

// Nobody else uses the directory meanwhile; packs are stored, and not indexed. Files that are not spool files are left
// alone. A spool file that cannot be used is named in `warnings` and is no error: nothing that was committed is in it.
absl::Status RecoverSpool(Io io, BlobStore& store, const CatalogKey& key, const std::string& directory,
                          Warnings& warnings);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_SPOOL_RECOVERY_H_
