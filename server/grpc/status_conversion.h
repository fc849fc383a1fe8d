// absl::Status to grpc::Status, in this one place. The codes have the same numbers.
#ifndef HOLDFAST_SERVER_GRPC_STATUS_CONVERSION_H_
#define HOLDFAST_SERVER_GRPC_STATUS_CONVERSION_H_

#include <grpcpp/support/status.h>

#include <string>

#include "core/base/status.h"

namespace holdfast {

inline grpc::Status ToGrpcStatus(const absl::Status& s, std::string details = "") {
  if (s.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(s.code()), std::string(s.message()), std::move(details));
}

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_GRPC_STATUS_CONVERSION_H_
