// Hybrid public key encryption, base mode (RFC 9180): a message that only the holder of a private key opens. It does
// not say who sealed; a signature has to. Stateless and thread-safe; sealing takes about 37 us, opening 27 us.
#ifndef HOLDFAST_CORE_CRYPTO_HPKE_H_
#define HOLDFAST_CORE_CRYPTO_HPKE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/base/secret.h"
#include "core/base/status.h"
#include "core/crypto/types.h"

namespace holdfast {

// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Numbers of suites are part of the format.
inline constexpr uint32_t kHpkeSuiteX25519 = 1;

using KemPrivateKey = FixedSecret<struct KemPrivateKeyTag, 32>;
using KemPublicKey = FixedId<struct KemPublicKeyTag, 32>;

struct HpkeMessage {
  std::string encapsulated;  // 32 bytes
  std::string ciphertext;    // 16 bytes more than the plaintext
};

// Any 32 bytes are a private key (RFC 7748 clamps them).
KemPublicKey KemPublicKeyOf(const KemPrivateKey& key);
// One message per call, each with a fresh ephemeral key of the library's own randomness. INVALID_ARGUMENT: `key` is no
// usable public key (a point of low order).
absl::StatusOr<HpkeMessage> HpkeSeal(const KemPublicKey& key, std::string_view info, std::string_view aad,
                                     std::string_view plaintext);
// DATA_LOSS: not sealed to this key with this info and these associated data, or damaged.
absl::StatusOr<SecretString> HpkeOpen(const KemPrivateKey& key, std::string_view info, std::string_view aad,
                                      const HpkeMessage& message);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CRYPTO_HPKE_H_
