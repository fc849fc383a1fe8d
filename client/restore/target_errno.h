// errno of a call on the target -> Status. RESOURCE_EXHAUSTED is kept for what concerns every later call, too (a full
// disk, no descriptors or memory left), because that ends a restore; UNAVAILABLE for the server, because a person is
// then told to start it.
#ifndef HOLDFAST_CLIENT_RESTORE_TARGET_ERRNO_H_
#define HOLDFAST_CLIENT_RESTORE_TARGET_ERRNO_H_

#include <cerrno>
#include <string_view>
#include <system_error>

#include "core/base/status.h"
#include "core/io/errno_status.h"

namespace holdfast {

// "action: text of the error".
inline absl::Status TargetErrno(int error, std::string_view action) {
  absl::StatusCode code = ErrnoToCode(error);
  // What this one object wants is more than this file system can do.
  if (error == EFBIG || error == EMLINK || error == EOPNOTSUPP) code = absl::StatusCode::kFailedPrecondition;
  // EIO, and what nobody has thought of.
  if (code == absl::StatusCode::kUnavailable) code = absl::StatusCode::kFailedPrecondition;
  return absl::Status(code, absl::StrCat(AbslView(action), ": ", std::generic_category().message(error)));
}

// Of setting an extended attribute. What is short is then the room for attributes, or memory for a large one, and says
// nothing about the next object.
inline absl::Status XattrErrno(int error) {
  const absl::Status status = TargetErrno(error, "set extended attribute");
  return absl::IsResourceExhausted(status) ? absl::FailedPreconditionError(status.message()) : status;
}

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_TARGET_ERRNO_H_
