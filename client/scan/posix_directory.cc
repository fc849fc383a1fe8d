#include "client/scan/posix_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace holdfast {
namespace {

constexpr char kErrnoPayload[] = "holdfast/errno";

EntryType TypeOf(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return EntryType::kDirectory;
    case S_IFLNK:
      return EntryType::kSymlink;
    case S_IFIFO:
      return EntryType::kFifo;
    case S_IFSOCK:
      return EntryType::kSocket;
    case S_IFCHR:
      return EntryType::kCharDevice;
    case S_IFBLK:
      return EntryType::kBlockDevice;
    default:
      return EntryType::kFile;
  }
}

// Some file systems pass on what a server or a damaged disk says; the format takes real nanoseconds only.
Timestamp ToTimestamp(int64_t seconds, uint64_t nanos) {
  return {seconds, static_cast<uint32_t>(std::min<uint64_t>(nanos, 999999999))};
}

void FromStat(const struct stat& st, SourceStat* out) {
  out->identity = {st.st_dev, st.st_ino};
  out->type = TypeOf(st.st_mode);
  out->mode = st.st_mode & 07777;
  out->uid = st.st_uid;
  out->gid = st.st_gid;
  out->link_count = static_cast<uint32_t>(st.st_nlink);
  out->size = static_cast<uint64_t>(st.st_size);
  out->blocks = static_cast<uint64_t>(st.st_blocks);
  out->mtime = ToTimestamp(st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  out->ctime = ToTimestamp(st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
  out->birth_time.reset();
  bool device = out->type == EntryType::kCharDevice || out->type == EntryType::kBlockDevice;
  out->device_major = device ? major(st.st_rdev) : 0;
  out->device_minor = device ? minor(st.st_rdev) : 0;
}

void FromStatx(const struct statx& st, SourceStat* out) {
  out->identity = {makedev(st.stx_dev_major, st.stx_dev_minor), st.stx_ino};
  out->type = TypeOf(st.stx_mode);
  out->mode = st.stx_mode & 07777;
  out->uid = st.stx_uid;
  out->gid = st.stx_gid;
  out->link_count = st.stx_nlink;
  out->size = st.stx_size;
  out->blocks = st.stx_blocks;
  out->mtime = ToTimestamp(st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec);
  out->ctime = ToTimestamp(st.stx_ctime.tv_sec, st.stx_ctime.tv_nsec);
  if (st.stx_mask & STATX_BTIME) {
    out->birth_time = ToTimestamp(st.stx_btime.tv_sec, st.stx_btime.tv_nsec);
  } else {
    out->birth_time.reset();
  }
  bool device = out->type == EntryType::kCharDevice || out->type == EntryType::kBlockDevice;
  out->device_major = device ? st.stx_rdev_major : 0;
  out->device_minor = device ? st.stx_rdev_minor : 0;
}

// Old kernels lack statx and old container filters forbid it with EPERM: one refusal settles it for the process.
std::atomic<bool> statx_works{true};

template <typename List, typename Get>
absl::StatusOr<std::vector<Xattr>> CollectXattrs(List list, Get get) {
  std::vector<Xattr> out;
  char fixed[1024];
  std::string grown;
  char* names = fixed;
  ssize_t n = list(fixed, sizeof(fixed));
  while (n < 0 && errno == ERANGE) {
    n = list(nullptr, 0);
    if (n < 0) break;
    grown.resize(static_cast<size_t>(n) + 1024);
    names = grown.data();
    n = list(names, grown.size());
  }
  if (n < 0) {
    if (errno == ENOTSUP || errno == ENODATA) return out;
    return SourceErrnoStatus(errno, "list extended attributes");
  }
  std::string value;
  uint64_t bytes = 0;
  for (const char* p = names; p < names + n; p += std::strlen(p) + 1) {
    value.resize(std::max<size_t>(value.capacity(), 256));
    ssize_t size = get(p, value.data(), value.size());
    while (size < 0 && errno == ERANGE) {
      size = get(p, nullptr, 0);
      if (size < 0) break;
      value.resize(static_cast<size_t>(size) + 64);
      size = get(p, value.data(), value.size());
    }
    if (size < 0) {
      // Gone since the listing, or not ours to read.
      if (errno == ENODATA || errno == EPERM || errno == EACCES || errno == ENOTSUP) continue;
      return SourceErrnoStatus(errno, "read extended attribute");
    }
    out.push_back({p, value.substr(0, static_cast<size_t>(size))});
    // More than can be stored: whoever stores them says so. No more memory for it.
    bytes += out.back().name.size() + out.back().value.size();
    if (bytes > kXattrBytesReadMax) break;
  }
  std::sort(out.begin(), out.end(), [](const Xattr& a, const Xattr& b) { return a.name < b.name; });
  // A file system in user space may list a name twice.
  out.erase(std::unique(out.begin(), out.end(), [](const Xattr& a, const Xattr& b) { return a.name == b.name; }),
            out.end());
  return out;
}

absl::StatusOr<std::vector<Xattr>> XattrsOfFd(int fd) {
  return CollectXattrs([&](char* buf, size_t n) { return flistxattr(fd, buf, n); },
                       [&](const char* name, char* buf, size_t n) { return fgetxattr(fd, name, buf, n); });
}

std::string ProcPath(int fd) { return absl::StrCat("/proc/self/fd/", fd); }

class PosixFile final : public SourceFile {
 public:
  PosixFile(int fd, const SourceStat& stat) : fd_(fd), stat_(stat) {}
  ~PosixFile() override { close(fd_); }

  absl::StatusOr<size_t> ReadAt(uint64_t offset, char* buffer, size_t size) override {
    size_t done = 0;
    while (done < size) {
      ssize_t n = pread(fd_, buffer + done, size - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return SourceErrnoStatus(errno, "read");
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }
  const SourceStat& OpenedStat() const override { return stat_; }
  absl::StatusOr<SourceStat> Stat() override {
    SourceStat st;
    if (int e = StatAt(fd_, "", &st); e != 0) return SourceErrnoStatus(e, "stat");
    return st;
  }
  absl::StatusOr<std::optional<Range>> NextData(uint64_t offset) override {
    off_t begin = lseek(fd_, static_cast<off_t>(offset), SEEK_DATA);
    if (begin < 0 && errno == ENXIO) return std::optional<Range>();
    if (begin < 0 && errno != EINVAL && errno != EOPNOTSUPP) return SourceErrnoStatus(errno, "seek");
    if (begin < 0) {  // no hole support
      SourceStat st;
      if (int e = StatAt(fd_, "", &st); e != 0) return SourceErrnoStatus(e, "stat");
      if (offset >= st.size) return std::optional<Range>();
      return std::optional<Range>(Range{offset, st.size});
    }
    off_t end = lseek(fd_, begin, SEEK_HOLE);
    if (end < 0) return SourceErrnoStatus(errno, "seek");
    return std::optional<Range>(Range{static_cast<uint64_t>(begin), static_cast<uint64_t>(end)});
  }
  absl::StatusOr<std::vector<Xattr>> ReadXattrs() override { return XattrsOfFd(fd_); }

 private:
  const int fd_;
  const SourceStat stat_;
};

}  // namespace

absl::Status SourceErrnoStatus(int error_number, std::string_view operation) {
  absl::Status status = absl::ErrnoToStatus(error_number, AbslView(operation));
  if (error_number == ESTALE || error_number == ELOOP || error_number == ENOTDIR) {
    status = absl::AbortedError(
        absl::StrCat(AbslView(operation), ": no longer what was listed: ", std::strerror(error_number)));
  }
  status.SetPayload(kErrnoPayload, absl::Cord(absl::StrCat(error_number)));
  return status;
}

int SourceErrno(const absl::Status& status) {
  auto payload = status.GetPayload(kErrnoPayload);
  return payload.has_value() ? std::atoi(std::string(*payload).c_str()) : 0;
}

SharedFd::~SharedFd() { close(fd_); }

int StatAt(int directory_fd, const char* name, SourceStat* out) {
  int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name == '\0' ? AT_EMPTY_PATH : 0);
  if (statx_works.load(std::memory_order_relaxed)) {
    struct statx stx {};
    if (statx(directory_fd, name, flags, STATX_BASIC_STATS | STATX_BTIME, &stx) == 0) {
      FromStatx(stx, out);
      return 0;
    }
    if (errno != ENOSYS && errno != EPERM) return errno;
    statx_works.store(false, std::memory_order_relaxed);
  }
  struct stat st {};
  if (fstatat(directory_fd, name, &st, flags) != 0) return errno;
  FromStat(st, out);
  return 0;
}

int OpenAt(int directory_fd, const char* name, int extra_flags, int* fd) {
  int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME | extra_flags;
  while (true) {
    *fd = openat(directory_fd, name, flags);
    if (*fd >= 0) return 0;
    if (errno == EPERM && (flags & O_NOATIME)) {  // neither the owner nor privileged
      flags &= ~O_NOATIME;
    } else if (errno != EINTR) {
      return errno;
    }
  }
}

// The most recently used directories of the process, open.
class OpenDirectories {
 public:
  static OpenDirectories& Get() {
    static auto* instance = new OpenDirectories;
    return *instance;
  }

  std::shared_ptr<SharedFd> Find(PosixDirectory* d) {
    if (d->root_fd_ != nullptr) return d->root_fd_;
    absl::MutexLock lock(&mu_);
    if (d->cached_fd_ == nullptr) return nullptr;
    recent_.splice(recent_.begin(), recent_, d->cached_at_);
    return d->cached_fd_;
  }

  void Insert(PosixDirectory* d, const std::shared_ptr<SharedFd>& fd) {
    std::shared_ptr<SharedFd> evicted;  // closes after the lock is gone
    absl::MutexLock lock(&mu_);
    if (d->cached_fd_ != nullptr) return;  // another thread was first
    if (recent_.size() >= kOpenDirectoriesMax) {
      evicted = std::move(recent_.back()->cached_fd_);
      recent_.back()->cached_fd_ = nullptr;
      recent_.pop_back();
    }
    recent_.push_front(d);
    d->cached_at_ = recent_.begin();
    d->cached_fd_ = fd;
  }

  void Remove(PosixDirectory* d) {
    std::shared_ptr<SharedFd> evicted;
    absl::MutexLock lock(&mu_);
    if (d->cached_fd_ == nullptr) return;
    evicted = std::move(d->cached_fd_);
    d->cached_fd_ = nullptr;
    recent_.erase(d->cached_at_);
  }

 private:
  absl::Mutex mu_;
  std::list<PosixDirectory*> recent_ ABSL_GUARDED_BY(mu_);  // most recent first
};

PosixDirectory::PosixDirectory(std::shared_ptr<SharedFd> fd, const SourceStat& root)
    : identity_(root.identity), root_is_directory_(root.type == EntryType::kDirectory), root_fd_(std::move(fd)) {}

PosixDirectory::PosixDirectory(std::shared_ptr<PosixDirectory> parent, std::string_view name, FileIdentity identity)
    : parent_(std::move(parent)),
      name_(name),
      identity_(identity),
      depth_(parent_->depth_ + 1),
      path_bytes_(parent_->path_bytes_ + name.size() + 1) {}

PosixDirectory::~PosixDirectory() {
  OpenDirectories::Get().Remove(this);
  if (parent_ == nullptr) return;
  // A chain of parents may be long: let it go in a loop instead of one destructor inside the other.
  thread_local std::vector<std::shared_ptr<PosixDirectory>>* dying = nullptr;
  if (dying != nullptr) {
    dying->push_back(std::move(parent_));
    return;
  }
  std::vector<std::shared_ptr<PosixDirectory>> parents;
  dying = &parents;
  parents.push_back(std::move(parent_));
  while (!parents.empty()) {
    std::shared_ptr<PosixDirectory> p = std::move(parents.back());
    parents.pop_back();
    p.reset();
  }
  dying = nullptr;
}

Components PosixDirectory::components() const {
  Components out(depth_);
  const PosixDirectory* d = this;
  for (size_t i = depth_; i-- > 0; d = d->parent_.get()) out[i] = d->name_;
  return out;
}

std::string PosixDirectory::RelativePath(std::string_view name) const {
  size_t size = name.size();
  for (const PosixDirectory* d = this; d->parent_ != nullptr; d = d->parent_.get()) size += d->name_.size() + 1;
  if (name.empty() && depth_ > 0) --size;  // no '/' after the last one
  std::string out(size, '/');
  size_t at = size - name.size();
  std::memcpy(out.data() + at, name.data(), name.size());
  if (name.empty()) ++at;
  for (const PosixDirectory* d = this; d->parent_ != nullptr; d = d->parent_.get()) {
    at -= d->name_.size() + 1;
    std::memcpy(out.data() + at, d->name_.data(), d->name_.size());
  }
  return out;
}

int PosixDirectory::Open(std::shared_ptr<SharedFd>* fd) {
  OpenDirectories& open_directories = OpenDirectories::Get();
  std::vector<PosixDirectory*> closed;  // innermost first
  PosixDirectory* d = this;
  while ((*fd = open_directories.Find(d)) == nullptr) {
    closed.push_back(d);
    d = d->parent_.get();
  }
  for (size_t k = closed.size(); k-- > 0;) {
    d = closed[k];
    int raw = -1;
    if (int e = OpenAt((*fd)->get(), d->name_.c_str(), O_DIRECTORY, &raw); e != 0) return e;
    auto opened = std::make_shared<SharedFd>(raw);
    struct stat st {};
    if (fstat(raw, &st) != 0) return errno;
    if (FileIdentity{st.st_dev, st.st_ino} != d->identity_) return ESTALE;
    open_directories.Insert(d, opened);
    *fd = std::move(opened);
  }
  return 0;
}

absl::StatusOr<std::unique_ptr<SourceFile>> PosixDirectory::OpenFile(std::string_view name) {
  int raw = -1;
  if (name.empty() && !root_is_directory_) {
    // Through the descriptor we hold: the very object that was found, whatever its path names by now.
    raw = open(ProcPath(root_fd_->get()).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (raw < 0) return SourceErrnoStatus(errno, "open");
  } else {
    std::shared_ptr<SharedFd> fd;
    if (int e = Open(&fd); e != 0) return SourceErrnoStatus(e, "open directory");
    if (name.empty()) return SourceErrnoStatus(EISDIR, "open");
    if (int e = OpenAt(fd->get(), std::string(name).c_str(), 0, &raw); e != 0) return SourceErrnoStatus(e, "open");
  }
  SourceStat st;
  if (int e = StatAt(raw, "", &st); e != 0) {
    close(raw);
    return SourceErrnoStatus(e, "stat");
  }
  if (st.type != EntryType::kFile) {
    close(raw);
    return SourceErrnoStatus(ESTALE, "open: not a regular file");
  }
  return std::unique_ptr<SourceFile>(std::make_unique<PosixFile>(raw, st));
}

absl::StatusOr<SourceStat> PosixDirectory::Stat(std::string_view name) {
  std::shared_ptr<SharedFd> fd;
  if (int e = Open(&fd); e != 0) return SourceErrnoStatus(e, "open directory");
  SourceStat st;
  if (int e = StatAt(fd->get(), std::string(name).c_str(), &st); e != 0) return SourceErrnoStatus(e, "stat");
  return st;
}

absl::StatusOr<std::string> PosixDirectory::ReadLink(std::string_view name) {
  std::shared_ptr<SharedFd> fd;
  if (int e = Open(&fd); e != 0) return SourceErrnoStatus(e, "open directory");
  const std::string terminated(name);
  std::string target(256, '\0');
  while (true) {
    ssize_t n = readlinkat(fd->get(), terminated.c_str(), target.data(), target.size());
    if (n < 0) return SourceErrnoStatus(errno == EINVAL ? ESTALE : errno, "read link");
    if (static_cast<size_t>(n) < target.size()) {
      target.resize(static_cast<size_t>(n));
      return target;
    }
    target.resize(target.size() * 4);
  }
}

absl::StatusOr<std::vector<Xattr>> PosixDirectory::ReadXattrs(std::string_view name) {
  std::shared_ptr<SharedFd> fd;
  if (int e = Open(&fd); e != 0) return SourceErrnoStatus(e, "open directory");
  if (name.empty() && root_is_directory_) return XattrsOfFd(fd->get());
  // The kernel resolves the descriptor without a path, so depth does not count; only the last component could be a
  // link, and the l... calls do not follow that one. An O_PATH root is named by the descriptor itself.
  std::string path = ProcPath(fd->get());
  if (name.empty()) {
    return CollectXattrs([&](char* buf, size_t n) { return listxattr(path.c_str(), buf, n); },
                         [&](const char* key, char* buf, size_t n) { return getxattr(path.c_str(), key, buf, n); });
  }
  path += '/';
  path += name;
  auto result =
      CollectXattrs([&](char* buf, size_t n) { return llistxattr(path.c_str(), buf, n); },
                    [&](const char* key, char* buf, size_t n) { return lgetxattr(path.c_str(), key, buf, n); });
  if (result.ok() || SourceErrno(result.status()) != ENOENT || access("/proc/self/fd", F_OK) == 0) return result;
  // No /proc here: by descriptor, which files and directories allow.
  int raw = -1;
  if (int e = OpenAt(fd->get(), std::string(name).c_str(), 0, &raw); e != 0) {
    if (e == ELOOP || e == ENXIO) return std::vector<Xattr>();
    return SourceErrnoStatus(e, "open");
  }
  result = XattrsOfFd(raw);
  close(raw);
  return result;
}

}  // namespace holdfast
