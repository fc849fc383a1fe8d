#include "client/rpc/rpc_upload_transport.h"

#include "proto/holdfast/v1/raw_messages.h"
#include "proto/holdfast/v1/service.pb.h"

namespace holdfast {
namespace {

class SliceBuffer : public RecordBuffer {
 public:
  explicit SliceBuffer(size_t capacity) : slice_(capacity) {}
  char* data() override { return reinterpret_cast<char*>(const_cast<uint8_t*>(slice_.begin())); }
  size_t capacity() const override { return slice_.size(); }
  grpc::Slice Take(size_t bytes) { return slice_.sub(0, bytes); }

 private:
  grpc::Slice slice_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RpcUploadTransport>> RpcUploadTransport::Open(Connection& connection,
                                                                             const std::string& repository,
                                                                             const std::string& session,
                                                                             uint64_t credit_bytes) {
  std::unique_ptr<RpcUploadTransport> transport(
      new RpcUploadTransport(connection.NewStream(kUploadMethod), credit_bytes));
  v1::AttachSession attach;
  attach.set_repository(repository);
  attach.set_session(session);
  RETURN_IF_ERROR(
      transport->stream_->Write(OneFieldMessage(v1::UploadRequest::kAttachFieldNumber, attach.SerializeAsString())));
  RETURN_IF_ERROR(transport->Receive().status());
  return transport;
}

absl::Status RpcUploadTransport::SendHave(absl::Span<const ChunkId> ids) {
  return stream_->Write(
      OneFieldMessage(v1::UploadRequest::kHaveIdsFieldNumber,
                      std::string(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(ChunkId))));
}

std::unique_ptr<RecordBuffer> RpcUploadTransport::NewBuffer(size_t capacity) {
  return std::make_unique<SliceBuffer>(capacity);
}

absl::Status RpcUploadTransport::SendRecords(std::unique_ptr<RecordBuffer> buffer, size_t bytes) {
  std::vector<grpc::Slice> payload;
  payload.push_back(static_cast<SliceBuffer&>(*buffer).Take(bytes));
  return stream_->Write(OneFieldMessage(v1::UploadRequest::kRecordsFieldNumber, std::move(payload)));
}

absl::StatusOr<UploadAnswer> RpcUploadTransport::Receive() {
  grpc::ByteBuffer message;
  RETURN_IF_ERROR(stream_->Read(&message));
  SliceReader reader(message);
  const uint64_t tag = reader.Varint();
  const uint64_t length = reader.Varint();
  std::string bytes;
  if (!reader.ok() || length != reader.remaining() || !reader.Bytes(length, &bytes)) {
    return absl::InternalError("the server sent a malformed answer");
  }
  UploadAnswer answer;
  if (tag == BytesTag(v1::UploadReply::kHaveFieldNumber)) {
    answer.have = std::move(bytes);
  } else if (tag == BytesTag(v1::UploadReply::kAppendedFieldNumber)) {
    v1::Appended appended;
    if (!appended.ParseFromString(bytes)) return absl::InternalError("the server sent a malformed answer");
    answer.appended_bytes = appended.bytes();
  } else if (tag != BytesTag(v1::UploadReply::kAttachedFieldNumber)) {
    return absl::InternalError("the server sent an answer of an unknown kind");
  }
  return answer;
}

}  // namespace holdfast
