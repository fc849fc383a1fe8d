// RepositoryClient over gRPC: the only one that programs use.
#ifndef HOLDFAST_CLIENT_RPC_GRPC_REPOSITORY_CLIENT_H_
#define HOLDFAST_CLIENT_RPC_GRPC_REPOSITORY_CLIENT_H_

#include <memory>
#include <string>

#include "client/rpc/repository_client.h"
#include "core/base/status.h"

namespace holdfast {

// `address`: unix:/absolute/path. UNAVAILABLE, with how to start a server, when none answers; FAILED_PRECONDITION when
// it speaks another protocol; INVALID_ARGUMENT for other kinds of address.
absl::StatusOr<std::unique_ptr<RepositoryClient>> ConnectToServer(const std::string& address);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_GRPC_REPOSITORY_CLIENT_H_
