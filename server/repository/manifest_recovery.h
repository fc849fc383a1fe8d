// Snapshots whose log slots were lost, from their manifests. Slots may be lost, also the last ones, of which the log
// itself shows nothing. Manifests are blobs of their own and are put only when all their chunks are stored (W2), so one
// that no readable slot mentions is taken as committed: if the log has holes, or if it is the next of its source.
// Others are left-overs of commits that failed and were done anew.
#ifndef HOLDFAST_SERVER_REPOSITORY_MANIFEST_RECOVERY_H_
#define HOLDFAST_SERVER_REPOSITORY_MANIFEST_RECOVERY_H_

#include "core/base/status.h"
#include "server/log/catalog.h"
#include "server/log/repository_log.h"
#include "server/repository/manifest_store.h"
#include "server/repository/warnings.h"

namespace holdfast {

// Appends a commit of each to `log`, which feeds `catalog`. A manifest that cannot be read is named in `warnings`; an
// outage of the storage is an error.
absl::Status RecoverManifests(const ManifestStore& manifests, const Catalog& catalog, bool log_has_holes,
                              RepositoryLog& log, Warnings& warnings);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_MANIFEST_RECOVERY_H_
