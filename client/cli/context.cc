#include "client/cli/context.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "client/cli/exit_code.h"
#include "client/keys/repository_keys.h"
#include "client/rpc/grpc_repository_client.h"
#include "core/base/repository_name.h"
#include "core/base/utf8.h"

namespace holdfast {

std::string UserAtHost() {
  const passwd* user = getpwuid(geteuid());
  std::string out = user != nullptr ? user->pw_name : absl::StrCat(geteuid());
  char host[256] = "";
  if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0') snprintf(host, sizeof(host), "localhost");
  return EscapeInvalidUtf8(out + "@" + host);
}

Json SnapshotJson(const ListedSnapshot& s) {
  Json out;
  out["id"] = HexEncode(s.id.view());
  out["source"] = s.core.source();
  out["time"] = FormatTimeJson(s.core.started_unix_ns());
  out["finished"] = FormatTimeJson(s.core.finished_unix_ns());
  if (s.server_time_unix_ns != 0) out["server_time"] = FormatTimeJson(s.server_time_unix_ns);
  out["files"] = s.core.files();
  out["bytes"] = s.core.bytes();
  out["complete"] = s.core.complete();
  out["directories"] = s.core.directories();
  out["others"] = s.core.others();
  out["errors"] = s.core.errors();
  out["sequence"] = s.core.sequence();
  out["agent"] = s.core.agent();
  return out;
}

absl::StatusOr<const MachinePaths*> Context::paths() {
  if (!paths_) {
    ASSIGN_OR_RETURN(paths_, FindMachinePaths());
  }
  return &*paths_;
}

void Context::Say(std::string_view line) {
  std::string text(line);
  text += '\n';
  fwrite(text.data(), 1, text.size(), stderr);
}

void Context::Note(std::string_view line) {
  if (!json()) Say(line);
}

absl::StatusOr<RepositoryClient*> Context::server() {
  if (server_) return server_.get();
  std::string address = options_.server;
  if (address.empty()) {
    const char* value = getenv("HOLDFAST_SERVER");
    if (value != nullptr) address = value;
  }
  if (address.empty()) {
    ASSIGN_OR_RETURN(const MachinePaths* found, paths());
    address = "unix:" + found->socket();
  }
  absl::StatusOr<std::unique_ptr<RepositoryClient>> connected = ConnectToServer(address);
  // Wrong is the address, whoever gave it.
  if (absl::IsInvalidArgument(connected.status())) return AsUsage(connected.status());
  ASSIGN_OR_RETURN(server_, std::move(connected));
  return server_.get();
}

absl::StatusOr<std::vector<v1::RepositoryInfo>> Context::ListRepositories() {
  ASSIGN_OR_RETURN(RepositoryClient * client, server());
  ASSIGN_OR_RETURN(v1::ListRepositoriesReply reply, client->ListRepositories());
  return std::vector<v1::RepositoryInfo>(reply.repositories().begin(), reply.repositories().end());
}

absl::StatusOr<RepositoryAccess::Place> Context::PlaceOf(const std::string& repository) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(repository)));
  ASSIGN_OR_RETURN(const MachinePaths* found, paths());
  return RepositoryAccess::Place{repository, found->config, UserAtHost()};
}

absl::StatusOr<SecretString> Context::Password(const std::string& repository) {
  return GetPassword(options_.password, absl::StrCat("Password of repository \"", repository, "\""), false);
}

bool Context::CanAccessQuietly(const std::string& repository) {
  if (HasPassword(options_.password)) return true;
  absl::StatusOr<RepositoryAccess::Place> place = PlaceOf(repository);
  return place.ok() && io_.files.Stat(RepositoryAccess::CredentialsPath(*place)).ok();
}

absl::StatusOr<RepositoryAccess*> Context::Access(const std::string& repository) {
  if (auto it = agents_.find(repository); it != agents_.end()) return it->second.get();
  ASSIGN_OR_RETURN(RepositoryAccess::Place place, PlaceOf(repository));
  ASSIGN_OR_RETURN(RepositoryClient * client, server());
  // No file is the ordinary reason for a password; a missing repository must not look like it.
  if (absl::IsNotFound(io_.files.Stat(RepositoryAccess::CredentialsPath(place)).status())) {
    return OwnerAccess(repository);
  }
  ASSIGN_OR_RETURN(auto access, RepositoryAccess::AsAgent(*client, std::move(place), io_));
  return (agents_[repository] = std::move(access)).get();
}

absl::StatusOr<RepositoryAccess*> Context::OwnerAccess(const std::string& repository) {
  if (auto it = owners_.find(repository); it != owners_.end()) return it->second.get();
  ASSIGN_OR_RETURN(RepositoryAccess::Place place, PlaceOf(repository));
  ASSIGN_OR_RETURN(RepositoryClient * client, server());
  RETURN_IF_ERROR(FetchKeys(*client, repository).status());  // before a person types a password for nothing
  ASSIGN_OR_RETURN(SecretString secret, Password(repository));
  ASSIGN_OR_RETURN(auto access, RepositoryAccess::AsOwner(*client, std::move(place), secret, io_));
  return (owners_[repository] = std::move(access)).get();
}

absl::StatusOr<std::vector<ListedSnapshot>> Context::ListSnapshots(const std::string& repository,
                                                                   const std::string& source) {
  ASSIGN_OR_RETURN(RepositoryClient * client, server());
  return holdfast::ListSnapshots(*client, repository, EscapeInvalidUtf8(source));  // as labels are made
}

absl::StatusOr<ListedSnapshot> Context::FindSnapshot(const std::string& repository, const std::string& text,
                                                     const std::string& source) {
  RETURN_IF_ERROR(AsUsage(CheckSnapshotName(text)));
  ASSIGN_OR_RETURN(RepositoryClient * client, server());
  return holdfast::FindSnapshot(*client, repository, text, EscapeInvalidUtf8(source));
}

absl::StatusOr<std::unique_ptr<OpenSnapshot>> Context::Open(const std::string& repository,
                                                            const ListedSnapshot& listed) {
  ASSIGN_OR_RETURN(RepositoryClient * client, server());
  // Whether the keys are right is said before anything else.
  ASSIGN_OR_RETURN(RepositoryAccess * access, Access(repository));
  OwnerAccessFunction as_owner;
  if (HasPassword(options_.password) || CanPrompt()) as_owner = [&] { return OwnerAccess(repository); };
  return OpenListedSnapshot(*client, repository, *access, listed, as_owner);
}

}  // namespace holdfast
