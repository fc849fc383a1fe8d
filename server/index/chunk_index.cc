#include "server/index/chunk_index.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/codec.h"
#include "server/index/index_layout.h"

namespace holdfast {
namespace {

void CountPack(ChunkIndexCounters& c, const IndexedPack& pack, bool add) {
  uint64_t& packs = pack.kind == PackKind::kData ? c.data_packs : c.tree_packs;
  uint64_t& bytes = pack.kind == PackKind::kData ? c.data_pack_bytes : c.tree_pack_bytes;
  packs += add ? 1 : -1;
  bytes += add ? pack.bytes : -pack.bytes;
}

std::string EncodeCounters(uint32_t next_number, const ChunkIndexCounters& c) {
  return EncodeIndexCounts({next_number, c.chunks, c.locations});
}

// The records of a pack by id: cheapest for the reads, and copies of one id inside the pack come together, in frame
// order.
std::vector<uint32_t> OrderById(const std::vector<PackEntry>& entries) {
  std::vector<uint32_t> order(entries.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const ChunkId &x = entries[a].header.id, &y = entries[b].header.id;
    return x == y ? a < b : x < y;
  });
  return order;
}

StoredCopy CopyOf(const PackEntry& e, uint32_t pack_number) {
  return {pack_number,
          e.frame_number,
          e.body_offset,
          e.header.sealed_length,
          static_cast<uint32_t>(e.header.children.size()),
          e.header.type,
          e.header.uploader,
          e.header.epoch};
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChunkIndex>> ChunkIndex::Open(KvStore& kv, const RepositoryId& repository) {
  std::unique_ptr<ChunkIndex> index(new ChunkIndex(kv, repository));
  RETURN_IF_ERROR(index->Load());
  return index;
}

absl::Status ChunkIndex::Load() {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::optional<std::string> meta, kv_.Get(kIndexMetaKey));
  if (!meta.has_value()) {
    bool empty = true;
    RETURN_IF_ERROR(kv_.Scan("", "", [&](std::string_view, std::string_view) { return empty = false; }));
    if (!empty) return absl::FailedPreconditionError("chunk index: not a chunk index of ours");
    std::string value;
    ByteWriter w(&value);
    w.U32(kIndexSchemaVersion);
    w.Bytes(repository_.view());
    KvBatch batch;
    PutChecked(batch, kIndexMetaKey, std::move(value));
    PutChecked(batch, kIndexCountersKey, EncodeCounters(next_number_, counters_));
    return kv_.Write(batch);
  }
  ASSIGN_OR_RETURN(std::string_view value, Unchecked(kIndexMetaKey, *meta, "head"));
  ByteReader head(value);
  const uint32_t schema = head.U32();
  if (schema != kIndexSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat("chunk index: schema ", schema, " is not known"));
  }
  if (head.Bytes(repository_.view().size()) != repository_.view() || !head.AtEnd()) {
    return absl::FailedPreconditionError("chunk index: belongs to another repository");
  }

  ASSIGN_OR_RETURN(std::optional<std::string> stored, kv_.Get(kIndexCountersKey));
  if (!stored.has_value()) return DamagedIndex("counters");
  ASSIGN_OR_RETURN(const IndexCounts counts, DecodeIndexCounts(*stored));
  counters_.chunks = counts.chunks;
  counters_.locations = counts.locations;
  next_number_ = counts.next_number;

  absl::Status status;
  RETURN_IF_ERROR(kv_.Scan("p", "", [&](std::string_view key, std::string_view raw) {
    mu_.AssertHeld();
    status = [&]() -> absl::Status {
      mu_.AssertHeld();
      uint32_t number = 0;
      ASSIGN_OR_RETURN(IndexedPack pack, DecodeIndexedPack(key, raw, &number));
      if (number == 0 || number >= next_number_ || !numbers_.emplace(pack.id, number).second) {
        return DamagedIndex("pack entry");
      }
      CountPack(counters_, pack, true);
      packs_.emplace(number, pack);
      return absl::OkStatus();
    }();
    return status.ok();
  }));
  return status;
}

