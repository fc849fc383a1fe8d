#include "core/crypto/aes128.h"

#include <cstdio>
#include <cstdlib>

#include "openssl/aes.h"

namespace holdfast {

Aes128::Aes128(const Key128& key) {
  static_assert(sizeof(AES_KEY) <= sizeof(schedule_), "enlarge Aes128::schedule_");
  static_assert(alignof(AES_KEY) <= 16);
  if (AES_set_encrypt_key(key.ExposeBytes(), 128, reinterpret_cast<AES_KEY*>(schedule_)) != 0) {
    std::fprintf(stderr, "holdfast: aes128: key schedule failed\n");
    std::abort();
  }
}

Aes128::~Aes128() { WipeMemory(schedule_, sizeof(schedule_)); }

void Aes128::EncryptBlock(const uint8_t in[16], uint8_t out[16]) const {
  AES_encrypt(in, out, reinterpret_cast<const AES_KEY*>(schedule_));
}

}  // namespace holdfast
