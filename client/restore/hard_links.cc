#include "client/restore/hard_links.h"

#include <unistd.h>

#include <string_view>

#include "client/restore/beneath.h"
#include "client/restore/metadata.h"
#include "core/base/codec.h"
#include "core/crypto/blake3.h"

namespace holdfast {

FileDigest LinkIdentity(const Entry& entry) {
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
  FileDigest out;
  Blake3().Update(identity).Finish(out.data(), out.size());
  return out;
}

HardLinks::~HardLinks() {
  if (from_fd_ >= 0) ::close(from_fd_);
}

size_t HardLinks::WeightOf(const Entry& entry) { return 1 + AttributeBytes(entry) / kBytesPerWaitingName; }

LinkRole HardLinks::RoleOf(const Entry& entry) {
  const FileDigest identity = LinkIdentity(entry);
  absl::MutexLock lock(&mu_);
  auto [it, is_new] = groups_.try_emplace(LinkKey{entry.device, entry.inode});
  Group& group = it->second;
  ++group.seen;
  if (is_new || group.state == State::kFailed) {
    group.members = entry.link_count;
    group.state = State::kPending;
    group.identity = identity;
    return LinkRole::kFirst;
  }
  if (group.identity == identity) return LinkRole::kFurther;
  if (group.state == State::kDone && group.seen >= group.members) groups_.erase(it);
  return LinkRole::kApart;
}

LinkPlacement HardLinks::Place(FurtherName further, PinnedDir& pinned) {
  const LinkKey key{further.entry.device, further.entry.inode};
  std::string path;
  {
    absl::MutexLock lock(&mu_);
    auto it = groups_.find(key);
    // All members have been seen, and this is one that could not be linked.
    if (it == groups_.end()) return LinkPlacement::kApart;
    Group& group = it->second;
    if (group.state == State::kPending) {
      waiting_.fetch_add(WeightOf(further.entry), std::memory_order_relaxed);
      waiters_[key].push_back(std::move(further));
      return LinkPlacement::kDone;
    }
    if (group.state == State::kFailed) {
      group.state = State::kPending;
      return LinkPlacement::kFirst;
    }
    if (absl::StatusOr<uint64_t> read = paths_.Read(group.path, &path); !read.ok()) {
      run_.Fail(read.status());
      return LinkPlacement::kDone;
    }
    if (group.seen >= group.members) groups_.erase(it);
  }
  return LinkToPath(further, path, pinned) ? LinkPlacement::kDone : LinkPlacement::kApart;
}

bool HardLinks::LinkToPath(const FurtherName& further, const std::string& path, PinnedDir& pinned) {
  const size_t slash = path.rfind('/');
  const std::string from_dir = slash == path.npos ? "" : path.substr(0, slash);
  const std::string from_name = slash == path.npos ? path : path.substr(slash + 1);
  absl::Status status;
  if (from_fd_ < 0 || from_path_ != from_dir) {
    if (from_fd_ >= 0) ::close(from_fd_);
    absl::StatusOr<int> fd = OpenBeneath(directories_.root_fd(), from_dir);
    from_fd_ = fd.ok() ? *fd : -1;
    from_path_ = from_dir;
    status = fd.status();
  }
  absl::StatusOr<int> to = pinned.Fd(further.dir);
  if (status.ok()) status = to.status();
  if (status.ok()) status = files_.Link(from_fd_, from_name, *to, further.entry.name, further.replace);
  if (!status.ok()) {
    run_.ReportNote(directories_.SnapshotPath(further.dir, further.entry.name), "link",
                    Annotate(status, "restored apart"));
    return false;
  }
  ++run_.counters.hard_links;
  return true;
}

void HardLinks::FirstDone(const LinkKey& key, const DirRef& dir, const std::string& name, bool is_there,
                          PinnedDir& pinned) {
  std::string path = directories_.RelativePath(dir);
  if (!path.empty()) path += '/';
  path += name;
  std::vector<FurtherName> waiters;
  {
    absl::MutexLock lock(&mu_);
    auto it = groups_.find(key);
    if (it == groups_.end()) return;
    it->second.state = is_there ? State::kDone : State::kFailed;
    if (auto w = waiters_.find(key); w != waiters_.end()) {
      waiters = std::move(w->second);
      waiters_.erase(w);
      for (const FurtherName& f : waiters) waiting_.fetch_sub(WeightOf(f.entry), std::memory_order_relaxed);
    }
    if (is_there && it->second.seen >= it->second.members) {
      groups_.erase(it);
    } else if (is_there) {
      it->second.path = paths_.end();
      if (absl::Status s = paths_.Append(path); !s.ok()) run_.Fail(s);
    }
  }
  PinnedDir to;
  std::vector<FurtherName> retries;
  for (FurtherName& f : waiters) {
    if (run_.stopping()) return;
    bool linked = false;
    if (is_there) {
      absl::StatusOr<int> from_fd = pinned.Fd(dir);
      absl::StatusOr<int> to_fd = to.Fd(f.dir);
      linked = from_fd.ok() && to_fd.ok() && files_.Link(*from_fd, name, *to_fd, f.entry.name, f.replace).ok();
    }
    if (linked) {
      ++run_.counters.hard_links;
    } else {
      retries.push_back(std::move(f));
    }
  }
  if (retries.empty()) return;
  absl::MutexLock lock(&mu_);
  for (FurtherName& f : retries) retries_.push_back(std::move(f));
  has_retries_.store(true);
}

std::vector<FurtherName> HardLinks::TakeRetries() {
  std::vector<FurtherName> retries;
  if (!has_retries()) return retries;
  absl::MutexLock lock(&mu_);
  retries.swap(retries_);
  has_retries_.store(false);
  return retries;
}

void HardLinks::Close() {
  // Outside the lock: the last reference to a directory sets its metadata.
  absl::flat_hash_map<LinkKey, std::vector<FurtherName>> waiters;
  std::vector<FurtherName> retries;
  absl::MutexLock lock(&mu_);
  waiters.swap(waiters_);
  retries.swap(retries_);
}

}  // namespace holdfast