absl::StatusOr<std::vector<StoredChunk>> ChunkIndex::ReadEntries(absl::Span<const ChunkId> ids) const {
  std::vector<std::string> keys;
  keys.reserve(ids.size());
  for (const ChunkId& id : ids) keys.push_back(ChunkKey(id));
  ASSIGN_OR_RETURN(std::vector<std::optional<std::string>> values, kv_.MultiGet(keys));
  std::vector<StoredChunk> entries(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!values[i].has_value()) continue;
    ASSIGN_OR_RETURN(entries[i], StoredChunk::Decode(keys[i], *values[i]));
  }
  return entries;
}

absl::Status ChunkIndex::AddPack(const PackSummary& pack) {
  if (pack.entries.size() > kPackRecordsMax) {
    return absl::InvalidArgumentError("chunk index: a pack has too many records");
  }
  absl::MutexLock write_lock(&write_mu_);
  // Records may be lost, in a pack that was salvaged, but those that are left keep their numbers.
  const uint32_t frames = pack.entries.empty() ? 0 : pack.entries.back().frame_number + 1;
  if (frames > kPackRecordsMax || frames < pack.entries.size()) {
    return absl::InvalidArgumentError("chunk index: frame numbers out of order");
  }
  IndexedPack info{pack.id, pack.kind, pack.bytes, frames};
  uint32_t number = 0;
  ChunkIndexCounters counters;
  {
    absl::ReaderMutexLock lock(&mu_);
    auto it = numbers_.find(pack.id);
    if (it != numbers_.end()) {
      const IndexedPack& known = packs_.at(it->second);
      if (known.bytes == info.bytes && known.record_count == info.record_count && known.kind == info.kind) {
        return absl::OkStatus();
      }
      return absl::InvalidArgumentError(
          absl::StrCat("chunk index: pack ", HexEncode(pack.id.view()), " was added differently"));
    }
    number = next_number_;
    counters = counters_;
  }
  if (number == UINT32_MAX) {
    return absl::FailedPreconditionError("chunk index: out of pack numbers, rebuild it");
  }

  const std::vector<uint32_t> order = OrderById(pack.entries);
  std::vector<ChunkId> ids;
  for (uint32_t i : order) {
    const ChunkId& id = pack.entries[i].header.id;
    if (ids.empty() || ids.back() != id) ids.push_back(id);
  }
  ASSIGN_OR_RETURN(std::vector<StoredChunk> entries, ReadEntries(ids));

  KvBatch batch;
  size_t at = 0;
  for (size_t k = 0; k < ids.size(); ++k) {
    StoredChunk& entry = entries[k];
    if (entry.copies.empty()) ++counters.chunks;
    const size_t before = entry.copies.size();
    for (; at < order.size() && pack.entries[order[at]].header.id == ids[k]; ++at) {
      if (entry.copies.size() >= kChunkLocationsMax) continue;
      entry.copies.push_back(CopyOf(pack.entries[order[at]], number));
      entry.damaged = false;
    }
    counters.locations += entry.copies.size() - before;
    if (entry.copies.size() != before) PutChecked(batch, ChunkKey(ids[k]), entry.Encode());
  }
  ASSIGN_OR_RETURN(std::string list, EncodePackList(pack.entries, frames));
  PutChecked(batch, PackKey(number), EncodeIndexedPack(info));
  PutChecked(batch, PackListKey(number), std::move(list));
  CountPack(counters, info, true);
  PutChecked(batch, kIndexCountersKey, EncodeCounters(number + 1, counters));

  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(kv_.Write(batch));
  packs_.emplace(number, info);
  numbers_.emplace(info.id, number);
  next_number_ = number + 1;
  counters_ = counters;
  return absl::OkStatus();
}

