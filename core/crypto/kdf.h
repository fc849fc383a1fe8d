// Key derivation and message authentication: HKDF-SHA256 (RFC 5869), HMAC-SHA256 (RFC 2104), Argon2id (RFC 9106).
#ifndef HOLDFAST_CORE_CRYPTO_KDF_H_
#define HOLDFAST_CORE_CRYPTO_KDF_H_

#include <array>
#include <string_view>

#include "core/base/status.h"
#include "core/crypto/types.h"

namespace holdfast {

// 32 and 16 bytes of HKDF-SHA256(ikm, salt, info).
Key256 Hkdf256(std::string_view ikm, std::string_view salt, std::string_view info);
Key128 Hkdf128(std::string_view ikm, std::string_view salt, std::string_view info);

std::array<uint8_t, 32> HmacSha256(const Key256& key, std::string_view message);
// Constant-time comparison.
bool EqualInConstantTime(std::string_view a, std::string_view b);

inline constexpr uint32_t kArgon2MemoryKibMin = 19 * 1024;    // OWASP's floor
inline constexpr uint32_t kArgon2MemoryKibMax = 1024 * 1024;  // what a browser can still do
inline constexpr uint32_t kArgon2PassesMin = 1;
inline constexpr uint32_t kArgon2PassesMax = 16;
inline constexpr size_t kArgon2SaltSizeInBytes = 16;

struct Argon2Params {
  uint32_t memory_kib = 64 * 1024;  // 19 MiB .. 1 GiB
  uint32_t passes = 3;              // 1 .. 16
};                                  // lanes are always 1, so that a browser can do it
// INVALID_ARGUMENT outside of the ranges above. Cheap: parameters that came from outside are checked before any work.
absl::Status CheckArgon2Params(const Argon2Params& params);
// 64 bytes. INVALID_ARGUMENT outside the ranges above or with a salt that is not 16 bytes; RESOURCE_EXHAUSTED without
// the memory. Costs about 0.2 s with the defaults.
absl::StatusOr<Key512> Argon2id(std::string_view secret, std::string_view salt, const Argon2Params& params);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CRYPTO_KDF_H_
