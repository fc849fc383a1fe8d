// How far the planner looks ahead: files are held until enough want bytes of the same chunks, then go to the workers in
// batches of one fetch each. Limits what is held: bytes, chunks, files, memory. One thread: the planner's.
#ifndef HOLDFAST_CLIENT_RESTORE_FETCH_WINDOW_H_
#define HOLDFAST_CLIENT_RESTORE_FETCH_WINDOW_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/restore/fetch_queue.h"
#include "client/restore/file_tasks.h"
#include "client/restore/hard_links.h"
#include "core/base/ids.h"
#include "core/tree/entry.h"

namespace holdfast {

class FetchWindow {
 public:
  // One fetch: large enough to hide a round trip, small enough to share the end of a restore among the workers.
  static constexpr uint64_t kBatchBytes = 6u << 20;
  // How far to look ahead for files in the same bundle.
  static constexpr uint64_t kBytesMax = 32u << 20;
  static constexpr size_t kChunksMax = 1024;
  static constexpr size_t kChunkedFilesMax = 64;  // each may be open while it waits for its next chunk
  static constexpr size_t kWithoutChunkMax = 512;
  static constexpr size_t kFilesMax = 16384;
  // Generous: names, attributes, a directory each. Names that wait for their link count as files.
  static constexpr uint64_t kBytesPerFile = HardLinks::kBytesPerWaitingName;

  // `queue` is borrowed. `held_elsewhere`: files that are held by others and count as ours.
  FetchWindow(uint64_t memory_bytes, FetchQueue& queue, std::function<size_t()> held_elsewhere);

  // `attribute_bytes`: of the file, beside its content. Each may block.
  void AddWithoutChunk(SliceTask task, uint64_t attribute_bytes);
  void AddSlice(const ChunkRef& bundle, SliceTask task, uint64_t attribute_bytes);
  void AddPiece(const ChunkRef& chunk, PieceTask piece, uint64_t attribute_bytes);
  // After the last piece of a file.
  void EndChunkedFile();
  // Sends off everything that is held.
  void DispatchAll();

 private:
  WantedChunk& ChunkFor(const ChunkRef& ref);
  static bool BeginsFile(const PieceTask& piece) { return piece.content_offset == 0; }
  void Want(WantedChunk& chunk, uint64_t bytes, uint64_t attribute_bytes);
  void Limit();
  void Dispatch();
  std::unique_ptr<FetchBatch> NewBatch();

  FetchQueue& queue_;
  const std::function<size_t()> held_elsewhere_;
  const size_t files_max_;
  std::deque<std::unique_ptr<WantedChunk>> chunks_;
  absl::flat_hash_map<ChunkId, WantedChunk*> by_id_;
  uint64_t bytes_ = 0;
  size_t files_ = 0;
  size_t chunked_files_ = 0;  // since chunks_ was last empty
  std::vector<SliceTask> without_chunk_;
  uint64_t without_chunk_attribute_bytes_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_FETCH_WINDOW_H_