absl::Status ChunkIndex::RemovePack(const PackId& pack) {
  absl::MutexLock write_lock(&write_mu_);
  uint32_t number = 0;
  uint32_t next_number = 0;
  IndexedPack info;
  ChunkIndexCounters counters;
  {
    absl::ReaderMutexLock lock(&mu_);
    auto it = numbers_.find(pack);
    if (it == numbers_.end()) return absl::OkStatus();
    number = it->second;
    info = packs_.at(number);
    counters = counters_;
    next_number = next_number_;
  }
  ASSIGN_OR_RETURN(std::vector<ChunkId> ids, PackChunks(pack));
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  ASSIGN_OR_RETURN(std::vector<StoredChunk> entries, ReadEntries(ids));

  KvBatch batch;
  for (size_t k = 0; k < ids.size(); ++k) {
    StoredChunk& entry = entries[k];
    const size_t removed = std::erase_if(entry.copies, [&](const StoredCopy& c) { return c.pack_number == number; });
    if (removed == 0) continue;  // it was one copy too many
    counters.locations -= removed;
    if (entry.copies.empty()) {
      --counters.chunks;
      batch.Delete(ChunkKey(ids[k]));
    } else {
      PutChecked(batch, ChunkKey(ids[k]), entry.Encode());
    }
  }
  batch.Delete(PackKey(number));
  batch.Delete(PackListKey(number));
  CountPack(counters, info, false);
  PutChecked(batch, kIndexCountersKey, EncodeCounters(next_number, counters));

  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(kv_.Write(batch));
  packs_.erase(number);
  numbers_.erase(pack);
  counters_ = counters;
  return absl::OkStatus();
}

bool ChunkIndex::HasPack(const PackId& pack) const {
  absl::ReaderMutexLock lock(&mu_);
  return numbers_.contains(pack);
}

std::vector<IndexedPack> ChunkIndex::Packs() const {
  std::vector<std::pair<uint32_t, IndexedPack>> numbered;
  {
    absl::ReaderMutexLock lock(&mu_);
    numbered.assign(packs_.begin(), packs_.end());
  }
  std::sort(numbered.begin(), numbered.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<IndexedPack> out;
  out.reserve(numbered.size());
  for (auto& [number, pack] : numbered) out.push_back(pack);
  return out;
}

absl::StatusOr<std::vector<ChunkId>> ChunkIndex::PackChunks(const PackId& pack) const {
  absl::ReaderMutexLock lock(&mu_);
  auto it = numbers_.find(pack);
  if (it == numbers_.end()) {
    return absl::NotFoundError(absl::StrCat("chunk index: no pack ", HexEncode(pack.view())));
  }
  const std::string key = PackListKey(it->second);
  ASSIGN_OR_RETURN(std::optional<std::string> stored, kv_.Get(key));
  if (!stored.has_value()) return DamagedIndex("pack list (missing)");
  return DecodePackList(key, *stored, packs_.at(it->second).record_count);
}

absl::StatusOr<ChunkLocation> ChunkIndex::ToLocation(const StoredChunk& entry, const StoredCopy& copy) const {
  auto it = packs_.find(copy.pack_number);
  if (it == packs_.end() || copy.frame_number >= it->second.record_count) {
    return DamagedIndex("entry (of no known pack)");
  }
  ChunkLocation out;
  out.kind = it->second.kind;
  out.pack = it->second.id;
  out.frame_number = copy.frame_number;
  out.body_offset = copy.body_offset;
  out.sealed_length = copy.sealed_length;
  out.child_count = copy.child_count;
  out.type = copy.type;
  out.uploader = copy.uploader;
  out.epoch = copy.epoch;
  out.committed = entry.committed;
  out.damaged = entry.damaged;
  return out;
}

absl::StatusOr<std::vector<std::optional<ChunkLocation>>> ChunkIndex::Lookup(absl::Span<const ChunkId> ids) const {
  absl::ReaderMutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::vector<StoredChunk> entries, ReadEntries(ids));
  std::vector<std::optional<ChunkLocation>> out(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (entries[i].copies.empty()) continue;
    ASSIGN_OR_RETURN(out[i], ToLocation(entries[i], entries[i].copies.front()));
  }
  return out;
}

