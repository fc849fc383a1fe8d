// Both services over repositories in memory, behind a socket of their own: for their tests. Thread-safe but for
// registry().Restart().
#ifndef HOLDFAST_SERVER_GRPC_TEST_SERVICES_H_
#define HOLDFAST_SERVER_GRPC_TEST_SERVICES_H_

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "proto/holdfast/v1/service.grpc.pb.h"
#include "server/grpc/control_service.h"
#include "server/grpc/transfer_service.h"
#include "server/repository/memory_registry.h"
#include "server/repository/repository.h"

namespace holdfast {

absl::Status FromGrpcStatus(const grpc::Status& s);
// Makes a directory, short enough for a socket in it.
std::string NewTestDirectory();
// A repository that can be created; equal names are the same repository.
v1::CreateRepositoryRequest NewRepositoryRequest(const std::string& name);
// An intact one (docs/format.md, sections 1, 3 and 4); `content`: of its 64 bytes.
std::string TestKeyBlob(std::string_view magic, char content = 'k');

// What a client says on a stream, byte by byte. Fails instead of waiting longer than a minute. One thread at a time.
class TestStream {
 public:
  TestStream(const std::shared_ptr<grpc::Channel>& channel, const char* method);
  ~TestStream();  // cancels what is not finished

  // False: the stream is broken; Finish says why.
  bool Write(std::string_view message);
  // Nothing: the stream is at its end.
  std::optional<std::string> Read();
  // Says that nothing more comes, reads what does, and gives the stream's status.
  absl::Status Finish();
  // As a client that dies; the server hears of it some time.
  absl::Status Cancel();

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream_;
  bool finished_ = false;
};

class TestServices {
 public:
  static constexpr char kRepository[] = "r";

  TestServices();
  ~TestServices();  // streams end before

  MemoryRegistry& registry() { return registry_; }
  // Of kRepository; until registry().Restart().
  Repository& engine();
  v1::HoldfastService::Stub& control() { return *stub_; }
  std::unique_ptr<TestStream> NewStream(const char* method);

  // The session's id.
  absl::StatusOr<std::string> OpenSession(const std::string& source = "home", uint32_t agent = 1);

 private:
  const std::string directory_;
  MemoryRegistry registry_;
  ControlService control_;
  TransferService transfer_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::HoldfastService::Stub> stub_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_GRPC_TEST_SERVICES_H_
