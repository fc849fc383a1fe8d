// One open repository: the engine behind every server interface. It holds the catalog key only and never sees a name or
// a byte of a file. Concrete and thread-safe; blocking. What is passed by reference outlives it.
//
// Write ordering (must; docs/architecture.md says why):
//   W1 a pack is whole, fsynced and under its name before its chunks enter the index;
//   W2 every chunk that a session appended or was promised is in a stored pack before its manifest is put;
//   W3 the manifest is stored before the log slot that commits it;
//   W4 the log slot is stored before the client hears OK.
// RocksDB is never part of durability.
#ifndef HOLDFAST_SERVER_REPOSITORY_REPOSITORY_H_
#define HOLDFAST_SERVER_REPOSITORY_REPOSITORY_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "core/io/wait_queue.h"
#include "server/index/chunk_index.h"
#include "server/index/kv_store.h"
#include "server/log/catalog.h"
#include "server/log/repository_log.h"
#include "server/repository/pack_pool.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"
#include "storage/pack/pack_reader.h"

namespace holdfast {

// Who calls. On the Unix socket everybody who may connect is one principal; certificates will name agents.
struct Principal {
  std::string name;
};

using SessionId = FixedId<struct SessionIdTag, 16>;

enum class HaveAnswer : uint8_t { kNone = 0, kOwn = 1, kForeign = 2 };

struct SessionInfo {
  SessionId id;
  std::optional<ManifestId> head;  // of the source
  uint64_t head_sequence = 0;
};

struct CommitResult {
  ManifestId id;
  absl::Time server_time;
};

// A chunk record as it came: the header decoded and encoded, the sealed body in parts.
struct IncomingRecord {
  RecordHeader header;
  std::string_view header_bytes;
  std::vector<std::string_view> body;
};

// The index's KvStore, which the engine destroys and makes anew when it is damaged.
struct KvStoreFactory {
  std::function<absl::StatusOr<std::unique_ptr<KvStore>>()> open;
  std::function<absl::Status()> destroy;
};

struct RepositoryOptions {
  std::string spool_directory;              // exists; same file system as a file storage, so that packs move by rename
  std::string server_id;                    // for people, in the log
  size_t session_known_ids_max = 8u << 20;  // chunks that one session may upload or be promised
  size_t known_ids_max = 24u << 20;         // and all sessions together: 16 to 32 bytes each
  size_t sessions_max = 4096;
  absl::Duration session_idle = absl::Seconds(60);  // without a first stream, before another run may replace it; when
                                                    // all its streams have ended, that is at once
  PackPoolOptions packs;
  std::function<void(std::string_view)> crash_point;  // tests: called at named steps
};

struct RepositoryStatistics {
  uint64_t snapshots = 0, packs = 0, stored_bytes = 0, chunks = 0, sessions = 0;
  uint64_t records_appended = 0, bytes_appended = 0, records_read = 0, bytes_read = 0;
};

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
  absl::StatusOr<std::string> GetManifest(const Principal& who, const ManifestId& id);
  const Catalog& catalog() const { return catalog_; }
  absl::Status DeleteSnapshot(const Principal& who, const ManifestId& id, std::string_view reason);

  RepositoryStatistics statistics() const;
  std::vector<std::string> warnings() const;  // damaged objects met so far; at most 1,000
  absl::Status status() const;                // OK, or why nothing can be committed any more
  const RepositoryId& id() const { return key_.repository; }

 private:
  struct Session;
  using KnownId = std::array<uint64_t, 2>;  // the first 16 bytes: ids are PRF outputs

  Repository(Io io, BlobStore& store, KvStoreFactory kv, CatalogKey key, RepositoryOptions options);
  absl::Status OpenImpl();
  absl::Status RecoverSpool();
  absl::Status OpenIndex(bool* rebuilt);
  // Adds packs that are not indexed. `lost`: chunks that were stored are no longer, and the index must be made anew.
  absl::Status ReconcileIndex(bool* lost);
  absl::Status OpenLog();
  absl::Status RecoverManifests(bool log_has_holes);
  std::vector<ChunkId> LiveRoots() const;
  absl::Status MarkLivePages();
  // Takes the marks from pages above chunks that turned out to be damaged.
  absl::Status RenewStaleMarks();
  enum class MarkWalk { kUnmarkedOnly, kAll };
  absl::Status MarkPagesFrom(const std::vector<ChunkId>& roots, MarkWalk walk);
  absl::Status IndexPack(const PackSummary& summary);
  absl::Status ReadNewestCopy(const ChunkId& id, const std::vector<ChunkLocation>& copies, size_t number,
                              RecordReadSink& sink);
  // UNAVAILABLE until it is complete: an index in the making says "not here" of what is here.
  absl::StatusOr<std::shared_ptr<ChunkIndex>> index() const;
  absl::StatusOr<std::shared_ptr<ChunkIndex>> UnfinishedIndex() const;
  class IndexWork;  // one at a time
  absl::Status CloseIndex();
  absl::Status MakeIndex(bool from_nothing);
  // Passes `status` of a lookup on; a damaged index is rebuilt before the next session opens.
  absl::Status NoteIndex(absl::Status status);
  bool IsIndexMissing() const;  // and nobody is making it
  void NoteDamage(absl::Span<const ChunkId> ids);
  absl::Status ReopenIndexIfBroken();
  absl::StatusOr<std::shared_ptr<Session>> FindSession(const Principal& who, const SessionId& id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CountIds(Session& session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EraseSession(const SessionId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status SettleEarlierCommit(Session& session);
  absl::StatusOr<CommitResult> CommitImpl(Session& session, std::string_view manifest, std::vector<ChunkId>* missing);
  void Warn(std::string message);
  void CrashPoint(std::string_view name) {
    if (options_.crash_point) options_.crash_point(name);
  }

  const Io io_;
  BlobStore& store_;
  const KvStoreFactory kv_factory_;
  const CatalogKey key_;
  const RepositoryOptions options_;

  // Synchronise themselves.
  Catalog catalog_;
  PackReader reader_;
  std::unique_ptr<RepositoryLog> log_;
  std::unique_ptr<PackPool> packs_;

  mutable absl::Mutex index_mu_;  // never held over a call of the storage or the index
  WaitQueue index_free_;
  bool index_busy_ ABSL_GUARDED_BY(index_mu_) = false;  // a thread makes the index, or its marks, anew
  std::shared_ptr<KvStore> kv_ ABSL_GUARDED_BY(index_mu_);
  std::weak_ptr<KvStore> closing_kv_ ABSL_GUARDED_BY(index_mu_);  // the last one that was let go
  std::shared_ptr<ChunkIndex> index_ ABSL_GUARDED_BY(index_mu_);
  absl::Status index_status_ ABSL_GUARDED_BY(index_mu_);
  bool index_complete_ ABSL_GUARDED_BY(index_mu_) = false;

  mutable absl::Mutex mu_;
  WaitQueue session_idle_;
  absl::flat_hash_map<SessionId, std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, SessionId, std::less<>> session_of_source_ ABSL_GUARDED_BY(mu_);
  uint64_t ids_held_ ABSL_GUARDED_BY(mu_) = 0;  // by all sessions
  std::vector<std::string> warnings_ ABSL_GUARDED_BY(mu_);
  RepositoryStatistics counters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_REPOSITORY_H_
