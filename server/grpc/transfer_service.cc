#include "server/grpc/transfer_service.h"

#include <grpcpp/impl/codegen/method_handler.h>
#include <grpcpp/impl/codegen/rpc_service_method.h>

#include <memory>
#include <utility>
#include <variant>

#include "core/format/record.h"
#include "proto/holdfast/v1/raw_messages.h"
#include "proto/holdfast/v1/service.pb.h"
#include "server/grpc/principal.h"
#include "server/grpc/status_conversion.h"
#include "server/grpc/transfer_messages.h"

namespace holdfast {
namespace {

constexpr uint64_t kReplyBytesTarget = 1u << 20;

absl::Status ClientWentAway() { return absl::CancelledError("the client went away"); }

// Collects records into messages of about 1 MiB and writes them.
class ReplyWriter : public RecordReadSink {
 public:
  ReplyWriter(TransferService::Stream& stream, const std::vector<ChunkId>& ids) : stream_(stream), ids_(ids) {}

  absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
    if (!record.ok()) {
      // A repository that cannot be reached is the whole request's failure, not this chunk's.
      if (!absl::IsNotFound(record.status()) && !absl::IsDataLoss(record.status())) return record.status();
      v1::ReadFailure failure;
      failure.set_id(std::string(ids_[index].view()));
      failure.set_code(static_cast<uint32_t>(record.status().code()));
      failure.set_message(std::string(record.status().message()));
      std::string bytes = failure.SerializeAsString();
      AddSlice(grpc::Slice(FieldHeader(v1::ReadReply::kFailuresFieldNumber, bytes.size()) + bytes));
      return FlushIfLarge();
    }
    std::string header = EncodeRecordHeader(record->header);
    AddSlice(
        grpc::Slice(FieldHeader(v1::ReadReply::kRecordsFieldNumber, header.size() + record->body.size()) + header));
    auto* owner = new std::shared_ptr<char[]>(record->owner);
    AddSlice(grpc::Slice(
        const_cast<char*>(record->body.data()), record->body.size(),
        [](void* p) { delete static_cast<std::shared_ptr<char[]>*>(p); }, owner));
    return FlushIfLarge();
  }

  absl::Status End() {
    AddSlice(grpc::Slice(VarintField(v1::ReadReply::kEndFieldNumber, 1)));
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
    if (!stream_.Write(message)) return ClientWentAway();
    return absl::OkStatus();
  }

  TransferService::Stream& stream_;
  const std::vector<ChunkId>& ids_;
  std::vector<grpc::Slice> slices_;
  uint64_t bytes_ = 0;
};

// The messages of one upload stream, answered one by one. The first attaches to a session.
class UploadStream {
 public:
  UploadStream(RepositoryRegistry& registry, Principal who) : registry_(registry), who_(std::move(who)) {}
  UploadStream(const UploadStream&) = delete;
  UploadStream& operator=(const UploadStream&) = delete;
  ~UploadStream() {
    if (hosted_) hosted_->engine().StreamEnded(session_);
  }
  absl::StatusOr<grpc::ByteBuffer> Answer(const grpc::ByteBuffer& bytes) {
    SliceReader reader(bytes);
    ASSIGN_OR_RETURN(const UploadMessage message, ParseUploadRequest(reader, hosted_ != nullptr));
    return std::visit([this](const auto& m) { return AnswerTo(m); }, message);
  }

 private:
  absl::StatusOr<grpc::ByteBuffer> AnswerTo(const v1::AttachSession& attach) {
    ASSIGN_OR_RETURN(auto found, registry_.Find(attach.repository()));
    ASSIGN_OR_RETURN(session_, SessionId::FromBytes(attach.session()));
    RETURN_IF_ERROR(found->engine().StreamBegan(who_, session_));
    hosted_ = std::move(found);
    return OneFieldMessage(v1::UploadReply::kAttachedFieldNumber, std::string());
  }
  absl::StatusOr<grpc::ByteBuffer> AnswerTo(const std::vector<ChunkId>& ids) {
    ASSIGN_OR_RETURN(std::vector<HaveAnswer> answers, hosted_->engine().Have(who_, session_, ids));
    return OneFieldMessage(v1::UploadReply::kHaveFieldNumber,
                           std::string(reinterpret_cast<const char*>(answers.data()), answers.size()));
  }
  absl::StatusOr<grpc::ByteBuffer> AnswerTo(const RecordBatch& batch) {
    RETURN_IF_ERROR(hosted_->engine().Append(who_, session_, batch.records));
    v1::Appended appended;
    appended.set_records(batch.records.size());
    appended.set_bytes(batch.bytes);
    return OneFieldMessage(v1::UploadReply::kAppendedFieldNumber, appended.SerializeAsString());
  }

  RepositoryRegistry& registry_;
  const Principal who_;
  std::shared_ptr<HostedRepository> hosted_;  // set: attached
  SessionId session_;
};

absl::Status AnswerRead(RepositoryRegistry& registry, const Principal& who, const grpc::ByteBuffer& message,
                        TransferService::Stream& stream) {
  SliceReader reader(message);
  ASSIGN_OR_RETURN(ReadQuestion question, ParseReadRequest(reader));
  ASSIGN_OR_RETURN(auto hosted, registry.Find(question.repository));
  ReplyWriter writer(stream, question.ids);
  if (question.unopenable) RETURN_IF_ERROR(hosted->engine().NoteUnopenable(who, question.ids));
  RETURN_IF_ERROR(hosted->engine().Read(who, question.ids, question.verify, writer));
  return writer.End();
}

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
  UploadStream upload(registry_, PrincipalOf(*context));
  grpc::ByteBuffer message;
  while (stream->Read(&message)) {
    absl::StatusOr<grpc::ByteBuffer> reply = upload.Answer(message);
    if (!reply.ok()) return ToGrpcStatus(reply.status());
    message.Clear();
    if (!stream->Write(*reply)) return ToGrpcStatus(ClientWentAway());
  }
  return grpc::Status::OK;
}

grpc::Status TransferService::Read(grpc::ServerContext* context, Stream* stream) {
  const Principal who = PrincipalOf(*context);
  grpc::ByteBuffer message;
  while (stream->Read(&message)) {
    absl::Status status = AnswerRead(registry_, who, message, *stream);
    if (!status.ok()) return ToGrpcStatus(status);
  }
  return grpc::Status::OK;
}

}  // namespace holdfast
