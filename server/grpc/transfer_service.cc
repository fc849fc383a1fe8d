#include "server/grpc/transfer_service.h"

#include <grpcpp/impl/codegen/method_handler.h>
#include <grpcpp/impl/codegen/rpc_service_method.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "core/base/limits.h"
#include "proto/holdfast/v1/raw_messages.h"
#include "proto/holdfast/v1/service.pb.h"
#include "server/grpc/principal.h"
#include "server/grpc/status_conversion.h"

namespace holdfast {
namespace {

constexpr uint64_t kHaveIdsMax = 65536;
constexpr uint64_t kReadIdsMax = 4096;
constexpr size_t kRecordsPerMessageMax = 16384;
constexpr uint64_t kReplyBytesTarget = 1u << 20;
constexpr uint64_t kControlBytesMax = 64u << 10;

// Field numbers of UploadRequest, UploadReply, ReadRequest and ReadReply in service.proto.
constexpr uint32_t kAttach = 1, kHaveIds = 2, kRecords = 3;
constexpr uint32_t kAttached = 1, kHave = 2, kAppended = 3;
constexpr uint32_t kReadRepository = 1, kReadIds = 2, kReadVerify = 3, kReadUnopenable = 4;
constexpr uint32_t kReadRecords = 1, kReadFailures = 2, kReadEnd = 3;

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("malformed ", AbslView(what)));
}

absl::StatusOr<std::vector<ChunkId>> ReadIds(SliceReader& reader, uint64_t length, uint64_t ids_max) {
  if (length % 32 != 0 || length / 32 > ids_max) return Malformed("list of ids");
  std::vector<ChunkId> ids(length / 32);
  if (!ids.empty() && !reader.Bytes(length, reinterpret_cast<char*>(ids.data()))) return Malformed("list of ids");
  return ids;
}

// Records of one message; headers are copied into `header_bytes`, bodies are views into the reader's slices.
absl::Status ParseRecords(SliceReader& reader, uint64_t length, std::vector<std::unique_ptr<std::string>>* header_bytes,
                          std::vector<IncomingRecord>* records) {
  while (length > 0) {
    if (records->size() >= kRecordsPerMessageMax) return Malformed("records: too many in a message");
    auto header = std::make_unique<std::string>();
    if (length < kRecordHeaderFixedBytes || !reader.Bytes(kRecordHeaderFixedBytes, header.get())) {
      return Malformed("record");
    }
    ASSIGN_OR_RETURN(size_t header_size, RecordHeaderSize(*header));
    if (header_size > length) return Malformed("record");
    if (header_size > kRecordHeaderFixedBytes) {
      header->resize(header_size);
      if (!reader.Bytes(header_size - kRecordHeaderFixedBytes, header->data() + kRecordHeaderFixedBytes)) {
        return Malformed("record");
      }
    }
    IncomingRecord& record = records->emplace_back();
    ASSIGN_OR_RETURN(record.header, DecodeRecordHeader(*header));
    record.header_bytes = *header;
    if (record.header.sealed_length > length - header_size ||
        !reader.Parts(record.header.sealed_length, &record.body)) {
      return Malformed("record");
    }
    length -= header_size + record.header.sealed_length;
    header_bytes->push_back(std::move(header));
  }
  return absl::OkStatus();
}

// Collects records into messages of about 1 MiB and writes them.
class ReplyWriter : public RecordReadSink {
 public:
  ReplyWriter(grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>& stream, const std::vector<ChunkId>& ids)
      : stream_(stream), ids_(ids) {}

  absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
    if (!record.ok()) {
      // A repository that cannot be reached is the whole request's failure, not this chunk's.
      if (!absl::IsNotFound(record.status()) && !absl::IsDataLoss(record.status())) return record.status();
      v1::ReadFailure failure;
      failure.set_id(std::string(ids_[index].view()));
      failure.set_code(static_cast<uint32_t>(record.status().code()));
      failure.set_message(std::string(record.status().message()));
      std::string bytes = failure.SerializeAsString();
      AddSlice(grpc::Slice(FieldHeader(kReadFailures, bytes.size()) + bytes));
      return FlushIfLarge();
    }
    std::string header = EncodeRecordHeader(record->header);
    AddSlice(grpc::Slice(FieldHeader(kReadRecords, header.size() + record->body.size()) + header));
    auto* owner = new std::shared_ptr<char[]>(record->owner);
    AddSlice(grpc::Slice(
        const_cast<char*>(record->body.data()), record->body.size(),
        [](void* p) { delete static_cast<std::shared_ptr<char[]>*>(p); }, owner));
    return FlushIfLarge();
  }

  absl::Status End() {
    std::string end;
    AppendVarint(&end, kReadEnd << 3);
    AppendVarint(&end, 1);
    AddSlice(grpc::Slice(end));
    return Flush();
  }

 private:
  void AddSlice(grpc::Slice slice) {
    bytes_ += slice.size();
    slices_.push_back(std::move(slice));
  }
  absl::Status FlushIfLarge() { return bytes_ >= kReplyBytesTarget ? Flush() : absl::OkStatus(); }
  absl::Status Flush() {
    grpc::ByteBuffer message(slices_.data(), slices_.size());
    slices_.clear();
    bytes_ = 0;
    if (!stream_.Write(message)) return absl::CancelledError("the client went away");
    return absl::OkStatus();
  }

  grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>& stream_;
  const std::vector<ChunkId>& ids_;
  std::vector<grpc::Slice> slices_;
  uint64_t bytes_ = 0;
};

}  // namespace

