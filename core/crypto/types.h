// Key types of the data cryptography. BoringSSL and BLAKE3 are used by this folder only.
#ifndef HOLDFAST_CORE_CRYPTO_TYPES_H_
#define HOLDFAST_CORE_CRYPTO_TYPES_H_

#include <cstdint>

#include "core/base/secret.h"

namespace holdfast {

using Key256 = FixedSecret<struct Key256Tag, 32>;  // AEAD, keyed BLAKE3 and HKDF keys
using Key128 = FixedSecret<struct Key128Tag, 16>;  // AES-128: cut decisions
using Key512 = FixedSecret<struct Key512Tag, 64>;  // Argon2id output: KEK and commitment

enum class AeadAlgorithm : uint8_t {
  kAes256Gcm = 1,         // NIST SP 800-38D
  kChaCha20Poly1305 = 2,  // RFC 8439
};
inline constexpr size_t kAeadNonceSizeInBytes = 12;
inline constexpr size_t kAeadTagSizeInBytes = 16;

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CRYPTO_TYPES_H_
