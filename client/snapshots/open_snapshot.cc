#include "client/snapshots/open_snapshot.h"

#include <utility>

namespace holdfast {

absl::StatusOr<std::unique_ptr<OpenSnapshot>> OpenListedSnapshot(RepositoryClient& client,
                                                                 const std::string& repository,
                                                                 const RepositoryAccess& access,
                                                                 const ListedSnapshot& listed,
                                                                 const OwnerAccessFunction& as_owner) {
  const ManifestId& id = listed.id;
  absl::StatusOr<std::string> manifest = client.GetManifest(repository, id);
  if (!manifest.ok()) return Annotate(manifest.status(), "snapshot " + ShortId(id));
  auto out = std::make_unique<OpenSnapshot>();
  out->id = id;
  absl::StatusOr<RepositoryAccess::Snapshot> opened = access.OpenSnapshot(*manifest, id);
  if (absl::IsPermissionDenied(opened.status()) && !access.is_owner() && as_owner != nullptr) {
    ASSIGN_OR_RETURN(RepositoryAccess * owner, as_owner());
    opened = owner->OpenSnapshot(*manifest, id);
  }
  // The server has the snapshot: NOT_FOUND is kept for one that is gone.
  if (absl::IsNotFound(opened.status())) opened = absl::FailedPreconditionError(opened.status().message());
  if (!opened.ok()) return Annotate(opened.status(), "snapshot " + ShortId(id));
  out->opened = *std::move(opened);
  if (out->opened.manifest.core.SerializeAsString() != listed.core.SerializeAsString()) {
    return absl::DataLossError(absl::StrCat("snapshot ", ShortId(id), " is not what the server's list says of it"));
  }
  out->source = std::make_unique<RemoteChunkSource>(client, repository, access.repository());
  out->reader =
      std::make_unique<SnapshotReader>(*out->source, out->opened.manifest.root, out->opened.manifest.core.root_level(),
                                       SumsOf(out->opened.manifest.core));
  return out;
}

std::string SourceName(const OpenSnapshot& snapshot) {
  const std::string& root = snapshot.opened.manifest.sealed.root_path();
  std::string name = root.substr(root.rfind('/') + 1);
  return name.empty() ? "file" : name;
}

absl::StatusOr<Entry> LookupIn(const OpenSnapshot& snapshot, const Components& path) {
  absl::StatusOr<Entry> found = snapshot.reader->LookupPath(path);
  if (!absl::IsNotFound(found.status()) || path.size() != 1 || path[0] != SourceName(snapshot)) return found;
  absl::StatusOr<Entry> root = snapshot.reader->LookupPath({});
  return root.ok() && root->type != EntryType::kDirectory ? root : found;
}

}  // namespace holdfast
