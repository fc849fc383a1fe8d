// The server's gRPC side: both services on one Unix socket. Whoever reaches the socket is let in, so it is in a
// directory that only its owner enters. At most 512 threads, one per stream and call; they end with Stop.
#ifndef HOLDFAST_SERVER_GRPC_GRPC_SERVER_H_
#define HOLDFAST_SERVER_GRPC_GRPC_SERVER_H_

#include <memory>
#include <string>

#include "core/base/status.h"
#include "server/repository/registry.h"

namespace holdfast {

class GrpcServer {
 public:
  // Whether Start could listen there; makes the directory. FAILED_PRECONDITION: somebody listens there already, or the
  // directory is not ours alone; INVALID_ARGUMENT: not a path for a socket.
  static absl::Status Prepare(const std::string& socket);
  // Prepares, and listens when it returns OK; replaces a socket that nobody listens on. `registry` is borrowed.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const std::string& socket, RepositoryRegistry& registry,
                                                           std::string version);
  ~GrpcServer();  // stops
  // Streams that run are cut off after two seconds; what they uploaded is kept for the next session. Removes the
  // socket unless another server has taken it over meanwhile. Idempotent; not from two threads at once.
  void Stop();

 private:
  struct Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_GRPC_GRPC_SERVER_H_
