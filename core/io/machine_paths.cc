#include "core/io/machine_paths.h"

#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "core/io/errno_status.h"

namespace holdfast {
namespace {

std::string AbsoluteFromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && value[0] == '/' ? value : "";
}

bool IsDirectory(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

}  // namespace

absl::StatusOr<MachinePaths> FindMachinePaths() {
  std::string home = AbsoluteFromEnvironment("HOME");
  if (home.empty()) {
    if (const passwd* entry = ::getpwuid(::geteuid()); entry != nullptr && entry->pw_dir != nullptr) {
      home = entry->pw_dir;
    }
  }
  MachinePaths paths;
  auto place = [&](const char* variable, const char* below_home) {
    std::string base = AbsoluteFromEnvironment(variable);
    if (base.empty() && !home.empty()) base = home + below_home;
    return base.empty() ? base : base + "/holdfast";
  };
  paths.data = place("XDG_DATA_HOME", "/.local/share");
  paths.config = place("XDG_CONFIG_HOME", "/.config");
  paths.cache = place("XDG_CACHE_HOME", "/.cache");
  if (paths.data.empty() || paths.config.empty() || paths.cache.empty()) {
    return absl::FailedPreconditionError(
        "no home directory: set HOME, or XDG_DATA_HOME, XDG_CONFIG_HOME and XDG_CACHE_HOME");
  }
  std::string runtime = AbsoluteFromEnvironment("XDG_RUNTIME_DIR");
  const std::string uid = std::to_string(::geteuid());
  if (runtime.empty() && IsDirectory("/run/user/" + uid)) runtime = "/run/user/" + uid;
  if (!runtime.empty()) {
    paths.runtime = runtime + "/holdfast";
  } else {
    paths.runtime = ::geteuid() == 0 ? "/run/holdfast" : "/tmp/holdfast-" + uid;
  }
  return paths;
}

absl::Status CheckSocketPath(const std::string& path) {
  if (path.find(',') != path.npos) {
    return absl::InvalidArgumentError(absl::StrCat("the socket path ", path,
                                                   " has a comma, which gRPC takes for the end of an address: set "
                                                   "XDG_RUNTIME_DIR (or the socket) to another path"));
  }
  if (path.size() <= kSocketPathBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the socket path ", path, " has ", path.size(), " bytes, but only ",
                                                 kSocketPathBytesMax,
                                                 " fit: set XDG_RUNTIME_DIR (or the socket) to a shorter path"));
}

bool SomebodyListens(const std::string& path) {
  // Without waiting: the queue of a server that is busy may be full.
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, kSocketPathBytesMax);
  const int result = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address));
  const int error = errno;
  ::close(fd);
  return result == 0 || (error != ECONNREFUSED && error != ENOENT);
}

std::string UnixSocketUri(std::string_view path) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out = "unix:";
  for (const char c : path) {
    const auto byte = static_cast<uint8_t>(c);
    if (absl::ascii_isalnum(byte) || std::string_view("/-._~").find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

absl::Status MakePrivateDirectory(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    if (::mkdir(parent.c_str(), 0700) != 0 && errno != EEXIST) return ErrnoStatus(errno, "creating", parent);
  }
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return ErrnoStatus(errno, "creating", path);
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) return ErrnoStatus(errno, "looking at", path);
  if (!S_ISDIR(st.st_mode) || st.st_uid != ::geteuid()) {
    return absl::FailedPreconditionError(path + " must be a directory of the user who runs this program");
  }
  // Not ours to close: it may be /run.
  if ((st.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        path,
        " must be open to nobody else, as whoever reaches the socket is let in\n  Name a socket in a directory of "
        "its own, or close this one: chmod 700 ",
        path));
  }
  return absl::OkStatus();
}

}  // namespace holdfast
