// Chunk index: where each chunk lies. Disposable: rebuilt from pack trailers with the same answers.
// It may lag behind the storage after a crash (KvStore loses its newest batches): whoever opens it
// compares Packs() with the storage's listing, adds what is missing, and makes it anew when a pack is gone.
//
// A chunk may have several locations (copies in several packs). "Committed" is a mark on the id, kept for tree pages
// and content lists: reachable from a committed snapshot. It may be lost with the tail of the kv, never gained.
// "Damaged": no copy is good; a new copy takes the mark away. The marks of pages above such a chunk are stale then:
// StaleMarks() says so until MarksRenewed().
//
// Thread-safe. Blocking (disk reads; no Io events). Errors: DATA_LOSS = a damaged entry: destroy the kv and rebuild;
// others as KvStore. Memory: about 100 bytes per pack, plus the KvStore.
#ifndef HOLDFAST_SERVER_INDEX_CHUNK_INDEX_H_
#define HOLDFAST_SERVER_INDEX_CHUNK_INDEX_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/record.h"
#include "server/index/index_layout.h"
#include "server/index/kv_store.h"
#include "storage/pack/pack.h"

namespace holdfast {

struct ChunkLocation {
  PackKind kind = PackKind::kData;
  PackId pack;
  uint32_t frame_number = 0;   // ordinal of the record in its pack
  uint64_t body_offset = 0;    // of the sealed body in the pack blob
  uint32_t sealed_length = 0;  // bytes of the sealed body
  uint32_t child_count = 0;
  ChunkType type = ChunkType::kData;
  uint32_t uploader = 0;   // agent number
  uint32_t epoch = 0;      // key epoch
  bool committed = false;  // of the chunk: equal in all its locations
  bool damaged = false;    // of the chunk, too
};

struct ChunkIndexCounters {
  uint64_t chunks = 0;     // distinct ids
  uint64_t locations = 0;  // records, copies counted
  uint64_t data_packs = 0;
  uint64_t tree_packs = 0;
  uint64_t data_pack_bytes = 0;
  uint64_t tree_pack_bytes = 0;
};

class ChunkIndex {
 public:
  // `kv` is borrowed and used by nobody else. An empty one is initialised; FAILED_PRECONDITION when it belongs to
  // another repository or schema version, DATA_LOSS when damaged: in both cases the caller destroys it and rebuilds.
  static absl::StatusOr<std::unique_ptr<ChunkIndex>> Open(KvStore& kv, const RepositoryId& repository);

  // Atomic: all entries or none; frame numbers ascending. A pack that is already there is OK and changes nothing
  // (INVALID_ARGUMENT when it was added with another number of records or size).
  absl::Status AddPack(const PackSummary& pack);
  // Atomic. Absent is OK. Chunks without any location left are forgotten, with their mark.
  absl::Status RemovePack(const PackId& pack);
  bool HasPack(const PackId& pack) const;
  std::vector<IndexedPack> Packs() const;  // in the order in which they were added
  // Ids in frame order; NOT_FOUND.
  absl::StatusOr<std::vector<ChunkId>> PackChunks(const PackId& pack) const;

  // One answer per id, in order: its first location, the oldest, as a later upload cannot displace an earlier one.
  absl::StatusOr<std::vector<std::optional<ChunkLocation>>> Lookup(absl::Span<const ChunkId> ids) const;
  // One answer per id: every copy, oldest first; empty for an unknown id.
  absl::StatusOr<std::vector<std::vector<ChunkLocation>>> LookupAll(absl::Span<const ChunkId> ids) const;

  // Marks (unmarks) chunks as committed. Unknown ids are skipped. Safe to repeat.
  absl::Status MarkCommitted(absl::Span<const ChunkId> ids) { return SetCommitted(ids, true); }
  absl::Status UnmarkCommitted(absl::Span<const ChunkId> ids) { return SetCommitted(ids, false); }

  // Unknown ids are skipped. Safe to repeat.
  absl::Status MarkDamaged(absl::Span<const ChunkId> ids);
  // 0: the marks are right. Otherwise the number for MarksRenewed, which does nothing when there is another by then.
  absl::StatusOr<uint64_t> StaleMarks() const;
  absl::Status MarksRenewed(uint64_t stale);

  ChunkIndexCounters counters() const;
  absl::Status Flush() { return kv_.Flush(); }

 private:
  ChunkIndex(KvStore& kv, const RepositoryId& repository) : kv_(kv), repository_(repository) {}
  absl::Status Load();
  absl::Status SetCommitted(absl::Span<const ChunkId> ids, bool committed);
  absl::StatusOr<std::vector<StoredChunk>> ReadEntries(absl::Span<const ChunkId> ids) const;
  absl::StatusOr<ChunkLocation> ToLocation(const StoredChunk& entry, const StoredCopy& copy) const
      ABSL_SHARED_LOCKS_REQUIRED(mu_);

  KvStore& kv_;
  const RepositoryId repository_;

  // Writers: one at a time, for read-modify-write. Taken before mu_.
  absl::Mutex write_mu_;
  // Held shared by readers over reading and resolving pack numbers, exclusively while a batch and the tables change.
  mutable absl::Mutex mu_;
  absl::flat_hash_map<uint32_t, IndexedPack> packs_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<PackId, uint32_t> numbers_ ABSL_GUARDED_BY(mu_);
  uint32_t next_number_ ABSL_GUARDED_BY(mu_) = 1;
  ChunkIndexCounters counters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_INDEX_CHUNK_INDEX_H_
