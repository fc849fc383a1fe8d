// One backup of one source: walk, compare with the previous snapshot, read and upload what changed, build the tree,
// commit.
//
// Errors. A source file that cannot be read is named to the observer and in the manifest, and does not stop the others
// (the result is then not `complete`). Everything else ends the backup with a Status: the repository's and the server's
// errors never become a file's. ALREADY_EXISTS: another backup of this source is running. CANCELLED: observer.cancel.
// Interrupted at any moment: nothing was committed, and what had arrived is not sent again by the next run.
#ifndef HOLDFAST_CLIENT_BACKUP_BACKUP_H_
#define HOLDFAST_CLIENT_BACKUP_BACKUP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/backup/backup_observer.h"
#include "client/keys/backup_keys.h"
#include "client/rpc/repository_client.h"
#include "client/scan/scanner.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/manifest.h"

namespace holdfast {

struct BackupOptions {
  std::string repository;
  std::string source;  // label: user@host:/path
  ScanOptions scan;
  std::string description;
  bool force_full = false;    // read every file, whatever the previous snapshot says
  int workers = 0;            // 0: by the number of processors
  int compression_level = 2;  // of zstd: fixed by measurement (docs/benchmarks.md)
};

struct BackupResult {
  ManifestId id;
  pb::ManifestCore core;
  pb::BackupStatistics statistics;
  uint64_t entries = 0;
  uint64_t vanished = 0, skipped = 0;
};

// Blocks. Everything is borrowed.
absl::StatusOr<BackupResult> Backup(RepositoryClient& client, SourceFs& source, const BackupKeys& keys,
                                    const BackupOptions& options, BackupObserver& observer);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_BACKUP_H_
