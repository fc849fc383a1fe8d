// From plaintext to record and back (docs/format.md, section 5): content digests, ids and content keys, compression,
// padding, sealing, opening. Used by clients only: the server never holds what these keys derive from.
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

// What one agent seals its chunks with, in one epoch. Immutable, shared by its threads. Opening needs none of it.
struct SealingKeys {
  RepositoryId repository;
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;
  uint32_t epoch = 1;
  uint32_t agent = 0;  // written into headers as the uploader
  bool padding = false;
  Key256 data_key;  // name key of data
  Key256 tree_key;  // name key of the agent's tree
  Key256 nonce_key;

  const Key256& name_key(ChunkType type) const { return type == ChunkType::kTree ? tree_key : data_key; }
};

// `children` strictly ascending. About 5 GB/s.
ContentDigest ComputeContentDigest(ChunkType type, absl::Span<const ChunkId> children, std::string_view plaintext);
// Digest, id and content key of a chunk: what the digest costs.
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
// authenticated decryption, decompression to the stated length, then the content digest recomputed from plaintext and
// children. It needs no secret but the reference's, of whatever epoch and agent the record is.
class RecordOpener {
 public:
  explicit RecordOpener(const RepositoryId& repository);
  // The result is valid until the next call.
  absl::StatusOr<OpenedChunk> Open(const ChunkRef& ref, std::string_view record);

 private:
  const RepositoryId repository_;
  Decompressor decompressor_;
  RecordHeader header_;
  std::string body_, plaintext_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_FORMAT_RECORD_SEALER_H_
