#include "core/keys/catalog_key.h"

#include <string>

#include "core/base/codec.h"
#include "core/crypto/kdf.h"

namespace holdfast {

Key256 DerivePackKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository,
                     const PackId& pack, uint8_t kind) {
  std::string info = "holdfast/1/pack";
  ByteWriter w(&info);
  w.Bytes(repository.view());
  w.Bytes(pack.view());
  w.U8(kind);
  return Hkdf256(catalog_key.ExposeView(), salt, info);
}

Key256 DeriveIndexSegmentKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository,
                             uint64_t sequence) {
  std::string info = "holdfast/1/index";
  ByteWriter w(&info);
  w.Bytes(repository.view());
  w.U64(sequence);
  return Hkdf256(catalog_key.ExposeView(), salt, info);
}

Key256 DeriveLogKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository, uint64_t slot) {
  std::string info = "holdfast/1/log";
  ByteWriter w(&info);
  w.Bytes(repository.view());
  w.U64(slot);
  return Hkdf256(catalog_key.ExposeView(), salt, info);
}

Key256 DeriveManifestBlobKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository,
                             const ManifestId& manifest) {
  std::string info = "holdfast/1/manifest-blob";
  ByteWriter w(&info);
  w.Bytes(repository.view());
  w.Bytes(manifest.view());
  return Hkdf256(catalog_key.ExposeView(), salt, info);
}

}  // namespace holdfast
