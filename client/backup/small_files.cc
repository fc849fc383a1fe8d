#include "client/backup/small_files.h"

#include <algorithm>
#include <cerrno>

#include "core/base/limits.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

constexpr int kReadAttemptsMax = 3;

// Reads the whole file to `out` (at most `room` bytes).
void ReadSmallFile(const BundleJob::File& file, char* out, size_t room) {
  FileResult& result = *file.result;
  absl::StatusOr<std::unique_ptr<SourceFile>> opened = file.directory->OpenFile(file.name);
  if (!opened.ok()) {
    SetSourceFailure(result, *file.directory, file.name, "open", opened.status());
    return;
  }
  SourceFile& source = **opened;
  SourceStat before = source.OpenedStat();
  for (int attempt = 1;; ++attempt) {
    if (before.size > room) {
      // It grew out of its bundle since the walk: named as unread, never stored cut off. The next backup cuts it as a
      // large file.
      SetSourceFailure(result, *file.directory, file.name, "read (it grew meanwhile)",
                       SourceErrnoStatus(EFBIG, "read"));
      return;
    }
    // One byte more than expected tells the end of the file in the same call.
    const size_t limit = std::min<uint64_t>(before.size + 1, room);
    absl::StatusOr<size_t> got = source.ReadAt(0, out, limit);
    if (!got.ok()) {
      SetSourceFailure(result, *file.directory, file.name, "read", got.status());
      return;
    }
    absl::StatusOr<SourceStat> after = source.Stat();
    if (!after.ok()) {
      SetSourceFailure(result, *file.directory, file.name, "stat", after.status());
      return;
    }
    result.size = *got;
    result.stat = *after;
    if (*got == before.size && IsSameVersion(before, *after)) break;
    if (attempt == kReadAttemptsMax) {
      result.flags |= kEntryChangedWhileRead;
      break;
    }
    before = *after;
  }
  // Small holes are stored as zeros; the list lets a restore make them again.
  if (result.stat.blocks * 512 < result.size) {
    uint64_t offset = 0;
    while (offset < result.size) {
      auto data = source.NextData(offset);
      const uint64_t begin = data.ok() && *data ? std::min((*data)->begin, result.size) : result.size;
      if (!data.ok()) break;
      // A hole of that size would not be part of the content (docs/format.md, section 7), and here it is.
      if (begin > offset && !IsLargeHole(begin - offset)) result.holes.push_back({offset, begin - offset});
      if (!*data) break;
      offset = std::max((*data)->end, offset + 1);
    }
  }
  absl::StatusOr<std::vector<Xattr>> xattrs = source.ReadXattrs();
  if (xattrs.ok()) {
    KeepXattrs(result, *std::move(xattrs));
  } else {
    SetSourceFailure(result, *file.directory, file.name, "read attributes", xattrs.status());
  }
}

}  // namespace

absl::Status RunBundleJob(BundleJob& job, ChunkUploader& uploader, int level) {
  ASSIGN_OR_RETURN(char* room, uploader.Room());
  size_t used = 0;
  for (BundleJob::File& file : job.files) {
    FileResult& result = *file.result;
    // The bundle was planned from the sizes of the walk; what outgrew the room since is named as unread.
    const size_t left = std::min<size_t>(ChunkUploader::kChunkRoomBytes - 64 - used, 2u << 20);
    ReadSmallFile(file, room + used, std::min<size_t>(left, kChunkPlaintextBytesMax));
    if (result.outcome != FileResult::Outcome::kStored || result.size == 0) continue;
    std::string_view bytes(room + used, result.size);
    if (result.size <= kInlineContentBytesMax) {
      result.content.kind = Content::Kind::kInline;
      result.content.inline_bytes.assign(bytes);
      continue;
    }
    result.digest = SliceDigest(bytes);
    result.content.kind = Content::Kind::kSlice;
    result.content.offset = used;
    result.content.length = result.size;
    used += result.size;
  }
  if (used == 0) return absl::OkStatus();
  const ChunkRef ref = uploader.Offer(used, level);
  for (BundleJob::File& file : job.files) {
    if (file.result->content.kind == Content::Kind::kSlice) file.result->content.ref = ref;
  }
  return absl::OkStatus();
}

}  // namespace holdfast
