// One open repository: the engine behind every server interface. It holds the catalog key only and never sees a name or
// a byte of a file. Concrete and thread-safe; blocking. What is passed by reference outlives it.
//
// A facade: it joins the classes beside it (README.md), and decides nothing that one of them could. Write ordering
// (must; docs/architecture.md says why), and where it is obeyed:
//   W1 a pack is whole, fsynced and under its name before its chunks enter the index          pack_pool.cc
//   W2 every chunk that a session appended or was promised is in a stored pack before its
//      manifest is put                                                                        snapshot_committer.cc
//   W3 the manifest is stored before the log slot that commits it                             snapshot_committer.cc
//   W4 the log slot is stored before the client hears OK                                      snapshot_committer.cc
// RocksDB is never part of durability.
#ifndef HOLDFAST_SERVER_REPOSITORY_REPOSITORY_H_
#define HOLDFAST_SERVER_REPOSITORY_REPOSITORY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "server/index/chunk_index.h"
#include "server/log/catalog.h"
#include "server/log/repository_log.h"
#include "server/repository/crash_point.h"
#include "server/repository/live_index.h"
#include "server/repository/manifest_store.h"
#include "server/repository/pack_pool.h"
#include "server/repository/pack_reconciler.h"
#include "server/repository/principal.h"
#include "server/repository/record_server.h"
#include "server/repository/session_table.h"
#include "server/repository/snapshot_committer.h"
#include "server/repository/warnings.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"
#include "storage/pack/pack_reader.h"

namespace holdfast {

struct SessionInfo {
  SessionId id;
  std::optional<ManifestId> head;  // of the source
  uint64_t head_sequence = 0;
};

struct RepositoryOptions {
  std::string spool_directory;  // exists; same file system as a file storage, so that packs move by rename
  std::string server_id;        // for people, in the log
  SessionLimits sessions;
  PackPoolOptions packs;
  CrashPoint crash_point;
};

struct RepositoryStatistics {
  uint64_t snapshots = 0, packs = 0, stored_bytes = 0, chunks = 0, sessions = 0;
  uint64_t records_appended = 0, bytes_appended = 0, records_read = 0, bytes_read = 0;
};

inline constexpr size_t kDeletionReasonBytesMax = 1024;

// Every call names its principal; one without a name is PERMISSION_DENIED. But StreamEnded, which only ends what
// StreamBegan allowed.
class Repository {
 public:
  // Recovers the spool, opens or rebuilds the index, replays the log and takes the repository over.
  static absl::StatusOr<std::unique_ptr<Repository>> Open(Io io, BlobStore& store, KvStoreFactory kv, CatalogKey key,
                                                          RepositoryOptions options);
  ~Repository();  // finishes open packs and flushes the index, as far as that works

  // ALREADY_EXISTS: another session of this source is at work. A new session replaces an idle one of the same source.
  absl::StatusOr<SessionInfo> OpenSession(const Principal& who, std::string_view source, uint32_t agent,
                                          std::optional<ManifestId> base);
  // A stream of the session began or ended (decides what idle means). ABORTED: no such session.
  absl::Status StreamBegan(const Principal& who, const SessionId& id);
  void StreamEnded(const SessionId& id);
  absl::StatusOr<std::vector<HaveAnswer>> Have(const Principal& who, const SessionId& id,
                                               absl::Span<const ChunkId> ids);
  absl::Status Append(const Principal& who, const SessionId& id, absl::Span<const IncomingRecord> records);
  absl::Status Barrier(const Principal& who, const SessionId& id);
  // FAILED_PRECONDITION with `missing` filled when the root, or what it was built on, is not here.
  absl::StatusOr<CommitResult> Commit(const Principal& who, const SessionId& id, std::string_view manifest,
                                      std::vector<ChunkId>* missing);
  absl::Status CloseSession(const Principal& who, const SessionId& id);

  // Answers every id once, in storage order. `verify`: look for an undamaged copy when there are several.
  absl::Status Read(const Principal& who, absl::Span<const ChunkId> ids, bool verify, RecordReadSink& sink);
  // A reader could not open what it got of these, whatever its digest says: they are taken again when they are sent.
  absl::Status NoteUnopenable(const Principal& who, absl::Span<const ChunkId> ids);
  // NOT_FOUND: no such snapshot, or it was deleted. DATA_LOSS: damaged or lost.
  absl::StatusOr<std::string> GetManifest(const Principal& who, const ManifestId& id);
  const Catalog& catalog() const { return catalog_; }
  // INVALID_ARGUMENT: a reason of more than kDeletionReasonBytesMax.
  absl::Status DeleteSnapshot(const Principal& who, const ManifestId& id, std::string_view reason);

  RepositoryStatistics statistics() const;
  std::vector<std::string> warnings() const;  // damaged objects met so far; at most kWarningsMax
  absl::Status status() const;                // OK, or why nothing can be committed any more
  const RepositoryId& id() const { return key_.repository; }

 private:
  Repository(Io io, BlobStore& store, KvStoreFactory kv, CatalogKey key, RepositoryOptions options);
  absl::Status OpenImpl();
  absl::Status OpenLog();
  std::vector<ChunkId> LiveRoots() const;

  const Io io_;
  BlobStore& store_;
  const CatalogKey key_;
  const RepositoryOptions options_;

  // Synchronise themselves. Each uses only what stands before it.
  Warnings warnings_;
  Catalog catalog_;
  PackReader reader_;
  ManifestStore manifests_;
  PackReconciler reconciler_;
  LiveIndex index_;
  RecordServer records_;
  SessionTable sessions_;
  std::unique_ptr<RepositoryLog> log_;
  std::unique_ptr<PackPool> packs_;
  std::unique_ptr<SnapshotCommitter> committer_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_REPOSITORY_H_
