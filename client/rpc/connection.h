// The way to the server: channels, the control stub, raw streams; and the one place where gRPC's errors become ours.
#ifndef HOLDFAST_CLIENT_RPC_CONNECTION_H_
#define HOLDFAST_CLIENT_RPC_CONNECTION_H_

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <string>

#include "core/base/status.h"
#include "proto/holdfast/v1/service.grpc.pb.h"

namespace holdfast {

absl::Status FromGrpcStatus(const grpc::Status& status);

// A bidirectional stream of raw messages. One thread at a time.
class RawStream {
 public:
  RawStream(std::shared_ptr<grpc::Channel> channel, const char* method);
  ~RawStream();  // cancels what is not finished
  absl::Status Write(const grpc::ByteBuffer& message);
  absl::Status Read(grpc::ByteBuffer* message);

 private:
  absl::Status Broken();

  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream_;
  absl::Status finished_;
  bool is_finished_ = false;
};

// Thread-safe.
class Connection {
 public:
  // `address`: unix:/absolute/path. UNAVAILABLE, with how to start a server, when none answers; FAILED_PRECONDITION
  // when it speaks another protocol; INVALID_ARGUMENT for other kinds of address.
  static absl::StatusOr<std::unique_ptr<Connection>> Connect(const std::string& address);

  v1::HoldfastService::Stub& stub() { return *stub_; }
  // A stream on a connection of its own, so that streams do not share one transport.
  std::unique_ptr<RawStream> NewStream(const char* method);

  // A unary call with a deadline; the lambda gets a context.
  template <typename F>
  absl::Status Call(F call, int seconds = 600) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
    return FromGrpcStatus(call(context));
  }

 private:
  explicit Connection(std::string address) : address_(std::move(address)) {}
  std::shared_ptr<grpc::Channel> NewChannel();

  const std::string address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::HoldfastService::Stub> stub_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_CONNECTION_H_
