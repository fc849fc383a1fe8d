// holdfastd: flags, configuration, wiring.
#include <fcntl.h>
#include <grpc/grpc.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <malloc.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/escaping.h"
#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/base/version.h"
#include "core/io/errno_status.h"
#include "core/io/machine_paths.h"
#include "core/io/posix.h"
#include "server/daemon/config.h"
#include "server/daemon/file_registry.h"
#include "server/grpc/control_service.h"
#include "server/grpc/transfer_service.h"
#include "server/http/http_server.h"
#include "server/http/metrics.h"

namespace holdfast {
namespace {

constexpr int kThreadsMax = 512;  // of gRPC: one per stream, and a few
constexpr size_t kGrpcMemoryBytes = 256u << 20;

void Log(std::string_view message) {
  std::string line = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", PosixIo().clock.Wall(), absl::UTCTimeZone());
  line += " ";
  line += message;
  line += "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

// Somebody listens there.
bool IsAnswered(const std::string& path) {
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  bool answered = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  ::close(fd);
  return answered;
}

absl::Status Run(const DaemonConfig& config) {
  const Io io = PosixIo();
  RETURN_IF_ERROR(CheckSocketPath(config.socket));
  RETURN_IF_ERROR(MakePrivateDirectory(config.socket.substr(0, config.socket.rfind('/'))));
  if (IsAnswered(config.socket)) {
    return absl::FailedPreconditionError("a holdfastd is already listening on " + config.socket);
  }
  // 1 GiB streams of 1 MiB buffers: keep them from being mapped and zeroed anew every time.
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  mallopt(M_ARENA_MAX, 4);

  FileRegistryOptions registry_options;
  registry_options.data_directory = config.data_directory;
  char host[256] = "";
  ::gethostname(host, sizeof(host) - 1);
  registry_options.server_id = absl::Utf8SafeCHexEscape(absl::StrCat(host, ":", config.data_directory));
  // Tests stop the process at named steps of a commit, as kill -9 would.
  if (const char* point = std::getenv("HOLDFAST_CRASH_POINT")) {
    registry_options.crash_point = [wanted = std::string(point)](std::string_view name) {
      if (name == wanted) ::kill(::getpid(), SIGKILL);
    };
  }
  ASSIGN_OR_RETURN(std::unique_ptr<FileRegistry> registry, FileRegistry::Open(io, registry_options));
  for (const auto& repository : registry->List()) {
    if (!repository->error().ok()) {
      Log(absl::StrCat("repository ", repository->name(), " is not open: ", repository->error().message()));
    } else if (absl::Status s = repository->Health(); !s.ok()) {
      Log(absl::StrCat("repository ", repository->name(), ": ", s.message()));
    }
    for (const std::string& w : repository->Warnings()) {
      Log(absl::StrCat("repository ", repository->name(), ": warning: ", w));
    }
  }

  MetricsRegistry metrics;
  auto sum = [&](auto field) {
    return [&registry, field]() -> double {
      uint64_t total = 0;
      for (const auto& r : registry->List()) {
        total += r->Statistics().*field;
      }
      return static_cast<double>(total);
    };
  };
  metrics.AddGaugeCallback("holdfast_snapshots", "Snapshots that can be restored.", {},
                           sum(&RepositoryStatistics::snapshots));
  metrics.AddGaugeCallback("holdfast_packs", "Packs in storage.", {}, sum(&RepositoryStatistics::packs));
  metrics.AddGaugeCallback("holdfast_stored_bytes", "Bytes of packs in storage.", {},
                           sum(&RepositoryStatistics::stored_bytes));
  metrics.AddGaugeCallback("holdfast_chunks", "Distinct chunks.", {}, sum(&RepositoryStatistics::chunks));
  metrics.AddGaugeCallback("holdfast_upload_sessions", "Upload sessions that are open.", {},
                           sum(&RepositoryStatistics::sessions));
  metrics.AddGaugeCallback("holdfast_appended_bytes", "Bytes of chunk records received since the start.", {},
                           sum(&RepositoryStatistics::bytes_appended));
  metrics.AddGaugeCallback("holdfast_read_bytes", "Bytes of chunk records sent since the start.", {},
                           sum(&RepositoryStatistics::bytes_read));
  metrics.AddGaugeCallback("holdfast_repositories_unavailable", "Repositories that cannot be used.", {},
                           [&registry]() -> double {
                             int n = 0;
                             for (const auto& r : registry->List()) n += !r->Health().ok();
                             return n;
                           });
  HttpServerOptions http_options;
  if (config.http_loopback.empty()) {
    http_options.unix_socket = config.http_socket;
  } else {
    http_options.loopback_address = config.http_loopback;
  }
  http_options.version = kVersion;
  ASSIGN_OR_RETURN(std::unique_ptr<HttpServer> http,
                   HttpServer::Start(http_options, metrics, [&registry]() -> HttpHealth {
                     HttpHealth health;
                     health.healthy = true;
                     health.status = "ok";
                     for (const auto& r : registry->List()) {
                       absl::Status s = r->Health();
                       if (s.ok()) continue;
                       health.healthy = false;
                       health.status = "a repository is not usable";
                       health.details.emplace_back(r->name(), std::string(s.message()));
                     }
                     return health;
                   }));

  ControlService control(*registry, kVersion);
  TransferService transfer(*registry);
  grpc::ServerBuilder builder;
  grpc::ResourceQuota quota("holdfastd");
  quota.Resize(kGrpcMemoryBytes);
  quota.SetMaxThreads(kThreadsMax);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kMessageBytesMax);
  builder.SetMaxSendMessageSize(kMessageBytesMax);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 4);
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  // How long an idle poller sleeps, and so how long stopping may take (the default is 10 s).
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::CQ_TIMEOUT_MSEC, 500);
  builder.RegisterService(&control);
  builder.RegisterService(&transfer);
  ::unlink(config.socket.c_str());
  const mode_t old_mask = ::umask(077);
  builder.AddListeningPort(UnixSocketUri(config.socket), grpc::InsecureServerCredentials());
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ::umask(old_mask);
  if (!server) return absl::UnavailableError("cannot listen on " + config.socket);
  struct stat bound {};
  if (::stat(config.socket.c_str(), &bound) != 0) return ErrnoStatus(errno, "looking at", config.socket);
  Log(absl::StrCat("holdfastd ", kVersion, " listens on ", config.socket, ", data in ", config.data_directory));

