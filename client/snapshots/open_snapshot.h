// A snapshot opened with the keys of its reader and checked against what the server's list said of it.
#ifndef HOLDFAST_CLIENT_SNAPSHOTS_OPEN_SNAPSHOT_H_
#define HOLDFAST_CLIENT_SNAPSHOTS_OPEN_SNAPSHOT_H_

#include <functional>
#include <memory>
#include <string>

#include "client/keys/repository_access.h"
#include "client/rpc/remote_chunk_source.h"
#include "client/rpc/repository_client.h"
#include "client/snapshots/snapshot_list.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/tree/entry.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {

// Authenticated. Not movable: the parts refer to each other.
struct OpenSnapshot {
  ManifestId id;
  RepositoryAccess::Snapshot opened;
  std::unique_ptr<RemoteChunkSource> source;
  std::unique_ptr<SnapshotReader> reader;
};

// `client` is borrowed as long as the snapshot. `as_owner` (may be null) is asked for the owner's access when it is
// another agent's; its error is returned. NOT_FOUND: it is gone. PERMISSION_DENIED: another agent's, and nobody here is
// the owner. DATA_LOSS when it is damaged, and when it is not what the list said: then it was chosen by a lie.
using OwnerAccessFunction = std::function<absl::StatusOr<RepositoryAccess*>()>;
absl::StatusOr<std::unique_ptr<OpenSnapshot>> OpenListedSnapshot(RepositoryClient& client,
                                                                 const std::string& repository,
                                                                 const RepositoryAccess& access,
                                                                 const ListedSnapshot& listed,
                                                                 const OwnerAccessFunction& as_owner);

// The last component of the source's path: what a snapshot of a single file is called.
std::string SourceName(const OpenSnapshot& snapshot);

// As SnapshotReader::LookupPath; a snapshot of a single file, whose root has no name, also has it under SourceName.
absl::StatusOr<Entry> LookupIn(const OpenSnapshot& snapshot, const Components& path);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SNAPSHOTS_OPEN_SNAPSHOT_H_
