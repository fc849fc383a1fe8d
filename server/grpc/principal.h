// Who calls: the one place where a call becomes a principal.
#ifndef HOLDFAST_SERVER_GRPC_PRINCIPAL_H_
#define HOLDFAST_SERVER_GRPC_PRINCIPAL_H_

#include <grpcpp/server_context.h>

#include "server/repository/repository.h"

namespace holdfast {

// The Unix socket is in a directory that only its owner enters, and gRPC does not show the peer: one principal.
Principal PrincipalOf(const grpc::ServerContext& context);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_GRPC_PRINCIPAL_H_
