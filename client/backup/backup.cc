#include "client/backup/backup.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/backup/worker_pool.h"
#include "client/rpc/remote_chunk_source.h"
#include "client/upload/page_uploader.h"
#include "core/base/limits.h"
#include "core/chunking/name_cuts.h"
#include "core/crypto/blake3.h"
#include "core/io/posix.h"
#include "core/tree/snapshot_reader.h"
#include "core/tree/tree_builder.h"

namespace holdfast {
namespace {

constexpr size_t kPendingEntriesMax = 8192;
constexpr size_t kPendingComponentsMax = 1u << 20;  // names of directories on the paths of pending entries: 32 MiB
constexpr size_t kFailuresNamedMax = 10000;
constexpr size_t kFailuresBytesMax = 4u << 20;  // of their paths: they are part of the manifest
constexpr size_t kSparseBundlesMax = 4096;
constexpr size_t kLinkGroupsMax = 1u << 18;
// A file whose times are this close to the start of the backup may change again without a visible trace (2 s: FAT).
constexpr absl::Duration kTimeGranularity = absl::Seconds(2);
constexpr size_t kPreviousPiecesMax = 1u << 20;

// Names of owners, asked once each.
class OwnerNames {
 public:
  const std::string& User(uint32_t uid) { return Find(users_, uid, /*group=*/false); }
  const std::string& Group(uint32_t gid) { return Find(groups_, gid, /*group=*/true); }

 private:
  using Map = absl::flat_hash_map<uint32_t, std::unique_ptr<std::string>>;
  static const std::string& Find(Map& map, uint32_t id, bool group) {
    std::unique_ptr<std::string>& name = map[id];
    if (!name) {
      name = std::make_unique<std::string>();
      // A group comes with the names of all its members.
      constexpr size_t kRecordBytesMax = 8u << 20;
      int error = ERANGE;
      for (size_t size = 16384; error == ERANGE && size <= kRecordBytesMax; size *= 4) {
        std::vector<char> buffer(size);
        if (group) {
          struct group entry, *found = nullptr;
          error = getgrgid_r(id, &entry, buffer.data(), buffer.size(), &found);
          if (error == 0 && found) *name = found->gr_name;
        } else {
          struct passwd entry, *found = nullptr;
          error = getpwuid_r(id, &entry, buffer.data(), buffer.size(), &found);
          if (error == 0 && found) *name = found->pw_name;
        }
      }
      if (name->size() > 255) name->resize(255);
    }
    return *name;
  }
  Map users_, groups_;
};

// Protobuf strings are UTF-8: other bytes become \xNN.
std::string EscapeForProto(std::string_view raw) {
  const std::string text(raw.substr(0, 4096));
  for (unsigned char c : text) {
    if (c >= 0x80) return absl::Utf8SafeCEscape(text);
  }
  return text;
}

// What all names of one object share.
struct SharedContent {
  SourceStat seen;      // by the walk, at the first name
  bool usable = false;  // the rest was read from that very object
  Content content;
  std::vector<Hole> holes;
  std::optional<ChunkRef> hole_chunk;
  std::vector<Xattr> xattrs;
  std::optional<ChunkRef> xattr_chunk;
  std::optional<FileDigest> digest;
  uint64_t size = 0;
  uint32_t flags = 0;

