// Damage for tests of small blobs that carry a BLAKE3 of themselves in their last 32 bytes.
#ifndef HOLDFAST_CORE_KEYS_DAMAGE_TESTING_H_
#define HOLDFAST_CORE_KEYS_DAMAGE_TESTING_H_

#include <functional>
#include <string>

#include "core/crypto/blake3.h"

namespace holdfast {

using DamageVisitor = std::function<void(const std::string& damaged, const std::string& what)>;

// As a hostile writer would do it: the checksum is right again.
inline std::string WithFreshChecksum(std::string blob) {
  blob.resize(blob.size() - 32);
  blob.append(Blake3Digest(blob).view());
  return blob;
}

inline void ForEveryTruncation(const std::string& blob, const DamageVisitor& visit) {
  for (size_t n = 0; n < blob.size(); ++n) visit(blob.substr(0, n), "truncated to " + std::to_string(n));
  visit(blob + '\0', "one byte more");
}

inline void ForEveryFlippedBit(const std::string& blob, const DamageVisitor& visit) {
  for (size_t bit = 0; bit < blob.size() * 8; ++bit) {
    std::string damaged = blob;
    damaged[bit / 8] ^= 1 << (bit % 8);
    visit(damaged, "bit " + std::to_string(bit));
  }
}

// Every bit but the checksum's own.
inline void ForEveryForgedBit(const std::string& blob, const DamageVisitor& visit) {
  for (size_t bit = 0; bit < (blob.size() - 32) * 8; ++bit) {
    std::string damaged = blob;
    damaged[bit / 8] ^= 1 << (bit % 8);
    visit(WithFreshChecksum(damaged), "forged bit " + std::to_string(bit));
  }
}

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_DAMAGE_TESTING_H_
