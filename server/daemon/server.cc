#include "server/daemon/server.h"

#include <utility>

#include "core/base/version.h"
#include "server/daemon/monitoring.h"

namespace holdfast {

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Io io, ServerOptions options) {
  std::unique_ptr<Server> server(new Server(std::move(options)));
  RETURN_IF_ERROR(server->StartParts(io));
  return server;
}

absl::Status Server::StartParts(Io io) {
  const DaemonConfig& config = options_.config;
  // Before a repository is opened: that writes to it.
  RETURN_IF_ERROR(GrpcServer::Prepare(config.socket));
  FileRegistryOptions registry_options;
  registry_options.data_directory = config.data_directory;
  registry_options.server_id = options_.server_id;
  registry_options.crash_point = options_.crash_point;
  ASSIGN_OR_RETURN(registry_, FileRegistry::Open(io, registry_options));
  LogRepositories();
  HttpServerOptions http_options;
  if (config.http_loopback.empty()) {
    http_options.unix_socket = config.http_socket;
  } else {
    http_options.loopback_address = config.http_loopback;
  }
  ASSIGN_OR_RETURN(http_, HttpServer::Start(http_options, MonitoringRoutes(*registry_, kVersion)));
  ASSIGN_OR_RETURN(grpc_, GrpcServer::Start(config.socket, *registry_, kVersion));
  Log(absl::StrCat("holdfastd ", kVersion, " listens on ", config.socket, ", data in ", config.data_directory));
  return absl::OkStatus();
}

void Server::LogRepositories() {
  for (const auto& repository : registry_->List()) {
    if (!repository->error().ok()) {
      Log(absl::StrCat("repository ", repository->name(), " is not open: ", repository->error().message()));
    } else if (absl::Status s = repository->Health(); !s.ok()) {
      Log(absl::StrCat("repository ", repository->name(), ": ", s.message()));
    }
    for (const std::string& w : repository->Warnings()) {
      Log(absl::StrCat("repository ", repository->name(), ": warning: ", w));
    }
  }
}

Server::~Server() { Stop(); }

void Server::Wait() {
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(&stopped_));
}

void Server::Stop() {
  absl::MutexLock lock(&mu_);
  if (stopped_) return;
  const bool was_started = grpc_ != nullptr;
  if (was_started) Log("stopping");
  // Adapters before what they adapt.
  grpc_.reset();
  http_.reset();
  registry_.reset();
  if (was_started) Log("stopped");
  stopped_ = true;
}

}  // namespace holdfast
