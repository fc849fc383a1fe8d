// The last step of an entry: what reading gave becomes part of it, and it goes into the tree and the manifest's counts.
#ifndef HOLDFAST_CLIENT_BACKUP_ENTRY_WRITER_H_
#define HOLDFAST_CLIENT_BACKUP_ENTRY_WRITER_H_

#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "client/backup/backup_observer.h"
#include "client/backup/entry_maker.h"
#include "client/backup/entry_queue.h"
#include "client/backup/file_result.h"
#include "client/backup/large_file.h"
#include "client/backup/manifest_draft.h"
#include "client/backup/source_report.h"
#include "client/upload/chunk_uploader.h"
#include "client/upload/page_uploader.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/tree/file_content.h"
#include "core/tree/tree_builder.h"

namespace holdfast {

// One thread.
class EntryWriter {
 public:
  struct Target {  // all borrowed
    PageUploader& pages;
    const UploadCounters& counters;
    EntryMaker& entries;
    ManifestDraft& draft;
    SourceReport& report;
    BackupObserver& observer;
  };
  EntryWriter(const Target& target, const Key256& name_cut_key, absl::Time started)
      : target_(target), started_(started), tree_(target.pages, name_cut_key) {}

  // Finishes the entry, in the walk's order; false: it is still being read. Entries that vanished, or that cannot be
  // stored, are reported and left out.
  absl::StatusOr<bool> Write(PendingEntry& pending);
  // What would make a page too large goes into a chunk of its own.
  absl::Status MoveLargeAttributesAside(PendingEntry& pending);
  absl::StatusOr<TreeRoot> Finish() { return tree_.Finish(); }
  uint64_t bytes_read() const { return bytes_read_; }

 private:
  // Of the large file at the front, as its pieces come.
  struct LargeContent {
    explicit LargeContent(PageSink& sink) : content(sink) {}
    ContentBuilder content;
    ChunkedFileDigest digest;
  };
  absl::StatusOr<bool> TakeLarge(LargeFileJob& job);
  absl::Status ApplyResult(PendingEntry& pending, FileResult& result);
  absl::Status AddToTree(PendingEntry& pending);

  const Target target_;
  const absl::Time started_;
  TreeBuilder tree_;
  std::unique_ptr<LargeContent> large_;
  uint64_t bytes_read_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_ENTRY_WRITER_H_
