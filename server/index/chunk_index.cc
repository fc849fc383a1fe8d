#include "server/index/chunk_index.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/codec.h"

namespace holdfast {
namespace {

// Keys (schema 1). Every value ends with a check sum over key and value.
//   "m"                       u32 schema, repository id (16)
//   "n"                       counters: varints of next pack number, chunks, locations
//   "p" u32 number, big-endian  pack id (16), u8 kind, varint bytes, varint record count
//   "l" u32 number, big-endian  the pack's chunk ids in frame order, 32 bytes each; zeros for a lost frame
//   "c" chunk id              u8 flags (bit 0 committed, bit 1 damaged), then copies (EncodeEntry)
//   "s"                       varint; there while marks may be wrong, another number whenever they became so
constexpr uint32_t kSchemaVersion = 1;
constexpr std::string_view kMetaKey = "m";
constexpr std::string_view kCountersKey = "n";
constexpr size_t kCheckBytes = 4;
constexpr std::string_view kStaleMarksKey = "s";
constexpr uint8_t kFlagCommitted = 1;
constexpr uint8_t kFlagDamaged = 2;

std::string NumberedKey(char table, uint32_t number) {
  std::string key(1, table);
  for (int shift = 24; shift >= 0; shift -= 8) key.push_back(static_cast<char>(number >> shift));
  return key;
}
std::string ChunkKey(const ChunkId& id) {
  std::string key = "c";
  key.append(id.view());
  return key;
}

// FNV-1a, folded. RocksDB's blocks have check sums of their own; this one also notices a value
// under a wrong key and what happened to it before it was written.
uint32_t CheckSum(std::string_view key, std::string_view value) {
  uint64_t h = 0xcbf29ce484222325u;
  auto mix = [&h](std::string_view s) {
    for (char c : s) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
    h = (h ^ s.size()) * 0x100000001b3u;
  };
  mix(key);
  mix(value);
  return static_cast<uint32_t>(h ^ (h >> 32));
}

void PutChecked(KvBatch& batch, std::string_view key, std::string value) {
  const uint32_t sum = CheckSum(key, value);
  ByteWriter(&value).U32(sum);
  batch.Put(key, std::move(value));
}

absl::Status Damaged(std::string_view what) {
  return absl::DataLossError(absl::StrCat("chunk index: damaged ", AbslView(what)));
}

absl::StatusOr<std::string_view> Unchecked(std::string_view key, std::string_view stored, std::string_view what) {
  if (stored.size() < kCheckBytes) return Damaged(what);
  std::string_view value = stored.substr(0, stored.size() - kCheckBytes);
  if (ByteReader(stored.substr(value.size())).U32() != CheckSum(key, value)) return Damaged(what);
  return value;
}

std::string EncodeCounters(uint32_t next_number, const ChunkIndexCounters& c) {
  std::string value;
  ByteWriter w(&value);
  w.Varint(next_number);
  w.Varint(c.chunks);
  w.Varint(c.locations);
  return value;
}

void CountPack(ChunkIndexCounters& c, const IndexedPack& pack, bool add) {
  uint64_t& packs = pack.kind == PackKind::kData ? c.data_packs : c.tree_packs;
  uint64_t& bytes = pack.kind == PackKind::kData ? c.data_pack_bytes : c.tree_pack_bytes;
  packs += add ? 1 : -1;
  bytes += add ? pack.bytes : -pack.bytes;
}

}  // namespace

struct ChunkIndex::Copy {
  uint32_t pack_number = 0;
  uint32_t frame_number = 0;
  uint64_t body_offset = 0;
  uint32_t sealed_length = 0;
  uint32_t child_count = 0;
  ChunkType type = ChunkType::kData;
  uint32_t uploader = 0;
  uint32_t epoch = 0;
};

struct ChunkIndex::Entry {
  bool committed = false;
  bool damaged = false;
  std::vector<Copy> copies;  // empty: the chunk is unknown

  std::string Encode() const {
    std::string value;
    value.reserve(8 + 20 * copies.size());
    ByteWriter w(&value);
    w.U8((committed ? kFlagCommitted : 0) | (damaged ? kFlagDamaged : 0));
    for (const Copy& c : copies) {
      w.U8(static_cast<uint8_t>(c.type));
      w.Varint(c.pack_number);
      w.Varint(c.frame_number);
      w.Varint(c.body_offset);
      w.Varint(c.sealed_length);
      w.Varint(c.child_count);
      w.Varint(c.uploader);
      w.Varint(c.epoch);
    }
    return value;
  }

