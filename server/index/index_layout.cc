#include "server/index/index_layout.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/codec.h"

namespace holdfast {
namespace {

constexpr size_t kCheckBytes = 4;
constexpr uint8_t kFlagCommitted = 1;
constexpr uint8_t kFlagDamaged = 2;

std::string NumberedKey(char table, uint32_t number) {
  std::string key(1, table);
  for (int shift = 24; shift >= 0; shift -= 8) key.push_back(static_cast<char>(number >> shift));
  return key;
}

// FNV-1a, folded. RocksDB's blocks have check sums of their own; this one also notices a value under a wrong key and
// what happened to it before it was written.
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

}  // namespace

std::string PackKey(uint32_t number) { return NumberedKey('p', number); }
std::string PackListKey(uint32_t number) { return NumberedKey('l', number); }
std::string ChunkKey(const ChunkId& id) {
  std::string key = "c";
  key.append(id.view());
  return key;
}

void PutChecked(KvBatch& batch, std::string_view key, std::string value) {
  const uint32_t sum = CheckSum(key, value);
  ByteWriter(&value).U32(sum);
  batch.Put(key, std::move(value));
}

absl::Status DamagedIndex(std::string_view what) {
  return absl::DataLossError(absl::StrCat("chunk index: damaged ", AbslView(what)));
}

absl::StatusOr<std::string_view> Unchecked(std::string_view key, std::string_view stored, std::string_view what) {
  if (stored.size() < kCheckBytes) return DamagedIndex(what);
  std::string_view value = stored.substr(0, stored.size() - kCheckBytes);
  if (ByteReader(stored.substr(value.size())).U32() != CheckSum(key, value)) return DamagedIndex(what);
  return value;
}

std::string StoredChunk::Encode() const {
  std::string value;
  value.reserve(8 + 20 * copies.size());
  ByteWriter w(&value);
  w.U8((committed ? kFlagCommitted : 0) | (damaged ? kFlagDamaged : 0));
  for (const StoredCopy& c : copies) {
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

absl::StatusOr<StoredChunk> StoredChunk::Decode(std::string_view key, std::string_view stored) {
  ASSIGN_OR_RETURN(std::string_view value, Unchecked(key, stored, "entry"));
  StoredChunk entry;
  ByteReader r(value);
  const uint8_t flags = r.U8();
  if (flags > (kFlagCommitted | kFlagDamaged)) return DamagedIndex("entry");
  entry.committed = (flags & kFlagCommitted) != 0;
  entry.damaged = (flags & kFlagDamaged) != 0;
  bool fits = true;
  auto u32 = [&] {
    uint64_t v = r.Varint();
    fits = fits && v <= UINT32_MAX;
    return static_cast<uint32_t>(v);
  };
  while (r.ok() && !r.AtEnd()) {
    StoredCopy c;
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
    return DamagedIndex("entry");
  }
  return entry;
}

std::string EncodeIndexedPack(const IndexedPack& pack) {
  std::string value;
  ByteWriter w(&value);
  w.Bytes(pack.id.view());
  w.U8(static_cast<uint8_t>(pack.kind));
  w.Varint(pack.bytes);
  w.Varint(pack.record_count);
  return value;
}

absl::StatusOr<IndexedPack> DecodeIndexedPack(std::string_view key, std::string_view stored, uint32_t* number) {
  ASSIGN_OR_RETURN(std::string_view bytes, Unchecked(key, stored, "pack entry"));
  if (key.size() != 5) return DamagedIndex("pack entry");
  *number = 0;
  for (char c : key.substr(1)) *number = *number << 8 | static_cast<uint8_t>(c);
  ByteReader in(bytes);
  IndexedPack pack;
  ASSIGN_OR_RETURN(pack.id, PackId::FromBytes(in.Bytes(PackId::kSizeInBytes)));
  const uint8_t kind = in.U8();
  pack.kind = static_cast<PackKind>(kind);
  pack.bytes = in.Varint();
  const uint64_t records = in.Varint();
  pack.record_count = static_cast<uint32_t>(records);
  if (!in.ok() || !in.AtEnd() || (kind != 1 && kind != 2) || records > kPackRecordsMax) {
    return DamagedIndex("pack entry");
  }
  return pack;
}

absl::StatusOr<std::string> EncodePackList(const std::vector<PackEntry>& entries, uint32_t frames) {
  std::string list;
  list.reserve(ChunkId::kSizeInBytes * frames + kCheckBytes);
  for (const PackEntry& e : entries) {
    list.resize(std::max(list.size(), ChunkId::kSizeInBytes * size_t{e.frame_number}), '\0');
    list.append(e.header.id.view());
  }
  if (list.size() != ChunkId::kSizeInBytes * size_t{frames}) {
    return absl::InvalidArgumentError("chunk index: frame numbers out of order");
  }
  return list;
}

absl::StatusOr<std::vector<ChunkId>> DecodePackList(std::string_view key, std::string_view stored,
                                                    uint32_t record_count) {
  ASSIGN_OR_RETURN(std::string_view list, Unchecked(key, stored, "pack list"));
  if (list.size() != uint64_t{record_count} * ChunkId::kSizeInBytes) return DamagedIndex("pack list");
  std::vector<ChunkId> ids(record_count);
  for (size_t i = 0; i < ids.size(); ++i) {
    std::memcpy(ids[i].bytes.data(), list.data() + i * ChunkId::kSizeInBytes, ChunkId::kSizeInBytes);
  }
  return ids;
}

std::string EncodeIndexCounts(const IndexCounts& counts) {
  std::string value;
  ByteWriter w(&value);
  w.Varint(counts.next_number);
  w.Varint(counts.chunks);
  w.Varint(counts.locations);
  return value;
}

absl::StatusOr<IndexCounts> DecodeIndexCounts(std::string_view stored) {
  ASSIGN_OR_RETURN(std::string_view value, Unchecked(kIndexCountersKey, stored, "counters"));
  ByteReader r(value);
  IndexCounts counts;
  const uint64_t next = r.Varint();
  counts.chunks = r.Varint();
  counts.locations = r.Varint();
  if (!r.ok() || !r.AtEnd() || next == 0 || next > UINT32_MAX) return DamagedIndex("counters");
  counts.next_number = static_cast<uint32_t>(next);
  return counts;
}

}  // namespace holdfast
