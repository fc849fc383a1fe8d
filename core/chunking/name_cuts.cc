#include "core/chunking/name_cuts.h"

#include <cstring>
#include <string>

#include "core/base/codec.h"
#include "core/base/limits.h"
#include "core/crypto/blake3.h"

namespace holdfast {

uint64_t NameCutHash(const Key256& name_cut_key, uint8_t domain, std::string_view parent_name, std::string_view name) {
  // Linux names fit without touching the heap; walks come here once per file.
  char small[1 + 10 + 2 * 255];
  if (parent_name.size() + name.size() <= 2 * 255) {
    size_t n = 0;
    small[n++] = static_cast<char>(domain);
    uint64_t length = parent_name.size();
    for (; length >= 0x80; length >>= 7) small[n++] = static_cast<char>(length | 0x80);
    small[n++] = static_cast<char>(length);
    if (!parent_name.empty()) std::memcpy(small + n, parent_name.data(), parent_name.size());
    n += parent_name.size();
    if (!name.empty()) std::memcpy(small + n, name.data(), name.size());
    n += name.size();
    return Blake3Prf64(name_cut_key, {small, n});
  }
  std::string message;
  ByteWriter writer(&message);
  writer.U8(domain);
  writer.LengthPrefixed(parent_name);
  writer.Bytes(name);
  return Blake3Prf64(name_cut_key, message);
}

bool BundleCutter::CutBefore(uint32_t next_uid, uint64_t next_size) const {
  if (files_ == 0) return false;
  return next_uid != uid_ || bytes_ >= kBundleBytesMax || next_size > kBundleBytesMax - bytes_;
}

void BundleCutter::Add(std::string_view parent_name, std::string_view name, uint32_t uid, uint64_t size) {
  uid_ = uid;
  ++files_;
  bytes_ += size;
  // The hash last: most bundles reach 64 KiB late.
  cut_after_ = bytes_ >= kBundleTargetBytes || files_ >= kBundleFilesMax ||
               (bytes_ >= kBundleCutBytesMin && (NameCutHash(key_, 0, parent_name, name) & kBundleCutMask) == 0);
}

void BundleCutter::Reset() {
  files_ = 0;
  uid_ = 0;
  bytes_ = 0;
  cut_after_ = false;
}

}  // namespace holdfast