  static absl::StatusOr<Entry> Decode(std::string_view key, std::string_view stored) {
    ASSIGN_OR_RETURN(std::string_view value, Unchecked(key, stored, "entry"));
    Entry entry;
    ByteReader r(value);
    const uint8_t flags = r.U8();
    if (flags > (kFlagCommitted | kFlagDamaged)) return Damaged("entry");
    entry.committed = (flags & kFlagCommitted) != 0;
    entry.damaged = (flags & kFlagDamaged) != 0;
    bool fits = true;
    auto u32 = [&] {
      uint64_t v = r.Varint();
      fits = fits && v <= UINT32_MAX;
      return static_cast<uint32_t>(v);
    };
    while (r.ok() && !r.AtEnd()) {
      Copy c;
      const uint8_t type = r.U8();
      fits = fits && (type == 1 || type == 2);
      c.type = static_cast<ChunkType>(type);
      c.pack_number = u32();
      c.frame_number = u32();
      c.body_offset = r.Varint();
      c.sealed_length = u32();
      c.child_count = u32();
      c.uploader = u32();
      c.epoch = u32();
      entry.copies.push_back(c);
    }
    if (!r.ok() || !fits || entry.copies.empty() || entry.copies.size() > kChunkLocationsMax) {
      return Damaged("entry");
    }
    return entry;
  }
};

absl::StatusOr<std::unique_ptr<ChunkIndex>> ChunkIndex::Open(KvStore& kv, const RepositoryId& repository) {
  std::unique_ptr<ChunkIndex> index(new ChunkIndex(kv, repository));
  RETURN_IF_ERROR(index->Load());
  return index;
}

absl::Status ChunkIndex::Load() {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::optional<std::string> meta, kv_.Get(kMetaKey));
  if (!meta.has_value()) {
    bool empty = true;
    RETURN_IF_ERROR(kv_.Scan("", "", [&](std::string_view, std::string_view) { return empty = false; }));
    if (!empty) return absl::FailedPreconditionError("chunk index: not a chunk index of ours");
    std::string value;
    ByteWriter w(&value);
    w.U32(kSchemaVersion);
    w.Bytes(repository_.view());
    KvBatch batch;
    PutChecked(batch, kMetaKey, std::move(value));
    PutChecked(batch, kCountersKey, EncodeCounters(next_number_, counters_));
    return kv_.Write(batch);
  }
  ASSIGN_OR_RETURN(std::string_view value, Unchecked(kMetaKey, *meta, "head"));
  ByteReader head(value);
  const uint32_t schema = head.U32();
  if (schema != kSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat("chunk index: schema ", schema, " is not known"));
  }
  if (head.Bytes(repository_.view().size()) != repository_.view() || !head.AtEnd()) {
    return absl::FailedPreconditionError("chunk index: belongs to another repository");
  }

  ASSIGN_OR_RETURN(std::optional<std::string> stored, kv_.Get(kCountersKey));
  if (!stored.has_value()) return Damaged("counters");
  ASSIGN_OR_RETURN(value, Unchecked(kCountersKey, *stored, "counters"));
  ByteReader r(value);
  const uint64_t next = r.Varint();
  counters_.chunks = r.Varint();
  counters_.locations = r.Varint();
  if (!r.ok() || !r.AtEnd() || next == 0 || next > UINT32_MAX) return Damaged("counters");
  next_number_ = static_cast<uint32_t>(next);

  absl::Status status;
  RETURN_IF_ERROR(kv_.Scan("p", "", [&](std::string_view key, std::string_view raw) {
    mu_.AssertHeld();
    status = [&]() -> absl::Status {
      mu_.AssertHeld();
      ASSIGN_OR_RETURN(std::string_view bytes, Unchecked(key, raw, "pack entry"));
      if (key.size() != 5) return Damaged("pack entry");
      uint32_t number = 0;
      for (char c : key.substr(1)) number = number << 8 | static_cast<uint8_t>(c);
      ByteReader in(bytes);
      IndexedPack pack;
      ASSIGN_OR_RETURN(pack.id, PackId::FromBytes(in.Bytes(PackId::kSizeInBytes)));
      const uint8_t kind = in.U8();
      pack.kind = static_cast<PackKind>(kind);
      pack.bytes = in.Varint();
      const uint64_t records = in.Varint();
      pack.record_count = static_cast<uint32_t>(records);
      if (!in.ok() || !in.AtEnd() || (kind != 1 && kind != 2) || records > kPackRecordsMax || number == 0 ||
          number >= next_number_ || !numbers_.emplace(pack.id, number).second) {
        return Damaged("pack entry");
      }
      CountPack(counters_, pack, true);
      packs_.emplace(number, pack);
      return absl::OkStatus();
    }();
    return status.ok();
  }));
  return status;
}

