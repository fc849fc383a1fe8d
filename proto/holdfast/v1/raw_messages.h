// Messages of the ChunkTransfer service, written and parsed by hand on gRPC slices so that chunk bytes are not copied.
// On the wire they are the protobuf messages of service.proto.
#ifndef HOLDFAST_PROTO_HOLDFAST_V1_RAW_MESSAGES_H_
#define HOLDFAST_PROTO_HOLDFAST_V1_RAW_MESSAGES_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast {

inline constexpr char kUploadMethod[] = "/holdfast.v1.ChunkTransfer/Upload";
inline constexpr char kReadMethod[] = "/holdfast.v1.ChunkTransfer/Read";

inline std::string_view SliceView(const grpc::Slice& slice) {
  return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
}

// Reads forward over slices. After the first failure ok() stays false and everything reads as empty.
class SliceReader {
 public:
  explicit SliceReader(const grpc::ByteBuffer& buffer) {
    ok_ = const_cast<grpc::ByteBuffer&>(buffer).Dump(&slices_).ok();
    for (const grpc::Slice& s : slices_) remaining_ += s.size();
  }
  bool ok() const { return ok_; }
  uint64_t remaining() const { return remaining_; }
  uint64_t Varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (!ok_ || remaining_ == 0) return Fail();
      SkipEmpty();
      uint8_t b = slices_[index_].begin()[offset_];
      Advance(1);
      v |= static_cast<uint64_t>(b & 0x7f) << shift;
      if (b < 0x80) return v;
    }
    return Fail();
  }
  // Copies.
  bool Bytes(uint64_t n, char* out) {
    if (!ok_ || n > remaining_) return Fail();
    while (n > 0) {
      SkipEmpty();
      size_t take = std::min<uint64_t>(n, slices_[index_].size() - offset_);
      std::memcpy(out, slices_[index_].begin() + offset_, take);
      out += take;
      n -= take;
      Advance(take);
    }
    return true;
  }
  bool Bytes(uint64_t n, std::string* out) {
    if (!ok_ || n > remaining_) return Fail();
    out->resize(n);
    return Bytes(n, out->data());
  }
  // Views, valid as long as this reader.
  bool Parts(uint64_t n, std::vector<std::string_view>* parts) {
    if (!ok_ || n > remaining_) return Fail();
    while (n > 0) {
      SkipEmpty();
      size_t take = std::min<uint64_t>(n, slices_[index_].size() - offset_);
      parts->push_back(SliceView(slices_[index_]).substr(offset_, take));
      n -= take;
      Advance(take);
    }
    return true;
  }
  bool Skip(uint64_t n) {
    std::vector<std::string_view> ignored;
    return Parts(n, &ignored);
  }

 private:
  bool Fail() {
    ok_ = false;
    remaining_ = 0;
    return false;
  }
  void SkipEmpty() {
    while (offset_ == slices_[index_].size()) {
      ++index_;
      offset_ = 0;
    }
  }
  void Advance(size_t n) {
    offset_ += n;
    remaining_ -= n;
  }
  std::vector<grpc::Slice> slices_;
  size_t index_ = 0, offset_ = 0;
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
  AppendVarint(&out, field << 3 | 2);
  AppendVarint(&out, length);
  return out;
}
// A message of one length-delimited field; the payload in slices that are referred to, not copied.
inline grpc::ByteBuffer OneFieldMessage(uint32_t field, std::vector<grpc::Slice> payload) {
  uint64_t length = 0;
  for (const grpc::Slice& s : payload) length += s.size();
  std::vector<grpc::Slice> slices;
  slices.reserve(payload.size() + 1);
  slices.emplace_back(FieldHeader(field, length));
  for (grpc::Slice& s : payload) slices.push_back(std::move(s));
  return grpc::ByteBuffer(slices.data(), slices.size());
}
inline grpc::ByteBuffer OneFieldMessage(uint32_t field, const std::string& payload) {
  return OneFieldMessage(field, std::vector<grpc::Slice>{grpc::Slice(payload)});
}

}  // namespace holdfast

#endif  // HOLDFAST_PROTO_HOLDFAST_V1_RAW_MESSAGES_H_
