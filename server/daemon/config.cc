#include "server/daemon/config.h"

#include <sstream>

#include "core/io/machine_paths.h"
#include "toml++/toml.h"

namespace holdfast {
namespace {

absl::Status At(const std::string& path, const toml::source_region& where, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ":", where.begin.line, ":", where.begin.column, ": ", AbslView(what)));
}

absl::Status ReadString(const std::string& file, const toml::node& node, std::string* out) {
  if (!node.is_string()) return At(file, node.source(), "a string is expected");
  *out = node.as_string()->get();
  if (out->empty()) return At(file, node.source(), "must not be empty");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DaemonConfig> LoadDaemonConfig(const std::string& path) {
  ASSIGN_OR_RETURN(MachinePaths places, FindMachinePaths());
  DaemonConfig config;
  config.data_directory = places.data;
  config.socket = places.socket();
  config.http_socket = places.http_socket();
  if (path.empty()) return config;
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& e) {
    return At(path, e.source(), e.description());
  }
  for (auto&& [key, node] : table) {
    const std::string name(key.str());
    if (name == "data_directory") {
      RETURN_IF_ERROR(ReadString(path, node, &config.data_directory));
    } else if (name == "socket") {
      RETURN_IF_ERROR(ReadString(path, node, &config.socket));
    } else if (name == "http") {
      if (!node.is_table()) return At(path, node.source(), "a table is expected");
      for (auto&& [inner, value] : *node.as_table()) {
        const std::string inner_name(inner.str());
        if (inner_name == "socket") {
          RETURN_IF_ERROR(ReadString(path, value, &config.http_socket));
        } else if (inner_name == "loopback") {
          RETURN_IF_ERROR(ReadString(path, value, &config.http_loopback));
        } else {
          return At(path, value.source(), "unknown setting http." + inner_name);
        }
      }
    } else {
      return At(path, node.source(), "unknown setting " + name);
    }
  }
  for (const std::string* p : {&config.data_directory, &config.socket, &config.http_socket}) {
    if ((*p)[0] != '/') return absl::InvalidArgumentError(path + ": paths must be absolute: " + *p);
  }
  if (config.http_loopback.empty() && config.socket == config.http_socket) {
    return absl::InvalidArgumentError(path + ": socket and http.socket must differ: " + config.socket);
  }
  return config;
}

}  // namespace holdfast
