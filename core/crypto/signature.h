// Ed25519 signatures (RFC 8032). Stateless and thread-safe; signing takes about 11 us, verifying 34 us. What is signed,
// and for which purpose, is core/keys/signatures.h.
#ifndef HOLDFAST_CORE_CRYPTO_SIGNATURE_H_
#define HOLDFAST_CORE_CRYPTO_SIGNATURE_H_

#include <array>
#include <string_view>

#include "core/base/ids.h"
#include "core/crypto/types.h"

namespace holdfast {

using SigningSeed = FixedSecret<struct SigningSeedTag, 32>;  // the private key of RFC 8032, section 5.1.5
using VerifyingKey = FixedId<struct VerifyingKeyTag, 32>;    // the public key
using Ed25519Signature = std::array<uint8_t, 64>;

VerifyingKey VerifyingKeyOf(const SigningSeed& seed);
Ed25519Signature Ed25519Sign(const SigningSeed& seed, std::string_view message);
// False for whatever is not a signature of `message` under `key`: also one of another length, or with S >= L.
[[nodiscard]] bool Ed25519Verify(const VerifyingKey& key, std::string_view message, std::string_view signature);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CRYPTO_SIGNATURE_H_
