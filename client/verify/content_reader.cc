#include "client/verify/content_reader.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/tree/file_content.h"

namespace holdfast {
namespace {

constexpr uint64_t kWindowBytes = 16u << 20;
constexpr size_t kZerosBytes = 64u << 10;

// Puts the holes back between the stored bytes.
class HoleFiller {
 public:
  using Write = std::function<absl::Status(std::string_view)>;
  HoleFiller(uint64_t size, ContentMap map, const Write& write) : size_(size), map_(std::move(map)), write_(write) {}

  absl::Status Add(std::string_view bytes) {
    if (bytes.size() > map_.content_length() - content_offset_) {
      return absl::DataLossError("the content is longer than the file");
    }
    RETURN_IF_ERROR(map_.ForEachRange(
        content_offset_, bytes, /*keep_small_holes=*/false,
        [&](uint64_t file_offset, std::string_view range) { return FillAndWrite(file_offset, range); }));
    content_offset_ += bytes.size();
    return absl::OkStatus();
  }

  absl::Status Finish() {
    if (content_offset_ != map_.content_length()) return absl::DataLossError("the content is shorter than the file");
    return FillAndWrite(size_, {});
  }

 private:
  // What is between the ranges is zeros.
  absl::Status FillAndWrite(uint64_t file_offset, std::string_view range) {
    static const std::string zeros(kZerosBytes, '\0');
    while (offset_ < file_offset) {
      const uint64_t n = std::min<uint64_t>(file_offset - offset_, kZerosBytes);
      RETURN_IF_ERROR(write_(std::string_view(zeros).substr(0, n)));
      offset_ += n;
    }
    offset_ += range.size();
    return range.empty() ? absl::OkStatus() : write_(range);
  }

  const uint64_t size_;
  const ContentMap map_;
  const Write& write_;
  uint64_t content_offset_ = 0;
  uint64_t offset_ = 0;  // in the file
};

absl::Status CheckType(ChunkType type) {
  if (type == ChunkType::kData) return absl::OkStatus();
  return absl::DataLossError("a chunk of file content is of another type");
}

// Keeps what arrives in any order.
class Collector : public ChunkSink {
 public:
  explicit Collector(absl::Span<const ChunkPiece> pieces) : pieces_(pieces), chunks_(pieces.size()) {}
  absl::Status OnChunk(size_t index, const absl::StatusOr<OpenedChunk>& chunk) override {
    RETURN_IF_ERROR(chunk.status());
    RETURN_IF_ERROR(CheckType(chunk->type));
    if (chunk->plaintext.size() != pieces_[index].length) {
      return absl::DataLossError("a chunk has another length than the file says");
    }
    chunks_[index] = std::string(chunk->plaintext);
    return absl::OkStatus();
  }
  const std::vector<std::string>& chunks() const { return chunks_; }

 private:
  const absl::Span<const ChunkPiece> pieces_;
  std::vector<std::string> chunks_;
};

absl::Status FetchAndAdd(ChunkSource& source, std::vector<ChunkPiece>& window, HoleFiller& filler) {
  if (window.empty()) return absl::OkStatus();
  std::vector<ChunkRef> refs;
  refs.reserve(window.size());
  for (const ChunkPiece& piece : window) refs.push_back(piece.ref);
  Collector collector(window);
  RETURN_IF_ERROR(source.Fetch(refs, collector));
  for (const std::string& chunk : collector.chunks()) RETURN_IF_ERROR(filler.Add(chunk));
  window.clear();
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadContent(const SnapshotReader& snapshot, const Entry& entry,
                         const std::function<absl::Status(std::string_view bytes)>& write) {
  ASSIGN_OR_RETURN(ContentMap map, ContentMap::Make(entry.size, entry.holes));
  HoleFiller filler(entry.size, std::move(map), write);
  const Content& content = entry.content;
  switch (content.kind) {
    case Content::Kind::kNone:
      break;
    case Content::Kind::kInline:
      RETURN_IF_ERROR(filler.Add(content.inline_bytes));
      break;
    case Content::Kind::kSlice: {
      ASSIGN_OR_RETURN(OwnedChunk chunk, FetchOne(snapshot.source(), content.ref));
      RETURN_IF_ERROR(CheckType(chunk.type));
      if (content.offset > chunk.plaintext.size() || content.length > chunk.plaintext.size() - content.offset) {
        return absl::DataLossError("the file is not within its bundle");
      }
      RETURN_IF_ERROR(filler.Add(std::string_view(chunk.plaintext).substr(content.offset, content.length)));
      break;
    }
    case Content::Kind::kChunks:
    case Content::Kind::kList: {
      std::vector<ChunkPiece> window;
      uint64_t window_bytes = 0;
      RETURN_IF_ERROR(snapshot.ForEachPiece(content, [&](const ChunkPiece& piece) -> absl::Status {
        if (window_bytes + piece.length > kWindowBytes) {
          RETURN_IF_ERROR(FetchAndAdd(snapshot.source(), window, filler));
          window_bytes = 0;
        }
        window.push_back(piece);
        window_bytes += piece.length;
        return absl::OkStatus();
      }));
      RETURN_IF_ERROR(FetchAndAdd(snapshot.source(), window, filler));
      break;
    }
  }
  return filler.Finish();
}

}  // namespace holdfast
