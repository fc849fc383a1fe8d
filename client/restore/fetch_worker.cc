#include "client/restore/fetch_worker.h"

#include <memory>
#include <vector>

#include "core/base/codec.h"
#include "core/tree/file_content.h"

namespace holdfast {

class FetchWorker::Sink : public ChunkSink {
 public:
  Sink(FetchWorker& worker, const FetchBatch& batch, PinnedDir& pinned)
      : worker_(worker), batch_(batch), pinned_(pinned), delivered_(batch.chunks.size()) {}
  absl::Status OnChunk(size_t index, const absl::StatusOr<OpenedChunk>& chunk) override {
    if (worker_.run_.stopping()) return absl::CancelledError("stopping");
    if (index >= delivered_.size() || delivered_[index]) return absl::InternalError("a chunk nobody asked for");
    delivered_[index] = true;
    worker_.UseChunk(*batch_.chunks[index], chunk, pinned_);
    return absl::OkStatus();
  }
  bool delivered(size_t index) const { return delivered_[index]; }

 private:
  FetchWorker& worker_;
  const FetchBatch& batch_;
  PinnedDir& pinned_;
  std::vector<bool> delivered_;
};

void FetchWorker::Work(FetchQueue& queue) {
  while (std::unique_ptr<FetchBatch> batch = queue.Pop()) {
    {
      PinnedDir pinned;
      WriteBatch(*batch, pinned);
    }
    batch.reset();  // the last reference to a directory sets its metadata
    queue.Done();
  }
}

void FetchWorker::WriteBatch(const FetchBatch& batch, PinnedDir& pinned) {
  for (const SliceTask& task : batch.without_chunk) {
    if (run_.stopping()) break;
    writer_.WriteSlice(task, task.bytes, pinned);
  }
  Sink sink(*this, batch, pinned);
  if (!batch.chunks.empty() && !run_.stopping()) {
    std::vector<ChunkRef> refs;
    refs.reserve(batch.chunks.size());
    for (const auto& wanted : batch.chunks) refs.push_back(wanted->ref);
    const absl::Status status = source_.Fetch(refs, sink);
    if (!status.ok() && !run_.stopping()) run_.Fail(Annotate(status, "fetch chunks"));
  }
  for (size_t i = 0; i < batch.chunks.size(); ++i) {
    if (sink.delivered(i)) continue;
    if (run_.stopping()) {
      Abandon(*batch.chunks[i], pinned);
    } else {
      UseChunk(*batch.chunks[i], absl::NotFoundError("the chunk source passed the chunk over"), pinned);
    }
  }
}

void FetchWorker::Abandon(const WantedChunk& wanted, PinnedDir& pinned) {
  for (const PieceTask& piece : wanted.pieces) writer_.AbandonPiece(piece, pinned);
}

absl::StatusOr<std::string_view> FetchWorker::SliceOf(const SliceTask& task, std::string_view bundle) {
  if (task.offset > bundle.size() || task.length > bundle.size() - task.offset) {
    return absl::DataLossError("the entry points behind the end of its bundle");
  }
  const std::string_view content = bundle.substr(task.offset, task.length);
  if (task.digest.has_value() && SliceDigest(content) != *task.digest) {
    return absl::DataLossError("the content is not what the digest was made of");
  }
  return content;
}

void FetchWorker::UseChunk(const WantedChunk& wanted, const absl::StatusOr<OpenedChunk>& chunk, PinnedDir& pinned) {
  absl::Status status = chunk.status();
  std::string_view plaintext;
  if (status.ok()) {
    plaintext = chunk->plaintext;
    if (chunk->type != ChunkType::kData) status = absl::DataLossError("a chunk of file content is of another type");
  }
  if (!status.ok()) status = Annotate(status, absl::StrCat("chunk ", HexEncode(wanted.ref.id.view())));
  for (const SliceTask& task : wanted.slices) {
    const absl::StatusOr<std::string_view> content =
        status.ok() ? SliceOf(task, plaintext) : absl::StatusOr<std::string_view>(status);
    if (content.ok()) {
      writer_.WriteSlice(task, *content, pinned);
    } else {
      writer_.GiveUpFile(task, "fetch", content.status(), pinned);
    }
  }
  for (const PieceTask& piece : wanted.pieces) {
    if (!status.ok()) {
      writer_.GiveUpPiece(piece, status, pinned);
    } else if (plaintext.size() != piece.length) {
      writer_.GiveUpPiece(piece, absl::DataLossError("a chunk has another length than its file says"), pinned);
    } else {
      writer_.WritePiece(piece, plaintext, pinned);
    }
  }
}

}  // namespace holdfast
