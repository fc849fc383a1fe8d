#include "client/restore/beneath.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>

#include "client/restore/target_errno.h"
#include "core/base/limits.h"

namespace holdfast {

absl::Status CheckName(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("the name is empty");
  if (name == "." || name == "..") return absl::InvalidArgumentError("the name is a way out of its directory");
  if (name.find('/') != name.npos) return absl::InvalidArgumentError("the name has a '/' in it");
  if (name.find('\0') != name.npos) return absl::InvalidArgumentError("the name has a NUL in it");
  if (name.size() > kNameBytesMax) return absl::InvalidArgumentError("the name is too long");
  return absl::OkStatus();
}

int OpenDirectoryAt(int fd, const char* name) {
  return ::openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

absl::StatusOr<int> OpenBeneath(int root_fd, std::string_view path) {
  int fd = ::fcntl(root_fd, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return TargetErrno(errno, "open directory");
  static constexpr size_t kStepBytesMax = 4000;  // below PATH_MAX
  static std::atomic<bool> have_openat2{true};
  while (!path.empty()) {
    // As many components at once as the kernel takes safely.
    size_t n = path.size();
    if (n > kStepBytesMax) n = path.rfind('/', kStepBytesMax);
    int next = -1;
    if (have_openat2.load(std::memory_order_relaxed) && n != path.npos) {
      struct open_how how = {};
      how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
      how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
      const std::string step(path.substr(0, n));
      do {
        next = static_cast<int>(::syscall(SYS_openat2, fd, step.c_str(), &how, sizeof(how)));
      } while (next < 0 && (errno == EAGAIN || errno == EINTR));
      if (next < 0 && (errno == ENOSYS || errno == EPERM)) {  // EPERM: a seccomp filter
        have_openat2 = false;
        continue;
      }
    } else {
      n = std::min(path.find('/'), path.size());
      next = OpenDirectoryAt(fd, std::string(path.substr(0, n)).c_str());
    }
    const absl::Status status = next < 0 ? TargetErrno(errno, "open directory") : absl::OkStatus();
    ::close(fd);
    RETURN_IF_ERROR(status);
    fd = next;
    path.remove_prefix(std::min(n + 1, path.size()));
  }
  return fd;
}

}  // namespace holdfast