absl::StatusOr<std::vector<std::vector<ChunkLocation>>> ChunkIndex::LookupAll(absl::Span<const ChunkId> ids) const {
  absl::ReaderMutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::vector<StoredChunk> entries, ReadEntries(ids));
  std::vector<std::vector<ChunkLocation>> out(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    for (const StoredCopy& copy : entries[i].copies) {
      ASSIGN_OR_RETURN(ChunkLocation location, ToLocation(entries[i], copy));
      out[i].push_back(location);
    }
  }
  return out;
}

absl::Status ChunkIndex::MarkDamaged(absl::Span<const ChunkId> ids) {
  absl::MutexLock write_lock(&write_mu_);
  ASSIGN_OR_RETURN(std::vector<StoredChunk> entries, ReadEntries(ids));
  KvBatch batch;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (entries[i].copies.empty() || entries[i].damaged) continue;
    entries[i].damaged = true;
    PutChecked(batch, ChunkKey(ids[i]), entries[i].Encode());
  }
  if (batch.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const uint64_t before, StaleMarks());
  std::string value;
  ByteWriter(&value).Varint(before % UINT32_MAX + 1);
  PutChecked(batch, kStaleMarksKey, std::move(value));
  absl::MutexLock lock(&mu_);
  return kv_.Write(batch);
}

absl::StatusOr<uint64_t> ChunkIndex::StaleMarks() const {
  ASSIGN_OR_RETURN(std::optional<std::string> stored, kv_.Get(kStaleMarksKey));
  if (!stored.has_value()) return 0;
  ASSIGN_OR_RETURN(std::string_view value, Unchecked(kStaleMarksKey, *stored, "state of the marks"));
  ByteReader r(value);
  const uint64_t number = r.Varint();
  if (!r.ok() || !r.AtEnd() || number == 0) return DamagedIndex("state of the marks");
  return number;
}

absl::Status ChunkIndex::MarksRenewed(uint64_t stale) {
  absl::MutexLock write_lock(&write_mu_);
  ASSIGN_OR_RETURN(const uint64_t now, StaleMarks());
  if (now != stale || now == 0) return absl::OkStatus();
  KvBatch batch;
  batch.Delete(kStaleMarksKey);
  absl::MutexLock lock(&mu_);
  return kv_.Write(batch);
}

absl::Status ChunkIndex::SetCommitted(absl::Span<const ChunkId> ids, bool committed) {
  absl::MutexLock write_lock(&write_mu_);
  // In steps, so that neither memory nor the time that readers wait grows with the caller's list.
  constexpr size_t kStep = 4096;
  for (size_t start = 0; start < ids.size(); start += kStep) {
    absl::Span<const ChunkId> part = ids.subspan(start, std::min(kStep, ids.size() - start));
    ASSIGN_OR_RETURN(std::vector<StoredChunk> entries, ReadEntries(part));
    KvBatch batch;
    for (size_t i = 0; i < part.size(); ++i) {
      if (entries[i].copies.empty() || entries[i].committed == committed) continue;
      entries[i].committed = committed;
      PutChecked(batch, ChunkKey(part[i]), entries[i].Encode());
    }
    if (batch.empty()) continue;
    absl::MutexLock lock(&mu_);
    RETURN_IF_ERROR(kv_.Write(batch));
  }
  return absl::OkStatus();
}

ChunkIndexCounters ChunkIndex::counters() const {
  absl::ReaderMutexLock lock(&mu_);
  return counters_;
}

}  // namespace holdfast
