// Names and paths below the target, reached one checked step at a time and never through a symbolic link.
#ifndef HOLDFAST_CLIENT_RESTORE_BENEATH_H_
#define HOLDFAST_CLIENT_RESTORE_BENEATH_H_

#include <string_view>

#include "core/base/status.h"

namespace holdfast {

// OK for a name that may be given to the kernel as one path component.
absl::Status CheckName(std::string_view name);

// openat of a directory that is not a symbolic link; -1 and errno.
int OpenDirectoryAt(int fd, const char* name);

// Opens the directory at a path of checked names, of any length, below `root_fd`; "" is that directory itself. The
// caller closes it.
absl::StatusOr<int> OpenBeneath(int root_fd, std::string_view relative_path);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_BENEATH_H_
