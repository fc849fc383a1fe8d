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

// What a chunk is: BLAKE3 of its type, its children and its plaintext, without a key. Who knows it can confirm a guess,
// so it leaves a client only sealed: no log, metric or report has it.
using ContentDigest = FixedId<struct ContentDigestTag, 32>;

// What a parent keeps of a chunk: its name, the key that opens it, and what must come out.
struct ChunkRef {
  ChunkId id;
  Key256 key;
  ContentDigest digest;
  bool operator==(const ChunkRef& o) const { return id == o.id && key == o.key && digest == o.digest; }
  // Of the id alone: honest references to one id have one key and one digest.
  template <typename H>
  friend H AbslHashValue(H h, const ChunkRef& ref) {
    return H::combine(std::move(h), ref.id);
  }
};

// A chunk after opening: decrypted, decompressed, and its content digest found right.
struct OpenedChunk {
  ChunkType type = ChunkType::kData;
  std::string_view plaintext;          // valid as long as the opener says
  absl::Span<const ChunkId> children;  // ditto
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_FORMAT_CHUNK_H_
