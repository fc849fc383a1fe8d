#include "server/daemon/repository_config.h"

#include <algorithm>

#include "core/base/codec.h"
#include "core/crypto/aead.h"

namespace holdfast {
namespace {

constexpr std::string_view kConfigMagic = "HFSRVR1";

}  // namespace

std::string EncodeRepositoryConfig(const RepositoryConfig& config, const Key256& server_key, Random& random) {
  std::string out(kConfigMagic);
  ByteWriter w(&out);
  w.U8(1);
  w.Bytes(config.id.view());
  w.U8(static_cast<uint8_t>(config.aead));
  AeadNonce nonce;
  random.Fill(absl::MakeSpan(nonce));
  std::string aad = out;
  w.Bytes({reinterpret_cast<const char*>(nonce.data()), nonce.size()});
  w.Bytes(Aead(AeadAlgorithm::kAes256Gcm, server_key).Seal(nonce, aad, config.catalog_key.ExposeView()));
  return out;
}

absl::StatusOr<RepositoryConfig> DecodeRepositoryConfig(std::string_view in, const Key256& server_key) {
  ByteReader r(in);
  RepositoryConfig config;
  if (r.Bytes(kConfigMagic.size()) != kConfigMagic || r.U8() != 1) {
    return absl::DataLossError("the repository's config is damaged or of another version");
  }
  std::string_view id = r.Bytes(16);
  uint8_t aead = r.U8();
  std::string_view aad = in.substr(0, r.position());
  std::string_view nonce_bytes = r.Bytes(kAeadNonceSizeInBytes);
  std::string_view sealed = r.Bytes(r.remaining());
  if (!r.ok() || !IsKnownAead(aead)) return absl::DataLossError("the repository's config is damaged");
  ASSIGN_OR_RETURN(config.id, RepositoryId::FromBytes(id));
  config.aead = static_cast<AeadAlgorithm>(aead);
  AeadNonce nonce;
  std::copy(nonce_bytes.begin(), nonce_bytes.end(), nonce.begin());
  absl::StatusOr<std::string> key = Aead(AeadAlgorithm::kAes256Gcm, server_key).Open(nonce, aad, sealed);
  if (!key.ok() || key->size() != 32) {
    return absl::DataLossError(
        "the catalog key does not open: the config is damaged, or server.key is another server's");
  }
  config.catalog_key = Key256(reinterpret_cast<const uint8_t*>(key->data()));
  WipeMemory(key->data(), key->size());
  return config;
}

}  // namespace holdfast
