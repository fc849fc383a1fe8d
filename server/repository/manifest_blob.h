// The manifest at rest (docs/format.md, section 8): sealed, so that the storage sees neither counts nor the chain.
// Pure.
#ifndef HOLDFAST_SERVER_REPOSITORY_MANIFEST_BLOB_H_
#define HOLDFAST_SERVER_REPOSITORY_MANIFEST_BLOB_H_

#include <optional>
#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"

namespace holdfast {

BlobName ManifestBlobName(const ManifestId& id);
std::optional<ManifestId> ParseManifestBlobName(std::string_view name);

// `manifest`: as its client serialized it.
std::string SealManifestBlob(std::string_view manifest, const ManifestId& id, const CatalogKey& key, Random& random);
// DATA_LOSS when it is not what was sealed under this id.
absl::StatusOr<std::string> OpenManifestBlob(std::string_view blob, const ManifestId& id, const CatalogKey& key);

// The first digits, for messages.
std::string ShortHex(const ManifestId& id);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_MANIFEST_BLOB_H_
