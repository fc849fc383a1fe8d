#include "core/crypto/kdf.h"

#include <cstdio>
#include <cstdlib>

#include "argon2.h"
#include "openssl/digest.h"
#include "openssl/hkdf.h"
#include "openssl/hmac.h"
#include "openssl/mem.h"

namespace holdfast {
namespace {

const uint8_t* Bytes(std::string_view s) { return reinterpret_cast<const uint8_t*>(s.data()); }

// Neither fails but for a bug of ours (output too long) or no memory: without the key nothing can go on.
[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "holdfast: kdf: %s\n", what);
  std::abort();
}

template <typename Key>
Key Hkdf(std::string_view ikm, std::string_view salt, std::string_view info) {
  Key out;
  if (HKDF(out.MutableBytes(), Key::kSizeInBytes, EVP_sha256(), Bytes(ikm), ikm.size(), Bytes(salt), salt.size(),
           Bytes(info), info.size()) != 1) {
    Die("HKDF failed");
  }
  return out;
}

}  // namespace

Key256 Hkdf256(std::string_view ikm, std::string_view salt, std::string_view info) {
  return Hkdf<Key256>(ikm, salt, info);
}

Key128 Hkdf128(std::string_view ikm, std::string_view salt, std::string_view info) {
  return Hkdf<Key128>(ikm, salt, info);
}

std::array<uint8_t, 32> HmacSha256(const Key256& key, std::string_view message) {
  std::array<uint8_t, 32> out;
  unsigned int size = 0;
  if (HMAC(EVP_sha256(), key.ExposeBytes(), Key256::kSizeInBytes, Bytes(message), message.size(), out.data(), &size) ==
          nullptr ||
      size != out.size()) {
    Die("HMAC failed");
  }
  return out;
}

bool EqualInConstantTime(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

absl::Status CheckArgon2Params(const Argon2Params& params) {
  if (params.memory_kib < kArgon2MemoryKibMin || params.memory_kib > kArgon2MemoryKibMax) {
    return absl::InvalidArgumentError(absl::StrCat("Argon2 memory of ", params.memory_kib, " KiB is outside of ",
                                                   kArgon2MemoryKibMin, " .. ", kArgon2MemoryKibMax, " KiB"));
  }
  if (params.passes < kArgon2PassesMin || params.passes > kArgon2PassesMax) {
    return absl::InvalidArgumentError(absl::StrCat("Argon2 with ", params.passes, " passes is outside of ",
                                                   kArgon2PassesMin, " .. ", kArgon2PassesMax));
  }
  return absl::OkStatus();
}

absl::StatusOr<Key512> Argon2id(std::string_view secret, std::string_view salt, const Argon2Params& params) {
  RETURN_IF_ERROR(CheckArgon2Params(params));
  if (salt.size() != kArgon2SaltSizeInBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("an Argon2 salt of ", salt.size(), " bytes where ", kArgon2SaltSizeInBytes, " are expected"));
  }
  Key512 out;
  int rc = argon2id_hash_raw(params.passes, params.memory_kib, /*parallelism=*/1, secret.data(), secret.size(),
                             salt.data(), salt.size(), out.MutableBytes(), Key512::kSizeInBytes);
  if (rc == ARGON2_MEMORY_ALLOCATION_ERROR) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for Argon2 (", params.memory_kib, " KiB)"));
  }
  if (rc != ARGON2_OK) {
    return absl::InvalidArgumentError(absl::StrCat("Argon2: ", argon2_error_message(rc)));
  }
  return out;
}

}  // namespace holdfast
