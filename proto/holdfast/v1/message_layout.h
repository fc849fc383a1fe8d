// The layout of the ChunkTransfer service's messages, which both sides write and parse by hand so that chunk bytes are
// not copied. On the wire they are the protobuf messages of service.proto; field numbers are the generated constants.
// Knows nothing of how messages travel.
#ifndef HOLDFAST_PROTO_HOLDFAST_V1_MESSAGE_LAYOUT_H_
#define HOLDFAST_PROTO_HOLDFAST_V1_MESSAGE_LAYOUT_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast {

// Tags: a field's number and how it is encoded.
constexpr uint64_t VarintTag(uint32_t field) { return uint64_t{field} << 3; }
constexpr uint64_t BytesTag(uint32_t field) { return uint64_t{field} << 3 | 2; }

// Reads forward over a message in parts. After the first failure ok() stays false and everything reads as empty. Not
// thread-safe.
class MessageReader {
 public:
  MessageReader() = default;
  // What the views show is borrowed.
  explicit MessageReader(std::vector<std::string_view> parts) {
    for (std::string_view part : parts) Add(part);
  }

  bool ok() const { return ok_; }
  uint64_t remaining() const { return remaining_; }
  uint64_t Varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (!ok_ || remaining_ == 0) return Fail();
      const auto b = static_cast<uint8_t>(parts_[index_][offset_]);
      Advance(1);
      v |= static_cast<uint64_t>(b & 0x7f) << shift;
      if (b < 0x80) return v;
    }
    return Fail();
  }
  // Copies.
  bool Bytes(uint64_t n, char* out) {
    return Walk(n, [&](std::string_view part) {
      std::memcpy(out, part.data(), part.size());
      out += part.size();
    });
  }
  bool Bytes(uint64_t n, std::string* out) {
    if (!ok_ || n > remaining_) {  // before anything is allocated for a length that somebody claims
      out->clear();
      return Fail();
    }
    out->resize(n);  // not cleared before: only what is new would have to be zeroed, and chunks are large
    return Bytes(n, out->data());
  }
  // Views of what the parts show.
  bool Parts(uint64_t n, std::vector<std::string_view>* parts) {
    return Walk(n, [&](std::string_view part) { parts->push_back(part); });
  }

 protected:
  void Add(std::string_view part) {
    if (part.empty()) return;
    parts_.push_back(part);
    remaining_ += part.size();
  }
  bool Fail() {
    ok_ = false;
    remaining_ = 0;
    return false;
  }

 private:
  template <typename F>
  bool Walk(uint64_t n, F take) {
    if (!ok_ || n > remaining_) return Fail();
    while (n > 0) {
      const std::string_view part = parts_[index_].substr(offset_, n);
      take(part);
      n -= part.size();
      Advance(part.size());
    }
    return true;
  }
  void Advance(size_t n) {
    offset_ += n;
    remaining_ -= n;
    if (offset_ < parts_[index_].size()) return;
    ++index_;
    offset_ = 0;
  }

  std::vector<std::string_view> parts_;  // none is empty
  size_t index_ = 0, offset_ = 0;        // of the next byte
  uint64_t remaining_ = 0;
  bool ok_ = true;
};

inline void AppendVarint(std::string* out, uint64_t v) {
  while (v >= 0x80) {
    out->push_back(static_cast<char>(v | 0x80));
    v >>= 7;
  }
  out->push_back(static_cast<char>(v));
}
// Tag and length of a length-delimited field.
inline std::string FieldHeader(uint32_t field, uint64_t length) {
  std::string out;
  AppendVarint(&out, BytesTag(field));
  AppendVarint(&out, length);
  return out;
}
// A whole varint field.
inline std::string VarintField(uint32_t field, uint64_t value) {
  std::string out;
  AppendVarint(&out, VarintTag(field));
  AppendVarint(&out, value);
  return out;
}

}  // namespace holdfast

#endif  // HOLDFAST_PROTO_HOLDFAST_V1_MESSAGE_LAYOUT_H_
