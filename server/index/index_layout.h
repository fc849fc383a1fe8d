// How the chunk index lies in its KvStore: keys, values, check sums. Layout only, no I/O. It is a cache: another schema
// is another index, made anew from the packs.
//
// Keys (schema 1). Every value ends with a check sum over key and value.
//   "m"                       u32 schema, repository id (16)
//   "n"                       counters: varints of next pack number, chunks, locations
//   "p" u32 number, big-endian  pack id (16), u8 kind, varint bytes, varint record count
//   "l" u32 number, big-endian  the pack's chunk ids in frame order, 32 bytes each; zeros for a lost frame
//   "c" chunk id              u8 flags (bit 0 committed, bit 1 damaged), then copies (StoredChunk::Encode)
//   "s"                       varint; there while marks may be wrong, another number whenever they became so
#ifndef HOLDFAST_SERVER_INDEX_INDEX_LAYOUT_H_
#define HOLDFAST_SERVER_INDEX_INDEX_LAYOUT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/chunk.h"
#include "server/index/kv_store.h"
#include "storage/pack/pack.h"

namespace holdfast {

// Further copies of one chunk are not recorded.
inline constexpr uint32_t kChunkLocationsMax = 64;

inline constexpr uint32_t kIndexSchemaVersion = 1;
inline constexpr std::string_view kIndexMetaKey = "m";
inline constexpr std::string_view kIndexCountersKey = "n";
inline constexpr std::string_view kStaleMarksKey = "s";

std::string PackKey(uint32_t number);
std::string PackListKey(uint32_t number);
std::string ChunkKey(const ChunkId& id);

// Every value is put and read through these two; DATA_LOSS when it is not what was put under its key.
void PutChecked(KvBatch& batch, std::string_view key, std::string value);
absl::StatusOr<std::string_view> Unchecked(std::string_view key, std::string_view stored, std::string_view what);
absl::Status DamagedIndex(std::string_view what);

// One of the places where a chunk lies.
struct StoredCopy {
  uint32_t pack_number = 0;
  uint32_t frame_number = 0;
  uint64_t body_offset = 0;
  uint32_t sealed_length = 0;
  uint32_t child_count = 0;
  ChunkType type = ChunkType::kData;
  uint32_t uploader = 0;
  uint32_t epoch = 0;
};

// What is known of a chunk.
struct StoredChunk {
  bool committed = false;
  bool damaged = false;
  std::vector<StoredCopy> copies;  // oldest first; empty: the chunk is unknown

  std::string Encode() const;
  static absl::StatusOr<StoredChunk> Decode(std::string_view key, std::string_view stored);
};

struct IndexedPack {
  PackId id;
  PackKind kind = PackKind::kData;
  uint64_t bytes = 0;
  uint32_t record_count = 0;
};
std::string EncodeIndexedPack(const IndexedPack& pack);
// Sets the number, too, which its key says.
absl::StatusOr<IndexedPack> DecodeIndexedPack(std::string_view key, std::string_view stored, uint32_t* number);

// The ids of a pack's records in frame order. DATA_LOSS unless there are `record_count`. Encoding is INVALID_ARGUMENT
// when frame numbers do not ascend up to `frames`.
absl::StatusOr<std::string> EncodePackList(const std::vector<PackEntry>& entries, uint32_t frames);
absl::StatusOr<std::vector<ChunkId>> DecodePackList(std::string_view key, std::string_view stored,
                                                    uint32_t record_count);

struct IndexCounts {
  uint32_t next_number = 1;  // of the next pack
  uint64_t chunks = 0;
  uint64_t locations = 0;
};
std::string EncodeIndexCounts(const IndexCounts& counts);
absl::StatusOr<IndexCounts> DecodeIndexCounts(std::string_view stored);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_INDEX_INDEX_LAYOUT_H_
