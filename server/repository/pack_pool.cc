#include "server/repository/pack_pool.h"

#include <algorithm>
#include <utility>

#include "storage/pack/spool_file.h"

namespace holdfast {

PackPool::PackPool(Io io, BlobStore& store, CatalogKey key, std::string spool_directory, PackPoolOptions options,
                   Callbacks callbacks)
    : io_(io),
      store_(store),
      key_(std::move(key)),
      spool_directory_(std::move(spool_directory)),
      options_(options),
      callbacks_(std::move(callbacks)),
      changed_(io.threads) {
  for (int i = 0; i < options_.finisher_threads; ++i) {
    finishers_.push_back(io_.threads.Spawn("pack-finisher", [this] { FinisherLoop(); }));
  }
}

PackPool::~PackPool() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  finishers_.clear();
}

std::optional<uint32_t> PackPool::PendingUploader(const ChunkId& id) const {
  absl::MutexLock lock(&mu_);
  auto it = pending_.find(id);
  if (it == pending_.end()) return std::nullopt;
  return it->second;
}

std::unique_ptr<PackPool::OpenPack> PackPool::Acquire(PackKind kind, absl::Status* status) {
  {
    absl::MutexLock lock(&mu_);
    changed_.Wait(&mu_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      if (stopping_) return true;
      if (static_cast<int>(finishing_.size()) + being_finished_ >= options_.finishing_packs_max) return false;
      return !kind_of(kind).idle.empty() || kind_of(kind).open < options_.open_packs_max;
    });
    if (stopping_) {
      *status = absl::UnavailableError("the server is stopping");
      return nullptr;
    }
    Kind& k = kind_of(kind);
    if (!k.idle.empty()) {
      std::unique_ptr<OpenPack> pack = std::move(k.idle.back());
      k.idle.pop_back();
      return pack;
    }
    ++k.open;
  }
  auto pack = std::make_unique<OpenPack>();
  absl::StatusOr<std::unique_ptr<PackWriter>> writer = PackWriter::Create(io_, spool_directory_, kind, key_);
  if (!writer.ok()) {
    absl::MutexLock lock(&mu_);
    --kind_of(kind).open;
    changed_.NotifyAll();
    *status = writer.status();
    return nullptr;
  }
  pack->writer = *std::move(writer);
  absl::MutexLock lock(&mu_);
  pack->number = next_number_++;
  live_.insert(pack->number);
  return pack;
}

void PackPool::EnqueueLocked(PackKind kind, std::unique_ptr<OpenPack> pack) {
  --kind_of(kind).open;
  finishing_.push_back(std::move(pack));
  changed_.NotifyAll();
}

void PackPool::Release(PackKind kind, std::unique_ptr<OpenPack> pack) {
  absl::MutexLock lock(&mu_);
  if (pack->writer->IsFull() || pack->number < finish_below_) {
    EnqueueLocked(kind, std::move(pack));
  } else {
    kind_of(kind).idle.push_back(std::move(pack));
    changed_.NotifyAll();
  }
}

// Forgets a pack that can no longer be written. What was in it is gone from `pending_` and from everyone's promises
// before the disk space is given back.
void PackPool::Discard(std::unique_ptr<OpenPack> pack, const absl::Status& why) {
  const std::string path = pack->writer->spool_path();
  {
    absl::MutexLock lock(&mu_);
    for (const ChunkId& id : pack->ids) pending_.erase(id);
    ++losses_;
    last_loss_ = why;
  }
  // After the erasure: whoever was promised one of these chunks has a session now, and hears of it.
  if (callbacks_.lost) callbacks_.lost(why);
  {
    absl::MutexLock lock(&mu_);
    live_.erase(pack->number);
    changed_.NotifyAll();
  }
  pack.reset();
  (void)io_.files.Unlink(path);  // frees the space; if it fails, the next start recovers the file
}

absl::Status PackPool::Append(PackKind kind, absl::Span<const PoolRecord> records) {
  absl::Status status;
  size_t i = 0;
  while (i < records.size()) {
    std::unique_ptr<OpenPack> pack = Acquire(kind, &status);
    if (!pack) return status;
    for (; i < records.size() && !pack->writer->IsFull(); ++i) {
      const PoolRecord& r = records[i];
      absl::StatusOr<PackEntry> entry = pack->writer->Append(*r.header, r.header_bytes, r.body);
      if (!entry.ok()) {
        status = entry.status();
        break;
      }
      pack->ids.push_back(r.header->id);
      if (kind == PackKind::kTree) continue;  // never promised while pending
      absl::MutexLock lock(&mu_);
      pending_.emplace(r.header->id, r.header->uploader);
    }
    if (callbacks_.crash_point) callbacks_.crash_point("spool-append");
    if (absl::IsInvalidArgument(status)) {
      Release(kind, std::move(pack));  // the record was refused; the pack is as it was
      return status;
    }
    if (!status.ok()) {
      {
        absl::MutexLock lock(&mu_);
        --kind_of(kind).open;
      }
      Discard(std::move(pack), status);
      absl::MutexLock lock(&mu_);
      changed_.NotifyAll();
      return status;
    }
    Release(kind, std::move(pack));
  }
  return absl::OkStatus();
}

