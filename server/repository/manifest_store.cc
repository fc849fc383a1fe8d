#include "server/repository/manifest_store.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/limits.h"
#include "core/format/manifest.h"
#include "server/repository/manifest_blob.h"

namespace holdfast {

ManifestStore::ManifestStore(BlobStore& store, CatalogKey key, Random& random)
    : store_(store), key_(std::move(key)), random_(random) {}

absl::Status ManifestStore::Put(const ManifestId& id, std::string_view manifest) {
  absl::Status put =
      PutBytes(store_, ManifestBlobName(id), SealManifestBlob(manifest, id, key_, random_), PutMode::kIfAbsent);
  return absl::IsAlreadyExists(put) ? absl::OkStatus() : put;
}

absl::StatusOr<std::string> ManifestStore::Get(const ManifestId& id) const {
  absl::StatusOr<std::string> bytes = GetWholeBlob(store_, ManifestBlobName(id), kManifestBytesMax + 4096);
  if (absl::IsOutOfRange(bytes.status())) return absl::DataLossError(bytes.status().message());
  RETURN_IF_ERROR(bytes.status());
  bytes = OpenManifestBlob(*bytes, id, key_);
  if (!bytes.ok() || ManifestIdOf(*bytes) != id) {
    return absl::DataLossError(absl::StrCat("the manifest of snapshot ", ShortHex(id), " is damaged"));
  }
  return bytes;
}

absl::StatusOr<std::vector<ManifestId>> ManifestStore::List() const {
  ASSIGN_OR_RETURN(std::vector<BlobInfo> blobs, ListAll(store_, "snapshots/"));
  std::vector<ManifestId> ids;
  for (const BlobInfo& blob : blobs) {
    if (std::optional<ManifestId> id = ParseManifestBlobName(blob.name)) ids.push_back(*id);
  }
  return ids;
}

}  // namespace holdfast
