#include "client/snapshots/snapshot_list.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/keys/repository_keys.h"

namespace holdfast {
namespace {

constexpr size_t kShownMax = 10;  // candidates in a message
constexpr char kLatest[] = "latest";

bool IsHex(std::string_view s) {
  return !s.empty() && s.size() <= 2 * ManifestId::kSizeInBytes &&
         std::all_of(s.begin(), s.end(), [](char c) { return isxdigit(static_cast<unsigned char>(c)); });
}

absl::StatusOr<ListedSnapshot> FindLatest(std::vector<ListedSnapshot> all, const std::string& source) {
  if (all.empty()) {
    return absl::NotFoundError(source.empty()
                                   ? "there are no snapshots yet\n  Make one with: holdfast snapshot create PATH"
                                   : "there is no snapshot of source \"" + source +
                                         "\"\n  See what there is with: holdfast snapshot list");
  }
  std::set<std::string> sources;
  ListedSnapshot* latest = &all[0];
  for (ListedSnapshot& s : all) {
    sources.insert(s.core.source());
    if (s.core.sequence() >= latest->core.sequence()) latest = &s;
  }
  if (sources.size() == 1) return std::move(*latest);
  std::string message = "\"latest\" of which source? There are several:";
  size_t shown = 0;
  for (const std::string& s : sources) {
    if (++shown > kShownMax) break;
    absl::StrAppend(&message, "\n    ", s);
  }
  if (sources.size() > kShownMax) absl::StrAppend(&message, "\n    and ", sources.size() - kShownMax, " more");
  return absl::InvalidArgumentError(message + "\n  Choose with --source, by label or path.");
}

}  // namespace

std::string ShortId(const ManifestId& id) { return HexEncode(id.view()).substr(0, 12); }

bool SourceMatches(std::string_view label, std::string_view given) {
  // Labels are made of paths without a slash at the end.
  if (label == given) return true;
  while (given.size() > 1 && given.back() == '/') given.remove_suffix(1);
  return !given.empty() && given[0] == '/' && label.size() > given.size() &&
         label[label.size() - given.size() - 1] == ':' && label.substr(label.size() - given.size()) == given;
}

absl::StatusOr<std::vector<ListedSnapshot>> ListSnapshots(RepositoryClient& client, const std::string& repository,
                                                          const std::string& source, const std::string& id_prefix) {
  std::vector<ListedSnapshot> out;
  v1::ListSnapshotsRequest request;
  request.set_repository(repository);
  request.set_id_prefix(id_prefix);
  do {
    absl::StatusOr<v1::ListSnapshotsReply> reply = client.ListSnapshots(request);
    if (absl::IsNotFound(reply.status())) {
      RETURN_IF_ERROR(FetchKeys(client, repository).status());  // says how to create it
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

absl::Status CheckSnapshotName(const std::string& text) {
  if (absl::AsciiStrToLower(text) == kLatest || IsHex(text)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not a snapshot: give an id, the beginning of one, or \"latest\""));
}

absl::StatusOr<ListedSnapshot> FindSnapshot(RepositoryClient& client, const std::string& repository,
                                            const std::string& text, const std::string& source) {
  RETURN_IF_ERROR(CheckSnapshotName(text));
  const std::string wanted = absl::AsciiStrToLower(text);
  if (wanted == kLatest) {
    ASSIGN_OR_RETURN(std::vector<ListedSnapshot> all, ListSnapshots(client, repository, source));
    return FindLatest(std::move(all), source);
  }
  ASSIGN_OR_RETURN(std::vector<ListedSnapshot> found, ListSnapshots(client, repository, source, wanted));
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
  return std::move(found[0]);
}

}  // namespace holdfast
