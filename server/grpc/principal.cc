#include "server/grpc/principal.h"

namespace holdfast {

Principal PrincipalOf(const grpc::ServerContext&) { return Principal{"local"}; }

}  // namespace holdfast
