#include "tests/toolchain/grpc_tls_probe.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "tests/toolchain/echo.grpc.pb.h"
#include "tests/toolchain/echo.pb.h"

namespace holdfast::toolchain {
namespace {

class EchoService final : public Echo::Service {
  grpc::Status Echo(grpc::ServerContext* context, const EchoRequest* request, EchoResponse* response) override {
    *response->mutable_payload() = request->payload();
    return grpc::Status::OK;
  }
};

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

std::string ProbeGrpcTls() {
  const char* tmp = std::getenv("TEST_TMPDIR");
  const std::string dir = tmp == nullptr ? "/tmp" : tmp;
  const std::string key_path = dir + "/key.pem";
  const std::string cert_path = dir + "/cert.pem";
  const std::string command =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
      " -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout '" +
      key_path + "' -out '" + cert_path + "' 2>/dev/null";
  if (std::system(command.c_str()) != 0) return "openssl could not make a certificate";
  const std::string key = ReadFile(key_path);
  const std::string cert = ReadFile(cert_path);

  grpc::SslServerCredentialsOptions server_options;
  server_options.pem_key_cert_pairs.push_back({key, cert});
  EchoService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(server_options), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return "the server did not start";

  grpc::SslCredentialsOptions client_options;
  client_options.pem_root_certs = cert;
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride("localhost");
  const auto channel =
      grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), grpc::SslCredentials(client_options), arguments);
  const auto stub = Echo::NewStub(channel);
  EchoRequest request;
  request.mutable_payload()->set_data(std::string(1 << 20, 'x'));
  EchoResponse response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const grpc::Status status = stub->Echo(&context, request, &response);
  server->Shutdown();
  if (!status.ok()) return "the call failed: " + status.error_message();
  if (response.payload().data() != request.payload().data()) return "the echo differs";
  return "";
}

}  // namespace holdfast::toolchain