TransferService::TransferService(RepositoryRegistry& registry) : registry_(registry) {
  using Handler = grpc::internal::BidiStreamingHandler<TransferService, grpc::ByteBuffer, grpc::ByteBuffer>;
  AddMethod(
      new grpc::internal::RpcServiceMethod(kUploadMethod, grpc::internal::RpcMethod::BIDI_STREAMING,
                                           new Handler([](TransferService* service, grpc::ServerContext* context,
                                                          Stream* stream) { return service->Upload(context, stream); },
                                                       this)));
  AddMethod(
      new grpc::internal::RpcServiceMethod(kReadMethod, grpc::internal::RpcMethod::BIDI_STREAMING,
                                           new Handler([](TransferService* service, grpc::ServerContext* context,
                                                          Stream* stream) { return service->Read(context, stream); },
                                                       this)));
}

grpc::Status TransferService::Upload(grpc::ServerContext* context, Stream* stream) {
  const Principal who = PrincipalOf(*context);
  std::shared_ptr<HostedRepository> hosted;
  SessionId session;
  grpc::ByteBuffer message;
  absl::Status status = [&]() -> absl::Status {
    while (stream->Read(&message)) {
      SliceReader reader(message);
      const uint64_t tag = reader.Varint();
      const uint64_t length = reader.Varint();
      if (!reader.ok() || (tag & 7) != 2 || length != reader.remaining()) return Malformed("upload message");
      const uint32_t field = static_cast<uint32_t>(tag >> 3);
      grpc::ByteBuffer reply;
      if (field == kAttach) {
        std::string bytes;
        v1::AttachSession attach;
        if (hosted || length > kControlBytesMax || !reader.Bytes(length, &bytes) || !attach.ParseFromString(bytes)) {
          return Malformed("attach");
        }
        ASSIGN_OR_RETURN(auto found, registry_.Find(attach.repository()));
        ASSIGN_OR_RETURN(session, SessionId::FromBytes(attach.session()));
        RETURN_IF_ERROR(found->engine().StreamBegan(who, session));
        hosted = std::move(found);
        reply = OneFieldMessage(kAttached, std::string());
      } else if (!hosted) {
        return absl::FailedPreconditionError("the first message of an upload attaches to a session");
      } else if (field == kHaveIds) {
        ASSIGN_OR_RETURN(std::vector<ChunkId> ids, ReadIds(reader, length, kHaveIdsMax));
        ASSIGN_OR_RETURN(std::vector<HaveAnswer> answers, hosted->engine().Have(who, session, ids));
        reply = OneFieldMessage(kHave, std::string(reinterpret_cast<const char*>(answers.data()), answers.size()));
      } else if (field == kRecords) {
        std::vector<std::unique_ptr<std::string>> header_bytes;
        std::vector<IncomingRecord> records;
        RETURN_IF_ERROR(ParseRecords(reader, length, &header_bytes, &records));
        RETURN_IF_ERROR(hosted->engine().Append(who, session, records));
        v1::Appended appended;
        appended.set_records(records.size());
        appended.set_bytes(length);
        reply = OneFieldMessage(kAppended, appended.SerializeAsString());
      } else {
        return Malformed("upload message: unknown field");
      }
      message.Clear();
      if (!stream->Write(reply)) return absl::CancelledError("the client went away");
    }
    return absl::OkStatus();
  }();
  if (hosted) hosted->engine().StreamEnded(session);
  return ToGrpcStatus(status);
}

grpc::Status TransferService::Read(grpc::ServerContext* context, Stream* stream) {
  const Principal who = PrincipalOf(*context);
  grpc::ByteBuffer message;
  absl::Status status = [&]() -> absl::Status {
    while (stream->Read(&message)) {
      SliceReader reader(message);
      std::string repository;
      std::vector<ChunkId> ids;
      bool verify = false, unopenable = false;
      while (reader.ok() && reader.remaining() > 0) {
        const uint64_t tag = reader.Varint();
        if (tag == (kReadVerify << 3)) {
          verify = reader.Varint() != 0;
          continue;
        }
        if (tag == (kReadUnopenable << 3)) {
          unopenable = reader.Varint() != 0;
          continue;
        }
        const uint64_t length = reader.Varint();
        if (!reader.ok() || length > reader.remaining()) return Malformed("read request");
        if (tag == (kReadRepository << 3 | 2) && length <= kControlBytesMax) {
          reader.Bytes(length, &repository);
        } else if (tag == (kReadIds << 3 | 2)) {
          ASSIGN_OR_RETURN(ids, ReadIds(reader, length, kReadIdsMax));
        } else {
          return Malformed("read request: unknown field");
        }
      }
      if (!reader.ok()) return Malformed("read request");
      ASSIGN_OR_RETURN(auto hosted, registry_.Find(repository));
      ReplyWriter writer(*stream, ids);
      if (unopenable) RETURN_IF_ERROR(hosted->engine().NoteUnopenable(who, ids));
      RETURN_IF_ERROR(hosted->engine().Read(who, ids, verify, writer));
      RETURN_IF_ERROR(writer.End());
    }
    return absl::OkStatus();
  }();
  return ToGrpcStatus(status);
}

}  // namespace holdfast
