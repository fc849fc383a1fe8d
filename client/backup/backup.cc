#include "client/backup/backup.h"

#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/backup/base_snapshot.h"
#include "client/backup/entry_maker.h"
#include "client/backup/entry_queue.h"
#include "client/backup/entry_writer.h"
#include "client/backup/manifest_draft.h"
#include "client/backup/source_report.h"
#include "client/backup/upload_session.h"
#include "core/base/limits.h"
#include "core/chunking/chunker.h"
#include "core/chunking/name_cuts.h"
#include "core/io/posix.h"
#include "core/tree/entry.h"
#include "core/tree/tree_builder.h"

namespace holdfast {
namespace {

// An entry goes this way: Walk finds it, Add* decides whether it is read and puts it into the queue, workers read, and
// the queue hands it to the writer in the walk's order.
class BackupRun {
 public:
  BackupRun(RepositoryClient& client, SourceFs& source, const BackupKeys& keys, const BackupOptions& options,
            BackupObserver& observer)
      : client_(client),
        source_(source),
        keys_(keys),
        options_(options),
        observer_(observer),
        chunker_(keys.cut_key, keys.chunker),
        bundle_cutter_(keys.name_cut_key) {}

  absl::StatusOr<BackupResult> Run(bool use_base);
  bool used_base() const { return base_ != nullptr; }

 private:
  absl::Status OpenSession();
  absl::Status OpenBase();

  absl::Status Walk();
  absl::Status AddEntry(const SourceEntry& source, const Entry* old);
  absl::Status AddOther(const SourceEntry& source, const Entry* old, PendingEntry&& pending);
  absl::Status AddFile(const SourceEntry& source, const Entry* old, PendingEntry&& pending);
  absl::Status ReadSmall(const SourceEntry& source, PendingEntry&& pending);
  absl::Status ReadLarge(PendingEntry& pending, PreviousVersion previous);
  absl::Status ReadForLinks(PendingEntry& pending);
  absl::Status EndBundle();

  absl::Status AddUnread(PendingEntry&& pending);
  absl::StatusOr<bool> WriteFront(PendingEntry& front);
  absl::Status Drain(EntryQueue::Until until);
  absl::StatusOr<BackupResult> Finish();

  RepositoryClient& client_;
  SourceFs& source_;
  const BackupKeys& keys_;
  const BackupOptions& options_;
  BackupObserver& observer_;
  const Chunker chunker_;
  const absl::Time started_ = absl::Now();
  ManifestDraft draft_;
  SourceReport report_{draft_, observer_};

  std::unique_ptr<UploadSession> session_;  // its jobs use the chunker
  std::unique_ptr<BaseSnapshot> base_;      // null: everything is read

  // Walk.
  EntryMaker entries_;
  std::shared_ptr<SourceDirectory> current_directory_;
  std::shared_ptr<const Components> current_components_;
  std::string directory_key_;
  BundleCutter bundle_cutter_;
  BundleJob open_bundle_;
  LinkGroups links_;
  EntryQueue queue_;

