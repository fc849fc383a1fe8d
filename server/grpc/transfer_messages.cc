#include "server/grpc/transfer_messages.h"

#include <utility>

#include "core/format/record.h"

namespace holdfast {
namespace {

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("malformed ", AbslView(what)));
}

absl::StatusOr<v1::AttachSession> ParseAttach(MessageReader& message, uint64_t length) {
  std::string bytes;
  v1::AttachSession attach;
  if (length > kAttachBytesMax || !message.Bytes(length, &bytes) || !attach.ParseFromString(bytes)) {
    return Malformed("attach");
  }
  return attach;
}

absl::StatusOr<std::vector<ChunkId>> ParseIds(MessageReader& message, uint64_t length, uint64_t ids_max) {
  constexpr size_t kBytes = ChunkId::kSizeInBytes;
  if (length % kBytes != 0 || length / kBytes > ids_max || length > message.remaining()) {
    return Malformed("list of ids");
  }
  std::vector<ChunkId> ids(length / kBytes);
  message.Bytes(length, reinterpret_cast<char*>(ids.data()));
  return ids;
}

// Headers are copied, bodies are not.
absl::StatusOr<RecordBatch> ParseRecords(MessageReader& message, uint64_t length) {
  RecordBatch batch;
  batch.bytes = length;
  while (length > 0) {
    if (batch.records.size() >= kRecordsPerMessageMax) return Malformed("records: too many in a message");
    std::string& header = batch.headers.emplace_back();
    if (!message.Bytes(kRecordHeaderFixedBytes, &header)) return Malformed("record");
    ASSIGN_OR_RETURN(const size_t header_size, RecordHeaderSize(header));
    if (header_size > length) return Malformed("record");
    header.resize(header_size);
    message.Bytes(header_size - kRecordHeaderFixedBytes, header.data() + kRecordHeaderFixedBytes);
    IncomingRecord& record = batch.records.emplace_back();
    ASSIGN_OR_RETURN(record.header, DecodeRecordHeader(header));
    record.header_bytes = header;
    if (!message.Parts(record.header.sealed_length, &record.body)) return Malformed("record");
    length = message.remaining();
  }
  return batch;
}

}  // namespace

absl::StatusOr<UploadMessage> ParseUploadRequest(MessageReader& message, bool attached) {
  constexpr uint64_t kWireTypeMask = 7, kLengthDelimited = 2;
  const uint64_t tag = message.Varint();
  const uint64_t length = message.Varint();
  if (!message.ok() || (tag & kWireTypeMask) != kLengthDelimited || length != message.remaining()) {
    return Malformed("upload message");
  }
  if (tag == BytesTag(v1::UploadRequest::kAttachFieldNumber)) {
    if (attached) return Malformed("attach");
    return ParseAttach(message, length);
  }
  if (!attached) return absl::FailedPreconditionError("the first message of an upload attaches to a session");
  if (tag == BytesTag(v1::UploadRequest::kHaveIdsFieldNumber)) return ParseIds(message, length, kHaveIdsMax);
  if (tag == BytesTag(v1::UploadRequest::kRecordsFieldNumber)) return ParseRecords(message, length);
  return Malformed("upload message: unknown field");
}

absl::StatusOr<ReadQuestion> ParseReadRequest(MessageReader& message) {
  ReadQuestion question;
  while (message.ok() && message.remaining() > 0) {
    const uint64_t tag = message.Varint();
    const uint64_t value = message.Varint();  // or the length of what follows
    if (!message.ok()) break;
    if (tag == VarintTag(v1::ReadRequest::kVerifyFieldNumber)) {
      question.verify = value != 0;
    } else if (tag == VarintTag(v1::ReadRequest::kUnopenableFieldNumber)) {
      question.unopenable = value != 0;
    } else if (value > message.remaining()) {
      return Malformed("read request");
    } else if (tag == BytesTag(v1::ReadRequest::kRepositoryFieldNumber) && value <= kRepositoryBytesMax) {
      message.Bytes(value, &question.repository);
    } else if (tag == BytesTag(v1::ReadRequest::kIdsFieldNumber)) {
      ASSIGN_OR_RETURN(question.ids, ParseIds(message, value, kReadIdsMax));
    } else {
      return Malformed("read request: unknown field");
    }
  }
  if (!message.ok()) return Malformed("read request");
  return question;
}

}  // namespace holdfast
