#include "client/rpc/connection.h"

#include <grpcpp/impl/codegen/rpc_method.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "absl/strings/match.h"
#include "core/base/limits.h"
#include "core/io/machine_paths.h"

namespace holdfast {
namespace {

constexpr uint32_t kProtocol = 1;

}  // namespace

absl::Status FromGrpcStatus(const grpc::Status& s) {
  if (s.ok()) return absl::OkStatus();
  // We cancel nothing whose status we look at.
  if (s.error_code() == grpc::StatusCode::CANCELLED) return absl::UnavailableError("the server ended the connection");
  return absl::Status(static_cast<absl::StatusCode>(s.error_code()), s.error_message());
}

RawStream::RawStream(std::shared_ptr<grpc::Channel> channel, const char* method) : channel_(std::move(channel)) {
  grpc::internal::RpcMethod rpc(method, grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
  stream_.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(channel_.get(),
                                                                                                      rpc, &context_));
}

RawStream::~RawStream() {
  if (is_finished_) return;
  context_.TryCancel();
  (void)stream_->Finish();
}

absl::Status RawStream::Broken() {
  if (!is_finished_) {
    is_finished_ = true;
    // Reading to the end first: Finish waits for it.
    grpc::ByteBuffer rest;
    while (stream_->Read(&rest)) {
    }
    finished_ = FromGrpcStatus(stream_->Finish());
    if (finished_.ok()) finished_ = absl::UnavailableError("the server closed the connection");
  }
  return finished_;
}

absl::Status RawStream::Write(const grpc::ByteBuffer& message) {
  if (is_finished_) return finished_;
  return stream_->Write(message) ? absl::OkStatus() : Broken();
}

absl::Status RawStream::Read(grpc::ByteBuffer* message) {
  if (is_finished_) return finished_;
  return stream_->Read(message) ? absl::OkStatus() : Broken();
}

std::shared_ptr<grpc::Channel> Connection::NewChannel() {
  static std::atomic<int> number{0};
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetMaxSendMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt("holdfast.channel", number++);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
}

absl::StatusOr<std::unique_ptr<Connection>> Connection::Connect(const std::string& address) {
  if (!absl::StartsWith(address, "unix:/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", address, "\" is not a server address; expected unix:/absolute/path"));
  }
  const std::string path = address.substr(5);
  RETURN_IF_ERROR(CheckSocketPath(path));
  std::unique_ptr<Connection> connection(new Connection(UnixSocketUri(path)));
  connection->channel_ = connection->NewChannel();
  connection->stub_ = v1::HoldfastService::NewStub(connection->channel_);
  v1::GetServerInfoReply info;
  absl::Status s = connection->Call(
      [&](grpc::ClientContext& c) { return connection->stub_->GetServerInfo(&c, {}, &info); }, /*seconds=*/10);
  if (absl::IsUnavailable(s) && ::access(path.c_str(), R_OK | W_OK) != 0 && errno == EACCES) {
    return absl::PermissionDeniedError(absl::StrCat(
        "you may not use the server's socket ", path,
        ": it belongs to another user\n  Start a server of your own with: holdfastd &\n  or name another with --server "
        "unix:PATH or HOLDFAST_SERVER."));
  }
  if (absl::IsUnavailable(s) || absl::IsDeadlineExceeded(s)) {
    return absl::UnavailableError(absl::StrCat("no server answers at ", address,
                                               "\n  Start one with: holdfastd &\n  or name another with --server "
                                               "unix:PATH or HOLDFAST_SERVER."));
  }
  RETURN_IF_ERROR(s);
  if (info.protocol() != kProtocol) {
    return absl::FailedPreconditionError(absl::StrCat("the server (version ", info.version(), ") speaks protocol ",
                                                      info.protocol(), ", this client ", kProtocol,
                                                      ": update the older of the two"));
  }
  return connection;
}

std::unique_ptr<RawStream> Connection::NewStream(const char* method) {
  return std::make_unique<RawStream>(NewChannel(), method);
}

}  // namespace holdfast
