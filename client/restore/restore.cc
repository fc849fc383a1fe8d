#include "client/restore/restore.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "client/restore/content_map.h"
#include "client/restore/spill.h"
#include "client/restore/target.h"
#include "client/restore/target_errno.h"
#include "core/base/codec.h"
#include "core/crypto/blake3.h"

namespace holdfast {
namespace {

// One fetch: large enough to hide a round trip, small enough to share the end of a restore among the workers.
constexpr uint64_t kUnitBytes = 6u << 20;
// How far the planner looks ahead for files in the same bundle.
constexpr uint64_t kWindowBytes = 32u << 20;
constexpr uint64_t kWindowChunks = 1024;
constexpr size_t kWindowFiles = 64;  // of several chunks: each may be open while it waits for the next one
constexpr size_t kWindowEntriesMax = 16384;
constexpr uint64_t kBytesPerWindowEntry = 2048;  // generous: names, attributes, a directory each

// --- Hard links -----------------------------------------------------------------------------------

struct LinkKey {
  uint32_t device = 0;
  uint64_t inode = 0;
  bool operator==(const LinkKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const LinkKey& k) {
    return H::combine(std::move(h), k.device, k.inode);
  }
};

enum class LinkState : uint8_t { kPending, kDone, kFailed };

enum class LinkRole { kFirst, kFurther, kApart };

struct LinkGroup {
  uint32_t seen = 0, members = 0;
  LinkState state = LinkState::kPending;
  FileDigest content{};
  uint64_t path = 0;  // of the first one: in the spill store
};

// A member that came before the first one was written.
struct LinkWaiter {
  DirRef dir;
  Entry entry;
  bool replace = false;
};

// --- Work -----------------------------------------------------------------------------------------

struct FileTask {
  DirRef dir;
  std::string name;
  Metadata metadata;
  uint64_t size = 0;
  std::unique_ptr<ContentMap> map;  // null: no holes
  std::unique_ptr<LinkKey> link;    // null: the only name
  std::optional<FileDigest> digest;
  bool replace = false;
};

struct SliceTask : FileTask {
  uint64_t offset = 0, length = 0;  // in the bundle
  std::string bytes;                // inline content
};

struct DataRange {
  uint64_t offset = 0, length = 0;
  FileDigest hash{};
};

// A file of chunks, shared by the workers that write it. The last part finishes it.
struct ChunkedFile {
  FileTask task;
  std::atomic<int> parts{1};  // the planner holds one until the last piece is planned
  std::atomic<bool> failed{false};
  absl::Mutex mu;
  absl::Status failure ABSL_GUARDED_BY(mu);  // OK and failed: the restore as a whole stops
  RestoreProblemKind kind ABSL_GUARDED_BY(mu) = RestoreProblemKind::kRepository;
  OpenFile file ABSL_GUARDED_BY(mu);
  std::vector<DataRange> written ABSL_GUARDED_BY(mu);  // with verify
};

struct PieceTask {
  std::shared_ptr<ChunkedFile> file;
  uint64_t content_offset = 0, length = 0;
};

// A chunk and everything nearby that wants bytes of it.
struct Job {
  ChunkRef ref;
  uint64_t estimated_bytes = 0;
  std::vector<SliceTask> slices;
  std::vector<PieceTask> pieces;
};

struct Unit {
  std::vector<std::unique_ptr<Job>> jobs;
  std::vector<SliceTask> plain;  // need no chunk
};

FileDigest Hash(std::string_view bytes) {
  FileDigest out;
  Blake3().Update(bytes).Finish(out.data(), out.size());
  return out;
}

absl::Status WriteAt(int fd, uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      return TargetErrno(errno, "write");
    }
    offset += n;
    bytes.remove_prefix(n);
  }
  return absl::OkStatus();
}

// "/a/b" of an entry key, for messages.
std::string KeyPath(std::string_view key) {
  std::string out;
  for (size_t i = 0; i < key.size(); ++i) {
    if (key[i] != 0) {
      if (out.empty()) out = "/";
      out += key[i];
    } else if (out.empty() || out.back() != '/') {
      out += '/';
    }
  }
  return out.empty() ? "/" : out;
}

class UmaskGuard {
 public:
  UmaskGuard() : old_(::umask(0)) {}
  ~UmaskGuard() { ::umask(old_); }

 private:
  const mode_t old_;
};

// --- The restore ----------------------------------------------------------------------------------

class Restorer {
 public:
  Restorer(RestoreInput& input, RestoreRun& run, Target& target)
      : input_(input),
        run_(run),
        options_(run.options),
        target_(target),
        window_entries_max_(std::clamp<uint64_t>(Memory() / 2 / kBytesPerWindowEntry, 64, kWindowEntriesMax)),
        directories_(target.root_fd(), Memory() / 8),
        link_paths_(target.root_fd(), Memory() / 8),
        verify_list_(target.root_fd(), Memory() / 8) {}

  absl::Status Execute(const Components& path_inside, const std::optional<Entry>& top);

 private:
  // A directory on the way from the target to the current entry.
  struct Level {
    std::string name;
    DirRef dir;               // null: not made yet, or `closed`
    bool has_metadata = false;
    Metadata metadata;        // until `dir` is made
    bool lazy = false;        // make it only for something in it
    bool left_out = false;    // by the filter
    bool failed = false;      // could not be made
    // Its directories, in `directories_`, and how far they are done.
    uint64_t children_begin = 0, children_end = 0, cursor = 0;
  };
  struct DirectoryRecord {
    std::string name;
    FilterResult filter = FilterResult::kRestore;
    Metadata metadata;
  };

  uint64_t Memory() const { return std::max<uint64_t>(run_.options.memory_bytes, 1 << 20); }

  // Planning; the calling thread.
  void PlanTree(const Components& path_inside);
  void ReportGaps(const EntryIterator& it, size_t* reported);
  void GoTo(const Components& directory, size_t skip);
  void Enter(const std::string& name);
  void Leave();
  void FinishUnvisited(Level& level, std::string_view before, DirectoryRecord* found, bool* is_found);
  bool Make(size_t depth);
  void AddDirectory(Level& level, const Entry& entry, FilterResult filter);
  bool ReadDirectory(uint64_t offset, DirectoryRecord* record, uint64_t* next);
  void PlanEntry(const DirRef& dir, const Entry& entry);
  void PlanObject(const DirRef& dir, const Entry& entry, bool replace, std::unique_ptr<LinkKey> link);
  void PlanFile(const DirRef& dir, const Entry& entry, bool replace, std::unique_ptr<LinkKey> link);
  bool Decide(const DirRef& dir, const Entry& entry, const Metadata& metadata, bool* replace, bool* present);
  FileDigest ContentIdentity(const Entry& entry) const;
  LinkRole LinkRoleOf(const Entry& entry);
  bool DecideLink(const DirRef& dir, const Entry& entry, bool* replace);
  void PlanLink(const DirRef& dir, const Entry& entry, bool replace);
  bool LinkNow(const DirRef& dir, const std::string& name, const std::string& from, bool replace);
  Job& JobFor(const ChunkRef& ref);
  void LimitWindow();
  void Dispatch();
  void DispatchAll();
  void Push(std::unique_ptr<Unit> unit);
  void Retry();
  void WaitUntilIdle();

