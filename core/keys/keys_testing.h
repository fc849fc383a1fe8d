// Fixtures for tests about keys: randomness that is the same every time, the cheapest Argon2 that is allowed.
#ifndef HOLDFAST_CORE_KEYS_KEYS_TESTING_H_
#define HOLDFAST_CORE_KEYS_KEYS_TESTING_H_

#include <cstring>
#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/crypto/kdf.h"
#include "core/crypto/types.h"
#include "core/io/io.h"

namespace holdfast {

// Gives the bytes 0, 1, 2, ..., 255, 0, ...
class CountingRandom : public Random {
 public:
  void Fill(absl::Span<uint8_t> out) override {
    for (uint8_t& byte : out) byte = next_++;
  }

 private:
  uint8_t next_ = 0;
};

inline constexpr Argon2Params kCheapArgon2{19 * 1024, 1};

// 32 times the same byte.
template <typename Secret = Key256>
Secret RepeatedKey(uint8_t byte) {
  Secret key;
  std::memset(key.MutableBytes(), byte, Secret::kSizeInBytes);
  return key;
}

// first, first + 1, ...
template <typename Id>
Id CountingId(uint8_t first = 0) {
  Id id;
  for (uint8_t& byte : id.bytes) byte = first++;
  return id;
}

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_KEYS_TESTING_H_
