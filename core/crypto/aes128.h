// One AES-128 block (FIPS 197), for code that must agree with the vector versions of the chunker. Uses whatever the
// processor has; correct everywhere. Thread-safe after creation.
#ifndef HOLDFAST_CORE_CRYPTO_AES128_H_
#define HOLDFAST_CORE_CRYPTO_AES128_H_

#include <cstdint>

#include "core/crypto/types.h"

namespace holdfast {

class Aes128 {
 public:
  explicit Aes128(const Key128& key);
  ~Aes128();
  Aes128(const Aes128&) = delete;
  Aes128& operator=(const Aes128&) = delete;
  void EncryptBlock(const uint8_t in[16], uint8_t out[16]) const;

 private:
  alignas(16) unsigned char schedule_[256];
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CRYPTO_AES128_H_
