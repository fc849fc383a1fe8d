// The upload sessions of a repository: who they belong to, what they know, and when they may commit. The session rules
// of docs/architecture.md are enforced here, each named where it is:
//   S1 promises belong to one run of the server: sessions are held in memory only, and all fail when a pack is lost;
//   S2 a page is promised only if a committed snapshot reaches it or this session uploaded it, and accepted only if
//      each child was promised to or uploaded by the session;
//   S3 a session pins its base;
//   S4 commit is idempotent by manifest;
//   S5 a failed or replaced session never commits;
//   S6 a session belongs to its principal.
//
// Thread-safe, no I/O; only BeginCommit and Close wait, for a commit of the same session. Memory: 20 to 39 bytes for
// each id that a session knows, 65 to 130 more for a page that it uploaded, 32 for a link between two of these; half as
// much again while a table grows. SessionLimits bound it.
#ifndef HOLDFAST_SERVER_REPOSITORY_SESSION_TABLE_H_
#define HOLDFAST_SERVER_REPOSITORY_SESSION_TABLE_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/record.h"
#include "core/io/io.h"
#include "core/io/wait_queue.h"
#include "server/index/chunk_index.h"
#include "server/log/log_record.h"
#include "server/repository/pack_pool.h"
#include "server/repository/principal.h"

namespace holdfast {

using SessionId = FixedId<struct SessionIdTag, 16>;

enum class HaveAnswer : uint8_t { kNone = 0, kOwn = 1, kForeign = 2 };

// A chunk record as it came: the header decoded and encoded, the sealed body in parts.
struct IncomingRecord {
  RecordHeader header;
  std::string_view header_bytes;
  std::vector<std::string_view> body;
};

// What has to be written of the records of one message. Refers to them.
struct AcceptedRecords {
  uint32_t agent = 0;
  std::vector<PoolRecord> data, tree;
};

struct SessionLimits {
  // In ids of at most 39 bytes. A chunk that was uploaded or promised is one; a new page is four more, and each link to
  // another new page two.
  size_t weight_max = 8u << 20;       // that one session holds
  size_t all_weight_max = 24u << 20;  // and all sessions together: less than 1 GiB
  size_t sessions_max = 4096;
  absl::Duration idle = absl::Seconds(60);  // without a first stream, before another run may replace it; when all its
                                            // streams have ended, that is at once
};

struct SessionCounters {
  uint64_t sessions = 0;
  uint64_t records_uploaded = 0, bytes_uploaded = 0;
};

class SessionTable {
 private:
  struct Session;

 public:
  // Every copy of one chunk, oldest first, as the index knows them.
  using Copies = std::vector<ChunkLocation>;

  // The right to commit for a session. While it lives the session promises and takes nothing, is not replaced or
  // closed, and nobody else commits for it. Ends before the table does; used by one thread.
  class Turn {
   public:
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    const SessionId& id() const;
    const std::string& source() const;
    uint32_t agent() const;
    // A commit of this source whose outcome is unknown: to be settled before heads are compared. The next session of
    // the source inherits it.
    std::optional<CommittedRecord>& unsettled();
    // `root` and the pages below it that this session uploaded, each once and after those below it: what its commit
    // makes committed. The session's error if it failed meanwhile (S5). `root_known`: it uploaded or was promised the
    // root.
    absl::StatusOr<std::vector<ChunkId>> NewPages(const ChunkId& root, bool* root_known);
    // From now on the session cannot commit, and why.
    void Fail(const absl::Status& why);

   private:
    friend class SessionTable;
    Turn(SessionTable& table, std::shared_ptr<Session> session) : table_(table), session_(std::move(session)) {}
    SessionTable& table_;
    const std::shared_ptr<Session> session_;
  };

  struct Opened {
    SessionId id;
    std::unique_ptr<Turn> unsettled;  // not null: the source's last commit is to be settled before its head is told
  };

  SessionTable(Io io, SessionLimits limits);

  // ALREADY_EXISTS: another session of this source is at work. A new one replaces an idle one of the same source.
  absl::StatusOr<Opened> Open(const Principal& who, std::string_view source, uint32_t agent,
                              std::optional<ManifestId> base);
  // The head of its source that the session was told: pinned, unless its client named a base.
  void PinHead(const SessionId& id, const ManifestId& head);
  // S3: what must not be taken away while sessions build on it. The collector of garbage will ask, once there is one.
  std::vector<ManifestId> PinnedSnapshots() const;

  // ABORTED, here and below: no such session, or of another principal.
  absl::Status StreamBegan(const Principal& who, const SessionId& id);
  void StreamEnded(const SessionId& id);
  // Whether the session is there and may still commit.
  absl::Status Check(const Principal& who, const SessionId& id) const;
  // What the session need not send, and from now on knows. One answer per id; `pending`: the agent that uploaded a data
  // chunk that is not yet indexed, found out before `copies` was.
  absl::StatusOr<std::vector<HaveAnswer>> Promise(const Principal& who, const SessionId& id,
                                                  absl::Span<const ChunkId> ids, absl::Span<const Copies> copies,
                                                  absl::Span<const std::optional<uint32_t>> pending);
  // Before the records are written, and after.
  absl::StatusOr<AcceptedRecords> Accept(const Principal& who, const SessionId& id,
                                         absl::Span<const IncomingRecord> records, absl::Span<const Copies> copies);
  absl::Status NoteUploaded(const Principal& who, const SessionId& id, absl::Span<const IncomingRecord> records);
  // Null: `is_committed` said that the manifest is; asked with the table locked, it must not call it.
  absl::StatusOr<std::unique_ptr<Turn>> BeginCommit(const Principal& who, const SessionId& id,
                                                    absl::FunctionRef<bool()> is_committed);
  void Close(const Principal& who, const SessionId& id);

  // Uploaded chunks were lost before they were stored: no session that is open may commit.
  void FailAll(const absl::Status& why);

  SessionCounters counters() const;

 private:
  using KnownId = std::array<uint64_t, 2>;  // the first 16 bytes: ids are PRF outputs
  static KnownId KnownIdOf(const ChunkId& id);

  absl::StatusOr<std::shared_ptr<Session>> Find(const Principal& who, const SessionId& id) const
      ABSL_SHARED_LOCKS_REQUIRED(mu_);
  bool IsIdle(const Session& session) const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  absl::Status MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckRecord(const Session& session, const RecordHeader& header,
                           const absl::flat_hash_set<KnownId>& in_message) const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  absl::Status CheckWeight(Session& session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Erase(const SessionId& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Io io_;
  const SessionLimits limits_;

  mutable absl::Mutex mu_;
  WaitQueue turn_ended_;
  absl::flat_hash_map<SessionId, std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, SessionId, std::less<>> session_of_source_ ABSL_GUARDED_BY(mu_);
  uint64_t weight_held_ ABSL_GUARDED_BY(mu_) = 0;  // by all sessions
  uint64_t records_uploaded_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t bytes_uploaded_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_SESSION_TABLE_H_
