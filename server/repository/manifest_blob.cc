#include "server/repository/manifest_blob.h"

#include "absl/strings/str_cat.h"
#include "core/crypto/aead.h"
#include "core/keys/catalog_key.h"

namespace holdfast {
namespace {

constexpr std::string_view kManifestBlobMagic("HFMANI1\0", 8);
constexpr size_t kManifestBlobHeaderBytes = 48;

Key256 ManifestBlobKey(const CatalogKey& key, std::string_view salt, const ManifestId& id) {
  return DeriveManifestBlobKey(key.key, salt, key.repository, id);
}

}  // namespace

BlobName ManifestBlobName(const ManifestId& id) {
  return BlobName::FromTrusted(absl::StrCat("snapshots/", HexEncode(id.view())));
}

std::optional<ManifestId> ParseManifestBlobName(std::string_view name) {
  constexpr std::string_view kPrefix = "snapshots/";
  if (name.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  absl::StatusOr<std::string> raw = HexDecode(name.substr(kPrefix.size()));
  if (!raw.ok()) return std::nullopt;
  absl::StatusOr<ManifestId> id = ManifestId::FromBytes(*raw);
  if (!id.ok()) return std::nullopt;
  return *id;
}

std::string SealManifestBlob(std::string_view manifest, const ManifestId& id, const CatalogKey& key, Random& random) {
  std::string header(kManifestBlobMagic);
  header.push_back(1);
  header.push_back(static_cast<char>(key.aead));
  header.resize(kManifestBlobHeaderBytes, '\0');
  random.Fill({reinterpret_cast<uint8_t*>(header.data()) + 16, 32});
  return header + Aead(key.aead, ManifestBlobKey(key, std::string_view(header).substr(16), id))
                      .Seal(AeadNonce{}, header, manifest);
}

absl::StatusOr<std::string> OpenManifestBlob(std::string_view blob, const ManifestId& id, const CatalogKey& key) {
  if (blob.size() < kManifestBlobHeaderBytes || blob.substr(0, 8) != kManifestBlobMagic || blob[8] != 1 ||
      !IsKnownAead(static_cast<uint8_t>(blob[9]))) {
    return absl::DataLossError("not a manifest");
  }
  std::string_view header = blob.substr(0, kManifestBlobHeaderBytes);
  return Aead(static_cast<AeadAlgorithm>(blob[9]), ManifestBlobKey(key, header.substr(16), id))
      .Open(AeadNonce{}, header, blob.substr(kManifestBlobHeaderBytes));
}

std::string ShortHex(const ManifestId& id) { return HexEncode(id.view().substr(0, 8)); }

}  // namespace holdfast
