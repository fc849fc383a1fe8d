#include "client/cli/context.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "client/keys/repository_keys.h"
#include "client/rpc/grpc_repository_client.h"
#include "core/base/repository_name.h"

namespace holdfast {
namespace {

constexpr size_t kShownMax = 10;  // candidates in a message
constexpr char kUsagePayload[] = "holdfast/usage";

bool IsHex(std::string_view s) {
  return !s.empty() && s.size() <= 64 &&
         std::all_of(s.begin(), s.end(), [](char c) { return isxdigit(static_cast<unsigned char>(c)); });
}

}  // namespace

SnapshotPath ParseSnapshotPath(const std::string& text) {
  SnapshotPath out;
  const size_t colon = text.find(':');
  out.snapshot = text.substr(0, colon);
  if (colon == std::string::npos) return out;
  for (absl::string_view part : absl::StrSplit(absl::string_view(text).substr(colon + 1), '/')) {
    if (!part.empty() && part != ".") out.path.emplace_back(part);
  }
  return out;
}

std::string JoinComponents(const Components& path) {
  std::string out;
  for (const std::string& name : path) {
    if (!out.empty()) out += '/';
    out += name;
  }
  return out;
}

std::string UserAtHost() {
  const passwd* user = getpwuid(geteuid());
  std::string out = user != nullptr ? user->pw_name : absl::StrCat(geteuid());
  char host[256] = "";
  if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0') snprintf(host, sizeof(host), "localhost");
  return EscapeInvalidUtf8(out + "@" + host);
}

bool SourceMatches(std::string_view label, std::string_view given) {
  // Labels are made of paths without a slash at the end, and are UTF-8.
  std::string wanted = EscapeInvalidUtf8(given);
  if (label == wanted) return true;
  while (wanted.size() > 1 && wanted.back() == '/') wanted.pop_back();
  return !wanted.empty() && wanted[0] == '/' && label.size() > wanted.size() &&
         label[label.size() - wanted.size() - 1] == ':' && label.substr(label.size() - wanted.size()) == wanted;
}

std::string SourceName(const OpenSnapshot& snapshot) {
  const std::string& root = snapshot.opened.manifest.sealed.root_path();
  std::string name = root.substr(root.rfind('/') + 1);
  return name.empty() ? "file" : name;
}

std::string ShortId(const ManifestId& id) { return HexEncode(id.view()).substr(0, 12); }

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

absl::Status AsUsage(absl::Status status) {
  if (!status.ok()) status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

bool IsUsage(const absl::Status& status) { return status.GetPayload(kUsagePayload).has_value(); }

std::string ExplainFailure(const absl::Status& status) {
  std::string message(status.message());
  const bool has_advice = absl::StrContains(message, "\n  ");
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      if (!has_advice) {
        message +=
            "\n  The server may have stopped: start it with \"holdfastd &\" and run the command again. What had "
            "arrived of a backup is not sent again.";
      }
      break;
    case absl::StatusCode::kDataLoss:
      if (!has_advice) message = "damaged: " + message + "\n  Run \"holdfast verify\" to see what else is affected.";
      break;
    case absl::StatusCode::kUnauthenticated:
      if (!has_advice) {
        message +=
            "\n  Check --password-file, --password-command or HOLDFAST_PASSWORD, or use the recovery key as the "
            "password.";
      }
      break;
    case absl::StatusCode::kPermissionDenied:
      if (absl::StrContains(message, "another agent")) {
        message += "\n  Give the repository's password with --password-file, --password-command or HOLDFAST_PASSWORD.";
      }
      break;
    case absl::StatusCode::kResourceExhausted:
      if (!has_advice) message += "\n  Make room (the server keeps running meanwhile) and run the command again.";
      break;
    case absl::StatusCode::kAborted:
      if (!has_advice) message += "\n  Run the command again.";
      break;
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      message = absl::StrCat(absl::StatusCodeToString(status.code()), ": ", message);
      break;
    default:
      break;
  }
  // What the server says is somebody else's text; our own line ends stay.
  std::string out;
  for (absl::string_view line : absl::StrSplit(message, '\n')) {
    if (!out.empty()) out += '\n';
    out += EscapeForTerminal(StdView(line));
  }
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
                                                                   const std::string& source,
                                                                   const std::string& id_prefix) {
  ASSIGN_OR_RETURN(RepositoryClient * client, server());
  std::vector<ListedSnapshot> out;
  v1::ListSnapshotsRequest request;
  request.set_repository(repository);
  request.set_id_prefix(id_prefix);
  do {
    absl::StatusOr<v1::ListSnapshotsReply> reply = client->ListSnapshots(request);
    if (absl::IsNotFound(reply.status())) {
      RETURN_IF_ERROR(FetchKeys(*client, repository).status());  // says how to create it
    }
    RETURN_IF_ERROR(reply.status());
    for (const v1::SnapshotInfo& info : reply->snapshots()) {
      ListedSnapshot s;
      ASSIGN_OR_RETURN(s.id, ManifestId::FromBytes(info.id()));
      ASSIGN_OR_RETURN(s.core, ParseManifestCore(info.core()));
      s.server_time_unix_ns = info.server_time_unix_ns();
      if (source.empty() || SourceMatches(s.core.source(), source)) out.push_back(std::move(s));
    }
    request.set_page_token(reply->next_page_token());
  } while (!request.page_token().empty());
  // The server gives them in the order in which they were committed.
  std::stable_sort(out.begin(), out.end(), [](const ListedSnapshot& a, const ListedSnapshot& b) {
    return std::forward_as_tuple(a.core.source(), a.core.sequence()) <
           std::forward_as_tuple(b.core.source(), b.core.sequence());
  });
  return out;
}

absl::StatusOr<ListedSnapshot> Context::FindSnapshot(const std::string& repository, const std::string& text,
                                                     const std::string& source) {
  const std::string wanted = absl::AsciiStrToLower(text);
  if (wanted == "latest") {
    ASSIGN_OR_RETURN(std::vector<ListedSnapshot> all, ListSnapshots(repository, source));
    if (all.empty()) {
      return absl::NotFoundError(source.empty()
                                     ? "there are no snapshots yet\n  Make one with: holdfast snapshot create PATH"
                                     : "there is no snapshot of source \"" + source +
                                           "\"\n  See what there is with: holdfast snapshot list");
    }
    std::set<std::string> sources;
    const ListedSnapshot* latest = &all[0];
    for (const ListedSnapshot& s : all) {
      sources.insert(s.core.source());
      if (s.core.sequence() >= latest->core.sequence()) latest = &s;
    }
    if (sources.size() > 1) {
      std::string message = "\"latest\" of which source? There are several:";
      size_t shown = 0;
      for (const std::string& s : sources) {
        if (++shown > kShownMax) break;
        absl::StrAppend(&message, "\n    ", s);
      }
      if (sources.size() > kShownMax) absl::StrAppend(&message, "\n    and ", sources.size() - kShownMax, " more");
      return absl::InvalidArgumentError(message + "\n  Choose with --source, by label or path.");
    }
    return *latest;
  }
  if (!IsHex(wanted)) {
    return AsUsage(absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a snapshot: give an id, the beginning of one, or \"latest\"")));
  }
  ASSIGN_OR_RETURN(std::vector<ListedSnapshot> found, ListSnapshots(repository, source, wanted));
  if (found.empty()) {
    return absl::NotFoundError(absl::StrCat("no snapshot has an id that begins with ", wanted,
                                            "\n  See what there is with: holdfast snapshot list"));
  }
  for (const ListedSnapshot& s : found) {
    if (!HexEncode(s.id.view()).starts_with(wanted)) {
      return absl::DataLossError("the server answers with another snapshot than was asked for");
    }
  }
  if (found.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(found.size(), " snapshots have ids that begin with ", wanted, "\n  Give more of the id."));
  }
  return found[0];
}

