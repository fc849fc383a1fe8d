// The server's configuration file (TOML). Every setting has a default; unknown settings are refused by name and line.
//   data_directory = "/srv/holdfast"          repositories and the server's key
//   socket = "/run/holdfast/holdfastd.sock"    where clients connect
//   [http]
//   socket = "/run/holdfast/http.sock"         /healthz, /version, /metrics
//   loopback = "127.0.0.1:9464"                instead of the socket; loopback addresses only
#ifndef HOLDFAST_SERVER_DAEMON_CONFIG_H_
#define HOLDFAST_SERVER_DAEMON_CONFIG_H_

#include <string>

#include "core/base/status.h"

namespace holdfast {

struct DaemonConfig {
  std::string data_directory;
  std::string socket;
  std::string http_socket;
  std::string http_loopback;  // empty: the socket
};

// `path` empty: the defaults of one machine.
absl::StatusOr<DaemonConfig> LoadDaemonConfig(const std::string& path);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_DAEMON_CONFIG_H_
