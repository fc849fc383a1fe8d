// BLAKE3 (github.com/BLAKE3-team/BLAKE3-specs), plain and keyed, with any output length. 5 GB/s per core from 16 KiB
// on.
#ifndef HOLDFAST_CORE_CRYPTO_BLAKE3_H_
#define HOLDFAST_CORE_CRYPTO_BLAKE3_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/ids.h"
#include "core/crypto/types.h"

namespace holdfast {

// One message at a time, one thread at a time; copyable by value (a copy goes on from the same state).
class Blake3 {
 public:
  Blake3();                            // plain hash
  explicit Blake3(const Key256& key);  // keyed hash
  ~Blake3();                           // wipes
  Blake3(const Blake3&) = default;
  Blake3& operator=(const Blake3&) = default;
  Blake3& Update(std::string_view bytes);
  // The first n bytes of the output stream. May be called more than once.
  void Finish(uint8_t* out, size_t n) const;
  Digest Finish() const;

 private:
  // The C library's hasher, kept out of this header.
  alignas(16) unsigned char state_[1920];
};

Digest Blake3Digest(std::string_view bytes);
// First 8 bytes (little-endian) of the keyed hash: PRF decisions.
uint64_t Blake3Prf64(const Key256& key, std::string_view bytes);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CRYPTO_BLAKE3_H_
