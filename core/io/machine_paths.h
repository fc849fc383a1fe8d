// Where Holdfast's files are on one machine when nothing is configured, for both programs alike.
//   socket   $XDG_RUNTIME_DIR/holdfast/holdfastd.sock; without it /run/user/<uid>/holdfast (when that exists), for root
//            /run/holdfast, else /tmp/holdfast-<uid>: cron and services set no XDG variables
//   data     $XDG_DATA_HOME/holdfast, else ~/.local/share/holdfast
//   config   $XDG_CONFIG_HOME/holdfast, else ~/.config/holdfast
//   cache    $XDG_CACHE_HOME/holdfast, else ~/.cache/holdfast
// HOME falls back to the password database. Relative XDG values are ignored, as the XDG specification says.
#ifndef HOLDFAST_CORE_IO_MACHINE_PATHS_H_
#define HOLDFAST_CORE_IO_MACHINE_PATHS_H_

#include <string>

#include "core/base/status.h"

namespace holdfast {

// sun_path without its terminator.
inline constexpr size_t kSocketPathBytesMax = 107;

struct MachinePaths {
  std::string runtime, data, config, cache;
  std::string socket() const { return runtime + "/holdfastd.sock"; }
  std::string http_socket() const { return runtime + "/http.sock"; }
};
// FAILED_PRECONDITION when no home directory can be found.
absl::StatusOr<MachinePaths> FindMachinePaths();
// INVALID_ARGUMENT, with what to do, when it does not fit into a socket address or has a comma.
absl::Status CheckSocketPath(const std::string& path);
// Somebody takes connections there, or that cannot be found out: only when nobody does may the socket be removed.
// `path` fits into a socket address.
bool SomebodyListens(const std::string& path);
// "unix:" and the path, as gRPC takes it: a URI, so percent-encoded.
std::string UnixSocketUri(std::string_view path);
// Makes `path` a directory of mode 0700 that belongs to us: FAILED_PRECONDITION when somebody else owns it, others may
// enter it, or it is a link (for the last component).
absl::Status MakePrivateDirectory(const std::string& path);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_MACHINE_PATHS_H_
