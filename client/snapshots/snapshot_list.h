// The snapshots of a repository as its server lists them, and finding the one that was meant.
#ifndef HOLDFAST_CLIENT_SNAPSHOTS_SNAPSHOT_LIST_H_
#define HOLDFAST_CLIENT_SNAPSHOTS_SNAPSHOT_LIST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "client/rpc/repository_client.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/manifest.h"

namespace holdfast {

// Nothing in it is authenticated: for display and for choosing, of which OpenListedSnapshot checks that it chose right.
struct ListedSnapshot {
  ManifestId id;
  pb::ManifestCore core;
  int64_t server_time_unix_ns = 0;
};

// The first digits, for messages.
std::string ShortId(const ManifestId& id);

// True when `given` is the label, or the path in the label (user@host:/path).
bool SourceMatches(std::string_view label, std::string_view given);

// All live snapshots, by source and sequence: those of a source as SourceMatches, unless `source` is empty; those whose
// id begins with `id_prefix` (hexadecimal digits). NOT_FOUND, with how to create it, when there is no such repository;
// DATA_LOSS when the server's list is none.
absl::StatusOr<std::vector<ListedSnapshot>> ListSnapshots(RepositoryClient& client, const std::string& repository,
                                                          const std::string& source, const std::string& id_prefix = "");

// INVALID_ARGUMENT when `text` can name no snapshot: it is neither an id, the beginning of one, nor "latest".
absl::Status CheckSnapshotName(const std::string& text);
// The snapshot that `text` names; `source` as above. NOT_FOUND; INVALID_ARGUMENT as above, when several ids begin so,
// and when "latest" could be of several sources. DATA_LOSS when the server answers with another snapshot.
absl::StatusOr<ListedSnapshot> FindSnapshot(RepositoryClient& client, const std::string& repository,
                                            const std::string& text, const std::string& source);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SNAPSHOTS_SNAPSHOT_LIST_H_
