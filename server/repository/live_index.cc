#include "server/repository/live_index.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

constexpr absl::Duration kCloseStep = absl::Milliseconds(10);
constexpr int kCloseStepsMax = 1000;

}  // namespace

// Waits on an Event, as calls of the storage are made while it lives.
class LiveIndex::Work {
 public:
  explicit Work(LiveIndex& index) : index_(index) {
    absl::MutexLock lock(&index_.mu_);
    index_.free_.Wait(&index_.mu_, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !index_.busy_; });
    index_.busy_ = true;
  }
  ~Work() {
    absl::MutexLock lock(&index_.mu_);
    index_.busy_ = false;
    index_.free_.NotifyAll();
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

 private:
  LiveIndex& index_;
};

LiveIndex::LiveIndex(Io io, KvStoreFactory kv, const RepositoryId& repository, PackReconciler& packs,
                     MarkLivePages mark, Warnings& warnings, CrashPoint crash_point)
    : io_(io),
      kv_factory_(std::move(kv)),
      repository_(repository),
      packs_(packs),
      mark_(std::move(mark)),
      warnings_(warnings),
      crash_point_(std::move(crash_point)),
      free_(io.threads) {}

absl::Status LiveIndex::Open() { return Make(/*from_nothing=*/false); }

absl::Status LiveIndex::Complete() {
  // Always: the index may have lost its newest marks and nothing else. Costs one lookup per snapshot that is marked.
  absl::Status marked = MarkUnmarked();
  if (marked.ok()) marked = RenewStaleMarks();
  if (absl::IsDataLoss(marked)) {
    Note(marked).IgnoreError();
    marked = RenewIfBroken();
  }
  RETURN_IF_ERROR(marked);
  absl::MutexLock lock(&mu_);
  complete_ = true;
  return absl::OkStatus();
}

void LiveIndex::Flush() {
  absl::StatusOr<std::shared_ptr<ChunkIndex>> index = Get();
  if (index.ok()) (void)(*index)->Flush();
}

absl::StatusOr<std::shared_ptr<ChunkIndex>> LiveIndex::Get() const {
  absl::MutexLock lock(&mu_);
  if (index_ && complete_) return index_;
  if (!status_.ok()) return absl::UnavailableError(absl::StrCat("the index: ", status_.message()));
  return absl::UnavailableError("the index is being made anew; try again later");
}

absl::StatusOr<std::shared_ptr<ChunkIndex>> LiveIndex::Unfinished() const {
  absl::MutexLock lock(&mu_);
  if (!index_) return absl::UnavailableError("the index is not open");
  return index_;
}

bool LiveIndex::IsMissing() const {
  absl::MutexLock lock(&mu_);
  return !complete_ && !status_.ok();
}

absl::Status LiveIndex::Note(absl::Status status) {
  if (absl::IsDataLoss(status)) {
    absl::MutexLock lock(&mu_);
    status_ = status;
  }
  return status;
}

absl::Status LiveIndex::AddPack(const PackSummary& summary) {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, Unfinished());
  absl::Status s = index->AddPack(summary);
  Reached(crash_point_, "index-write");
  if (s.ok()) return s;
  // The pack itself is stored: only the cache cannot follow.
  absl::MutexLock lock(&mu_);
  status_ = s;
  return Annotate(s, "writing the index");
}

void LiveIndex::NoteDamage(absl::Span<const ChunkId> ids) {
  if (ids.empty()) return;
  absl::StatusOr<std::shared_ptr<ChunkIndex>> index = Get();
  absl::Status marked = index.ok() ? (*index)->MarkDamaged(ids) : index.status();
  if (!marked.ok()) {
    warnings_.Add(absl::StrCat("a damaged chunk could not be noted in the index: ", marked.message()));
  }
}

absl::Status LiveIndex::RenewIfBroken() {
  Work work(*this);
  bool damaged = false;
  {
    absl::MutexLock lock(&mu_);
    if (status_.ok() && index_) return absl::OkStatus();
    damaged = absl::IsDataLoss(status_);
  }
  RETURN_IF_ERROR(Close());
  if (damaged) warnings_.Add("the index was damaged and has been rebuilt from the packs");
  absl::Status status = Make(damaged);
  if (status.ok()) status = MarkUnmarked();
  absl::MutexLock lock(&mu_);
  // Half an index must not be taken for a whole one: the next one who needs it goes on. So it is when a pack could not
  // be added meanwhile.
  if (status_.ok()) status_ = status;
  complete_ = status_.ok();
  return status.ok() ? status_ : status;
}

