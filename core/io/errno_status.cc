#include "core/io/errno_status.h"

#include <cerrno>
#include <system_error>

namespace holdfast {
absl::StatusCode ErrnoToCode(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::StatusCode::kNotFound;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EFBIG:
      return absl::StatusCode::kResourceExhausted;
    case ENOTEMPTY:
    case EISDIR:
    case ELOOP:
    case EXDEV:
    case EBUSY:
    case ETXTBSY:
      return absl::StatusCode::kFailedPrecondition;
    case ENAMETOOLONG:
    case EINVAL:
      return absl::StatusCode::kInvalidArgument;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

absl::Status ErrnoStatus(int error, std::string_view action, std::string_view path) {
  absl::Status status(ErrnoToCode(error), absl::StrCat(AbslView(action), " ", AbslView(path), ": ",
                                                       std::generic_category().message(error)));
  if (error == EIO) status.SetPayload(kMediumErrorPayload, absl::Cord());
  return status;
}

}  // namespace holdfast
