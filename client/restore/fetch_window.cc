#include "client/restore/fetch_window.h"

#include <algorithm>
#include <utility>

namespace holdfast {

FetchWindow::FetchWindow(uint64_t memory_bytes, FetchQueue& queue, std::function<size_t()> held_elsewhere)
    : queue_(queue),
      held_elsewhere_(std::move(held_elsewhere)),
      files_max_(std::clamp<uint64_t>(memory_bytes / kBytesPerFile, 64, kFilesMax)) {}

WantedChunk& FetchWindow::ChunkFor(const ChunkRef& ref) {
  auto [it, is_new] = by_id_.try_emplace(ref.id, nullptr);
  if (is_new || !(it->second->ref == ref)) {
    chunks_.push_back(std::make_unique<WantedChunk>());
    chunks_.back()->ref = ref;
    it->second = chunks_.back().get();
  }
  return *it->second;
}

void FetchWindow::Want(WantedChunk& chunk, uint64_t bytes, uint64_t attribute_bytes) {
  chunk.attribute_bytes += attribute_bytes;
  bytes_ += attribute_bytes;
  if (bytes > chunk.estimated_bytes) {
    bytes_ += bytes - chunk.estimated_bytes;
    chunk.estimated_bytes = bytes;
  }
}

void FetchWindow::AddWithoutChunk(SliceTask task, uint64_t attribute_bytes) {
  ++files_;
  without_chunk_.push_back(std::move(task));
  without_chunk_attribute_bytes_ += attribute_bytes;
  Limit();
}

void FetchWindow::AddSlice(const ChunkRef& bundle, SliceTask task, uint64_t attribute_bytes) {
  ++files_;
  WantedChunk& chunk = ChunkFor(bundle);
  Want(chunk, std::min<uint64_t>(task.offset + task.length, kBatchBytes), attribute_bytes);
  chunk.slices.push_back(std::move(task));
  Limit();
}

void FetchWindow::AddPiece(const ChunkRef& ref, PieceTask piece, uint64_t attribute_bytes) {
  const bool begins = BeginsFile(piece);
  if (begins) ++files_;
  WantedChunk& chunk = ChunkFor(ref);
  Want(chunk, piece.length, begins ? attribute_bytes : 0);
  chunk.pieces.push_back(std::move(piece));
  Limit();
}

void FetchWindow::EndChunkedFile() {
  ++chunked_files_;
  Limit();
}

void FetchWindow::Limit() {
  if (without_chunk_.size() >= kWithoutChunkMax || without_chunk_attribute_bytes_ > kBatchBytes) {
    queue_.Push(NewBatch());
  }
  while ((bytes_ > kBytesMax || chunks_.size() > kChunksMax || chunked_files_ > kChunkedFilesMax ||
          files_ + held_elsewhere_() > files_max_) &&
         (!chunks_.empty() || !without_chunk_.empty())) {
    Dispatch();
  }
}

// With everything that needs no chunk.
std::unique_ptr<FetchBatch> FetchWindow::NewBatch() {
  auto batch = std::make_unique<FetchBatch>();
  files_ -= without_chunk_.size();
  batch->without_chunk = std::move(without_chunk_);
  without_chunk_.clear();
  without_chunk_attribute_bytes_ = 0;
  return batch;
}

void FetchWindow::Dispatch() {
  std::unique_ptr<FetchBatch> batch = NewBatch();
  uint64_t bytes = 0;
  while (!chunks_.empty() && bytes < kBatchBytes) {
    std::unique_ptr<WantedChunk> chunk = std::move(chunks_.front());
    chunks_.pop_front();
    if (auto it = by_id_.find(chunk->ref.id); it != by_id_.end() && it->second == chunk.get()) by_id_.erase(it);
    files_ -= chunk->slices.size();
    for (const PieceTask& piece : chunk->pieces) files_ -= BeginsFile(piece) ? 1 : 0;
    const uint64_t held = chunk->estimated_bytes + chunk->attribute_bytes;
    bytes += std::max<uint64_t>(held, 1);
    bytes_ -= held;
    batch->chunks.push_back(std::move(chunk));
  }
  if (chunks_.empty()) chunked_files_ = 0;
  queue_.Push(std::move(batch));
}

void FetchWindow::DispatchAll() {
  while (!chunks_.empty() || !without_chunk_.empty()) Dispatch();
}

}  // namespace holdfast
