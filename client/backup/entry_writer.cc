#include "client/backup/entry_writer.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/backup/base_snapshot.h"
#include "core/base/limits.h"
#include "core/tree/page.h"

namespace holdfast {

absl::StatusOr<bool> EntryWriter::Write(PendingEntry& pending) {
  if (pending.small && !pending.small->ready.load(std::memory_order_acquire)) return false;
  if (pending.large) {
    ASSIGN_OR_RETURN(bool done, TakeLarge(*pending.large));
    if (!done) return false;
  }
  Entry& e = pending.entry;
  FileResult* result = pending.result();
  if (result && result->outcome == FileResult::Outcome::kVanished) {
    target_.report.OnVanished(pending.source->RelativePath(e.name));
    return true;
  }
  if (result) {
    RETURN_IF_ERROR(ApplyResult(pending, *result));
  } else {
    if (pending.link.content) pending.link.content->CopyTo(e);
    if (e.type == EntryType::kFile) target_.observer.bytes_done.fetch_add(e.size, std::memory_order_relaxed);
  }
  RETURN_IF_ERROR(AddToTree(pending));
  return true;
}

// Takes what there is of the file; true when that was the last of it.
absl::StatusOr<bool> EntryWriter::TakeLarge(LargeFileJob& job) {
  if (!large_) large_ = std::make_unique<LargeContent>(target_.pages);
  std::vector<ChunkPiece> pieces;
  const bool done = job.Take(&pieces);
  for (ChunkPiece& piece : pieces) {
    large_->digest.Add(piece);
    target_.observer.bytes_done.fetch_add(piece.length, std::memory_order_relaxed);
    RETURN_IF_ERROR(large_->content.Add(std::move(piece)));
  }
  target_.observer.bytes_sent = target_.counters.bytes_sent.load(std::memory_order_relaxed);
  if (!done) return false;
  FileResult& result = job.result();
  // A chunk is read up to a step beyond its end, and that again for the next one: the file's bytes count once.
  bytes_read_ += std::min(job.bytes_read(), result.size);
  if (result.outcome == FileResult::Outcome::kStored) {
    ASSIGN_OR_RETURN(result.content, large_->content.Finish());
    if (result.content.kind != Content::Kind::kNone) {
      result.digest = large_->digest.Finish(result.size, result.holes);
    }
  }
  large_.reset();
  return true;
}

absl::Status EntryWriter::ApplyResult(PendingEntry& pending, FileResult& result) {
  Entry& e = pending.entry;
  e.flags |= result.flags;
  if (result.outcome == FileResult::Outcome::kFailed) {
    target_.report.OnError(result.error);
    return absl::OkStatus();
  }
  // Metadata as of the reading, so that it belongs to the content.
  target_.entries.SetMetadata(result.stat, e);
  if (MayChangeUnseen(result.stat, started_)) e.flags |= kEntryRacy;
  e.size = result.size;
  e.content = result.content;
  e.holes = std::move(result.holes);
  e.digest = result.digest;
  e.xattrs = std::move(result.xattrs);
  if (!pending.large) {
    bytes_read_ += result.size;
    target_.observer.bytes_done.fetch_add(result.size, std::memory_order_relaxed);
  }
  if (result.has_large_xattrs) {
    absl::StatusOr<std::vector<Xattr>> xattrs = pending.source->ReadXattrs(e.name);
    if (xattrs.ok()) {
      e.xattrs = *std::move(xattrs);
    } else {
      target_.report.OnError({pending.source->RelativePath(e.name), "read attributes", SourceErrno(xattrs.status())});
      e.flags |= kEntryRacy;  // not taken for complete next time
    }
  }
  RETURN_IF_ERROR(MoveLargeAttributesAside(pending));
  if (pending.link.content && result.stat.identity == pending.link.content->seen().identity) {
    pending.link.content->Set(e);
  }
  return absl::OkStatus();
}

absl::Status EntryWriter::AddToTree(PendingEntry& pending) {
  Entry& e = pending.entry;
  if (absl::Status s = CheckEntry(e); !s.ok()) {
    // Stored, it would make its whole page unreadable.
    target_.report.OnError(
        {absl::StrCat(absl::StrJoin(*pending.directory, "/"), pending.directory->empty() ? "" : "/", e.name),
         absl::StrCat("store: ", s.message()), EINVAL});
    return absl::OkStatus();
  }
  FileResult* result = pending.result();
  if (result && (result->flags & kEntryChangedWhileRead)) {
    target_.observer.OnNote(absl::StrCat(pending.source->RelativePath(e.name), ": it changed while it was read"));
  }
  if (e.type == EntryType::kFile) target_.observer.files_done.fetch_add(1, std::memory_order_relaxed);
  target_.draft.AddEntry(e);
  return tree_.Add(*pending.directory, std::move(e));
}

absl::Status EntryWriter::MoveLargeAttributesAside(PendingEntry& pending) {
  Entry& e = pending.entry;
  size_t bytes = 0;
  for (const Xattr& x : e.xattrs) bytes += x.name.size() + x.value.size() + 8;
  if (bytes > kChunkPlaintextBytesMax) {
    target_.report.OnError({pending.source->RelativePath(e.name), "store: too many attributes", E2BIG});
    e.xattrs.clear();
    e.flags |= kEntryRacy;  // not taken for complete next time
  } else if (bytes > kInlineXattrBytesMax) {
    ASSIGN_OR_RETURN(e.xattr_chunk, target_.pages.StoreSideChunk(EncodeXattrs(e.xattrs)));
    e.xattrs.clear();
  }
  if (e.holes.size() > kInlineHolesMax) {
    ASSIGN_OR_RETURN(e.hole_chunk, target_.pages.StoreSideChunk(EncodeHoles(e.holes)));
    e.holes.clear();
  }
  return absl::OkStatus();
}

}  // namespace holdfast
