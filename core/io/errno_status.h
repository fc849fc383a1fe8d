// The one place where errno becomes a Status. Codes say what the caller should do (core/base/status.h).
#ifndef HOLDFAST_CORE_IO_ERRNO_STATUS_H_
#define HOLDFAST_CORE_IO_ERRNO_STATUS_H_

#include <string_view>

#include "core/base/status.h"

namespace holdfast {

absl::StatusCode ErrnoToCode(int error);
// "action path: text of the error". `error` is an errno value, not 0.
absl::Status ErrnoStatus(int error, std::string_view action, std::string_view path);
// True for EIO: the device answers, but not for these bytes. Still UNAVAILABLE, as the next attempt may work; who has
// tried and can go on without them may take them for lost.
bool IsMediumError(const absl::Status& status);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_ERRNO_STATUS_H_
