// The messages of message_layout.h as gRPC carries them: in slices, which are referred to and not copied. For the two
// folders that speak gRPC.
#ifndef HOLDFAST_PROTO_HOLDFAST_V1_RAW_MESSAGES_H_
#define HOLDFAST_PROTO_HOLDFAST_V1_RAW_MESSAGES_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proto/holdfast/v1/message_layout.h"

namespace holdfast {

inline constexpr char kUploadMethod[] = "/holdfast.v1.ChunkTransfer/Upload";
inline constexpr char kReadMethod[] = "/holdfast.v1.ChunkTransfer/Read";

// Holds the slices: what Parts() gives is valid as long as this reader.
class SliceReader : public MessageReader {
 public:
  explicit SliceReader(const grpc::ByteBuffer& buffer) {
    if (!buffer.Dump(&slices_).ok()) Fail();
    for (const grpc::Slice& s : slices_) Add({reinterpret_cast<const char*>(s.begin()), s.size()});
  }
  SliceReader(const SliceReader&) = delete;  // short slices are stored in place
  SliceReader& operator=(const SliceReader&) = delete;

 private:
  std::vector<grpc::Slice> slices_;
};

// A message of one length-delimited field.
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