  // Workers.
  void Work();
  void RunUnit(Unit& unit, PinnedDir& pinned);
  void RunJob(Job& job, const absl::StatusOr<OpenedChunk>& chunk, PinnedDir& pinned);
  void AbortJob(Job& job, PinnedDir& pinned);
  void WriteSlice(SliceTask& task, std::string_view content, PinnedDir& pinned);
  void WritePiece(PieceTask& piece, std::string_view content, PinnedDir& pinned);
  void FailFile(ChunkedFile& file, RestoreProblemKind kind, const absl::Status& status);
  void EndPart(ChunkedFile& file, PinnedDir& pinned);
  absl::Status WriteRange(int fd, const FileTask& task, uint64_t content_offset, std::string_view content,
                          std::vector<DataRange>* written);
  absl::Status SetSize(int fd, const FileTask& task);
  absl::Status OpenChunked(ChunkedFile& file, PinnedDir& pinned) ABSL_EXCLUSIVE_LOCKS_REQUIRED(file.mu);
  void FileWritten(const FileTask& task, uint64_t bytes, std::vector<DataRange> written, PinnedDir& pinned);
  void FirstLinkDone(const LinkKey& key, const DirRef& dir, const std::string& name, bool ok, PinnedDir& pinned);

  void VerifyAll();
  void VerifySome();
  absl::Status VerifyFile(int fd, uint64_t size, const std::vector<DataRange>& ranges, std::string& buffer);

  void Repository(const DirRef& dir, std::string_view name, std::string_view operation, const absl::Status& s) {
    run_.Problem(RestoreProblemKind::kRepository, target_.SnapshotPath(dir, name), operation, s);
  }
  void TargetError(const DirRef& dir, std::string_view name, std::string_view operation, const absl::Status& s) {
    run_.TargetProblem(target_.SnapshotPath(dir, name), operation, s);
  }
  void Note(const DirRef& dir, std::string_view name, std::string_view operation, const absl::Status& s) {
    run_.Problem(RestoreProblemKind::kNote, target_.SnapshotPath(dir, name), operation, s);
  }

  RestoreInput& input_;
  RestoreRun& run_;
  const RestoreOptions& options_;
  Target& target_;
  const size_t window_entries_max_;

  // Planner only.
  std::vector<Level> levels_;
  std::string prefix_;  // snapshot path of the target
  SpillStore directories_;
  PinnedDir planner_dir_;
  std::deque<std::unique_ptr<Job>> window_;
  absl::flat_hash_map<ChunkId, Job*> window_by_id_;
  uint64_t window_bytes_ = 0;
  size_t window_entries_ = 0;
  size_t window_files_ = 0;  // of several chunks, planned since the window was last empty: each is open while it is written
  std::vector<SliceTask> plain_;
  std::string cached_path_;  // of the directory open for links
  int cached_fd_ = -1;
  std::string record_;

  // Units on their way to the workers.
  absl::Mutex queue_mu_;
  std::deque<std::unique_ptr<Unit>> queue_ ABSL_GUARDED_BY(queue_mu_);
  size_t busy_ ABSL_GUARDED_BY(queue_mu_) = 0;
  bool no_more_ ABSL_GUARDED_BY(queue_mu_) = false;

  absl::Mutex links_mu_;
  absl::flat_hash_map<LinkKey, LinkGroup> links_ ABSL_GUARDED_BY(links_mu_);
  absl::flat_hash_map<LinkKey, std::vector<LinkWaiter>> waiters_ ABSL_GUARDED_BY(links_mu_);
  std::vector<LinkWaiter> retries_ ABSL_GUARDED_BY(links_mu_);  // could not be linked to the first one
  std::atomic<size_t> waiting_{0};  // in waiters_
  std::atomic<bool> have_retries_{false};
  SpillStore link_paths_ ABSL_GUARDED_BY(links_mu_);

  absl::Mutex verify_mu_;
  SpillStore verify_list_ ABSL_GUARDED_BY(verify_mu_);
  uint64_t verify_cursor_ ABSL_GUARDED_BY(verify_mu_) = 0;
};

// --- Directories ----------------------------------------------------------------------------------

// A directory is listed in its parent long before its own entries come. Until then it is a record in `directories_`,
// which is a stack: the directories of a directory stand together and go when it is left.
void Restorer::AddDirectory(Level& level, const Entry& entry, FilterResult filter) {
  const Metadata m = target_.MetadataOf(entry);
  std::string record;
  ByteWriter w(&record);
  w.LengthPrefixed(entry.name);
  w.U8(static_cast<uint8_t>(filter));
  w.Varint(m.mode);
  w.Varint(m.uid);
  w.Varint(m.gid);
  w.SignedVarint(m.mtime.seconds);
  w.Varint(m.mtime.nanos);
  w.Varint(m.xattrs != nullptr ? m.xattrs->size() : 0);
  if (m.xattrs != nullptr) {
    for (const Xattr& x : *m.xattrs) {
      w.LengthPrefixed(x.name);
      w.LengthPrefixed(x.value);
    }
  }
  if (absl::Status s = directories_.Append(record); !s.ok()) run_.Fail(s);
  level.children_end = directories_.end();
}

bool Restorer::ReadDirectory(uint64_t offset, DirectoryRecord* record, uint64_t* next) {
  absl::StatusOr<uint64_t> end = directories_.Read(offset, &record_);
  if (!end.ok()) {
    run_.Fail(end.status());
    return false;
  }
  *next = *end;
  ByteReader r(record_);
  record->name = r.LengthPrefixed(~0ull);
  record->filter = static_cast<FilterResult>(r.U8());
  Metadata& m = record->metadata;
  m.mode = static_cast<uint32_t>(r.Varint());
  m.uid = static_cast<uint32_t>(r.Varint());
  m.gid = static_cast<uint32_t>(r.Varint());
  m.mtime.seconds = r.SignedVarint();
  m.mtime.nanos = static_cast<uint32_t>(r.Varint());
  m.xattrs = nullptr;
  if (uint64_t n = r.Varint(); n != 0) {
    m.xattrs = std::make_unique<std::vector<Xattr>>();
    for (uint64_t i = 0; i < n; ++i) {
      std::string name(r.LengthPrefixed(~0ull));
      m.xattrs->push_back({std::move(name), std::string(r.LengthPrefixed(~0ull))});
    }
  }
  return true;
}

// Makes the directory of levels_[depth], and those above. False: not possible, and reported.
bool Restorer::Make(size_t depth) {
  size_t made = depth;
  while (!levels_[made].dir && !levels_[made].failed && !levels_[made].left_out) --made;
  if (!levels_[made].dir) return false;
  for (size_t i = made + 1; i <= depth; ++i) {
    Level& level = levels_[i];
    absl::StatusOr<DirRef> dir = target_.MakeDirectory(levels_[i - 1].dir, planner_dir_, level.name,
                                                       level.has_metadata, std::move(level.metadata));
    if (!dir.ok()) {
      level.failed = true;
      TargetError(levels_[i - 1].dir, level.name, "make directory", dir.status());
      return false;
    }
    level.dir = *std::move(dir);
  }
  return true;
}

