#include "server/grpc/test_services.h"

#include <grpc/grpc.h>
#include <grpcpp/impl/codegen/rpc_method.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "core/io/posix.h"

namespace holdfast {

absl::Status FromGrpcStatus(const grpc::Status& s) {
  return absl::Status(static_cast<absl::StatusCode>(s.error_code()), s.error_message());
}

std::string NewTestDirectory() {
  char name[] = "/tmp/hf-grpc.XXXXXX";  // a socket's path has 107 bytes at most, TEST_TMPDIR has more
  if (mkdtemp(name) == nullptr) {
    std::perror(name);
    std::abort();
  }
  return name;
}

std::string TestKeyBlob(std::string_view magic, char content) {
  std::string bytes(magic);
  bytes += '\0';
  bytes += std::string(64, content);
  return bytes + std::string(Blake3Digest(bytes).view());
}

v1::CreateRepositoryRequest NewRepositoryRequest(const std::string& name) {
  v1::CreateRepositoryRequest request;
  request.set_name(name);
  request.set_repository_id(std::string(Blake3Digest(name).view().substr(0, RepositoryId::kSizeInBytes)));
  request.set_aead(1);
  request.set_settings(TestKeyBlob("HFREPO1"));
  request.set_key_slots(TestKeyBlob("HFSLOT1"));
  request.set_keyring(TestKeyBlob("HFRING1"));
  request.set_catalog_key(std::string(32, 'c'));
  return request;
}

TestStream::TestStream(const std::shared_ptr<grpc::Channel>& channel, const char* method) {
  context_.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
  grpc::internal::RpcMethod rpc(method, grpc::internal::RpcMethod::BIDI_STREAMING, channel);
  stream_.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(channel.get(),
                                                                                                      rpc, &context_));
}

TestStream::~TestStream() {
  if (!finished_) (void)Cancel();
}

bool TestStream::Write(std::string_view message) {
  const grpc::Slice slice(message.data(), message.size());
  return stream_->Write(grpc::ByteBuffer(&slice, 1));
}

std::optional<std::string> TestStream::Read() {
  grpc::ByteBuffer message;
  if (!stream_->Read(&message)) return std::nullopt;
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(message.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& s : slices) bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
  return bytes;
}

absl::Status TestStream::Finish() {
  finished_ = true;
  stream_->WritesDone();
  while (Read()) {
  }
  return FromGrpcStatus(stream_->Finish());
}

absl::Status TestStream::Cancel() {
  context_.TryCancel();
  return Finish();
}

TestServices::TestServices()
    : directory_(NewTestDirectory()),
      registry_(PosixIo(), directory_ + "/spool"),
      control_(registry_, "1.2.3"),
      transfer_(registry_) {
  // Never undone: as in GrpcServer::Start.
  static const bool initialized = (grpc_init(), true);
  (void)initialized;
  grpc::ServerBuilder builder;
  // How long stopping takes.
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::CQ_TIMEOUT_MSEC, 10);
  const std::string address = "unix:" + directory_ + "/socket";
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&control_);
  builder.RegisterService(&transfer_);
  server_ = builder.BuildAndStart();
  // Not a channel without a socket: that has no room for a message that the other side does not yet read.
  channel_ = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  stub_ = v1::HoldfastService::NewStub(channel_);
  grpc::ClientContext context;
  v1::CreateRepositoryReply reply;
  EXPECT_OK(FromGrpcStatus(stub_->CreateRepository(&context, NewRepositoryRequest(kRepository), &reply)));
}

TestServices::~TestServices() {
  server_->Shutdown();
  server_->Wait();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

Repository& TestServices::engine() {
  auto hosted = registry_.Find(kRepository);
  EXPECT_OK(hosted);
  return (*hosted)->engine();
}

std::unique_ptr<TestStream> TestServices::NewStream(const char* method) {
  return std::make_unique<TestStream>(channel_, method);
}

absl::StatusOr<std::string> TestServices::OpenSession(const std::string& source, uint32_t agent) {
  grpc::ClientContext context;
  v1::OpenSessionRequest request;
  request.set_repository(kRepository);
  request.set_source(source);
  request.set_agent(agent);
  v1::OpenSessionReply reply;
  RETURN_IF_ERROR(FromGrpcStatus(stub_->OpenSession(&context, request, &reply)));
  return reply.session();
}

}  // namespace holdfast
