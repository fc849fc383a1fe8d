// Where opened chunks come from: the server (client/rpc), memory (tests).
#ifndef HOLDFAST_CORE_TREE_CHUNK_SOURCE_H_
#define HOLDFAST_CORE_TREE_CHUNK_SOURCE_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "core/base/status.h"
#include "core/format/chunk.h"

namespace holdfast {

class ChunkSink {
 public:
  virtual ~ChunkSink() = default;
  // Valid during the call. Once per requested index, in any order, never concurrently within one Fetch. A chunk that is
  // missing or damaged comes with NOT_FOUND or DATA_LOSS. An error returned from here ends the Fetch with that error.
  virtual absl::Status OnChunk(size_t index, const absl::StatusOr<OpenedChunk>& chunk) = 0;
};

// Thread-safe: several threads may Fetch at once (each call has a stream of its own).
class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  // Fails as a whole only when the source itself cannot be reached.
  virtual absl::Status Fetch(absl::Span<const ChunkRef> refs, ChunkSink& sink) = 0;
};

// One chunk, copied.
struct OwnedChunk {
  ChunkType type = ChunkType::kData;
  std::string plaintext;
  std::vector<ChunkId> children;
};
absl::StatusOr<OwnedChunk> FetchOne(ChunkSource& source, const ChunkRef& ref);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_TREE_CHUNK_SOURCE_H_