absl::StatusOr<uint64_t> LiveIndex::StaleMarks(ChunkIndex& index) {
  absl::StatusOr<uint64_t> stale = index.StaleMarks();
  if (!stale.ok()) return Note(stale.status());
  return stale;
}

absl::Status LiveIndex::RenewStaleMarks() {
  // Hardly ever: without waiting for anybody.
  {
    ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, Unfinished());
    ASSIGN_OR_RETURN(const uint64_t stale, StaleMarks(*index));
    if (stale == 0) return absl::OkStatus();
  }
  Work work(*this);
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, Unfinished());
  ASSIGN_OR_RETURN(const uint64_t stale, StaleMarks(*index));
  if (stale == 0) return absl::OkStatus();
  absl::Status status = mark_(*index, PageWalk::kAll);
  if (status.ok()) status = index->MarksRenewed(stale);
  return Note(Annotate(status, "looking for what is above damaged chunks"));
}

absl::Status LiveIndex::MarkUnmarked() {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, Unfinished());
  return mark_(*index, PageWalk::kUnmarkedOnly);
}

absl::Status LiveIndex::Reconcile(bool* lost) {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, Unfinished());
  return packs_.Reconcile(*index, lost);
}

absl::Status LiveIndex::Make(bool from_nothing) {
  if (from_nothing) RETURN_IF_ERROR(kv_factory_.destroy());
  bool lost = false;
  RETURN_IF_ERROR(OpenKv(&from_nothing));
  absl::Status status = Reconcile(&lost);
  // Pages above lost chunks must not stay marked as complete: the marks are made anew, too.
  if (!from_nothing && (absl::IsDataLoss(status) || (status.ok() && lost))) {
    if (!lost) warnings_.Add("the index was damaged and has been rebuilt from the packs");
    RETURN_IF_ERROR(Close());
    RETURN_IF_ERROR(kv_factory_.destroy());
    RETURN_IF_ERROR(OpenKv(&from_nothing));
    status = Reconcile(&lost);
  }
  return status;
}

// One that cannot be used is destroyed and begun anew: then `from_nothing` is set.
absl::Status LiveIndex::OpenKv(bool* from_nothing) {
  absl::StatusOr<std::unique_ptr<KvStore>> kv = kv_factory_.open();
  absl::StatusOr<std::unique_ptr<ChunkIndex>> index = absl::UnavailableError("not open");
  if (!kv.ok()) index = kv.status();
  if (kv.ok()) index = ChunkIndex::Open(**kv, repository_);
  if (IsDamage(index.status())) {
    warnings_.Add(absl::StrCat("the index could not be used (", index.status().message(), ") and has been rebuilt"));
    index = absl::UnavailableError("closed");
    if (kv.ok()) kv->reset();
    RETURN_IF_ERROR(kv_factory_.destroy());
    kv = kv_factory_.open();
    RETURN_IF_ERROR(kv.status());
    index = ChunkIndex::Open(**kv, repository_);
    *from_nothing = true;
  }
  RETURN_IF_ERROR(index.status());
  absl::MutexLock lock(&mu_);
  kv_ = *std::move(kv);
  // The index keeps its KvStore alive: a reader may still hold it when there is a new one. Both go with the last who
  // holds it, also when somebody has a weak pointer left.
  struct Both {
    std::shared_ptr<KvStore> kv;
    std::unique_ptr<ChunkIndex> index;
  };
  auto both = std::make_shared<Both>(Both{kv_, *std::move(index)});
  index_ = std::shared_ptr<ChunkIndex>(both, both->index.get());
  status_ = absl::OkStatus();
  return absl::OkStatus();
}

// Lookups that are under way still hold it. They are short.
absl::Status LiveIndex::Close() {
  std::weak_ptr<KvStore> old;
  {
    absl::MutexLock lock(&mu_);
    if (kv_) closing_kv_ = kv_;
    old = closing_kv_;
    complete_ = false;
    index_.reset();
    kv_.reset();
  }
  std::unique_ptr<Event> never = io_.threads.NewEvent();
  for (int steps = 0; !old.expired(); ++steps) {
    if (steps == kCloseStepsMax) return absl::UnavailableError("the old index is still in use; try again later");
    never->WaitUntil(io_.clock.Monotonic() + kCloseStep);
  }
  return absl::OkStatus();
}

}  // namespace holdfast