absl::Status PackPool::FinishPack(OpenPack& pack) {
  const std::string path = pack.writer->spool_path();
  absl::StatusOr<PackSummary> summary = pack.writer->Finish();
  if (!summary.ok()) return summary.status();
  if (callbacks_.crash_point) callbacks_.crash_point("pack-finish");
  RETURN_IF_ERROR(PutPack(store_, io_, path, *summary));
  if (callbacks_.crash_point) callbacks_.crash_point("pack-put");
  return callbacks_.stored(*summary);  // W1: PutPack has it fsynced and under its name before it is indexed
}

void PackPool::FinisherLoop() {
  while (true) {
    std::unique_ptr<OpenPack> pack;
    {
      absl::MutexLock lock(&mu_);
      changed_.Wait(&mu_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || !finishing_.empty(); });
      if (finishing_.empty()) return;
      if (stopping_) return;  // spool files are recovered at the next start
      pack = std::move(finishing_.front());
      finishing_.pop_front();
      ++being_finished_;
    }
    absl::Status status = FinishPack(*pack);
    if (status.ok()) {
      absl::MutexLock lock(&mu_);
      for (const ChunkId& id : pack->ids) pending_.erase(id);
      live_.erase(pack->number);
    } else {
      Discard(std::move(pack), status);
    }
    pack.reset();
    absl::MutexLock lock(&mu_);
    --being_finished_;
    changed_.NotifyAll();
  }
}

std::unique_ptr<PackPool::OpenPack> PackPool::TakeIdleLocked(uint64_t number, PackKind* kind) {
  for (PackKind k : {PackKind::kData, PackKind::kTree}) {
    auto& idle = kind_of(k).idle;
    for (size_t i = 0; i < idle.size(); ++i) {
      if (idle[i]->number != number) continue;
      std::unique_ptr<OpenPack> pack = std::move(idle[i]);
      idle.erase(idle.begin() + static_cast<ptrdiff_t>(i));
      *kind = k;
      return pack;
    }
  }
  return nullptr;
}

absl::Status PackPool::Sync() {
  std::set<uint64_t> targets;
  uint64_t losses;
  {
    absl::MutexLock lock(&mu_);
    targets = live_;
    losses = losses_;
  }
  for (uint64_t number : targets) {
    std::unique_ptr<OpenPack> pack;
    PackKind kind = PackKind::kData;
    {
      absl::MutexLock lock(&mu_);
      // A stream holds a pack during one Append only; a pack that is being finished is synced by that.
      changed_.Wait(&mu_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        if (stopping_ || !live_.contains(number)) return true;
        pack = TakeIdleLocked(number, &kind);
        return pack != nullptr;
      });
      if (stopping_) return absl::UnavailableError("the server is stopping");
    }
    if (!pack) continue;
    absl::Status s = pack->writer->Sync();
    if (s.ok()) {
      Release(kind, std::move(pack));
      continue;
    }
    {
      absl::MutexLock lock(&mu_);
      --kind_of(kind).open;
    }
    Discard(std::move(pack), s);
  }
  absl::MutexLock lock(&mu_);
  return losses_ != losses ? last_loss_ : absl::OkStatus();
}

absl::Status PackPool::StoreAll() {
  absl::MutexLock lock(&mu_);
  const uint64_t losses = losses_;
  const uint64_t target = next_number_;
  finish_below_ = std::max(finish_below_, target);
  // Packs in use now are queued by Release.
  for (PackKind kind : {PackKind::kData, PackKind::kTree}) {
    Kind& k = kind_of(kind);
    while (!k.idle.empty()) {
      std::unique_ptr<OpenPack> pack = std::move(k.idle.back());
      k.idle.pop_back();
      EnqueueLocked(kind, std::move(pack));
    }
  }
  changed_.Wait(
      &mu_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || live_.empty() || *live_.begin() >= target; });
  if (stopping_) return absl::UnavailableError("the server is stopping");
  return losses_ != losses ? last_loss_ : absl::OkStatus();
}

}  // namespace holdfast