  void Set(const Entry& e) {
    usable = true;
    content = e.content;
    holes = e.holes;
    hole_chunk = e.hole_chunk;
    xattrs = e.xattrs;
    xattr_chunk = e.xattr_chunk;
    digest = e.digest;
    size = e.size;
    flags = e.flags & kEntryChangedWhileRead;
  }
  void CopyTo(Entry& e) const {
    e.content = content;
    e.holes = holes;
    e.hole_chunk = hole_chunk;
    e.xattrs = xattrs;
    e.xattr_chunk = xattr_chunk;
    e.digest = digest;
    e.size = size;
    e.flags |= flags;
  }
};

struct PendingEntry {
  std::shared_ptr<const Components> directory;
  size_t components = 0;  // those of `directory`, if no entry before has it
  Entry entry;
  std::shared_ptr<SourceDirectory> source;  // only when something is to be read, or may go wrong later
  std::shared_ptr<FileResult> small;        // being read
  std::shared_ptr<LargeFileJob> large;      // being read
  std::shared_ptr<SharedContent> group;     // hard links: filled by the first name, used by the others
  bool reads_group = false;                 // this name fills it
};

bool IsUnchanged(const Entry& old, const SourceStat& now) {
  return old.type == now.type && old.size == now.size && old.mtime == now.mtime && old.ctime == now.ctime &&
         old.inode == now.identity.inode && old.mode == now.mode &&
         (old.flags & (kEntryRacy | kEntryChangedWhileRead | kEntryReadFailed)) == 0;
}

absl::Time ToTime(const Timestamp& t) { return absl::FromUnixSeconds(t.seconds) + absl::Nanoseconds(t.nanos); }

// True when a change after this look may leave the times as they are. A time in the future does not: a write sets it to
// now.
bool MayChangeUnseen(const SourceStat& stat, absl::Time started) {
  if (ToTime(stat.ctime) > started - kTimeGranularity) return true;
  const absl::Time mtime = ToTime(stat.mtime);
  return mtime > started - kTimeGranularity && mtime < absl::Now() + kTimeGranularity;
}

class BackupRun : private ScanObserver {
 public:
  BackupRun(RepositoryClient& client, const BackupKeys& keys, const BackupOptions& options, BackupObserver& observer)
      : client_(client),
        keys_(keys),
        options_(options),
        observer_(observer),
        chunker_(keys.cut_key, keys.chunker),
        bundle_cutter_(keys.name_cut_key) {}

  absl::StatusOr<BackupResult> Run(bool use_base);
  bool used_base() const { return base_reader_ != nullptr; }

 private:
  // ScanObserver
  void OnError(const SourceError& error) override { AddFailure(error); }
  void OnSkipped(std::string_view path, SkipReason reason) override {
    ++skipped_;
    observer_.OnSkipped(path, reason);
  }
  void OnVanished(std::string_view path) override {
    ++vanished_;
    observer_.OnVanished(path);
  }

  void AddFailure(const SourceError& error);
  absl::Status OpenSession();
  absl::Status OpenBase(bool use_base);
  absl::Status Walk();
  absl::Status AddSourceEntry(const SourceEntry& source, const Entry* old);
  absl::Status AddFile(const SourceEntry& source, const Entry* old, PendingEntry pending);
  PreviousVersion PreviousPieces(const Entry* old);
  PendingEntry& Enqueue(PendingEntry pending) {
    pending_components_ += pending.components;
    return pending_.emplace_back(std::move(pending));
  }
  absl::Status EndBundle();
  absl::Status Drain(size_t limit);
  absl::StatusOr<bool> DrainFront();
  absl::Status ReadLarge(PendingEntry& pending, const Entry* old);
  absl::Status Emit(PendingEntry& pending);
  absl::Status MoveLargeAttributesAside(PendingEntry& pending);
  absl::StatusOr<BackupResult> Finish();
  uint32_t DeviceOrdinal(uint64_t device) {
    return devices_.try_emplace(device, static_cast<uint32_t>(devices_.size())).first->second;
  }

  RepositoryClient& client_;
  const BackupKeys& keys_;
  const BackupOptions& options_;
  BackupObserver& observer_;
  const Chunker chunker_;
  BundleCutter bundle_cutter_;

  absl::Time started_ = absl::Now();
  v1::OpenSessionReply session_;
  std::optional<OpenedManifest> base_;
  std::unique_ptr<RemoteChunkSource> base_source_;
  std::unique_ptr<SnapshotReader> base_reader_;
  absl::flat_hash_set<ChunkId> rewrite_bundles_;

  OfferedIds offered_;
  UploadCounters counters_;
  std::unique_ptr<UploadTransport> page_transport_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<PageUploader> pages_;
  std::unique_ptr<TreeBuilder> tree_;

  // Walk.
  OwnerNames owners_;
  absl::flat_hash_map<uint64_t, uint32_t> devices_;
  std::shared_ptr<SourceDirectory> current_directory_;
  std::shared_ptr<const Components> current_components_;
  BundleJob open_bundle_;
  std::map<FileIdentity, std::pair<std::shared_ptr<SharedContent>, uint32_t>> link_groups_;
  std::deque<PendingEntry> pending_;
  size_t pending_components_ = 0;  // of their directories
  // Of the large file at the front of pending_.
  std::unique_ptr<ContentBuilder> large_content_;
  std::optional<Blake3> large_digest_;
  uint64_t large_bytes_ = 0;