// Makes the listed directories with names before `before` (all: empty), which have no entries of their own.
void Restorer::FinishUnvisited(Level& level, std::string_view before, DirectoryRecord* found, bool* is_found) {
  const size_t depth = &level - levels_.data();
  while (level.cursor < level.children_end && !run_.stopping()) {
    DirectoryRecord record;
    uint64_t next = 0;
    if (!ReadDirectory(level.cursor, &record, &next)) return;
    if (!before.empty() && record.name >= before) {
      if (record.name == before) {
        level.cursor = next;
        *found = std::move(record);
        *is_found = true;
      }
      return;
    }
    level.cursor = next;
    if (record.filter != FilterResult::kRestore || !Make(depth)) continue;
    absl::StatusOr<DirRef> dir =
        target_.MakeDirectory(level.dir, planner_dir_, record.name, true, std::move(record.metadata));
    if (!dir.ok()) TargetError(level.dir, record.name, "make directory", dir.status());
  }
}

void Restorer::Enter(const std::string& name) {
  Level next;
  next.name = name;
  Level& above = levels_.back();
  if (above.left_out || above.failed) {
    next.left_out = above.left_out;
    next.failed = above.failed;
  } else {
    DirectoryRecord record;
    bool is_found = false;
    FinishUnvisited(above, name, &record, &is_found);
    if (is_found) {
      next.left_out = record.filter == FilterResult::kLeaveOut;
      next.lazy = record.filter == FilterResult::kDescend;
      next.has_metadata = true;
      next.metadata = std::move(record.metadata);
    } else {
      // Its own entry was lost with a damaged page, or came in no order. What is in it is worth having all the same.
      next.lazy = true;
    }
  }
  next.children_begin = next.children_end = next.cursor = directories_.end();
  levels_.push_back(std::move(next));
  Level& level = levels_.back();
  if (!level.lazy && !level.left_out && !level.failed) Make(levels_.size() - 1);
}

void Restorer::Leave() {
  Level& level = levels_.back();
  if (!level.left_out && !level.failed) FinishUnvisited(level, {}, nullptr, nullptr);
  if (absl::Status s = directories_.Truncate(level.children_begin); !s.ok()) run_.Fail(s);
  levels_.pop_back();
}

// Makes levels_ stand for `directory` (without its first `skip` components).
void Restorer::GoTo(const Components& directory, size_t skip) {
  const size_t depth = directory.size() >= skip ? directory.size() - skip : 0;
  size_t same = 0;
  while (same < depth && same + 1 < levels_.size() && levels_[same + 1].name == directory[skip + same]) ++same;
  while (levels_.size() > same + 1) Leave();
  while (levels_.size() < depth + 1 && !run_.stopping()) Enter(directory[skip + levels_.size() - 1]);
}

// --- Planning -------------------------------------------------------------------------------------

void Restorer::ReportGaps(const EntryIterator& it, size_t* reported) {
  for (; *reported < it.gaps().size(); ++*reported) {
    const KeyGap& gap = it.gaps()[*reported];
    run_.Problem(RestoreProblemKind::kRepository, KeyPath(gap.range.begin), "read directory entries",
                 Annotate(gap.status, absl::StrCat("everything from ", KeyPath(gap.range.begin), " to ",
                                                   gap.range.end.empty() ? "the end" : KeyPath(gap.range.end),
                                                   " is lost")));
  }
}

void Restorer::PlanTree(const Components& path_inside) {
  const size_t skip = path_inside.size();
  std::unique_ptr<EntryIterator> it = input_.ScanSubtree(path_inside);
  Components path;
  size_t gaps = 0;
  while (!run_.stopping() && it->Next()) {
    run_.observer.entries_seen.fetch_add(1, std::memory_order_relaxed);
    if (it->gaps().size() != gaps) ReportGaps(*it, &gaps);
    const Entry& entry = it->entry();
    if (entry.name.empty() && it->directory().empty()) continue;  // the root: done
    GoTo(it->directory(), skip);
    if (run_.stopping()) break;
    Level& level = levels_.back();
    if (level.left_out) continue;
    if (level.failed) {
      ++run_.counters.not_reached;
      continue;
    }
    const bool is_directory = entry.type == EntryType::kDirectory;
    FilterResult filter = FilterResult::kRestore;
    if (options_.filter) {
      path = it->directory();
      path.push_back(entry.name);
      filter = options_.filter(path, is_directory);
    }
    if (filter == FilterResult::kLeaveOut) {
      ++run_.counters.left_out;
      if (is_directory) AddDirectory(level, entry, filter);
      continue;
    }
    // A hostile name is an error even where nothing would be written.
    if (absl::Status s = CheckName(entry.name); !s.ok()) {
      std::string shown = prefix_;
      for (size_t i = skip; i < it->directory().size(); ++i) absl::StrAppend(&shown, "/", it->directory()[i]);
      run_.Problem(RestoreProblemKind::kTarget, absl::StrCat(shown, "/", entry.name), "check name", s);
      continue;
    }
    if (is_directory) {
      if (!entry.xattr_chunk.has_value()) {
        AddDirectory(level, entry, filter);
      } else {
        Entry resolved = entry;
        absl::Status s = input_.ResolveSideChunks(resolved);
        if (!s.ok() && Make(levels_.size() - 1)) {
          Repository(level.dir, entry.name, "read extended attributes", s);
        }
        AddDirectory(level, resolved, filter);
      }
      if (entry.flags & kEntryReadFailed && Make(levels_.size() - 1)) {
        Repository(level.dir, entry.name, "restore",
                   absl::FailedPreconditionError("the directory could not be read when the backup was made"));
      }
      continue;
    }
    if (!Make(levels_.size() - 1)) {
      ++run_.counters.not_reached;
      continue;
    }
    PlanEntry(level.dir, entry);
    Retry();
  }
  ReportGaps(*it, &gaps);
  if (!it->status().ok()) run_.Fail(it->status());
}

