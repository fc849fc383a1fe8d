// Little-endian byte codec of the hand-laid formats. Writer appends to a string; Reader never reads past its end: after
// the first short read ok() is false for good and every further read gives zeros, so a decoder may read a whole
// structure and check once. varint = LEB128, at most 10 bytes, minimal length required.
#ifndef HOLDFAST_CORE_BASE_CODEC_H_
#define HOLDFAST_CORE_BASE_CODEC_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace holdfast {

static_assert(std::endian::native == std::endian::little, "the formats are little-endian");

inline uint64_t ZigZag(int64_t v) { return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63); }
inline int64_t UnZigZag(uint64_t v) { return static_cast<int64_t>(v >> 1) ^ -static_cast<int64_t>(v & 1); }

class ByteWriter {
 public:
  explicit ByteWriter(std::string* out) : out_(*out) {}
  void U8(uint8_t v) { out_.push_back(static_cast<char>(v)); }
  void U16(uint16_t v) { Raw(&v, 2); }
  void U32(uint32_t v) { Raw(&v, 4); }
  void U64(uint64_t v) { Raw(&v, 8); }
  void Varint(uint64_t v) {
    char buf[10];
    int n = 0;
    while (v >= 0x80) {
      buf[n++] = static_cast<char>(v | 0x80);
      v >>= 7;
    }
    buf[n++] = static_cast<char>(v);
    out_.append(buf, n);
  }
  void SignedVarint(int64_t v) { Varint(ZigZag(v)); }
  void Bytes(std::string_view b) { out_.append(b); }
  void LengthPrefixed(std::string_view b) {
    Varint(b.size());
    out_.append(b);
  }

 private:
  void Raw(const void* p, size_t n) { out_.append(static_cast<const char*>(p), n); }
  std::string& out_;
};

class ByteReader {
 public:
  explicit ByteReader(std::string_view in) : in_(in) {}
  bool ok() const { return ok_; }
  bool AtEnd() const { return pos_ == in_.size(); }
  size_t position() const { return pos_; }
  size_t remaining() const { return in_.size() - pos_; }
  uint8_t U8() { return Fixed<uint8_t>(); }
  uint16_t U16() { return Fixed<uint16_t>(); }
  uint32_t U32() { return Fixed<uint32_t>(); }
  uint64_t U64() { return Fixed<uint64_t>(); }
  uint64_t Varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (pos_ >= in_.size()) return Fail();
      uint8_t b = static_cast<uint8_t>(in_[pos_++]);
      if (shift == 63 && b > 1) return Fail();
      v |= static_cast<uint64_t>(b & 0x7f) << shift;
      if (b < 0x80) {
        if (b == 0 && shift != 0) return Fail();  // not minimal
        return v;
      }
    }
    return Fail();
  }
  int64_t SignedVarint() { return UnZigZag(Varint()); }
  std::string_view Bytes(uint64_t n) {
    if (n > remaining()) {
      Fail();
      return {};
    }
    std::string_view out = in_.substr(pos_, n);
    pos_ += n;
    return out;
  }
  std::string_view LengthPrefixed(uint64_t max) {
    uint64_t n = Varint();
    if (n > max) {
      Fail();
      return {};
    }
    return Bytes(n);
  }
  uint64_t Fail() {
    ok_ = false;
    pos_ = in_.size();
    return 0;
  }

 private:
  template <typename T>
  T Fixed() {
    T v{};
    if (remaining() < sizeof(T)) return static_cast<T>(Fail());
    std::memcpy(&v, in_.data() + pos_, sizeof(T));
    pos_ += sizeof(T);
    return v;
  }
  std::string_view in_;
  size_t pos_ = 0;
  bool ok_ = true;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_BASE_CODEC_H_