  // Results.
  uint64_t files_unchanged_ = 0, files_read_ = 0;
  std::unique_ptr<EntryWriter> writer_;
};

absl::Status BackupRun::OpenSession() {
  UploadSession::Options options;
  options.repository = options_.repository;
  options.source = options_.source;
  options.workers = options_.workers;
  options.pool.compression_level = options_.compression_level;
  options.pool.cancel = &observer_.cancel;
  ASSIGN_OR_RETURN(session_, UploadSession::Open(client_, keys_.sealing, options));
  writer_ = std::make_unique<EntryWriter>(
      EntryWriter::Target{session_->pages(), session_->counters(), entries_, draft_, report_, observer_},
      keys_.name_cut_key, started_);
  return absl::OkStatus();
}

absl::Status BackupRun::OpenBase() {
  if (!session_->head()) return absl::OkStatus();
  ASSIGN_OR_RETURN(base_, BaseSnapshot::Open(client_, options_.repository, *session_->head(), keys_.manifest,
                                             keys_.sealing, [this](std::string_view m) { observer_.OnNote(m); }));
  if (!base_) return absl::OkStatus();
  observer_.files_expected = base_->core().files();
  observer_.bytes_expected = base_->core().bytes();
  return absl::OkStatus();
}

// --- Walk ------------------------------------------------------------------------------------------------------------

absl::Status BackupRun::Walk() {
  ASSIGN_OR_RETURN(std::unique_ptr<Scanner> scanner, source_.Scan(options_.scan, &report_));
  std::string key;
  SourceEntry source;
  while (true) {
    if (observer_.cancel.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
    ASSIGN_OR_RETURN(bool more, scanner->Next(&source));
    if (!more) break;
    if (source.directory != current_directory_) {
      current_directory_ = source.directory;
      current_components_ = std::make_shared<const Components>(source.directory->components());
      directory_key_ = DirectoryKeyPrefix(*current_components_);
    }
    key.assign(directory_key_);
    key.append(source.name);
    if (key.size() > kEntryKeyBytesMax) {
      report_.OnError({source.directory->RelativePath(source.name), "store: the path is too long", ENAMETOOLONG});
      continue;
    }
    const Entry* old = nullptr;
    if (base_) {
      ASSIGN_OR_RETURN(old, base_->Find(key));
    }
    RETURN_IF_ERROR(AddEntry(source, old));
    RETURN_IF_ERROR(Drain(EntryQueue::Until::kNotFull));
    RETURN_IF_ERROR(report_.machine_status());
  }
  RETURN_IF_ERROR(EndBundle());
  RETURN_IF_ERROR(Drain(EntryQueue::Until::kEmpty));
  RETURN_IF_ERROR(report_.machine_status());
  if (base_ && base_->gaps() > 0) {
    observer_.OnNote(absl::StrCat("the previous snapshot is damaged in ", base_->gaps(),
                                  " places; the files there were read again"));
  }
  return absl::OkStatus();
}

absl::Status BackupRun::AddEntry(const SourceEntry& source, const Entry* old) {
  PendingEntry pending;
  pending.directory = current_components_;
  pending.entry = entries_.Make(source);
  if (MayChangeUnseen(source.stat, started_)) pending.entry.flags |= kEntryRacy;
  if (source.stat.type != EntryType::kFile) return AddOther(source, old, std::move(pending));
  observer_.files_seen.fetch_add(1, std::memory_order_relaxed);
  observer_.bytes_seen.fetch_add(source.stat.size, std::memory_order_relaxed);
  return AddFile(source, old, std::move(pending));
}

absl::Status BackupRun::AddOther(const SourceEntry& source, const Entry* old, PendingEntry&& pending) {
  Entry& e = pending.entry;
  if (old && !options_.force_full && IsSameObject(*old, source.stat)) {
    e.xattrs = old->xattrs;
    e.xattr_chunk = old->xattr_chunk;
    e.symlink_target = old->symlink_target;
    return AddUnread(std::move(pending));
  }
  // False: it is gone.
  auto failed = [&](std::string_view operation, const absl::Status& status) {
    if (absl::IsNotFound(status)) {
      report_.OnVanished(source.directory->RelativePath(source.name));
      return false;
    }
    report_.OnError({source.directory->RelativePath(source.name), std::string(operation), SourceErrno(status)});
    e.flags |= kEntryReadFailed;
    return true;
  };
  if (source.stat.type == EntryType::kSymlink) {
    absl::StatusOr<std::string> target = source.directory->ReadLink(source.name);
    if (!target.ok()) {
      if (!failed("read link", target.status())) return absl::OkStatus();
    } else {
      e.symlink_target = *std::move(target);
    }
  }
  absl::StatusOr<std::vector<Xattr>> xattrs = source.directory->ReadXattrs(source.name);
  if (!xattrs.ok()) {
    if (!failed("read attributes", xattrs.status())) return absl::OkStatus();
  } else {
    e.xattrs = *std::move(xattrs);
    pending.source = source.directory;
    RETURN_IF_ERROR(writer_->MoveLargeAttributesAside(pending));
  }
  return AddUnread(std::move(pending));
}

absl::Status BackupRun::AddFile(const SourceEntry& source, const Entry* old, PendingEntry&& pending) {
  Entry& e = pending.entry;
  pending.link = links_.Join(source.stat);
  if (options_.force_full) old = nullptr;
  if (old && base_->MayReuse(*old, source.stat)) {
    ++files_unchanged_;
    e.content = old->content;
    e.holes = old->holes;
    e.hole_chunk = old->hole_chunk;
    e.digest = old->digest;
    e.xattrs = old->xattrs;
    e.xattr_chunk = old->xattr_chunk;
    if (pending.link.reads) pending.link.content->Set(e);
    // What this name already has needs no group.
    pending.link = {};
    return AddUnread(std::move(pending));
  }
  pending.source = source.directory;
  if (pending.link.content && !pending.link.reads) {
    // Another name of a file that is being read. If that does not go well, it is read under this name.
    queue_.Push(std::move(pending));
    return absl::OkStatus();
  }
  ++files_read_;
  if (source.stat.size < kBundleThresholdBytes) return ReadSmall(source, std::move(pending));
  return ReadLarge(queue_.Push(std::move(pending)), old ? base_->PreviousPieces(*old) : PreviousVersion());
}

absl::Status BackupRun::ReadSmall(const SourceEntry& source, PendingEntry&& pending) {
  const SourceStat& stat = source.stat;
  pending.small = std::make_shared<FileResult>();
  if (bundle_cutter_.file_count() > 0 && bundle_cutter_.CutBefore(stat.uid, stat.size)) RETURN_IF_ERROR(EndBundle());
  open_bundle_.files.push_back({source.directory, source.name, pending.small});
  bundle_cutter_.Add(current_components_->empty() ? std::string_view() : std::string_view(current_components_->back()),
                     source.name, stat.uid, stat.size);
  queue_.Push(std::move(pending));
  return bundle_cutter_.CutAfter() ? EndBundle() : absl::OkStatus();
}

absl::Status BackupRun::ReadLarge(PendingEntry& pending, PreviousVersion previous) {
  pending.large = std::make_shared<LargeFileJob>(pending.source, pending.entry.name, std::move(previous), chunker_,
                                                 options_.compression_level);
  return session_->pool().Add(pending.large);
}

// The name that was to be read is gone, or has become another file. From here on this one reads for the group.
absl::Status BackupRun::ReadForLinks(PendingEntry& pending) {
  pending.link.reads = true;
  ++files_read_;
  if (pending.entry.size >= kBundleThresholdBytes) return ReadLarge(pending, PreviousVersion());
  pending.small = std::make_shared<FileResult>();
  BundleJob job;
  job.files.push_back({pending.source, pending.entry.name, pending.small});
  return session_->pool().Add(std::move(job));
}

absl::Status BackupRun::EndBundle() {
  bundle_cutter_.Reset();
  if (open_bundle_.files.empty()) return absl::OkStatus();
  return session_->pool().Add(std::exchange(open_bundle_, BundleJob()));
}

// With nothing before it, as in most of a backup without changes, it need not go through the queue.
absl::Status BackupRun::AddUnread(PendingEntry&& pending) {
  if (queue_.empty()) {
    ASSIGN_OR_RETURN(bool written, WriteFront(pending));
    if (written) return absl::OkStatus();
  }
  queue_.Push(std::move(pending));
  return absl::OkStatus();
}

absl::StatusOr<bool> BackupRun::WriteFront(PendingEntry& front) {
  if (!front.link.MustReadItself()) return writer_->Write(front);
  RETURN_IF_ERROR(ReadForLinks(front));
  return false;
}

// Into the tree, in the walk's order.
absl::Status BackupRun::Drain(EntryQueue::Until until) {
  return queue_.Drain(
      until, [this](PendingEntry& front) { return WriteFront(front); },
      [this](const std::function<bool()>& ready) -> absl::Status {
        // The front may be in the bundle that is still open.
        RETURN_IF_ERROR(EndBundle());
        return session_->pool().Wait(ready);
      });
}

absl::StatusOr<BackupResult> BackupRun::Finish() {
  ASSIGN_OR_RETURN(TreeRoot root, writer_->Finish());
  observer_.phase = BackupPhase::kCommitting;
  RETURN_IF_ERROR(session_->Flush());
  // Sending the last of it may have taken long: whoever pressed Ctrl-C meanwhile gets no snapshot.
  if (observer_.cancel.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");

  pb::BackupStatistics& statistics = draft_.statistics();
  statistics.set_files_unchanged(files_unchanged_);
  statistics.set_files_read(files_read_);
  statistics.set_bytes_read(writer_->bytes_read());
  statistics.set_bytes_sent(session_->counters().bytes_sent);
  statistics.set_chunks_new(session_->counters().chunks_new);
  statistics.set_chunks_known(session_->counters().chunks_known);
  ManifestDraft::Facts facts;
  facts.source = options_.source;
  facts.root = root;
  if (session_->head()) facts.previous_manifest = std::string(session_->head()->view());
  facts.sequence = session_->head_sequence() + 1;
  facts.key_epoch = keys_.sealing.epoch;
  facts.started = started_;
  facts.finished = absl::Now();
  facts.description = options_.description;
  facts.root_path = options_.scan.root;
  facts.excludes = options_.scan.exclude_patterns;
  ASSIGN_OR_RETURN(std::string manifest, draft_.Seal(facts, keys_.manifest, PosixIo().random));

  BackupResult result;
  ASSIGN_OR_RETURN(result.id, session_->Commit(manifest));
  result.core = draft_.core();
  result.statistics = draft_.statistics();
  result.entries = root.sums.entries;
  result.vanished = report_.vanished();
  result.skipped = report_.skipped();
  return result;
}

absl::StatusOr<BackupResult> BackupRun::Run(bool use_base) {
  RETURN_IF_ERROR(OpenSession());
  if (use_base) RETURN_IF_ERROR(OpenBase());
  RETURN_IF_ERROR(Walk());
  return Finish();
}

}  // namespace

absl::StatusOr<BackupResult> Backup(RepositoryClient& client, SourceFs& source, const BackupKeys& keys,
                                    const BackupOptions& options, BackupObserver& observer) {
  if (keys.chunker.max_bytes > ChunkUploader::kChunkRoomBytes) {
    return absl::FailedPreconditionError("this repository was set up for larger chunks than this version can make");
  }
  {
    BackupRun run(client, source, keys, options, observer);
    absl::StatusOr<BackupResult> result = run.Run(/*use_base=*/true);
    // The index promised what it no longer has: everything is read again, and what is missing is sent again.
    if (!absl::IsNotFound(result.status()) || !run.used_base()) return result;
    observer.OnNote("reading every file: the repository lost chunks of the previous snapshot");
  }
  BackupRun run(client, source, keys, options, observer);
  return run.Run(/*use_base=*/false);
}

}  // namespace holdfast
