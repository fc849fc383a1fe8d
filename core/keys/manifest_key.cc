#include "core/keys/manifest_key.h"

#include <string>

#include "core/base/codec.h"
#include "core/crypto/kdf.h"

namespace holdfast {

Key256 DeriveStanzaKey(const Key256& reader_key, std::string_view salt, uint32_t key_id) {
  std::string info = "holdfast/1/stanza";
  ByteWriter(&info).U32(key_id);
  return Hkdf256(reader_key.ExposeView(), salt, info);
}

Key256 DeriveManifestSealedKey(const Key256& root_key, std::string_view salt, const RepositoryId& repository) {
  std::string info = "holdfast/1/manifest-sealed";
  ByteWriter(&info).Bytes(repository.view());
  return Hkdf256(root_key.ExposeView(), salt, info);
}

}  // namespace holdfast
