// holdfastd: flags, configuration, wiring.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/escaping.h"
#include "core/base/status.h"
#include "core/base/version.h"
#include "core/io/posix.h"
#include "server/daemon/config.h"
#include "server/daemon/server.h"

namespace holdfast {
namespace {

void Log(std::string_view message) {
  std::string line = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", PosixIo().clock.Wall(), absl::UTCTimeZone());
  line += " ";
  line += message;
  line += "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

// The signals that end the server.
sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

// What concerns the whole process, before it has a second thread.
void PrepareProcess() {
  // Blocked before any thread starts, so that every thread inherits it.
  const sigset_t set = StopSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  // Chunk keys never come here, but a core file of a backup server has no place on a disk either.
  rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  OccupyStandardDescriptors();
  RaiseOpenFilesLimit();
  // 1 GiB streams of 1 MiB buffers: keep them from being mapped and zeroed anew every time.
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  mallopt(M_ARENA_MAX, 4);
}

absl::Status Run(const std::string& config_path) {
  ServerOptions options;
  ASSIGN_OR_RETURN(options.config, LoadDaemonConfig(config_path));
  char host[256] = "";
  ::gethostname(host, sizeof(host) - 1);
  options.server_id = absl::Utf8SafeCHexEscape(absl::StrCat(host, ":", options.config.data_directory));
  // Tests stop the process at named steps of a commit, as kill -9 would.
  if (const char* point = std::getenv("HOLDFAST_CRASH_POINT")) {
    options.crash_point = [wanted = std::string(point)](std::string_view name) {
      if (name == wanted) ::kill(::getpid(), SIGKILL);
    };
  }
  options.log = Log;
  ASSIGN_OR_RETURN(std::unique_ptr<Server> server, Server::Start(PosixIo(), std::move(options)));
  std::thread signals([&server] {
    const sigset_t set = StopSignals();
    int signal_number = 0;
    sigwait(&set, &signal_number);
    server->Stop();
  });
  server->Wait();
  signals.join();
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
  PrepareProcess();
  absl::Status status = Run(config_path);
  if (!status.ok()) {
    std::cerr << "holdfastd: " << status.message() << "\n";
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) { return holdfast::Main(argc, argv); }
