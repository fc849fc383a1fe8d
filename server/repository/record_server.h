// Gives stored records to readers: the oldest copy, or another one where that is damaged. What turns out to have no
// good copy is noted in the index, so that the next backup sends it again. Thread-safe; blocking.
#ifndef HOLDFAST_SERVER_REPOSITORY_RECORD_SERVER_H_
#define HOLDFAST_SERVER_REPOSITORY_RECORD_SERVER_H_

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "server/index/chunk_index.h"
#include "server/repository/live_index.h"
#include "server/repository/principal.h"
#include "server/repository/warnings.h"
#include "storage/pack/pack_reader.h"

namespace holdfast {

struct RecordsRead {
  uint64_t records = 0, bytes = 0;
};

class RecordServer {
 public:
  // References are borrowed.
  RecordServer(PackReader& reader, LiveIndex& index, Warnings& warnings)
      : reader_(reader), index_(index), warnings_(warnings) {}

  // Answers every id once, in storage order: NOT_FOUND when it is not here, DATA_LOSS when no copy is good, UNAVAILABLE
  // when one may be. `verify`: the reader asks again, as what it got did not open; bodies are compared with their
  // digests, and of several copies the newest intact one is given. A damaged index is made anew first.
  absl::Status Read(absl::Span<const ChunkId> ids, bool verify, RecordReadSink& sink);
  // `who` could not open what it got of these, whatever its digest says: they are taken again when they are sent.
  absl::Status NoteUnopenable(const Principal& who, absl::Span<const ChunkId> ids);

  RecordsRead read() const;

 private:
  using Copies = std::vector<ChunkLocation>;  // oldest first

  absl::StatusOr<std::vector<Copies>> LookUp(absl::Span<const ChunkId> ids);
  absl::StatusOr<std::vector<Copies>> LookUpInSoundIndex(absl::Span<const ChunkId> ids);
  absl::Status ReadNewestCopy(const ChunkId& id, const Copies& copies, size_t number, RecordReadSink& sink);
  // From the copies behind the first. `damage`, which is that one's, when none is good.
  absl::StatusOr<ReadRecord> ReadOtherCopy(const ChunkId& id, const Copies& copies, const absl::Status& damage);

  PackReader& reader_;
  LiveIndex& index_;
  Warnings& warnings_;

  mutable absl::Mutex mu_;
  RecordsRead read_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_RECORD_SERVER_H_
