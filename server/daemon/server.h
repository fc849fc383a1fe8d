// The whole server: repositories, the gRPC socket, the HTTP endpoint. A process may have several, each with a data
// directory and sockets of its own.
#ifndef HOLDFAST_SERVER_DAEMON_SERVER_H_
#define HOLDFAST_SERVER_DAEMON_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "server/daemon/config.h"
#include "server/daemon/file_registry.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_server.h"

namespace holdfast {

struct ServerOptions {
  DaemonConfig config;
  std::string server_id;                              // for people, in the repositories' logs
  std::function<void(std::string_view)> crash_point;  // tests: called at named steps of a commit; may be empty
  std::function<void(std::string_view)> log;          // takes messages for people; one at a time
};

class Server {
 public:
  // Opens the repositories and listens when it returns OK. A repository that cannot be opened is logged and does not
  // stop the others. FAILED_PRECONDITION: another server has the socket or the data directory.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Io io, ServerOptions options);
  ~Server();  // stops
  // Blocks until the server has stopped, which another thread asks for.
  void Wait();
  // Cuts off what runs (what clients uploaded is kept), closes everything. Any thread; idempotent; blocks for some
  // seconds at most, and for what a repository needs to close.
  void Stop();

 private:
  explicit Server(ServerOptions options) : options_(std::move(options)) {}
  absl::Status StartParts(Io io);
  void LogRepositories();
  void Log(std::string_view message) { options_.log(message); }

  const ServerOptions options_;
  absl::Mutex mu_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  // Made by Start, then touched by Stop alone.
  std::unique_ptr<FileRegistry> registry_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<GrpcServer> grpc_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_DAEMON_SERVER_H_