  // Results.
  struct BundleUse {
    uint64_t live = 0, end = 0;
  };
  absl::flat_hash_map<ChunkId, BundleUse> bundles_;
  pb::ManifestCore core_;
  pb::ManifestSealed sealed_;
  size_t failure_bytes_ = 0;
  absl::Status machine_status_;  // not OK: the machine, not a file, is why reading failed
  uint64_t vanished_ = 0, skipped_ = 0;
  uint64_t files_unchanged_ = 0, files_read_ = 0, bytes_read_ = 0;
};

void BackupRun::AddFailure(const SourceError& error) {
  // What this machine is short of is nobody's file: with it, half of the source might be missing from a "snapshot".
  if (error.error_number == EMFILE || error.error_number == ENFILE || error.error_number == ENOMEM) {
    machine_status_ = absl::ResourceExhaustedError(absl::StrCat(
        "this machine ran short of something while reading ", error.path, ": ", std::strerror(error.error_number),
        "\n  Nothing was committed. Raise the limit (ulimit -n for open files) and run it again."));
    return;
  }
  core_.set_errors(core_.errors() + 1);
  failure_bytes_ += error.path.size();
  if (static_cast<size_t>(sealed_.failures_size()) < kFailuresNamedMax && failure_bytes_ <= kFailuresBytesMax) {
    pb::SourceFailure* f = sealed_.add_failures();
    f->set_path(error.path);
    f->set_operation(error.operation);
    f->set_error_number(error.error_number);
  } else {
    sealed_.set_failures_not_named(sealed_.failures_not_named() + 1);
  }
  observer_.OnSourceError(error);
}

absl::Status BackupRun::OpenSession() {
  v1::OpenSessionRequest request;
  request.set_repository(options_.repository);
  request.set_source(options_.source);
  request.set_agent(keys_.manifest.agent);
  ASSIGN_OR_RETURN(session_, client_.OpenSession(request));

  const int workers = options_.workers > 0
                          ? options_.workers
                          : std::clamp(static_cast<int>(std::thread::hardware_concurrency()) + 1, 2, 8);
  std::vector<std::unique_ptr<UploadTransport>> transports;
  for (int i = 0; i < workers; ++i) {
    ASSIGN_OR_RETURN(transports.emplace_back(), client_.NewUploadTransport(options_.repository, session_));
  }
  ASSIGN_OR_RETURN(page_transport_, client_.NewUploadTransport(options_.repository, session_));
  WorkerPool::Options pool_options;
  pool_options.file_digest_key = keys_.file_digest_key;
  pool_options.compression_level = options_.compression_level;
  pool_options.cancel = &observer_.cancel;
  pool_ = std::make_unique<WorkerPool>(std::move(transports), keys_.sealing, offered_, counters_, pool_options);
  pages_ =
      std::make_unique<PageUploader>(*page_transport_, keys_.sealing, counters_, [this] { return pool_->Flush(); });
  tree_ = std::make_unique<TreeBuilder>(*pages_, keys_.name_cut_key);
  return absl::OkStatus();
}

// The previous snapshot of the source, if this agent can read it. Failing to read it costs time, not correctness.
absl::Status BackupRun::OpenBase(bool use_base) {
  if (session_.head().empty() || !use_base) return absl::OkStatus();
  ASSIGN_OR_RETURN(ManifestId head, ManifestId::FromBytes(session_.head()));
  absl::StatusOr<std::string> manifest = client_.GetManifest(options_.repository, head);
  if (absl::IsUnavailable(manifest.status())) return manifest.status();
  if (!manifest.ok()) {
    if (!absl::IsNotFound(manifest.status())) {
      observer_.OnNote(
          absl::StrCat("reading every file: the previous snapshot cannot be used: ", manifest.status().message()));
    }
    return absl::OkStatus();
  }
  const uint32_t agent = keys_.manifest.agent;
  absl::StatusOr<OpenedManifest> opened = OpenManifest(
      *manifest, keys_.manifest.repository, keys_.manifest.aead,
      [&](uint32_t a) { return a == agent ? std::optional<Key256>(keys_.manifest.agent_reader_key) : std::nullopt; },
      keys_.manifest.agent_mac_key);
  if (!opened.ok() || opened->core.agent() != agent || opened->core.key_epoch() != keys_.sealing.epoch) {
    observer_.OnNote(
        absl::IsPermissionDenied(opened.status()) || opened.ok()
            ? std::string("reading every file: the previous snapshot was made by another agent")
            : absl::StrCat("reading every file: the previous snapshot cannot be used: ", opened.status().message()));
    return absl::OkStatus();
  }
  base_ = *std::move(opened);
  observer_.files_expected = base_->core.files();
  observer_.bytes_expected = base_->core.bytes();
  for (const std::string& id : base_->sealed.sparse_bundles()) {
    if (auto parsed = ChunkId::FromBytes(id); parsed.ok()) rewrite_bundles_.insert(*parsed);
  }
  base_source_ = std::make_unique<RemoteChunkSource>(client_, options_.repository, keys_.sealing);
  base_reader_ = std::make_unique<SnapshotReader>(*base_source_, base_->root, base_->core.root_level());
  return absl::OkStatus();
}

absl::Status BackupRun::Walk() {
  std::unique_ptr<SourceFs> fs = NewPosixSourceFs();
  ASSIGN_OR_RETURN(std::unique_ptr<Scanner> scanner, fs->Scan(options_.scan, this));
  std::unique_ptr<EntryIterator> old;
  bool old_valid = false;
  EntryKeyCursor old_keys;
  std::string old_key, key, directory_key;
  auto next_old = [&]() -> absl::Status {
    old_valid = old && old->Next();
    if (old_valid) {
      old_key = old_keys.Key(old->directory(), old->entry().name);
    } else if (old) {
      RETURN_IF_ERROR(old->status());
    }
    return absl::OkStatus();
  };
  if (base_reader_) {
    old = base_reader_->Scan(KeyRange::All());
    RETURN_IF_ERROR(next_old());
  }
  SourceEntry source;
  while (true) {
    if (observer_.cancel.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
    ASSIGN_OR_RETURN(bool more, scanner->Next(&source));
    if (!more) break;
    if (source.directory != current_directory_) {
      current_directory_ = source.directory;
      current_components_ = std::make_shared<const Components>(source.directory->components());
      directory_key = DirectoryKeyPrefix(*current_components_);
    }
    key.assign(directory_key);
    key.append(source.name);
    if (key.size() > kEntryKeyBytesMax) {
      AddFailure({source.directory->RelativePath(source.name), "store: the path is too long", ENAMETOOLONG});
      continue;
    }
    while (old_valid && old_key < key) RETURN_IF_ERROR(next_old());
    const bool same = old_valid && old_key == key;
    RETURN_IF_ERROR(AddSourceEntry(source, same ? &old->entry() : nullptr));
    RETURN_IF_ERROR(Drain(kPendingEntriesMax));
    RETURN_IF_ERROR(machine_status_);
  }
  RETURN_IF_ERROR(EndBundle());
  RETURN_IF_ERROR(Drain(0));
  RETURN_IF_ERROR(machine_status_);
  if (old && !old->gaps().empty()) {
    observer_.OnNote(absl::StrCat("the previous snapshot is damaged in ", old->gaps().size(),
                                  " places; the files there were read again"));
  }
  return absl::OkStatus();
}

absl::Status BackupRun::AddSourceEntry(const SourceEntry& source, const Entry* old) {
  const SourceStat& stat = source.stat;
  PendingEntry pending;
  if (pending_.empty() || pending_.back().directory != current_components_) {
    pending.components = current_components_->size();
  }
  pending.directory = current_components_;
  Entry& e = pending.entry;
  e.name = source.name;
  e.type = stat.type;
  e.flags = source.flags;
  e.mode = stat.mode;
  e.uid = stat.uid;
  e.gid = stat.gid;
  e.owner_name = owners_.User(stat.uid);
  e.group_name = owners_.Group(stat.gid);
  e.mtime = stat.mtime;
  e.ctime = stat.ctime;
  e.birth_time = stat.birth_time;
  e.inode = stat.identity.inode;
  e.device = DeviceOrdinal(stat.identity.device);
  e.link_count = stat.link_count;
  e.size = stat.type == EntryType::kFile ? stat.size : 0;
  e.device_major = stat.device_major;
  e.device_minor = stat.device_minor;
  if (stat.type == EntryType::kFile) {
    observer_.files_seen.fetch_add(1, std::memory_order_relaxed);
    observer_.bytes_seen.fetch_add(stat.size, std::memory_order_relaxed);
    return AddFile(source, old, std::move(pending));
  }
  const bool same_object = old && old->type == stat.type && old->ctime == stat.ctime &&
                           old->inode == stat.identity.inode && (old->flags & (kEntryRacy | kEntryReadFailed)) == 0 &&
                           !options_.force_full;
  if (MayChangeUnseen(stat, started_)) e.flags |= kEntryRacy;
  auto failed = [&](std::string_view operation, const absl::Status& status) {
    if (absl::IsNotFound(status)) {
      OnVanished(source.directory->RelativePath(source.name));
      return false;
    }
    AddFailure({source.directory->RelativePath(source.name), std::string(operation), SourceErrno(status)});
    e.flags |= kEntryReadFailed;
    return true;
  };
  if (same_object) {
    e.xattrs = old->xattrs;
    e.xattr_chunk = old->xattr_chunk;
    e.symlink_target = old->symlink_target;
  } else {
    if (stat.type == EntryType::kSymlink) {
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
      RETURN_IF_ERROR(MoveLargeAttributesAside(pending));
    }
  }
  Enqueue(std::move(pending));
  return absl::OkStatus();
}

absl::Status BackupRun::AddFile(const SourceEntry& source, const Entry* old, PendingEntry pending) {
  const SourceStat& stat = source.stat;
  Entry& e = pending.entry;
  if (MayChangeUnseen(stat, started_)) e.flags |= kEntryRacy;
  if (stat.link_count > 1) {
    auto it = link_groups_.find(stat.identity);
    // The inode may have been freed and given to another file since the first name.
    if (it != link_groups_.end() && !IsSameVersion(it->second.first->seen, stat)) {
      link_groups_.erase(it);
      it = link_groups_.end();
    }
    if (it != link_groups_.end()) {
      pending.group = it->second.first;
      if (--it->second.second == 0) link_groups_.erase(it);
    } else if (link_groups_.size() < kLinkGroupsMax) {
      pending.group = std::make_shared<SharedContent>();
      pending.group->seen = stat;
      pending.reads_group = true;
      link_groups_[stat.identity] = {pending.group, stat.link_count - 1};
    }
  }
  const bool unchanged =
      old && !options_.force_full && IsUnchanged(*old, stat) &&
      !(old->content.kind == Content::Kind::kSlice && rewrite_bundles_.contains(old->content.ref.id));
  if (unchanged) {
    ++files_unchanged_;
    e.content = old->content;
    e.holes = old->holes;
    e.hole_chunk = old->hole_chunk;
    e.digest = old->digest;
    e.xattrs = old->xattrs;
    e.xattr_chunk = old->xattr_chunk;
    if (pending.group && pending.reads_group) pending.group->Set(e);
    // What this name already has needs no group.
    pending.group.reset();
    Enqueue(std::move(pending));
    return absl::OkStatus();
  }
  if (pending.group && !pending.reads_group) {
    // Another name of a file that is being read. If that does not go well, it is read under this name.
    pending.source = source.directory;
    Enqueue(std::move(pending));
    return absl::OkStatus();
  }
  ++files_read_;
  pending.source = source.directory;
  if (stat.size < kBundleThresholdBytes) {
    pending.small = std::make_shared<FileResult>();
    if (bundle_cutter_.file_count() > 0 && bundle_cutter_.CutBefore(stat.uid, stat.size)) RETURN_IF_ERROR(EndBundle());
    open_bundle_.files.push_back({source.directory, source.name, pending.small});
    bundle_cutter_.Add(
        current_components_->empty() ? std::string_view() : std::string_view(current_components_->back()), source.name,
        stat.uid, stat.size);
    Enqueue(std::move(pending));
    if (bundle_cutter_.CutAfter()) RETURN_IF_ERROR(EndBundle());
    return absl::OkStatus();
  }
  PendingEntry& queued = Enqueue(std::move(pending));
  return ReadLarge(queued, old);
}

absl::Status BackupRun::ReadLarge(PendingEntry& pending, const Entry* old) {
  pending.large = std::make_shared<LargeFileJob>(pending.source, pending.entry.name, PreviousPieces(old), keys_.sealing,
                                                 chunker_, options_.compression_level);
  return pool_->Add(pending.large);
}

PreviousVersion BackupRun::PreviousPieces(const Entry* old) {
  PreviousVersion out;
  if (!old || options_.force_full || old->type != EntryType::kFile ||
      (old->content.kind != Content::Kind::kChunks && old->content.kind != Content::Kind::kList)) {
    return out;
  }
  Entry entry = *old;
  if (!base_reader_->ResolveSideChunks(entry).ok()) return out;
  std::vector<Hole> large_holes;
  for (const Hole& h : entry.holes) {
    if (h.length >= kLargeHoleBytes) large_holes.push_back(h);
  }
  size_t next_hole = 0;
  uint64_t offset = 0;
  auto skip_holes = [&] {
    bool skipped = false;
    while (next_hole < large_holes.size() && large_holes[next_hole].offset <= offset) {
      offset = std::max(offset, large_holes[next_hole].offset + large_holes[next_hole].length);
      ++next_hole;
      skipped = true;
    }
    return skipped;
  };
  skip_holes();
  absl::Status s = base_reader_->ForEachPiece(entry.content, [&](const ChunkPiece& piece) -> absl::Status {
    if (out.pieces.size() >= kPreviousPiecesMax) return absl::ResourceExhaustedError("too many pieces for hints");
    out.pieces.push_back({offset, piece.length, false});
    out.refs.push_back(piece.ref);
    offset += piece.length;
    if (skip_holes()) out.pieces.back().last_of_run = true;
    return absl::OkStatus();
  });
  // Hints are worth a try, no more.
  if (!s.ok()) return PreviousVersion();
  if (!out.pieces.empty()) out.pieces.back().last_of_run = true;
  return out;
}

absl::Status BackupRun::EndBundle() {
  bundle_cutter_.Reset();
  if (open_bundle_.files.empty()) return absl::OkStatus();
  return pool_->Add(std::exchange(open_bundle_, BundleJob()));
}

// Emits finished entries; goes on waiting while more than `limit` are pending.
absl::Status BackupRun::Drain(size_t limit) {
  while (!pending_.empty()) {
    ASSIGN_OR_RETURN(bool emitted, DrainFront());
    if (emitted) continue;
    if (pending_.size() <= limit && (limit == 0 || pending_components_ <= kPendingComponentsMax))
      return absl::OkStatus();
    // The front may be in the bundle that is still open.
    RETURN_IF_ERROR(EndBundle());
    absl::Status step_status;
    RETURN_IF_ERROR(pool_->Wait([&] {
      absl::StatusOr<bool> again = DrainFront();
      if (!again.ok()) step_status = again.status();
      return !again.ok() || *again;
    }));
    RETURN_IF_ERROR(step_status);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> BackupRun::DrainFront() {
  PendingEntry& front = pending_.front();
  if (front.group && !front.reads_group && !front.group->usable) {
    // The name that was to be read is gone, or has become another file. From here on this one reads for the group.
    front.reads_group = true;
    ++files_read_;
    if (front.entry.size < kBundleThresholdBytes) {
      front.small = std::make_shared<FileResult>();
      BundleJob job;
      job.files.push_back({front.source, front.entry.name, front.small});
      RETURN_IF_ERROR(pool_->Add(std::move(job)));
    } else {
      RETURN_IF_ERROR(ReadLarge(front, nullptr));
    }
    return false;
  }
  if (front.small && !front.small->ready.load(std::memory_order_acquire)) return false;
  if (front.large) {
    std::vector<ChunkPiece> pieces;
    const bool done = front.large->Take(&pieces);
    if (!large_content_) {
      large_content_ = std::make_unique<ContentBuilder>(*pages_);
      large_digest_.emplace(keys_.file_digest_key);
      large_digest_->Update("chunks");
      large_bytes_ = 0;
    }
    for (ChunkPiece& piece : pieces) {
      large_digest_->Update(piece.ref.id.view());
      large_digest_->Update({reinterpret_cast<const char*>(&piece.length), 8});
      large_bytes_ += piece.length;
      observer_.bytes_done.fetch_add(piece.length, std::memory_order_relaxed);
      RETURN_IF_ERROR(large_content_->Add(std::move(piece)));
    }
    observer_.bytes_sent = counters_.bytes_sent.load(std::memory_order_relaxed);
    if (!done) return false;
    FileResult& result = front.large->result();
    // A chunk is read up to a step beyond its end, and that again for the next one: the file's bytes count once.
    bytes_read_ += std::min(front.large->bytes_read(), result.size);
    if (result.outcome == FileResult::Outcome::kStored) {
      ASSIGN_OR_RETURN(result.content, large_content_->Finish());
      if (result.content.kind != Content::Kind::kNone) {
        FileDigest digest;
        large_digest_->Finish(digest.data(), digest.size());
        result.digest = digest;
      }
    }
    large_content_.reset();
    large_digest_.reset();
  }
  RETURN_IF_ERROR(Emit(front));
  pending_components_ -= front.components;
  pending_.pop_front();
  return true;
}

absl::Status BackupRun::Emit(PendingEntry& pending) {
  Entry& e = pending.entry;
  FileResult* result = pending.small ? pending.small.get() : pending.large ? &pending.large->result() : nullptr;
  if (result) {
    if (result->outcome == FileResult::Outcome::kVanished) {
      OnVanished(pending.source->RelativePath(e.name));
      return absl::OkStatus();
    }
    if (result->outcome == FileResult::Outcome::kFailed) {
      AddFailure(result->error);
      e.flags |= result->flags;
    } else {
      // Metadata as of the reading, so that it belongs to the content.
      const SourceStat& stat = result->stat;
      e.mode = stat.mode;
      e.uid = stat.uid;
      e.gid = stat.gid;
      e.owner_name = owners_.User(stat.uid);
      e.group_name = owners_.Group(stat.gid);
      e.mtime = stat.mtime;
      e.ctime = stat.ctime;
      e.inode = stat.identity.inode;
      e.device = DeviceOrdinal(stat.identity.device);
      e.link_count = stat.link_count;
      e.size = result->size;
      e.flags |= result->flags;
      if (MayChangeUnseen(stat, started_)) e.flags |= kEntryRacy;
      e.content = result->content;
      e.holes = std::move(result->holes);
      e.digest = result->digest;
      e.xattrs = std::move(result->xattrs);
      if (!pending.large) {
        bytes_read_ += result->size;
        observer_.bytes_done.fetch_add(result->size, std::memory_order_relaxed);
      }
    }
    if (result->has_large_xattrs && result->outcome == FileResult::Outcome::kStored) {
      absl::StatusOr<std::vector<Xattr>> xattrs = pending.source->ReadXattrs(e.name);
      if (xattrs.ok()) {
        e.xattrs = *std::move(xattrs);
      } else {
        AddFailure({pending.source->RelativePath(e.name), "read attributes", SourceErrno(xattrs.status())});
        e.flags |= kEntryRacy;  // not taken for complete next time
      }
    }
    RETURN_IF_ERROR(MoveLargeAttributesAside(pending));
    if (pending.group && result->outcome == FileResult::Outcome::kStored &&
        result->stat.identity == pending.group->seen.identity) {
      pending.group->Set(e);
    }
  } else {
    if (pending.group) pending.group->CopyTo(e);
    if (e.type == EntryType::kFile) observer_.bytes_done.fetch_add(e.size, std::memory_order_relaxed);
  }
  if (absl::Status s = CheckEntry(e); !s.ok()) {
    // Stored, it would make its whole page unreadable.
    AddFailure({absl::StrCat(absl::StrJoin(*pending.directory, "/"), pending.directory->empty() ? "" : "/", e.name),
                absl::StrCat("store: ", s.message()), EINVAL});
    return absl::OkStatus();
  }
  if (result && (result->flags & kEntryChangedWhileRead)) {
    observer_.OnNote(absl::StrCat(pending.source->RelativePath(e.name), ": it changed while it was read"));
  }
  switch (e.type) {
    case EntryType::kFile:
      core_.set_files(core_.files() + 1);
      core_.set_bytes(core_.bytes() + e.size);
      observer_.files_done.fetch_add(1, std::memory_order_relaxed);
      break;
    case EntryType::kDirectory:
      core_.set_directories(core_.directories() + 1);
      break;
    default:
      core_.set_others(core_.others() + 1);
  }
  if (e.content.kind == Content::Kind::kSlice) {
    BundleUse& use = bundles_[e.content.ref.id];
    use.live += e.content.length;
    use.end = std::max(use.end, e.content.offset + e.content.length);
  }
  return tree_->Add(*pending.directory, std::move(e));
}

// What would make a page too large goes into a chunk of its own.
absl::Status BackupRun::MoveLargeAttributesAside(PendingEntry& pending) {
  Entry& e = pending.entry;
  size_t bytes = 0;
  for (const Xattr& x : e.xattrs) bytes += x.name.size() + x.value.size() + 8;
  if (bytes > kChunkPlaintextBytesMax) {
    AddFailure({pending.source->RelativePath(e.name), "store: too many attributes", E2BIG});
    e.xattrs.clear();
    e.flags |= kEntryRacy;  // not taken for complete next time
  } else if (bytes > kInlineXattrBytesMax) {
    ASSIGN_OR_RETURN(e.xattr_chunk, pages_->StoreSideChunk(EncodeXattrs(e.xattrs)));
    e.xattrs.clear();
  }
  if (e.holes.size() > kInlineHolesMax) {
    ASSIGN_OR_RETURN(e.hole_chunk, pages_->StoreSideChunk(EncodeHoles(e.holes)));
    e.holes.clear();
  }
  return absl::OkStatus();
}

absl::StatusOr<BackupResult> BackupRun::Finish() {
  ASSIGN_OR_RETURN(TreeRoot root, tree_->Finish());
  observer_.phase = BackupPhase::kCommitting;
  RETURN_IF_ERROR(pages_->Flush());
  RETURN_IF_ERROR(pool_->Flush());
  // Sending the last of it may have taken long: whoever pressed Ctrl-C meanwhile gets no snapshot.
  if (observer_.cancel.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");

  core_.set_repository_id(std::string(keys_.manifest.repository.view()));
  core_.set_source(options_.source);
  core_.set_agent(keys_.manifest.agent);
  core_.set_sequence(session_.head_sequence() + 1);
  core_.set_previous_manifest(session_.head());
  core_.set_root_id(std::string(root.ref.id.view()));
  core_.set_root_level(root.level);
  core_.set_key_epoch(keys_.sealing.epoch);
  core_.set_started_unix_ns(absl::ToUnixNanos(started_));
  core_.set_finished_unix_ns(absl::ToUnixNanos(absl::Now()));
  core_.set_complete(core_.errors() == 0);

  for (const auto& [id, use] : bundles_) {
    if (use.live * 2 < use.end && static_cast<size_t>(sealed_.sparse_bundles_size()) < kSparseBundlesMax) {
      sealed_.add_sparse_bundles(std::string(id.view()));
    }
  }
  sealed_.set_description(EscapeForProto(options_.description));
  sealed_.set_root_path(options_.scan.root);
  sealed_.set_platform(1);
  for (const std::string& pattern : options_.scan.exclude_patterns) {
    sealed_.add_excludes(EscapeForProto(pattern));
  }
  pb::BackupStatistics& statistics = *sealed_.mutable_statistics();
  statistics.set_files_unchanged(files_unchanged_);
  statistics.set_files_read(files_read_);
  statistics.set_bytes_read(bytes_read_);
  statistics.set_bytes_sent(counters_.bytes_sent);
  statistics.set_chunks_new(counters_.chunks_new);
  statistics.set_chunks_known(counters_.chunks_known);
  statistics.set_duration_ns(absl::ToInt64Nanoseconds(absl::Now() - started_));

  ASSIGN_OR_RETURN(std::string manifest, SealManifest(core_, sealed_, root.ref.key, keys_.manifest, PosixIo().random));
  v1::CommitSnapshotRequest request;
  request.set_repository(options_.repository);
  request.set_session(session_.session());
  request.set_manifest(manifest);
  absl::StatusOr<v1::CommitSnapshotReply> reply = client_.CommitSnapshot(request, /*missing=*/nullptr);
  RETURN_IF_ERROR(Annotate(reply.status(), "committing the snapshot"));

  BackupResult result;
  ASSIGN_OR_RETURN(result.id, ManifestId::FromBytes(reply->id()));
  result.core = core_;
  result.statistics = statistics;
  result.entries = root.entry_count;
  result.vanished = vanished_;
  result.skipped = skipped_;
  return result;
}

absl::StatusOr<BackupResult> BackupRun::Run(bool use_base) {
  RETURN_IF_ERROR(OpenSession());
  absl::StatusOr<BackupResult> result = [&]() -> absl::StatusOr<BackupResult> {
    RETURN_IF_ERROR(OpenBase(use_base));
    RETURN_IF_ERROR(Walk());
    return Finish();
  }();
  pool_.reset();
  page_transport_.reset();
  // Frees the source for the next run at once; what was uploaded stays.
  (void)client_.CloseSession(options_.repository, session_.session());
  return result;
}

}  // namespace

absl::StatusOr<BackupResult> Backup(RepositoryClient& client, const BackupKeys& keys, const BackupOptions& options,
                                    BackupObserver& observer) {
  if (keys.chunker.max_bytes > ChunkUploader::kChunkRoomBytes) {
    return absl::FailedPreconditionError("this repository was set up for larger chunks than this version can make");
  }
  {
    BackupRun run(client, keys, options, observer);
    absl::StatusOr<BackupResult> result = run.Run(/*use_base=*/true);
    // The index promised what it no longer has: everything is read again, and what is missing is sent again.
    if (!absl::IsNotFound(result.status()) || !run.used_base()) return result;
    observer.OnNote("reading every file: the repository lost chunks of the previous snapshot");
  }
  BackupRun run(client, keys, options, observer);
  return run.Run(/*use_base=*/false);
}

}  // namespace holdfast
