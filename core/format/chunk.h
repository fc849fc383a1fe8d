// What names a chunk, and what opening its record gives (docs/format.md, section 5). Values only.
#ifndef HOLDFAST_CORE_FORMAT_CHUNK_H_
#define HOLDFAST_CORE_FORMAT_CHUNK_H_

#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/crypto/types.h"

namespace holdfast {

enum class ChunkType : uint8_t { kData = 1, kTree = 2 };

// What a parent keeps of a chunk: its name, and the key that opens it.
struct ChunkRef {
  ChunkId id;
  Key256 key;
  bool operator==(const ChunkRef& o) const { return id == o.id && key == o.key; }
  // Of the id alone: honest references to one id have one key.
  template <typename H>
  friend H AbslHashValue(H h, const ChunkRef& ref) {
    return H::combine(std::move(h), ref.id);
  }
};

// A chunk after opening: decrypted, decompressed, its id and key recomputed and found right.
struct OpenedChunk {
  ChunkType type = ChunkType::kData;
  std::string_view plaintext;          // valid as long as the opener says
  absl::Span<const ChunkId> children;  // ditto
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_FORMAT_CHUNK_H_
