#include "server/grpc/grpc_server.h"

#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "core/base/limits.h"
#include "core/io/errno_status.h"
#include "core/io/machine_paths.h"
#include "server/grpc/control_service.h"
#include "server/grpc/transfer_service.h"

namespace holdfast {
namespace {

constexpr int kThreadsMax = 512;
constexpr size_t kMemoryBytes = 256u << 20;
constexpr std::chrono::seconds kStreamsEndWithin(2);

}  // namespace

struct GrpcServer::Impl {
  Impl(std::string s, RepositoryRegistry& registry, std::string version)
      : socket(std::move(s)), control(registry, std::move(version)), transfer(registry) {}

  const std::string socket;
  ControlService control;
  TransferService transfer;
  std::unique_ptr<grpc::Server> server;
  struct stat bound {};  // the socket as we made it

  bool OwnsSocket() const {
    struct stat now {};
    return ::stat(socket.c_str(), &now) == 0 && now.st_dev == bound.st_dev && now.st_ino == bound.st_ino;
  }
};

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcServer::~GrpcServer() { Stop(); }

absl::Status GrpcServer::Prepare(const std::string& socket) {
  RETURN_IF_ERROR(CheckSocketPath(socket));
  RETURN_IF_ERROR(MakePrivateDirectory(socket.substr(0, socket.rfind('/'))));
  if (SomebodyListens(socket)) return absl::FailedPreconditionError("a holdfastd is already listening on " + socket);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const std::string& socket, RepositoryRegistry& registry,
                                                              std::string version) {
  RETURN_IF_ERROR(Prepare(socket));
  // Never undone: the global shutdown of gRPC 1.51 may wait 10 s for one of its own pollers, when everything of ours
  // has long been closed.
  static const bool initialized = (grpc_init(), true);
  (void)initialized;
  auto impl = std::make_unique<Impl>(socket, registry, std::move(version));
  grpc::ServerBuilder builder;
  grpc::ResourceQuota quota("holdfastd");
  quota.Resize(kMemoryBytes);
  quota.SetMaxThreads(kThreadsMax);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kMessageBytesMax);
  builder.SetMaxSendMessageSize(kMessageBytesMax);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 4);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  // How long an idle poller sleeps, and so how long stopping may take (the default is 10 s).
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::CQ_TIMEOUT_MSEC, 500);
  builder.RegisterService(&impl->control);
  builder.RegisterService(&impl->transfer);
  // gRPC removes the socket that is there, and nothing else that is.
  builder.AddListeningPort(UnixSocketUri(socket), grpc::InsecureServerCredentials());
  impl->server = builder.BuildAndStart();
  if (!impl->server) return absl::UnavailableError("cannot listen on " + socket);
  // The directory keeps everybody else out in the meantime.
  if (::chmod(socket.c_str(), 0600) != 0) return ErrnoStatus(errno, "closing to others", socket);
  if (::stat(socket.c_str(), &impl->bound) != 0) return ErrnoStatus(errno, "looking at", socket);
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

void GrpcServer::Stop() {
  if (!impl_->server) return;
  // gRPC removes whatever socket is at the path by then. That of a server which took over is kept by a second name.
  const std::string kept = impl_->socket + ".kept";
  bool is_kept = false;
  if (!impl_->OwnsSocket()) {
    ::unlink(kept.c_str());
    is_kept = ::link(impl_->socket.c_str(), kept.c_str()) == 0;
  }
  impl_->server->Shutdown(std::chrono::system_clock::now() + kStreamsEndWithin);
  impl_->server->Wait();
  impl_->server.reset();
  if (!is_kept) return;
  // Does not replace that of yet another server.
  if (::link(kept.c_str(), impl_->socket.c_str()) == 0 || errno == EEXIST) ::unlink(kept.c_str());
}

}  // namespace holdfast