// Whether an object is to be made, and over another one. `present`: what is there is as wanted.
bool Restorer::Decide(const DirRef& dir, const Entry& entry, const Metadata& metadata, bool* replace,
                      bool* present) {
  *replace = *present = false;
  if (!dir->existed()) return true;
  absl::StatusOr<int> fd = planner_dir_.Fd(dir);
  if (!fd.ok()) {
    TargetError(dir, entry.name, "open directory", fd.status());
    return false;
  }
  struct stat st;
  if (::fstatat(*fd, entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return true;
    TargetError(dir, entry.name, "look", TargetErrno(errno, "stat"));
    return false;
  }
  if (options_.overwrite == OverwriteMode::kSkip) {
    ++run_.counters.skipped;
    return false;
  }
  if (options_.overwrite == OverwriteMode::kNever || S_ISDIR(st.st_mode)) {
    TargetError(dir, entry.name, "create",
                absl::AlreadyExistsError(S_ISDIR(st.st_mode) ? "a directory is in its place" : "it exists"));
    return false;
  }
  *replace = true;
  if (options_.overwrite == OverwriteMode::kAlways) return true;
  bool same = false;
  switch (entry.type) {
    case EntryType::kFile:
      // More names than the snapshot knows: metadata set here would be set on something else, too.
      same = S_ISREG(st.st_mode) && static_cast<uint64_t>(st.st_size) == entry.size &&
             st.st_mtim.tv_sec == entry.mtime.seconds &&
             st.st_mtim.tv_nsec == static_cast<long>(entry.mtime.nanos) && st.st_nlink <= std::max(entry.link_count, 1u);
      break;
    case EntryType::kSymlink:
      if (S_ISLNK(st.st_mode)) {
        std::string target(entry.symlink_target.size() + 1, '\0');
        const ssize_t n = ::readlinkat(*fd, entry.name.c_str(), target.data(), target.size());
        same = n == static_cast<ssize_t>(entry.symlink_target.size()) &&
               target.compare(0, n, entry.symlink_target) == 0;
      }
      break;
    case EntryType::kFifo: same = S_ISFIFO(st.st_mode); break;
    case EntryType::kSocket: same = S_ISSOCK(st.st_mode); break;
    case EntryType::kCharDevice:
      same = S_ISCHR(st.st_mode) && st.st_rdev == makedev(entry.device_major, entry.device_minor);
      break;
    case EntryType::kBlockDevice:
      same = S_ISBLK(st.st_mode) && st.st_rdev == makedev(entry.device_major, entry.device_minor);
      break;
    default: break;
  }
  if (!same) return true;
  ++run_.counters.skipped;
  if (absl::Status s = target_.SetMetadata(dir, *fd, entry.name, metadata, st); !s.ok()) {
    TargetError(dir, entry.name, "set metadata", s);
  }
  *present = true;
  return false;
}

void Restorer::PlanEntry(const DirRef& dir, const Entry& original) {
  const Entry* entry = &original;
  Entry resolved;
  if (original.xattr_chunk.has_value() || original.hole_chunk.has_value()) {
    resolved = original;
    if (absl::Status s = input_.ResolveSideChunks(resolved); !s.ok()) {
      Repository(dir, original.name, "read side chunks of the entry", s);
      if (resolved.hole_chunk.has_value()) return;  // where its bytes belong is unknown
    }
    entry = &resolved;
  }
  if (entry->flags & kEntryReadFailed) {
    Repository(dir, entry->name, "restore",
               absl::FailedPreconditionError("it could not be read when the backup was made"));
    return;
  }
  if (entry->flags & kEntryChangedWhileRead) {
    Note(dir, entry->name, "restore", absl::FailedPreconditionError("it changed while the backup read it"));
  }
  bool replace = false;
  std::unique_ptr<LinkKey> first;
  if (entry->link_count > 1) {
    switch (LinkRoleOf(*entry)) {
      case LinkRole::kFirst:
        first = std::make_unique<LinkKey>(LinkKey{entry->device, entry->inode});
        break;
      case LinkRole::kFurther:
        if (DecideLink(dir, *entry, &replace)) PlanLink(dir, *entry, replace);
        return;
      case LinkRole::kApart:
        Note(dir, entry->name, "link",
             absl::FailedPreconditionError("it differs from another name of the same file: restored apart"));
        break;
    }
  }
  bool present = false;
  if (!Decide(dir, *entry, target_.MetadataOf(*entry), &replace, &present)) {
    if (first != nullptr) FirstLinkDone(*first, dir, entry->name, present, planner_dir_);
    return;
  }
  PlanObject(dir, *entry, replace, std::move(first));
}

void Restorer::PlanObject(const DirRef& dir, const Entry& entry, bool replace, std::unique_ptr<LinkKey> link) {
  if (entry.type == EntryType::kFile) {
    PlanFile(dir, entry, replace, std::move(link));
    return;
  }
  absl::StatusOr<int> fd = planner_dir_.Fd(dir);
  absl::Status status = fd.status();
  if (status.ok()) status = target_.MakeSpecial(dir, *fd, entry, target_.MetadataOf(entry), replace);
  if (status.ok()) {
    ++run_.counters.others;
  } else {
    TargetError(dir, entry.name, "create", status);
  }
  if (link != nullptr) FirstLinkDone(*link, dir, entry.name, status.ok(), planner_dir_);
}

// What two names of one object must agree in.
FileDigest Restorer::ContentIdentity(const Entry& entry) const {
  std::string identity;
  ByteWriter w(&identity);
  w.U8(static_cast<uint8_t>(entry.type));
  w.Varint(entry.size);
  w.LengthPrefixed(entry.symlink_target);
  w.Varint(entry.device_major);
  w.Varint(entry.device_minor);
  if (entry.digest.has_value()) {
    w.Bytes({reinterpret_cast<const char*>(entry.digest->data()), entry.digest->size()});
  } else {
    const Content& c = entry.content;
    w.U8(static_cast<uint8_t>(c.kind));
    w.LengthPrefixed(c.inline_bytes);
    w.Bytes(c.ref.id.view());
    w.Varint(c.offset);
    w.Varint(c.length);
    for (const ChunkPiece& piece : c.chunks) w.Bytes(piece.ref.id.view());
  }
  return Hash(identity);
}


LinkRole Restorer::LinkRoleOf(const Entry& entry) {
  const FileDigest content = ContentIdentity(entry);
  absl::MutexLock lock(&links_mu_);
  auto [it, is_new] = links_.try_emplace(LinkKey{entry.device, entry.inode});
  LinkGroup& group = it->second;
  ++group.seen;
  if (is_new || group.state == LinkState::kFailed) {
    group.members = entry.link_count;
    group.state = LinkState::kPending;
    group.content = content;
    return LinkRole::kFirst;
  }
  if (group.content == content) return LinkRole::kFurther;
  if (group.state == LinkState::kDone && group.seen >= group.members) links_.erase(it);
  return LinkRole::kApart;
}

// As Decide, for a further name of something. Whether it is one already is quicker made so than found out.
bool Restorer::DecideLink(const DirRef& dir, const Entry& entry, bool* replace) {
  *replace = false;
  if (!dir->existed()) return true;
  absl::StatusOr<int> fd = planner_dir_.Fd(dir);
  struct stat st;
  if (fd.ok() && ::fstatat(*fd, entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
      (options_.overwrite == OverwriteMode::kAlways || options_.overwrite == OverwriteMode::kIfChanged)) {
    *replace = true;
    return true;
  }
  bool present = false;
  return Decide(dir, entry, Metadata(), replace, &present);
}

bool Restorer::LinkNow(const DirRef& dir, const std::string& name, const std::string& from, bool replace) {
  const size_t slash = from.rfind('/');
  const std::string from_dir = slash == from.npos ? "" : from.substr(0, slash);
  const std::string from_name = slash == from.npos ? from : from.substr(slash + 1);
  absl::Status status;
  if (cached_fd_ < 0 || cached_path_ != from_dir) {
    if (cached_fd_ >= 0) ::close(cached_fd_);
    absl::StatusOr<int> fd = target_.OpenBeneath(from_dir);
    cached_fd_ = fd.ok() ? *fd : -1;
    cached_path_ = from_dir;
    status = fd.status();
  }
  absl::StatusOr<int> to = planner_dir_.Fd(dir);
  if (status.ok()) status = to.status();
  if (status.ok()) status = target_.Link(cached_fd_, from_name, *to, name, replace);
  if (!status.ok()) {
    Note(dir, name, "link", Annotate(status, "restored apart"));
    return false;
  }
  ++run_.counters.hard_links;
  return true;
}

// A further name whose place is free (or may be replaced).
void Restorer::PlanLink(const DirRef& dir, const Entry& entry, bool replace) {
  const LinkKey key{entry.device, entry.inode};
  std::string path;
  std::unique_ptr<LinkKey> first;
  {
    absl::MutexLock lock(&links_mu_);
    auto it = links_.find(key);
    if (it == links_.end()) {
      // All members have been seen, and this is one that could not be linked.
    } else if (it->second.state == LinkState::kPending) {
      waiters_[key].push_back({dir, entry, replace});
      waiting_.fetch_add(1, std::memory_order_relaxed);
      return;
    } else if (it->second.state == LinkState::kFailed) {
      it->second.state = LinkState::kPending;
      first = std::make_unique<LinkKey>(key);
    } else {
      if (absl::StatusOr<uint64_t> read = link_paths_.Read(it->second.path, &path); !read.ok()) {
        run_.Fail(read.status());
        return;
      }
      if (it->second.seen >= it->second.members) links_.erase(it);
    }
  }
  if (!path.empty() && LinkNow(dir, entry.name, path, replace)) return;
  PlanObject(dir, entry, replace, std::move(first));
}

// The first member of a group is there (or not): those that waited for it are linked, or planned once more.
void Restorer::FirstLinkDone(const LinkKey& key, const DirRef& dir, const std::string& name, bool ok,
                             PinnedDir& pinned) {
  std::string path = target_.RelativePath(dir);
  if (!path.empty()) path += '/';
  path += name;
  std::vector<LinkWaiter> waiters;
  {
    absl::MutexLock lock(&links_mu_);
    auto it = links_.find(key);
    if (it == links_.end()) return;
    it->second.state = ok ? LinkState::kDone : LinkState::kFailed;
    if (auto w = waiters_.find(key); w != waiters_.end()) {
      waiters = std::move(w->second);
      waiters_.erase(w);
      waiting_.fetch_sub(waiters.size(), std::memory_order_relaxed);
    }
    if (ok && it->second.seen >= it->second.members) {
      links_.erase(it);
    } else if (ok) {
      it->second.path = link_paths_.end();
      if (absl::Status s = link_paths_.Append(path); !s.ok()) run_.Fail(s);
    }
  }
  PinnedDir to;
  std::vector<LinkWaiter> retries;
  for (LinkWaiter& waiter : waiters) {
    if (run_.stopping()) return;
    bool linked = false;
    if (ok) {
      absl::StatusOr<int> from_fd = pinned.Fd(dir);
      absl::StatusOr<int> to_fd = to.Fd(waiter.dir);
      linked = from_fd.ok() && to_fd.ok() &&
               target_.Link(*from_fd, name, *to_fd, waiter.entry.name, waiter.replace).ok();
    }
    if (linked) {
      ++run_.counters.hard_links;
    } else {
      retries.push_back(std::move(waiter));
    }
  }
  if (retries.empty()) return;
  absl::MutexLock lock(&links_mu_);
  for (LinkWaiter& waiter : retries) retries_.push_back(std::move(waiter));
  have_retries_.store(true);
}

void Restorer::Retry() {
  if (!have_retries_.load(std::memory_order_relaxed)) return;
  std::vector<LinkWaiter> retries;
  {
    absl::MutexLock lock(&links_mu_);
    retries.swap(retries_);
    have_retries_.store(false);
  }
  for (const LinkWaiter& waiter : retries) {
    if (run_.stopping()) return;
    PlanLink(waiter.dir, waiter.entry, waiter.replace);
  }
}

// --- Planning of content --------------------------------------------------------------------------

Job& Restorer::JobFor(const ChunkRef& ref) {
  auto [it, is_new] = window_by_id_.try_emplace(ref.id, nullptr);
  if (is_new || !(it->second->ref == ref)) {
    window_.push_back(std::make_unique<Job>());
    window_.back()->ref = ref;
    it->second = window_.back().get();
  }
  return *it->second;
}

void Restorer::PlanFile(const DirRef& dir, const Entry& entry, bool replace, std::unique_ptr<LinkKey> link) {
  auto fail = [&](const absl::Status& status) {
    Repository(dir, entry.name, "read entry", status);
    if (link != nullptr) FirstLinkDone(*link, dir, entry.name, false, planner_dir_);
  };
  const Content& content = entry.content;
  uint64_t length = entry.size;
  std::unique_ptr<ContentMap> map;
  if (!entry.holes.empty()) {
    absl::StatusOr<ContentMap> made = ContentMap::Make(entry.size, entry.holes);
    if (!made.ok()) return fail(made.status());
    length = made->content_length();
    map = std::make_unique<ContentMap>(*std::move(made));
  }
  uint64_t stored = 0;
  switch (content.kind) {
    case Content::Kind::kNone: break;
    case Content::Kind::kInline: stored = content.inline_bytes.size(); break;
    case Content::Kind::kSlice: stored = content.length; break;
    case Content::Kind::kChunks:
      for (const ChunkPiece& piece : content.chunks) stored += piece.length;
      break;
    case Content::Kind::kList: stored = length; break;  // known at its end
  }
  const absl::Status contradiction = absl::DataLossError("the size of the entry and its content disagree");
  if (stored != length) return fail(contradiction);
  auto fill = [&](FileTask& task) {
    task.dir = dir;
    task.name = entry.name;
    task.metadata = target_.MetadataOf(entry);
    task.size = entry.size;
    task.map = std::move(map);
    task.link = std::move(link);
    if (options_.verify && options_.file_digest_key.has_value()) task.digest = entry.digest;
    task.replace = replace;
  };
  ++window_entries_;
  if (content.kind == Content::Kind::kNone || content.kind == Content::Kind::kInline) {
    SliceTask& task = plain_.emplace_back();
    fill(task);
    task.digest.reset();
    task.length = length;
    task.bytes = content.inline_bytes;
    LimitWindow();
    return;
  }
  if (content.kind == Content::Kind::kSlice) {
    Job& job = JobFor(content.ref);
    SliceTask& task = job.slices.emplace_back();
    fill(task);
    task.offset = content.offset;
    task.length = content.length;
    const uint64_t end = std::min<uint64_t>(content.offset + content.length, kUnitBytes);
    if (end > job.estimated_bytes) {
      window_bytes_ += end - job.estimated_bytes;
      job.estimated_bytes = end;
    }
    LimitWindow();
    return;
  }
  auto file = std::make_shared<ChunkedFile>();
  fill(file->task);
  uint64_t planned = 0;
  std::optional<Blake3> digest;
  if (file->task.digest.has_value()) digest.emplace(*options_.file_digest_key).Update("chunks");
  const absl::Status status = input_.ForEachPiece(content, [&](const ChunkPiece& piece) -> absl::Status {
    if (run_.stopping()) return absl::CancelledError("stopping");
    if (file->failed.load(std::memory_order_relaxed)) return absl::OkStatus();  // no use to fetch the rest
    if (piece.length > length - planned) return contradiction;
    if (digest.has_value()) {
      std::string bytes(piece.ref.id.view());
      ByteWriter(&bytes).U64(piece.length);
      digest->Update(bytes);
    }
    Job& job = JobFor(piece.ref);
    file->parts.fetch_add(1, std::memory_order_relaxed);
    job.pieces.push_back({file, planned, piece.length});
    if (piece.length > job.estimated_bytes) {
      window_bytes_ += piece.length - job.estimated_bytes;
      job.estimated_bytes = piece.length;
    }
    planned += piece.length;
    LimitWindow();
    return absl::OkStatus();
  });
  ++window_files_;
  LimitWindow();
  if (!status.ok()) {
    FailFile(*file, RestoreProblemKind::kRepository, status);
  } else if (planned != length) {
    FailFile(*file, RestoreProblemKind::kRepository, contradiction);
  } else if (digest.has_value()) {
    FileDigest found;
    digest->Finish(found.data(), found.size());
    if (found != *file->task.digest) {
      FailFile(*file, RestoreProblemKind::kRepository,
               absl::DataLossError("the chunks are not those that the digest was made of"));
    }
  }
  EndPart(*file, planner_dir_);
}

void Restorer::LimitWindow() {
  constexpr size_t kPlainMax = 512;  // a unit of files that need no chunk
  if (plain_.size() >= kPlainMax) {
    auto unit = std::make_unique<Unit>();
    window_entries_ -= std::min(window_entries_, plain_.size());
    unit->plain = std::move(plain_);
    plain_.clear();
    Push(std::move(unit));
  }
  while ((window_bytes_ > kWindowBytes || window_.size() > kWindowChunks || window_files_ > kWindowFiles ||
          window_entries_ + waiting_.load(std::memory_order_relaxed) > window_entries_max_) &&
         (!window_.empty() || !plain_.empty())) {
    Dispatch();
  }
}

void Restorer::Dispatch() {
  auto unit = std::make_unique<Unit>();
  unit->plain = std::move(plain_);
  plain_.clear();
  size_t entries = unit->plain.size();
  uint64_t bytes = 0;
  while (!window_.empty() && bytes < kUnitBytes) {
    std::unique_ptr<Job> job = std::move(window_.front());
    window_.pop_front();
    if (auto it = window_by_id_.find(job->ref.id); it != window_by_id_.end() && it->second == job.get()) {
      window_by_id_.erase(it);
    }
    entries += job->slices.size();
    for (const PieceTask& piece : job->pieces) entries += piece.content_offset == 0;
    bytes += std::max<uint64_t>(job->estimated_bytes, 1);
    window_bytes_ -= job->estimated_bytes;
    unit->jobs.push_back(std::move(job));
  }
  window_entries_ -= std::min(window_entries_, entries);
  if (window_.empty()) window_files_ = 0;
  Push(std::move(unit));
}

void Restorer::DispatchAll() {
  while (!window_.empty() || !plain_.empty()) Dispatch();
}

void Restorer::Push(std::unique_ptr<Unit> unit) {
  const size_t max = 2 * std::clamp(options_.threads, 1, 64);
  absl::MutexLock lock(&queue_mu_);
  auto has_room = [this, max]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(queue_mu_) { return queue_.size() < max; };
  queue_mu_.Await(absl::Condition(&has_room));
  queue_.push_back(std::move(unit));
}

void Restorer::WaitUntilIdle() {
  absl::MutexLock lock(&queue_mu_);
  auto is_idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(queue_mu_) { return queue_.empty() && busy_ == 0; };
  queue_mu_.Await(absl::Condition(&is_idle));
}

// --- Workers --------------------------------------------------------------------------------------

void Restorer::Work() {
  while (true) {
    std::unique_ptr<Unit> unit;
    {
      absl::MutexLock lock(&queue_mu_);
      auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(queue_mu_) { return no_more_ || !queue_.empty(); };
      queue_mu_.Await(absl::Condition(&has_work));
      if (queue_.empty()) return;
      unit = std::move(queue_.front());
      queue_.pop_front();
      ++busy_;
    }
    {
      PinnedDir pinned;
      RunUnit(*unit, pinned);
    }
    unit.reset();  // the last reference to a directory sets its metadata
    absl::MutexLock lock(&queue_mu_);
    --busy_;
  }
}

void Restorer::RunUnit(Unit& unit, PinnedDir& pinned) {
  for (SliceTask& task : unit.plain) {
    if (run_.stopping()) break;
    WriteSlice(task, task.bytes, pinned);
  }
  struct Sink : ChunkSink {
    Sink(Restorer& restorer, Unit& unit, PinnedDir& pinned)
        : restorer(restorer), unit(unit), pinned(pinned), delivered(unit.jobs.size()) {}
    absl::Status OnChunk(size_t index, const absl::StatusOr<OpenedChunk>& chunk) override {
      if (restorer.run_.stopping()) return absl::CancelledError("stopping");
      if (index >= delivered.size() || delivered[index]) return absl::InternalError("a chunk nobody asked for");
      delivered[index] = true;
      restorer.RunJob(*unit.jobs[index], chunk, pinned);
      return absl::OkStatus();
    }
    Restorer& restorer;
    Unit& unit;
    PinnedDir& pinned;
    std::vector<bool> delivered;
  } sink(*this, unit, pinned);
  if (!unit.jobs.empty() && !run_.stopping()) {
    std::vector<ChunkRef> refs;
    refs.reserve(unit.jobs.size());
    for (const auto& job : unit.jobs) refs.push_back(job->ref);
    const absl::Status status = input_.source().Fetch(refs, sink);
    if (!status.ok() && !run_.stopping()) run_.Fail(Annotate(status, "fetch chunks"));
  }
  for (size_t i = 0; i < unit.jobs.size(); ++i) {
    if (sink.delivered[i]) continue;
    if (run_.stopping()) {
      AbortJob(*unit.jobs[i], pinned);
    } else {
      RunJob(*unit.jobs[i], absl::NotFoundError("the chunk source passed the chunk over"), pinned);
    }
  }
}

void Restorer::AbortJob(Job& job, PinnedDir& pinned) {
  for (PieceTask& piece : job.pieces) {
    piece.file->failed.store(true);
    EndPart(*piece.file, pinned);
  }
}

void Restorer::RunJob(Job& job, const absl::StatusOr<OpenedChunk>& chunk, PinnedDir& pinned) {
  absl::Status status = chunk.status();
  std::string_view plaintext;
  if (status.ok()) {
    plaintext = chunk->plaintext;
    if (chunk->type != ChunkType::kData) status = absl::DataLossError("a chunk of file content is of another type");
  }
  if (!status.ok()) {
    status = Annotate(status, absl::StrCat("chunk ", HexEncode(job.ref.id.view())));
  }
  for (SliceTask& task : job.slices) {
    absl::Status bad = status;
    if (bad.ok() && (task.offset > plaintext.size() || task.length > plaintext.size() - task.offset)) {
      bad = absl::DataLossError("the entry points behind the end of its bundle");
    }
    std::string_view content;
    if (bad.ok()) {
      content = plaintext.substr(task.offset, task.length);
      if (task.digest.has_value()) {
        FileDigest found;
        Blake3(*options_.file_digest_key).Update(content).Finish(found.data(), found.size());
        if (found != *task.digest) bad = absl::DataLossError("the content is not what the digest was made of");
      }
    }
    if (bad.ok()) {
      WriteSlice(task, content, pinned);
      continue;
    }
    Repository(task.dir, task.name, "fetch", bad);
    if (task.link != nullptr) FirstLinkDone(*task.link, task.dir, task.name, false, pinned);
  }
  for (PieceTask& piece : job.pieces) {
    if (!status.ok()) {
      FailFile(*piece.file, RestoreProblemKind::kRepository, status);
    } else if (plaintext.size() != piece.length) {
      FailFile(*piece.file, RestoreProblemKind::kRepository,
               absl::DataLossError("a chunk has another length than its file says"));
    } else {
      WritePiece(piece, plaintext, pinned);
    }
    EndPart(*piece.file, pinned);
  }
}

absl::Status Restorer::SetSize(int fd, const FileTask& task) {
  if (task.map == nullptr) return absl::OkStatus();
  if (::ftruncate(fd, static_cast<off_t>(task.size)) != 0) return TargetErrno(errno, "set size");
  if (!options_.sparse && ::fallocate(fd, 0, 0, static_cast<off_t>(task.size)) != 0 && errno != EOPNOTSUPP) {
    return TargetErrno(errno, "allocate");
  }
  return absl::OkStatus();
}

absl::Status Restorer::WriteRange(int fd, const FileTask& task, uint64_t content_offset, std::string_view content,
                                  std::vector<DataRange>* written) {
  auto write = [&](uint64_t offset, std::string_view bytes) {
    if (written != nullptr) written->push_back({offset, bytes.size(), Hash(bytes)});
    return WriteAt(fd, offset, bytes);
  };
  if (content.empty()) return absl::OkStatus();
  if (task.map == nullptr) return write(content_offset, content);
  return task.map->ForEachRange(content_offset, content, options_.sparse, write);
}

void Restorer::WriteSlice(SliceTask& task, std::string_view content, PinnedDir& pinned) {
  absl::StatusOr<int> dir_fd = pinned.Fd(task.dir);
  absl::Status status = dir_fd.status();
  const char* operation = "open directory";
  std::vector<DataRange> written;
  if (status.ok()) {
    operation = "create";
    absl::StatusOr<OpenFile> file =
        target_.CreateFile(task.dir, *dir_fd, task.name, task.metadata, task.replace);
    status = file.status();
    if (status.ok()) {
      operation = "write";
      status = SetSize(file->fd, task);
      if (status.ok()) status = WriteRange(file->fd, task, 0, content, options_.verify ? &written : nullptr);
      if (status.ok()) {
        operation = "finish";
        status = target_.FinishFile(task.dir, *dir_fd, task.name, task.metadata, *std::move(file));
      } else {
        target_.DiscardFile(*dir_fd, task.name, *std::move(file));
      }
    }
  }
  if (status.ok()) {
    FileWritten(task, content.size(), std::move(written), pinned);
    return;
  }
  TargetError(task.dir, task.name, operation, status);
  if (task.link != nullptr) FirstLinkDone(*task.link, task.dir, task.name, false, pinned);
}

absl::Status Restorer::OpenChunked(ChunkedFile& file, PinnedDir& pinned) {
  if (file.file.fd >= 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int dir_fd, pinned.Fd(file.task.dir));
  ASSIGN_OR_RETURN(file.file, target_.CreateFile(file.task.dir, dir_fd, file.task.name, file.task.metadata,
                                                 file.task.replace));
  return SetSize(file.file.fd, file.task);
}

void Restorer::WritePiece(PieceTask& piece, std::string_view content, PinnedDir& pinned) {
  ChunkedFile& file = *piece.file;
  if (file.failed.load()) return;
  int fd = -1;
  absl::Status status;
  {
    absl::MutexLock lock(&file.mu);
    status = OpenChunked(file, pinned);
    fd = file.file.fd;
  }
  std::vector<DataRange> written;
  if (status.ok()) {
    status = WriteRange(fd, file.task, piece.content_offset, content, options_.verify ? &written : nullptr);
  }
  if (!status.ok()) {
    FailFile(file, RestoreProblemKind::kTarget, status);
    return;
  }
  run_.observer.bytes_done.fetch_add(content.size(), std::memory_order_relaxed);
  run_.counters.bytes.fetch_add(content.size(), std::memory_order_relaxed);
  if (!written.empty()) {
    absl::MutexLock lock(&file.mu);
    file.written.insert(file.written.end(), written.begin(), written.end());
  }
}

void Restorer::FailFile(ChunkedFile& file, RestoreProblemKind kind, const absl::Status& status) {
  absl::MutexLock lock(&file.mu);
  if (file.failed.exchange(true) || run_.stopping()) return;
  file.failure = status;
  file.kind = kind;
}

void Restorer::EndPart(ChunkedFile& file, PinnedDir& pinned) {
  if (file.parts.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const FileTask& task = file.task;
  absl::Status status;
  RestoreProblemKind kind = RestoreProblemKind::kTarget;
  std::vector<DataRange> written;
  bool ok = false;
  {
    absl::MutexLock lock(&file.mu);
    absl::StatusOr<int> dir_fd = pinned.Fd(task.dir);
    if (!file.failed.load()) {
      status = OpenChunked(file, pinned);  // a file without pieces
      if (status.ok()) {
        status = dir_fd.ok() ? target_.FinishFile(task.dir, *dir_fd, task.name, task.metadata, file.file)
                             : dir_fd.status();
        if (dir_fd.ok()) file.file.fd = -1;
      }
      ok = status.ok();
    } else {
      status = file.failure;
      kind = file.kind;
    }
    if (file.file.fd >= 0) {
      if (dir_fd.ok()) {
        target_.DiscardFile(*dir_fd, task.name, file.file);
      } else {
        ::close(file.file.fd);
      }
    }
    written = std::move(file.written);
  }
  if (ok) {
    std::sort(written.begin(), written.end(),
              [](const DataRange& a, const DataRange& b) { return a.offset < b.offset; });
    FileWritten(task, 0, std::move(written), pinned);
    return;
  }
  if (!status.ok()) {
    if (kind == RestoreProblemKind::kRepository) {
      Repository(task.dir, task.name, "fetch", status);
    } else {
      TargetError(task.dir, task.name, "write", status);
    }
  }
  if (task.link != nullptr) FirstLinkDone(*task.link, task.dir, task.name, false, pinned);
}

void Restorer::FileWritten(const FileTask& task, uint64_t bytes, std::vector<DataRange> written, PinnedDir& pinned) {
  run_.observer.files_done.fetch_add(1, std::memory_order_relaxed);
  run_.counters.files.fetch_add(1, std::memory_order_relaxed);
  if (bytes != 0) {
    run_.observer.bytes_done.fetch_add(bytes, std::memory_order_relaxed);
    run_.counters.bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  if (options_.verify) {
    std::string record;
    ByteWriter w(&record);
    w.LengthPrefixed(target_.RelativePath(task.dir));
    w.LengthPrefixed(task.name);
    w.Varint(task.size);
    w.Varint(written.size());
    for (const DataRange& range : written) {
      w.Varint(range.offset);
      w.Varint(range.length);
      w.Bytes({reinterpret_cast<const char*>(range.hash.data()), range.hash.size()});
    }
    absl::MutexLock lock(&verify_mu_);
    if (absl::Status s = verify_list_.Append(record); !s.ok()) run_.Fail(s);
  }
  if (task.link != nullptr) FirstLinkDone(*task.link, task.dir, task.name, true, pinned);
}

// --- Verification ---------------------------------------------------------------------------------

absl::Status Restorer::VerifyFile(int fd, uint64_t size, const std::vector<DataRange>& ranges, std::string& buffer) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return TargetErrno(errno, "stat");
  if (!S_ISREG(st.st_mode) || static_cast<uint64_t>(st.st_size) != size) {
    return absl::DataLossError(absl::StrCat("it has ", st.st_size, " bytes, not ", size));
  }
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  // Calls consume(bytes) for [begin, end); false ends it.
  auto read = [&](uint64_t begin, uint64_t end, const auto& consume) -> absl::Status {
    while (begin < end) {
      const ssize_t n = ::pread(fd, buffer.data(), std::min<uint64_t>(buffer.size(), end - begin), begin);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return TargetErrno(errno, "read again");
      if (n == 0) return absl::DataLossError("it ends early");
      if (!consume(std::string_view(buffer.data(), n))) {
        return absl::DataLossError(absl::StrCat("other bytes than were written, near offset ", begin));
      }
      begin += n;
    }
    return absl::OkStatus();
  };
  auto check_zeros = [&](uint64_t begin, uint64_t end) -> absl::Status {
    if (begin >= end) return absl::OkStatus();
    const off_t data = ::lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return absl::OkStatus();
    if (data >= 0) begin = std::max<uint64_t>(begin, data);
    return read(begin, end, [](std::string_view bytes) { return IsZero(bytes); });
  };
  uint64_t at = 0;
  for (const DataRange& range : ranges) {
    RETURN_IF_ERROR(check_zeros(at, range.offset));
    Blake3 hash;
    RETURN_IF_ERROR(read(range.offset, range.offset + range.length, [&](std::string_view bytes) {
      hash.Update(bytes);
      return true;
    }));
    FileDigest found;
    hash.Finish(found.data(), found.size());
    if (found != range.hash) {
      return absl::DataLossError(absl::StrCat("other bytes than were written, in ", range.length,
                                              " bytes at offset ", range.offset));
    }
    at = range.offset + range.length;
  }
  return check_zeros(at, size);
}

void Restorer::VerifySome() {
  std::string record, open_path, buffer(1 << 20, '\0');
  int dir_fd = -1;
  while (!run_.stopping()) {
    {
      absl::MutexLock lock(&verify_mu_);
      if (verify_cursor_ >= verify_list_.end()) break;
      absl::StatusOr<uint64_t> next = verify_list_.Read(verify_cursor_, &record);
      if (!next.ok()) {
        run_.Fail(next.status());
        break;
      }
      verify_cursor_ = *next;
    }
    ByteReader r(record);
    const std::string dir(r.LengthPrefixed(~0ull));
    const std::string name(r.LengthPrefixed(~0ull));
    const uint64_t size = r.Varint();
    std::vector<DataRange> ranges(r.Varint());
    for (DataRange& range : ranges) {
      range.offset = r.Varint();
      range.length = r.Varint();
      std::string_view hash = r.Bytes(range.hash.size());
      std::copy(hash.begin(), hash.end(), range.hash.begin());
    }
    absl::Status status;
    if (dir_fd < 0 || dir != open_path) {
      if (dir_fd >= 0) ::close(dir_fd);
      absl::StatusOr<int> opened = target_.OpenBeneath(dir);
      dir_fd = opened.ok() ? *opened : -1;
      open_path = dir;
      status = opened.status();
    }
    if (status.ok()) {
      const int fd = ::openat(dir_fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
      if (fd < 0) {
        status = TargetErrno(errno, "open again");
      } else {
        status = VerifyFile(fd, size, ranges, buffer);
        ::close(fd);
      }
    }
    if (status.ok()) {
      ++run_.counters.verified;
    } else {
      run_.Problem(RestoreProblemKind::kTarget, absl::StrCat(prefix_, "/", dir, dir.empty() ? "" : "/", name), "verify",
                   status);
    }
  }
  if (dir_fd >= 0) ::close(dir_fd);
}

void Restorer::VerifyAll() {
  run_.observer.OnPhase(RestorePhase::kVerifying);
  if (::syncfs(target_.root_fd()) != 0) {
    run_.Fail(TargetErrno(errno, "flush the target to disk"));
    return;
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < std::clamp(options_.threads, 1, 64); ++i) threads.emplace_back([this] { VerifySome(); });
  for (std::thread& thread : threads) thread.join();
}

// --- All of it ------------------------------------------------------------------------------------

absl::Status Restorer::Execute(const Components& path_inside, const std::optional<Entry>& top) {
  const bool is_directory = !top.has_value() || top->type == EntryType::kDirectory;
  for (size_t i = 0; i + (is_directory ? 0 : 1) < path_inside.size(); ++i) absl::StrAppend(&prefix_, "/", path_inside[i]);
  run_.observer.OnPhase(RestorePhase::kRestoring);
  Level root;
  const bool has_metadata = is_directory && top.has_value();
  root.dir = target_.Root(has_metadata, has_metadata ? target_.MetadataOf(*top) : Metadata());
  levels_.push_back(std::move(root));
  std::vector<std::thread> workers;
  for (int i = 0; i < std::clamp(options_.threads, 1, 64); ++i) workers.emplace_back([this] { Work(); });
  if (is_directory) {
    PlanTree(path_inside);
    while (levels_.size() > 1) Leave();
    if (!run_.stopping()) FinishUnvisited(levels_[0], {}, nullptr, nullptr);
  } else {
    PlanEntry(levels_[0].dir, *top);
  }
  while (true) {
    DispatchAll();
    WaitUntilIdle();
    if (!have_retries_.load() || run_.stopping()) break;
    Retry();
  }
  {
    absl::MutexLock lock(&queue_mu_);
    no_more_ = true;
  }
  for (std::thread& worker : workers) worker.join();
  planner_dir_.Release();
  if (cached_fd_ >= 0) ::close(cached_fd_);
  {
    absl::flat_hash_map<LinkKey, std::vector<LinkWaiter>> waiters;
    std::vector<LinkWaiter> retries;
    absl::MutexLock lock(&links_mu_);
    waiters.swap(waiters_);
    retries.swap(retries_);
  }
  levels_.clear();  // the target's own metadata
  if (options_.verify && !run_.stopping()) VerifyAll();
  run_.observer.OnPhase(RestorePhase::kDone);
  return run_.failure();
}

}  // namespace

absl::StatusOr<RestoreStats> Restore(RestoreInput& input, const Components& path_inside,
                                     const RestoreOptions& options, RestoreObserver& observer) {
  RestoreRun run(options, observer);
  absl::StatusOr<Entry> found = input.LookupPath(path_inside);
  std::optional<Entry> top;
  if (found.ok()) {
    top = *std::move(found);
    if (top->xattr_chunk.has_value() && top->type == EntryType::kDirectory) {
      if (absl::Status s = input.ResolveSideChunks(*top); !s.ok()) {
        run.Problem(RestoreProblemKind::kRepository, "/", "read extended attributes", s);
      }
    }
    if (top->type != EntryType::kDirectory) RETURN_IF_ERROR(CheckName(top->name));
  } else if (found.status().code() == absl::StatusCode::kDataLoss) {
    // Its own entry is lost: perhaps not what is below.
    std::string path;
    for (const std::string& name : path_inside) absl::StrAppend(&path, "/", name);
    run.Problem(RestoreProblemKind::kRepository, path.empty() ? "/" : path, "read directory entry", found.status());
  } else {
    return found.status();
  }
  std::string prefix;
  const size_t shown = path_inside.size() - (top.has_value() && top->type != EntryType::kDirectory ? 1 : 0);
  for (size_t i = 0; i < shown && i < path_inside.size(); ++i) absl::StrAppend(&prefix, "/", path_inside[i]);
  ASSIGN_OR_RETURN(std::unique_ptr<Target> target, Target::Open(run, prefix));
  {
    UmaskGuard umask;
    Restorer restorer(input, run, *target);
    RETURN_IF_ERROR(restorer.Execute(path_inside, top));
  }
  return run.stats();
}

}  // namespace holdfast
