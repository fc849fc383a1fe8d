// The one place where errno becomes a Status. Codes say what the caller should do (core/base/status.h).
#ifndef HOLDFAST_CORE_IO_ERRNO_STATUS_H_
#define HOLDFAST_CORE_IO_ERRNO_STATUS_H_

#include <string_view>

#include "core/base/status.h"

namespace holdfast {

absl::StatusCode ErrnoToCode(int error);
// "action path: text of the error". `error` is an errno value, not 0; EIO is marked as a medium error.
absl::Status ErrnoStatus(int error, std::string_view action, std::string_view path);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_ERRNO_STATUS_H_
