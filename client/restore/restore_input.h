// The snapshot that a restore reads, behind an interface that tests and other sources can provide.
#ifndef HOLDFAST_CLIENT_RESTORE_RESTORE_INPUT_H_
#define HOLDFAST_CLIENT_RESTORE_RESTORE_INPUT_H_

#include <functional>
#include <memory>

#include "core/base/status.h"
#include "core/tree/chunk_source.h"
#include "core/tree/entry.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {

// What restore asks of a snapshot (the meaning of each call is SnapshotReader's). Called from one thread; source() must
// be thread-safe.
class RestoreInput {
 public:
  virtual ~RestoreInput() = default;
  virtual absl::StatusOr<Entry> LookupPath(const Components& path) = 0;
  virtual std::unique_ptr<EntryIterator> ScanSubtree(const Components& directory) = 0;
  virtual absl::Status ForEachPiece(const Content& content,
                                    const std::function<absl::Status(const ChunkPiece&)>& visit) = 0;
  virtual absl::Status ResolveSideChunks(Entry& entry) = 0;
  virtual ChunkSource& source() = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_RESTORE_INPUT_H_