absl::StatusOr<std::vector<ChunkIndex::Entry>> ChunkIndex::ReadEntries(absl::Span<const ChunkId> ids) const {
  std::vector<std::string> keys;
  keys.reserve(ids.size());
  for (const ChunkId& id : ids) keys.push_back(ChunkKey(id));
  ASSIGN_OR_RETURN(std::vector<std::optional<std::string>> values, kv_.MultiGet(keys));
  std::vector<Entry> entries(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!values[i].has_value()) continue;
    ASSIGN_OR_RETURN(entries[i], Entry::Decode(keys[i], *values[i]));
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

  // Sorted by id: cheapest for the reads, and copies of one id inside the pack come together, in
  // frame order.
  std::vector<uint32_t> order(pack.entries.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const auto order_of_ids = pack.entries[a].header.id <=> pack.entries[b].header.id;
    return order_of_ids == 0 ? a < b : order_of_ids < 0;
  });
  std::vector<ChunkId> ids;
  for (uint32_t i : order) {
    const ChunkId& id = pack.entries[i].header.id;
    if (ids.empty() || ids.back() != id) ids.push_back(id);
  }
  ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(ids));

  KvBatch batch;
  size_t at = 0;
  for (size_t k = 0; k < ids.size(); ++k) {
    Entry& entry = entries[k];
    if (entry.copies.empty()) ++counters.chunks;
    const size_t before = entry.copies.size();
    for (; at < order.size() && pack.entries[order[at]].header.id == ids[k]; ++at) {
      if (entry.copies.size() >= kChunkLocationsMax) continue;
      const PackEntry& e = pack.entries[order[at]];
      entry.copies.push_back({number, e.frame_number, e.body_offset, e.header.sealed_length,
                              static_cast<uint32_t>(e.header.children.size()), e.header.type, e.header.uploader,
                              e.header.epoch});
      entry.damaged = false;
    }
    counters.locations += entry.copies.size() - before;
    if (entry.copies.size() != before) PutChecked(batch, ChunkKey(ids[k]), entry.Encode());
  }
  std::string value;
  ByteWriter w(&value);
  w.Bytes(info.id.view());
  w.U8(static_cast<uint8_t>(info.kind));
  w.Varint(info.bytes);
  w.Varint(info.record_count);
  PutChecked(batch, NumberedKey('p', number), std::move(value));
  std::string list;
  list.reserve(ChunkId::kSizeInBytes * frames + kCheckBytes);
  for (const PackEntry& e : pack.entries) {
    list.resize(std::max(list.size(), ChunkId::kSizeInBytes * size_t{e.frame_number}), '\0');
    list.append(e.header.id.view());
  }
  if (list.size() != ChunkId::kSizeInBytes * size_t{frames}) {
    return absl::InvalidArgumentError("chunk index: frame numbers out of order");
  }
  PutChecked(batch, NumberedKey('l', number), std::move(list));
  CountPack(counters, info, true);
  PutChecked(batch, kCountersKey, EncodeCounters(number + 1, counters));

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
  ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(ids));

  KvBatch batch;
  for (size_t k = 0; k < ids.size(); ++k) {
    Entry& entry = entries[k];
    const size_t removed = std::erase_if(entry.copies, [&](const Copy& c) { return c.pack_number == number; });
    if (removed == 0) continue;  // it was one copy too many
    counters.locations -= removed;
    if (entry.copies.empty()) {
      --counters.chunks;
      batch.Delete(ChunkKey(ids[k]));
    } else {
      PutChecked(batch, ChunkKey(ids[k]), entry.Encode());
    }
  }
  batch.Delete(NumberedKey('p', number));
  batch.Delete(NumberedKey('l', number));
  CountPack(counters, info, false);
  PutChecked(batch, kCountersKey, EncodeCounters(next_number, counters));

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
  const std::string key = NumberedKey('l', it->second);
  ASSIGN_OR_RETURN(std::optional<std::string> stored, kv_.Get(key));
  if (!stored.has_value()) return Damaged("pack list (missing)");
  ASSIGN_OR_RETURN(std::string_view list, Unchecked(key, *stored, "pack list"));
  if (list.size() != uint64_t{packs_.at(it->second).record_count} * ChunkId::kSizeInBytes) {
    return Damaged("pack list");
  }
  std::vector<ChunkId> ids(list.size() / ChunkId::kSizeInBytes);
  for (size_t i = 0; i < ids.size(); ++i) {
    std::memcpy(ids[i].bytes.data(), list.data() + i * ChunkId::kSizeInBytes, ChunkId::kSizeInBytes);
  }
  return ids;
}

absl::StatusOr<ChunkLocation> ChunkIndex::ToLocation(const Entry& entry, const Copy& copy) const {
  auto it = packs_.find(copy.pack_number);
  if (it == packs_.end() || copy.frame_number >= it->second.record_count) {
    return Damaged("entry (of no known pack)");
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
  ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(ids));
  std::vector<std::optional<ChunkLocation>> out(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (entries[i].copies.empty()) continue;
    ASSIGN_OR_RETURN(out[i], ToLocation(entries[i], entries[i].copies.front()));
  }
  return out;
}

absl::StatusOr<std::vector<std::vector<ChunkLocation>>> ChunkIndex::LookupAll(absl::Span<const ChunkId> ids) const {
  absl::ReaderMutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(ids));
  std::vector<std::vector<ChunkLocation>> out(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    for (const Copy& copy : entries[i].copies) {
      ASSIGN_OR_RETURN(ChunkLocation location, ToLocation(entries[i], copy));
      out[i].push_back(location);
    }
  }
  return out;
}

absl::Status ChunkIndex::MarkDamaged(absl::Span<const ChunkId> ids) {
  absl::MutexLock write_lock(&write_mu_);
  ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(ids));
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
  if (!r.ok() || !r.AtEnd() || number == 0) return Damaged("state of the marks");
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
    ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(part));
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
