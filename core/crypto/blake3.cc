#include "core/crypto/blake3.h"

#include <cstring>

#include <blake3.h>  // the C library: with quotes it would be the header beside this file

namespace holdfast {
namespace {
blake3_hasher* Hasher(unsigned char* state) { return reinterpret_cast<blake3_hasher*>(state); }
const blake3_hasher* Hasher(const unsigned char* state) { return reinterpret_cast<const blake3_hasher*>(state); }
}  // namespace

Blake3::Blake3() {
  static_assert(sizeof(blake3_hasher) <= sizeof(state_), "enlarge Blake3::state_");
  static_assert(alignof(blake3_hasher) <= 16);
  blake3_hasher_init(Hasher(state_));
}

Blake3::Blake3(const Key256& key) { blake3_hasher_init_keyed(Hasher(state_), key.ExposeBytes()); }

Blake3::~Blake3() { WipeMemory(state_, sizeof(state_)); }

Blake3& Blake3::Update(std::string_view bytes) {
  blake3_hasher_update(Hasher(state_), bytes.data(), bytes.size());
  return *this;
}

void Blake3::Finish(uint8_t* out, size_t n) const { blake3_hasher_finalize(Hasher(state_), out, n); }

Digest Blake3::Finish() const {
  Digest digest;
  Finish(digest.bytes.data(), digest.bytes.size());
  return digest;
}

Digest Blake3Digest(std::string_view bytes) { return Blake3().Update(bytes).Finish(); }

uint64_t Blake3Prf64(const Key256& key, std::string_view bytes) {
  uint8_t out[8];
  Blake3(key).Update(bytes).Finish(out, sizeof(out));
  uint64_t value;
  std::memcpy(&value, out, sizeof(value));  // little-endian hosts only: see core/base/codec.h
  return value;
}

}  // namespace holdfast
