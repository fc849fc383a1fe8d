// Commits a snapshot for a session. The write ordering that commits obey (must; docs/architecture.md says why):
//   W2 every chunk that a session appended or was promised is in a stored pack before its manifest is put;
//   W3 the manifest is stored before the log slot that commits it;
//   W4 the log slot is stored before the client hears OK.
// Thread-safe; blocking. Commits of one session come one after another, those of different sources at once.
#ifndef HOLDFAST_SERVER_REPOSITORY_SNAPSHOT_COMMITTER_H_
#define HOLDFAST_SERVER_REPOSITORY_SNAPSHOT_COMMITTER_H_

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/manifest.h"
#include "core/io/io.h"
#include "server/index/chunk_index.h"
#include "server/log/catalog.h"
#include "server/log/repository_log.h"
#include "server/repository/crash_point.h"
#include "server/repository/live_index.h"
#include "server/repository/manifest_store.h"
#include "server/repository/principal.h"
#include "server/repository/session_table.h"
#include "server/repository/warnings.h"

namespace holdfast {

struct CommitResult {
  ManifestId id;
  absl::Time server_time;
};

class SnapshotCommitter {
 public:
  // All borrowed. `log` feeds `catalog`.
  struct Parts {
    Clock& clock;
    SessionTable& sessions;
    std::function<absl::Status()> store_all;  // everything appended before the call is stored and indexed
    LiveIndex& index;
    ManifestStore& manifests;
    RepositoryLog& log;
    const Catalog& catalog;
    Warnings& warnings;
    CrashPoint crash_point;
  };
  SnapshotCommitter(const RepositoryId& repository, Parts parts);

  // INVALID_ARGUMENT: not a manifest of this session. ABORTED: another snapshot of the source came first.
  // FAILED_PRECONDITION with `missing` filled when the root, or what it was built on, is not here. UNAVAILABLE: whether
  // it is committed is not known; asking again tells.
  absl::StatusOr<CommitResult> Commit(const Principal& who, const SessionId& id, std::string_view manifest,
                                      std::vector<ChunkId>* missing);
  // Finds out how the source's last commit ended, if that is not known. UNAVAILABLE: it still is not.
  absl::Status Settle(SessionTable::Turn& turn);

 private:
  struct Checked;  // the new pages, and the index that they were found in

  // Whose commit the log knows, deleted since or not; and Committed: those that were not.
  std::optional<CatalogSnapshot> InLog(const ManifestId& id) const;
  std::optional<CommitResult> Committed(const ManifestId& id) const;
  absl::StatusOr<CommitResult> CommitInTurn(SessionTable::Turn& turn, std::string_view manifest,
                                            std::vector<ChunkId>* missing);
  absl::StatusOr<ParsedManifest> ParseFor(const SessionTable::Turn& turn, std::string_view manifest) const;
  absl::Status CheckIsNext(const SessionTable::Turn& turn, const ParsedManifest& parsed) const;
  absl::StatusOr<Checked> CheckChunks(SessionTable::Turn& turn, const ChunkId& root, std::vector<ChunkId>* missing);
  absl::Status Mark(const Checked& checked);
  absl::Status AppendToLog(SessionTable::Turn& turn, const ParsedManifest& parsed);

  const RepositoryId repository_;
  const Parts parts_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_SNAPSHOT_COMMITTER_H_
