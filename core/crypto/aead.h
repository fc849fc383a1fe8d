// Authenticated encryption with associated data. A context is immutable after creation and thread-safe. About 4 GB/s
// per core with AES-NI; creating one costs a key schedule (well below 1 us).
#ifndef HOLDFAST_CORE_CRYPTO_AEAD_H_
#define HOLDFAST_CORE_CRYPTO_AEAD_H_

#include <memory>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/crypto/types.h"

namespace holdfast {

using AeadNonce = std::array<uint8_t, kAeadNonceSizeInBytes>;

// True for a value that this version knows.
bool IsKnownAead(uint8_t algorithm);

class Aead {
 public:
  // `algorithm` must be one of the enumerators (our bug otherwise: crashes).
  Aead(AeadAlgorithm algorithm, const Key256& key);
  ~Aead();
  Aead(const Aead&) = delete;
  Aead& operator=(const Aead&) = delete;

  // Writes in.size() + 16 bytes to `out`, which may be exactly in.data() (in place) or not overlap at all.
  void Seal(const AeadNonce& nonce, std::string_view aad, std::string_view in, char* out) const;
  // Writes in.size() - 16 bytes to `out` (same overlap rule) and returns true; false when `in` is too short or does not
  // authenticate, and then nothing useful is in `out`.
  [[nodiscard]] bool Open(const AeadNonce& nonce, std::string_view aad, std::string_view in, char* out) const;

  // The same on strings.
  std::string Seal(const AeadNonce& nonce, std::string_view aad, std::string_view in) const;
  // DATA_LOSS when it does not authenticate.
  absl::StatusOr<std::string> Open(const AeadNonce& nonce, std::string_view aad, std::string_view in) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CRYPTO_AEAD_H_