  // Signals are blocked in every thread (main); wait here for the one that ends us.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  int signal_number = 0;
  sigwait(&set, &signal_number);
  Log("stopping");
  // Streams that run are cut off; what they uploaded is kept for the next session.
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
  server->Wait();
  http->Stop();
  // Unless another server has taken the path over meanwhile.
  struct stat now {};
  if (::stat(config.socket.c_str(), &now) == 0 && now.st_dev == bound.st_dev && now.st_ino == bound.st_ino) {
    ::unlink(config.socket.c_str());
  }
  registry.reset();
  Log("stopped");
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app{
      "holdfastd: the Holdfast server. Without arguments it listens on a Unix socket in the user's run-time "
      "directory and keeps its repositories in the user's data directory."};
  std::string config_path;
  bool show_version = false;
  app.add_option("--config", config_path, "Configuration file (TOML); all settings are optional");
  app.add_flag("--version", show_version, "Print the version and exit");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int status = app.exit(e);
    return status == 0 ? 0 : 64;
  }
  if (show_version) {
    std::cout << "holdfastd " << kVersion << "\n";
    return 0;
  }
  // Blocked before any thread starts, so that every thread inherits it.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // Never undone: the global shutdown of gRPC 1.51 may wait 10 s for one of its own pollers, when everything of ours
  // has long been closed.
  grpc_init();
  ::signal(SIGPIPE, SIG_IGN);
  // Chunk keys never come here, but a core file of a backup server has no place on a disk either.
  rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  holdfast::OccupyStandardDescriptors();
  holdfast::RaiseOpenFilesLimit();

  absl::StatusOr<DaemonConfig> config = LoadDaemonConfig(config_path);
  absl::Status status = config.ok() ? Run(*config) : config.status();
  if (!status.ok()) {
    std::cerr << "holdfastd: " << status.message() << "\n";
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) { return holdfast::Main(argc, argv); }
