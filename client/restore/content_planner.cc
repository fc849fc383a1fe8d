#include "client/restore/content_planner.h"

#include <string>
#include <utility>

#include "core/tree/file_content.h"

namespace holdfast {
namespace {

absl::Status Contradiction() { return absl::DataLossError("the size of the entry and its content disagree"); }

// Bytes of the content as the entry tells them; `length` where only its end tells.
uint64_t StoredBytes(const Content& content, uint64_t length) {
  switch (content.kind) {
    case Content::Kind::kNone:
      return 0;
    case Content::Kind::kInline:
      return content.inline_bytes.size();
    case Content::Kind::kSlice:
      return content.length;
    case Content::Kind::kChunks: {
      uint64_t stored = 0;
      for (const ChunkPiece& piece : content.chunks) stored += piece.length;
      return stored;
    }
    case Content::Kind::kList:
      return length;
  }
  return 0;
}

SliceTask ToSlice(FileTask task) {
  SliceTask out;
  static_cast<FileTask&>(out) = std::move(task);
  return out;
}

}  // namespace

void ContentPlanner::Plan(const DirRef& dir, const Entry& entry, Metadata metadata, bool replace,
                          std::optional<LinkKey> link) {
  const Content& content = entry.content;
  FileTask task;
  task.dir = dir;
  task.name = entry.name;
  task.metadata = std::move(metadata);
  task.size = entry.size;
  task.link = link;
  task.replace = replace;
  const bool has_chunk = content.kind != Content::Kind::kNone && content.kind != Content::Kind::kInline;
  if (has_chunk && run_.options.verify) task.digest = entry.digest;
  uint64_t length = entry.size;
  absl::Status status;
  if (!entry.holes.empty()) {
    absl::StatusOr<ContentMap> map = ContentMap::Make(entry.size, entry.holes);
    status = map.status();
    if (map.ok()) {
      length = map->content_length();
      task.map = std::make_unique<ContentMap>(*std::move(map));
    }
  }
  if (status.ok() && StoredBytes(content, length) != length) status = Contradiction();
  if (!status.ok()) {
    writer_.GiveUpFile(task, "read entry", status, pinned_);
    return;
  }
  if (!has_chunk) {
    SliceTask slice = ToSlice(std::move(task));
    slice.length = length;
    slice.bytes = content.inline_bytes;
    window_.AddWithoutChunk(std::move(slice), AttributeBytes(entry));
  } else if (content.kind == Content::Kind::kSlice) {
    SliceTask slice = ToSlice(std::move(task));
    slice.offset = content.offset;
    slice.length = content.length;
    window_.AddSlice(content.ref, std::move(slice), AttributeBytes(entry));
  } else {
    PlanPieces(entry, std::move(task), length);
  }
}

void ContentPlanner::PlanPieces(const Entry& entry, FileTask task, uint64_t length) {
  auto file = std::make_shared<ChunkedFile>();
  file->task = std::move(task);
  const absl::Status status = WindowPieces(entry, file, length);
  window_.EndChunkedFile();
  // One that has failed already was told of by who failed.
  if (!status.ok() && !file->failed.load(std::memory_order_relaxed)) {
    if (!IsOfTheObject(status) && !run_.stopping()) run_.Fail(Annotate(status, "read the list of a file's chunks"));
    writer_.FailFile(*file, RestoreProblemKind::kRepository, status);
  }
  writer_.EndPart(*file, pinned_);
}

absl::Status ContentPlanner::WindowPieces(const Entry& entry, const std::shared_ptr<ChunkedFile>& file,
                                          uint64_t length) {
  uint64_t planned = 0;
  std::optional<ChunkedFileDigest> digest;
  if (file->task.digest.has_value()) digest.emplace();
  const uint64_t attribute_bytes = AttributeBytes(entry);
  RETURN_IF_ERROR(input_.ForEachPiece(entry.content, [&](const ChunkPiece& piece) -> absl::Status {
    if (run_.stopping()) return absl::CancelledError("stopping");
    // No use to fetch the rest; nor to walk it, which a hostile list can make endless.
    if (file->failed.load(std::memory_order_relaxed)) return absl::CancelledError("failed already");
    if (piece.length > length - planned) return Contradiction();
    if (digest.has_value()) digest->Add(piece);
    file->parts.fetch_add(1, std::memory_order_relaxed);
    window_.AddPiece(piece.ref, {file, planned, piece.length}, attribute_bytes);
    planned += piece.length;
    return absl::OkStatus();
  }));
  if (planned != length) return Contradiction();
  if (digest.has_value() && digest->Finish(entry.size, entry.holes) != *file->task.digest) {
    return absl::DataLossError("the chunks are not those that the digest was made of");
  }
  return absl::OkStatus();
}

}  // namespace holdfast
