#include "client/rpc/rpc_record_stream.h"

#include "proto/holdfast/v1/raw_messages.h"
#include "proto/holdfast/v1/service.pb.h"

namespace holdfast {
namespace {

absl::Status Malformed() { return absl::InternalError("the server sent a malformed answer"); }

}  // namespace

absl::Status RpcRecordStream::Ask(const RecordQuestion& question, RecordSink& sink) {
  std::string request = FieldHeader(v1::ReadRequest::kRepositoryFieldNumber, question.repository.size());
  request += question.repository;
  const size_t id_bytes = question.ids.size() * sizeof(ChunkId);
  request += FieldHeader(v1::ReadRequest::kIdsFieldNumber, id_bytes);
  request.append(reinterpret_cast<const char*>(question.ids.data()), id_bytes);
  if (question.verify) request += VarintField(v1::ReadRequest::kVerifyFieldNumber, 1);
  if (question.unopenable) request += VarintField(v1::ReadRequest::kUnopenableFieldNumber, 1);
  grpc::Slice slice(request);
  RETURN_IF_ERROR(stream_->Write(grpc::ByteBuffer(&slice, 1)));
  for (bool end = false; !end;) {
    ASSIGN_OR_RETURN(end, ReadMessage(sink));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> RpcRecordStream::ReadMessage(RecordSink& sink) {
  grpc::ByteBuffer message;
  RETURN_IF_ERROR(stream_->Read(&message));
  SliceReader in(message);
  bool end = false;
  while (in.ok() && in.remaining() > 0) {
    const uint64_t tag = in.Varint();
    if (tag == VarintTag(v1::ReadReply::kEndFieldNumber)) {
      end = in.Varint() != 0;
      continue;
    }
    const uint64_t length = in.Varint();
    if (!in.ok() || length > in.remaining()) return Malformed();
    if (tag == BytesTag(v1::ReadReply::kRecordsFieldNumber)) {
      if (!in.Bytes(length, &record_)) return Malformed();
      RETURN_IF_ERROR(sink.OnRecord(record_));
    } else if (tag == BytesTag(v1::ReadReply::kFailuresFieldNumber)) {
      std::string bytes;
      v1::ReadFailure failure;
      if (!in.Bytes(length, &bytes) || !failure.ParseFromString(bytes)) return Malformed();
      ASSIGN_OR_RETURN(ChunkId id, ChunkId::FromBytes(failure.id()));
      const absl::StatusCode code = static_cast<absl::StatusCode>(failure.code()) == absl::StatusCode::kNotFound
                                        ? absl::StatusCode::kNotFound
                                        : absl::StatusCode::kDataLoss;
      RETURN_IF_ERROR(sink.OnFailure(id, absl::Status(code, failure.message())));
    } else {
      return Malformed();
    }
  }
  if (!in.ok()) return Malformed();
  return end;
}

}  // namespace holdfast
