// From plaintext to record and back (docs/format.md, section 5): ids and content keys, compression, padding, sealing,
// opening. Used by clients only: the server never holds what these keys derive from.
#ifndef HOLDFAST_CORE_FORMAT_RECORD_SEALER_H_
#define HOLDFAST_CORE_FORMAT_RECORD_SEALER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "core/base/status.h"
#include "core/compression/codec.h"
#include "core/crypto/types.h"
#include "core/format/chunk.h"
#include "core/format/record.h"

namespace holdfast {

// What one agent seals and opens its chunks with, in one epoch. Immutable, shared by its threads.
struct SealingKeys {
  RepositoryId repository;
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;
  uint32_t epoch = 1;
  uint32_t agent = 0;  // written into headers as the uploader
  bool padding = false;
  Key256 data_key;  // chunk key of type data
  Key256 tree_key;  // chunk key of type tree, of the agent whose tree it is
  Key256 nonce_key;

  const Key256& chunk_key(ChunkType type) const { return type == ChunkType::kTree ? tree_key : data_key; }
};

// Id and content key of a chunk. `children` strictly ascending. About 5 GB/s.
ChunkRef ComputeChunkRef(const SealingKeys& keys, ChunkType type, absl::Span<const ChunkId> children,
                         std::string_view plaintext);

// Room for any record of this size.
inline size_t RecordBytesMax(size_t plaintext_bytes, size_t children) {
  return kRecordHeaderFixedBytes + 32 * children + kSealedBytesMin + plaintext_bytes + plaintext_bytes / 8 + 64;
}

// One per thread (keeps a compression context).
class RecordSealer {
 public:
  explicit RecordSealer(const SealingKeys& keys);  // borrowed
  // Writes header and sealed body to `out` (at least RecordBytesMax) and returns the size. `level`: zstd's, 0 = store.
  // Incompressible plaintext is stored. The 9 bytes before plaintext.data() must be the caller's to write when
  // `headroom`: they are used and put back, which saves a copy of stored chunks.
  size_t Seal(ChunkType type, const ChunkRef& ref, absl::Span<const ChunkId> children, std::string_view plaintext,
              int level, bool headroom, char* out);

 private:
  const SealingKeys& keys_;
  Compressor compressor_;
  std::string scratch_;
};

// One per thread (keeps buffers). DATA_LOSS whenever the record is not exactly what was sealed under `ref`:
// authenticated decryption, decompression to the stated length, then id and content key recomputed from plaintext and
// children.
class RecordOpener {
 public:
  explicit RecordOpener(const SealingKeys& keys);  // borrowed
  // The result is valid until the next call.
  absl::StatusOr<OpenedChunk> Open(const ChunkRef& ref, std::string_view record);

 private:
  const SealingKeys& keys_;
  Decompressor decompressor_;
  RecordHeader header_;
  std::string body_, plaintext_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_FORMAT_RECORD_SEALER_H_
