#include "server/log/repository_log.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/crypto/blake3.h"

namespace holdfast {
namespace {

constexpr std::string_view kPrefix = "log/";
constexpr int kListPage = 1000;
constexpr size_t kForeignNamesMax = 100;
// Somebody else takes over at the same time, again and again: leave it to them.
constexpr int kTakeoverAttemptsMax = 8;

// After these codes the blob is certainly not there (storage/blob_store.h); after all others it may be.
bool CertainlyNotWritten(const absl::Status& put) {
  switch (put.code()) {
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
      return true;
    default:
      return false;
  }
}

}  // namespace

RepositoryLog::RepositoryLog(Io io, BlobStore& store, CatalogKey key, RepositoryLogOptions options, Observer observer)
    : io_(io), store_(store), key_(std::move(key)), options_(std::move(options)), observer_(std::move(observer)) {}

RepositoryLog::~RepositoryLog() = default;

absl::StatusOr<std::unique_ptr<RepositoryLog>> RepositoryLog::Open(Io io, BlobStore& store, CatalogKey key,
                                                                   RepositoryLogOptions options, Observer observer,
                                                                   LogReport* report) {
  if (!store.capabilities().put_if_absent) {
    return absl::FailedPreconditionError("repository log: this storage cannot put a blob only if it is absent");
  }
  LogReport ignored;
  if (report == nullptr) report = &ignored;
  *report = LogReport();
  std::unique_ptr<RepositoryLog> log(
      new RepositoryLog(io, store, std::move(key), std::move(options), std::move(observer)));
  RETURN_IF_ERROR(log->Replay(report));
  RETURN_IF_ERROR(log->TakeOver(report));
  return log;
}

absl::Status RepositoryLog::Replay(LogReport* report) {
  std::string after;
  auto missing = [&](uint64_t first, uint64_t last) {
    report->missing.emplace_back(first, last);
    last_digest_.reset();
    last_intact_ = false;
    absl::MutexLock lock(&mu_);
    last_slot_ = last;
  };
  while (true) {
    absl::StatusOr<std::vector<BlobInfo>> page = store_.List(kPrefix, after, kListPage);
    if (!page.ok()) return Annotate(page.status(), "list the repository log");
    for (const BlobInfo& blob : *page) {
      std::optional<uint64_t> slot = ParseLogSlotBlobName(blob.name);
      if (!slot.has_value()) {
        if (report->foreign_names.size() < kForeignNamesMax) {
          report->foreign_names.push_back(blob.name);
        }
        continue;
      }
      const uint64_t expected = last_slot() + 1;
      if (*slot > expected) missing(expected, *slot - 1);
      absl::Status status = ReplaySlot(*slot, report);
      if (absl::IsNotFound(status)) {
        missing(*slot, *slot);
      } else if (!status.ok()) {
        return status;
      }
    }
    if (page->size() < kListPage) return absl::OkStatus();
    after = page->back().name;
  }
}

absl::Status RepositoryLog::ReplaySlot(uint64_t slot, LogReport* report) {
  const BlobName name = LogSlotBlobName(slot);
  absl::StatusOr<std::string> blob = GetWholeBlob(store_, name, kLogSlotBytesMax);
  if (IsMediumError(blob.status())) blob = GetWholeBlob(store_, name, kLogSlotBytesMax);
  auto damaged = [&](absl::Status status) {
    report->damaged.push_back({slot, std::move(status)});
    last_intact_ = false;
    absl::MutexLock lock(&mu_);
    last_slot_ = slot;
  };
  if (absl::IsOutOfRange(blob.status())) {
    last_digest_.reset();
    damaged(absl::DataLossError(absl::StrCat("log slot ", slot, ": is too large")));
    return absl::OkStatus();
  }
  // A bad sector must not keep the repository closed.
  if (IsMediumError(blob.status())) {
    last_digest_.reset();
    damaged(absl::DataLossError(absl::StrCat("log slot ", slot, ": cannot be read: ", blob.status().message())));
    return absl::OkStatus();
  }
  if (!blob.ok()) return Annotate(blob.status(), absl::StrCat("read log slot ", slot));
  const Digest digest = Blake3Digest(*blob);
  absl::StatusOr<LogRecord> record = OpenLogRecord(*blob, slot, key_);
  if (absl::IsDataLoss(record.status())) {
    last_digest_ = digest;
    damaged(record.status());
    return absl::OkStatus();
  }
  if (!record.ok()) return record.status();
  // Where the slot before is damaged or missing there is nothing to compare with.
  const bool first = slot == 1;
  if (first ? !record->previous.IsZero() : last_intact_ && record->previous != *last_digest_) {
    report->broken_links.push_back(
        {slot, absl::DataLossError(
                   absl::StrCat("log slot ", slot, ": was not written after the slot before it as it is now"))});
  }
  ++report->slots_read;
  Adopt(*record, digest);
  return absl::OkStatus();
}

void RepositoryLog::Adopt(const LogRecord& record, const Digest& digest) {
  last_digest_ = digest;
  last_intact_ = true;
  highest_epoch_ = std::max(highest_epoch_, record.server_epoch);
  if (const auto* takeover = std::get_if<TakeoverRecord>(&record.payload)) {
    highest_epoch_ = std::max(highest_epoch_, takeover->epoch);
  }
  {
    absl::MutexLock lock(&mu_);
    last_slot_ = record.slot;
    last_time_ = std::max(last_time_, record.time);
  }
  if (observer_) observer_(record);
}

absl::Status RepositoryLog::TakeOver(LogReport* report) {
  for (int attempt = 0; attempt < kTakeoverAttemptsMax; ++attempt) {
    if (highest_epoch_ == UINT64_MAX) {
      return absl::FailedPreconditionError("repository log: out of server epochs");
    }
    epoch_ = highest_epoch_ + 1;
    ASSIGN_OR_RETURN(Pending pending, Prepare(TakeoverRecord{epoch_, options_.server_id}));
    std::string other;
    absl::Status status = Settle(pending, &other);
    if (status.ok()) {
      Adopt(pending.record, Blake3Digest(pending.blob));
      return absl::OkStatus();
    }
    if (!absl::IsAlreadyExists(status)) return Annotate(status, "take the repository over");
    // Somebody wrote in between: read on, then try the slot behind.
    while ((status = ReplaySlot(last_slot() + 1, report)).ok()) {
    }
    if (!absl::IsNotFound(status)) return status;
  }
  return absl::AbortedError("repository log: other servers keep writing to this repository");
}

absl::StatusOr<RepositoryLog::Pending> RepositoryLog::Prepare(LogPayload payload) {
  Pending pending;
  pending.record.slot = last_slot() + 1;
  if (pending.record.slot > kLogSlotNumberMax) {
    return absl::FailedPreconditionError("repository log: out of slots");
  }
  pending.record.server_epoch = epoch_;
  if (last_digest_.has_value()) pending.record.previous = *last_digest_;
  pending.record.time = Now();
  pending.record.payload = std::move(payload);
  std::array<uint8_t, 32> salt{};
  io_.random.Fill(absl::MakeSpan(salt));
  ASSIGN_OR_RETURN(pending.blob, SealLogRecord(pending.record, key_, salt));
  return pending;
}

absl::Status RepositoryLog::Settle(Pending& pending, std::string* other) {
  const BlobName name = LogSlotBlobName(pending.record.slot);
  absl::Duration backoff = options_.backoff_initial;
  absl::Status last;
  for (int attempt = 0; attempt < std::max(1, options_.attempts_max); ++attempt) {
    if (attempt > 0) {
      Sleep(backoff);
      backoff = std::min(backoff * 2, options_.backoff_max);
    }
    absl::Status put = PutBytes(store_, name, pending.blob, PutMode::kIfAbsent);
    if (put.ok()) return put;
    last = put;
    if (CertainlyNotWritten(put)) {
      if (!pending.maybe_written) return put;
      continue;  // an earlier put of the same bytes may still be there, or come
    }
    if (!absl::IsAlreadyExists(put)) pending.maybe_written = true;
    // The salt makes every blob unique: equal bytes are ours.
    absl::StatusOr<std::string> there = GetWholeBlob(store_, name, kLogSlotBytesMax);
    if (there.ok()) {
      if (*there == pending.blob) return absl::OkStatus();
      *other = *std::move(there);
      return absl::AlreadyExistsError("the slot is taken");
    }
    if (absl::IsOutOfRange(there.status())) {
      other->clear();
      return absl::AlreadyExistsError("the slot is taken");
    }
    if (absl::IsAlreadyExists(put)) {
      // Taken, but not by whom: it may be our own earlier put.
      pending.maybe_written = true;
      last = there.status();
    }
  }
  return absl::UnavailableError(
      absl::StrCat("repository log: the outcome of slot ", pending.record.slot, " is not known: ", last.ToString()));
}

absl::Status RepositoryLog::FinishPending() {
  std::string other;
  absl::Status status = Settle(*pending_, &other);
  if (status.ok()) {
    Pending done = *std::move(pending_);
    pending_.reset();
    Adopt(done.record, Blake3Digest(done.blob));
    return status;
  }
  const uint64_t slot = pending_->record.slot;
  if (absl::IsUnavailable(status)) return status;  // stays pending
  pending_.reset();
  if (!absl::IsAlreadyExists(status)) return Annotate(status, absl::StrCat("write log slot ", slot));
  absl::StatusOr<LogRecord> record = OpenLogRecord(other, slot, key_);
  if (absl::IsDataLoss(record.status())) {
    return Latch(Annotate(record.status(), "repository log: the slot to write is there and damaged"));
  }
  std::string who = "a newer server";
  if (record.ok()) {
    who = absl::StrCat("epoch ", record->server_epoch);
    if (const auto* takeover = std::get_if<TakeoverRecord>(&record->payload)) {
      absl::StrAppend(&who, ", \"", takeover->server_id, "\"");
    }
  }
  return Latch(absl::AbortedError(absl::StrCat("repository log: superseded by another server (", who, " wrote slot ",
                                               slot, "; ours is epoch ", epoch_, ")")));
}

absl::StatusOr<uint64_t> RepositoryLog::AppendExclusively(LogPayload payload) {
  RETURN_IF_ERROR(status());
  if (pending_.has_value()) {
    const bool same = pending_->record.payload == payload;
    const uint64_t slot = pending_->record.slot;
    absl::Status settled = FinishPending();
    if (settled.ok() && same) return slot;
    // A pending record that was certainly not written after all is forgotten; its appender was told
    // "unknown".
    if (!settled.ok() && (pending_.has_value() || !status().ok())) return settled;
  }
  ASSIGN_OR_RETURN(pending_, Prepare(std::move(payload)));
  const uint64_t slot = pending_->record.slot;
  RETURN_IF_ERROR(FinishPending());
  return slot;
}

absl::StatusOr<uint64_t> RepositoryLog::Append(LogPayload payload) {
  EnterExclusive();
  absl::StatusOr<uint64_t> slot = AppendExclusively(std::move(payload));
  LeaveExclusive();
  return slot;
}

uint64_t RepositoryLog::last_slot() const {
  absl::MutexLock lock(&mu_);
  return last_slot_;
}

absl::Time RepositoryLog::Now() const {
  const absl::Time wall = io_.clock.Wall();
  absl::MutexLock lock(&mu_);
  return std::max(wall, last_time_);
}

absl::Status RepositoryLog::status() const {
  absl::MutexLock lock(&mu_);
  return latched_;
}

absl::Status RepositoryLog::Latch(absl::Status status) {
  absl::MutexLock lock(&mu_);
  if (latched_.ok()) latched_ = std::move(status);
  return latched_;
}

void RepositoryLog::Sleep(absl::Duration duration) {
  std::unique_ptr<Event> never = io_.threads.NewEvent();
  never->WaitUntil(io_.clock.Monotonic() + duration);
}

// First come, first served; waits on an Event, so that no mutex is held over calls of the storage.
void RepositoryLog::EnterExclusive() {
  {
    absl::MutexLock lock(&mu_);
    if (!busy_) {
      busy_ = true;
      return;
    }
  }
  std::shared_ptr<Event> turn = io_.threads.NewEvent();
  {
    absl::MutexLock lock(&mu_);
    if (!busy_) {
      busy_ = true;
      return;
    }
    waiters_.push_back(turn);
  }
  turn->WaitUntil(absl::InfiniteDuration());
}

void RepositoryLog::LeaveExclusive() {
  std::shared_ptr<Event> next;
  {
    absl::MutexLock lock(&mu_);
    if (waiters_.empty()) {
      busy_ = false;
      return;
    }
    next = std::move(waiters_.front());  // busy_ stays true: it is theirs now
    waiters_.pop_front();
  }
  next->Notify();
}

}  // namespace holdfast
