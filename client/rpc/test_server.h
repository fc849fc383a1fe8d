// A server in this process with the repository "r", and the keys of its agents: for tests of what talks to a server.
// Thread-safe but for registry().Restart().
#ifndef HOLDFAST_CLIENT_RPC_TEST_SERVER_H_
#define HOLDFAST_CLIENT_RPC_TEST_SERVER_H_

#include <cstdint>
#include <string>

#include "client/rpc/in_process_repository_client.h"
#include "core/base/ids.h"
#include "core/format/record_sealer.h"
#include "proto/holdfast/v1/service.pb.h"
#include "server/repository/memory_registry.h"

namespace holdfast {

class TestServer {
 public:
  static constexpr char kRepository[] = "r";

  TestServer();
  ~TestServer();  // removes its spool

  MemoryRegistry& registry() { return registry_; }
  InProcessRepositoryClient& client() { return client_; }
  // In a directory of its own, short enough for a socket.
  std::string SocketPath() const { return directory_ + "/socket"; }

  static RepositoryId Id();
  // All agents share the keys of data, none those of tree pages.
  static SealingKeys Keys(uint32_t agent = 1);
  // A repository that can be created; equal names are the same repository.
  static v1::CreateRepositoryRequest NewRepositoryRequest(const std::string& name);

 private:
  const std::string directory_;
  MemoryRegistry registry_;
  InProcessRepositoryClient client_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_TEST_SERVER_H_
