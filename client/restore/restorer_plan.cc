#include "client/restore/restorer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "client/restore/target_errno.h"
#include "core/base/codec.h"
#include "core/crypto/blake3.h"

namespace holdfast::restore_internal {
namespace {

// One fetch: large enough to hide a round trip, small enough to share the end of a restore among the workers.
constexpr uint64_t kUnitBytes = 6u << 20;
// How far the planner looks ahead for files in the same bundle.
constexpr uint64_t kWindowBytes = 32u << 20;
constexpr uint64_t kWindowChunks = 1024;
constexpr size_t kWindowFiles = 64;  // of several chunks: each may be open while it waits for the next one

// The file runs with more rights than who starts it.
bool MeansRights(const Metadata& m) {
  if ((m.mode & 06000) != 0) return true;
  if (m.xattrs == nullptr) return false;
  return std::any_of(m.xattrs->begin(), m.xattrs->end(),
                     [](const Xattr& x) { return x.name == "security.capability"; });
}

uint64_t AttributeBytes(const Entry& entry) {
  uint64_t bytes = 0;
  for (const Xattr& x : entry.xattrs) bytes += x.name.size() + x.value.size();
  return bytes;
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

}  // namespace

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
    absl::StatusOr<DirRef> dir = target_.MakeDirectory(levels_[i - 1].dir, planner_dir_, level.name, level.has_metadata,
                                                       std::move(level.metadata));
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
    run_.Problem(
        RestoreProblemKind::kRepository, KeyPath(gap.range.begin), "read directory entries",
        Annotate(gap.status, absl::StrCat("everything from ", KeyPath(gap.range.begin), " to ",
                                          gap.range.end.empty() ? "the end" : KeyPath(gap.range.end), " is lost")));
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
bool Restorer::Decide(const DirRef& dir, const Entry& entry, const Metadata& metadata, bool* replace, bool* present) {
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
             st.st_mtim.tv_sec == entry.mtime.seconds && st.st_mtim.tv_nsec == static_cast<long>(entry.mtime.nanos) &&
             st.st_nlink <= std::max(entry.link_count, 1u);
      // Rights are given to content that was just written, not to what somebody put there with the same size and time.
      if (MeansRights(metadata)) same = false;
      break;
    case EntryType::kSymlink:
      if (S_ISLNK(st.st_mode)) {
        std::string target(entry.symlink_target.size() + 1, '\0');
        const ssize_t n = ::readlinkat(*fd, entry.name.c_str(), target.data(), target.size());
        same =
            n == static_cast<ssize_t>(entry.symlink_target.size()) && target.compare(0, n, entry.symlink_target) == 0;
      }
      break;
    case EntryType::kFifo:
      same = S_ISFIFO(st.st_mode);
      break;
    case EntryType::kSocket:
      same = S_ISSOCK(st.st_mode);
      break;
    case EntryType::kCharDevice:
      same = S_ISCHR(st.st_mode) && st.st_rdev == makedev(entry.device_major, entry.device_minor);
      break;
    case EntryType::kBlockDevice:
      same = S_ISBLK(st.st_mode) && st.st_rdev == makedev(entry.device_major, entry.device_minor);
      break;
    default:
      break;
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
  for (const Hole& hole : entry.holes) {
    w.Varint(hole.offset);
    w.Varint(hole.length);
  }
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
      const size_t weight = 1 + AttributeBytes(entry) / kBytesPerWindowEntry;
      waiters_[key].push_back({dir, entry, replace, weight});
      waiting_.fetch_add(weight, std::memory_order_relaxed);
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
      for (const LinkWaiter& waiter : waiters) waiting_.fetch_sub(waiter.weight, std::memory_order_relaxed);
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
      linked =
          from_fd.ok() && to_fd.ok() && target_.Link(*from_fd, name, *to_fd, waiter.entry.name, waiter.replace).ok();
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

void Restorer::HoldAttributes(Job& job, const Entry& entry) {
  const uint64_t bytes = AttributeBytes(entry);
  job.attribute_bytes += bytes;
  window_bytes_ += bytes;
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
    case Content::Kind::kNone:
      break;
    case Content::Kind::kInline:
      stored = content.inline_bytes.size();
      break;
    case Content::Kind::kSlice:
      stored = content.length;
      break;
    case Content::Kind::kChunks:
      for (const ChunkPiece& piece : content.chunks) stored += piece.length;
      break;
    case Content::Kind::kList:
      stored = length;
      break;  // known at its end
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
    plain_attribute_bytes_ += AttributeBytes(entry);
    LimitWindow();
    return;
  }
  if (content.kind == Content::Kind::kSlice) {
    Job& job = JobFor(content.ref);
    SliceTask& task = job.slices.emplace_back();
    fill(task);
    task.offset = content.offset;
    task.length = content.length;
    HoldAttributes(job, entry);
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
    // No use to fetch the rest; nor to walk it, which a hostile list can make endless.
    if (file->failed.load(std::memory_order_relaxed)) return absl::CancelledError("failed already");
    if (piece.length > length - planned) return contradiction;
    if (digest.has_value()) {
      std::string bytes(piece.ref.id.view());
      ByteWriter(&bytes).U64(piece.length);
      digest->Update(bytes);
    }
    Job& job = JobFor(piece.ref);
    if (planned == 0) HoldAttributes(job, entry);
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
  if (file->failed.load(std::memory_order_relaxed)) {
    // Said by who failed.
  } else if (!status.ok() && !IsOfTheObject(status)) {
    if (!run_.stopping()) run_.Fail(Annotate(status, "read the list of a file's chunks"));
    FailFile(*file, RestoreProblemKind::kRepository, status);
  } else if (!status.ok()) {
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
  if (plain_.size() >= kPlainMax || plain_attribute_bytes_ > kUnitBytes) {
    auto unit = std::make_unique<Unit>();
    window_entries_ -= std::min(window_entries_, plain_.size());
    unit->plain = std::move(plain_);
    plain_.clear();
    plain_attribute_bytes_ = 0;
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
  plain_attribute_bytes_ = 0;
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
    bytes += std::max<uint64_t>(job->estimated_bytes + job->attribute_bytes, 1);
    window_bytes_ -= job->estimated_bytes + job->attribute_bytes;
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

}  // namespace holdfast::restore_internal
