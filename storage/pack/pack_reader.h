// Reads records out of finished packs: ranges coalesced, frame headers opened. Bodies stay sealed. Thread-safe. Memory:
// one run (at most 4 MiB and one record) per call, and the keys of the 1,024 packs used last.
#ifndef HOLDFAST_STORAGE_PACK_PACK_READER_H_
#define HOLDFAST_STORAGE_PACK_PACK_READER_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"

namespace holdfast {

class PackSealer;

struct RecordLocation {
  PackKind kind = PackKind::kData;
  PackId pack;
  uint32_t frame_number = 0;
  uint64_t body_offset = 0;
  uint32_t sealed_length = 0;
  uint32_t child_count = 0;
  ChunkId id;  // expected
};

struct ReadRecord {
  RecordHeader header;
  std::string_view body;          // sealed
  std::shared_ptr<char[]> owner;  // keeps `body` alive
};

class RecordReadSink {
 public:
  virtual ~RecordReadSink() = default;
  // `index` into the request. An error returned ends the read.
  virtual absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) = 0;
};

class PackReader {
 public:
  PackReader(BlobStore& store, CatalogKey key);
  ~PackReader();
  // Answers every location once, in storage order. `verify_digests`: bodies are compared with the digests in their
  // sealed headers, so that damage is found here (DATA_LOSS) and not only by the client.
  absl::Status Read(absl::Span<const RecordLocation> locations, bool verify_digests, RecordReadSink& sink);
  // Only the headers.
  absl::StatusOr<RecordHeader> ReadHeader(const RecordLocation& location);

 private:
  absl::StatusOr<std::shared_ptr<const PackSealer>> Sealer(PackKind kind, const PackId& pack);

  BlobStore& store_;
  const CatalogKey key_;
  absl::Mutex mu_;
  absl::flat_hash_map<PackId, std::shared_ptr<const PackSealer>> sealers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_PACK_READER_H_
