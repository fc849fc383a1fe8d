// Repository log: one totally ordered sequence of slots in the storage, each written by put-if-absent. The next slot is
// the commit point of everything that changes a repository. A server that was superseded (another one wrote a takeover
// into its next slot) can append nothing more: all its Appends fail ABORTED for ever.
//
// Invariants (must):
//  1. Slot n+1 is written only after the outcome of slot n is known.
//  2. While an outcome is unknown only the same bytes are put again.
//  3. The observer sees every record of the log, in slot order, each exactly once: first those found by Open, later
//     those that Append made (also one whose Append said UNAVAILABLE and that turned out to be there).
// Thread-safe; Append blocks (storage, back-off) without holding a mutex. Memory: one slot.
#ifndef HOLDFAST_SERVER_LOG_REPOSITORY_LOG_H_
#define HOLDFAST_SERVER_LOG_REPOSITORY_LOG_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "server/log/log_record.h"
#include "storage/blob_store.h"

namespace holdfast {

struct RepositoryLogOptions {
  std::string server_id;  // written into the takeover, for people
  int attempts_max = 6;   // puts (and read-backs) per Append while the outcome is unknown
  absl::Duration backoff_initial = absl::Milliseconds(20);  // doubles
  absl::Duration backoff_max = absl::Seconds(2);
};

struct DamagedSlot {
  uint64_t slot = 0;
  absl::Status status;  // DATA_LOSS
};

// What Open found wrong. Nothing of it stops the repository: manifests that no readable slot mentions count as
// committed.
struct LogReport {
  uint64_t slots_read = 0;
  std::vector<DamagedSlot> damaged;                    // not replayed, but for broken links:
  std::vector<DamagedSlot> broken_links;               // intact, but not written after the slot before: replayed
  std::vector<std::pair<uint64_t, uint64_t>> missing;  // ranges first..last
  std::vector<std::string> foreign_names;              // blobs under log/ that are no slots; at most 100
  bool clean() const { return damaged.empty() && broken_links.empty() && missing.empty() && foreign_names.empty(); }
};

class RepositoryLog {
 public:
  // Called without locks held, one call at a time. Must not call the log.
  using Observer = std::function<void(const LogRecord&)>;

  // Reads every slot, then writes a takeover with epoch = the highest seen + 1. `store` and what is in `io` are
  // borrowed. UNAVAILABLE: storage away, try again. FAILED_PRECONDITION: a newer server wrote here, or the store has no
  // put-if-absent. ABORTED: other servers kept taking over at the same time.
  static absl::StatusOr<std::unique_ptr<RepositoryLog>> Open(Io io, BlobStore& store, CatalogKey key,
                                                             RepositoryLogOptions options, Observer observer,
                                                             LogReport* report);
  ~RepositoryLog();

  // Durable when OK; the observer was called before it returns. Gives the slot. Appends are written in order of
  // arrival. ABORTED: superseded, for ever. UNAVAILABLE: outcome unknown; appending an equal payload again as the next
  // thing gives its slot and writes nothing twice. RESOURCE_EXHAUSTED, PERMISSION_DENIED: not written. DATA_LOSS: the
  // slot was found damaged; for ever, open again.
  absl::StatusOr<uint64_t> Append(LogPayload payload);

  uint64_t epoch() const { return epoch_; }
  uint64_t last_slot() const;
  // Repository time: wall clock, but never before the last slot's.
  absl::Time Now() const;
  // OK, or why every Append fails from now on.
  absl::Status status() const;

 private:
  struct Pending {
    LogRecord record;
    std::string blob;
    bool maybe_written = false;  // some put of it had an unknown outcome
  };
  RepositoryLog(Io io, BlobStore& store, CatalogKey key, RepositoryLogOptions options, Observer observer);
  absl::Status Replay(LogReport* report);
  // NOT_FOUND when there is none (and nothing is reported).
  absl::Status ReplaySlot(uint64_t slot, LogReport* report);
  absl::Status TakeOver(LogReport* report);
  absl::StatusOr<Pending> Prepare(LogPayload payload);
  // Puts `pending` until its outcome is known. OK = it is in the log. ALREADY_EXISTS = something else is there, given
  // in `other`. UNAVAILABLE = still unknown. Any other code = not written.
  absl::Status Settle(Pending& pending, std::string* other);
  // Settles pending_ and draws the consequences.
  absl::Status FinishPending();
  absl::StatusOr<uint64_t> AppendExclusively(LogPayload payload);
  void Adopt(const LogRecord& record, const Digest& digest);
  absl::Status Latch(absl::Status status);
  void Sleep(absl::Duration duration);
  void EnterExclusive();
  void LeaveExclusive();

  const Io io_;
  BlobStore& store_;
  const CatalogKey key_;
  const RepositoryLogOptions options_;
  const Observer observer_;

  // Touched only by Open and by the thread that is inside EnterExclusive .. LeaveExclusive.
  uint64_t epoch_ = 0;
  uint64_t highest_epoch_ = 0;
  std::optional<Digest> last_digest_;  // nullopt: the last slot was missing or unreadable
  bool last_intact_ = false;           // the last slot's record was readable
  std::optional<Pending> pending_;

  mutable absl::Mutex mu_;
  uint64_t last_slot_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Time last_time_ ABSL_GUARDED_BY(mu_) = absl::UnixEpoch();
  absl::Status latched_ ABSL_GUARDED_BY(mu_);
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<std::shared_ptr<Event>> waiters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_LOG_REPOSITORY_LOG_H_