absl::StatusOr<std::unique_ptr<OpenSnapshot>> Context::Open(const std::string& repository,
                                                            const ListedSnapshot& listed) {
  const ManifestId& id = listed.id;
  ASSIGN_OR_RETURN(RepositoryClient * client, server());
  // Whether the keys are right is said before anything else.
  ASSIGN_OR_RETURN(RepositoryAccess * access, Access(repository));
  absl::StatusOr<std::string> manifest = client->GetManifest(repository, id);
  if (!manifest.ok()) return Annotate(manifest.status(), "snapshot " + ShortId(id));
  auto out = std::make_unique<OpenSnapshot>();
  out->id = id;
  absl::StatusOr<RepositoryAccess::Snapshot> opened = access->OpenSnapshot(*manifest, id);
  // Another agent's: the owner opens it.
  if (absl::IsPermissionDenied(opened.status()) && !access->is_owner() &&
      (HasPassword(options_.password) || CanPrompt())) {
    ASSIGN_OR_RETURN(access, OwnerAccess(repository));
    opened = access->OpenSnapshot(*manifest, id);
  }
  // The server has the snapshot: NOT_FOUND is kept for one that is gone.
  if (absl::IsNotFound(opened.status())) opened = absl::FailedPreconditionError(opened.status().message());
  if (!opened.ok()) return Annotate(opened.status(), "snapshot " + ShortId(id));
  out->opened = *std::move(opened);
  if (out->opened.manifest.core.SerializeAsString() != listed.core.SerializeAsString()) {
    return absl::DataLossError(absl::StrCat("snapshot ", ShortId(id), " is not what the server's list says of it"));
  }
  out->source = std::make_unique<RemoteChunkSource>(*client, repository, out->opened.sealing);
  out->reader =
      std::make_unique<SnapshotReader>(*out->source, out->opened.manifest.root, out->opened.manifest.core.root_level());
  return out;
}

}  // namespace holdfast
