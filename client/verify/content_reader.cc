#include "client/verify/content_reader.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/format/chunk.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

constexpr uint64_t kWindowBytes = 16u << 20;
constexpr size_t kZerosBytes = 64u << 10;

// Puts the large holes back between the stored bytes.
class HoleFiller {
 public:
  HoleFiller(const Entry& entry, const std::function<absl::Status(std::string_view)>& write)
      : size_(entry.size), write_(write), holes_(LargeHolesOf(entry.holes)) {}

  absl::Status Add(std::string_view bytes) {
    while (!bytes.empty()) {
      RETURN_IF_ERROR(FillHole());
      const uint64_t end = next_ < holes_.size() ? holes_[next_].offset : size_;
      const size_t n = std::min<uint64_t>(bytes.size(), end > offset_ ? end - offset_ : 0);
      if (n == 0) return absl::DataLossError("the content is longer than the file");
      RETURN_IF_ERROR(write_(bytes.substr(0, n)));
      offset_ += n;
      bytes.remove_prefix(n);
    }
    return absl::OkStatus();
  }

  absl::Status Finish() {
    RETURN_IF_ERROR(FillHole());
    if (offset_ != size_) return absl::DataLossError("the content is shorter than the file");
    return absl::OkStatus();
  }

 private:
  absl::Status FillHole() {
    static const std::string zeros(kZerosBytes, '\0');
    while (next_ < holes_.size() && holes_[next_].offset == offset_) {
      uint64_t left = holes_[next_].length;
      if (left > size_ - offset_) return absl::DataLossError("a hole reaches beyond the end of the file");
      offset_ += left;
      for (; left > 0; left -= std::min<uint64_t>(left, kZerosBytes)) {
        RETURN_IF_ERROR(write_(std::string_view(zeros).substr(0, std::min<uint64_t>(left, kZerosBytes))));
      }
      ++next_;
    }
    return absl::OkStatus();
  }

  const uint64_t size_;
  const std::function<absl::Status(std::string_view)>& write_;
  const std::vector<Hole> holes_;
  size_t next_ = 0;
  uint64_t offset_ = 0;
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
  HoleFiller filler(entry, write);
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
