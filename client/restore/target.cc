#include "client/restore/target.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "client/restore/target_errno.h"
#include "core/base/limits.h"

namespace holdfast {
namespace {

constexpr char kDefaultAcl[] = "system.posix_acl_default";
constexpr char kAccessAcl[] = "system.posix_acl_access";

absl::Status Errno(std::string_view action) { return TargetErrno(errno, action); }

int OpenDirectoryAt(int fd, const char* name) {
  return ::openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

std::string ProcPath(int fd) { return absl::StrCat("/proc/self/fd/", fd); }

timespec ToTimespec(const Timestamp& t) {
  return {.tv_sec = static_cast<time_t>(t.seconds), .tv_nsec = static_cast<long>(t.nanos)};
}

// Creation mode of something whose group changes afterwards: the group it has until then must not get more than others.
uint32_t ClosedToFirstGroup(uint32_t mode) { return ((mode >> 3) & 7 & ~mode) != 0 ? mode & ~0070u : mode; }

bool IsAcl(const std::string& name) { return name == kDefaultAcl || name == kAccessAcl; }

}  // namespace

absl::Status CheckName(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("the name is empty");
  if (name == "." || name == "..") return absl::InvalidArgumentError("the name is a way out of its directory");
  if (name.find('/') != name.npos) return absl::InvalidArgumentError("the name has a '/' in it");
  if (name.find('\0') != name.npos) return absl::InvalidArgumentError("the name has a NUL in it");
  if (name.size() > kNameBytesMax) return absl::InvalidArgumentError("the name is too long");
  return absl::OkStatus();
}

// --- RestoreRun -----------------------------------------------------------------------------------

void RestoreRun::Problem(RestoreProblemKind kind, std::string path, std::string_view operation,
                         const absl::Status& status) {
  switch (kind) {
    case RestoreProblemKind::kRepository:
      ++counters.repository_errors;
      break;
    case RestoreProblemKind::kTarget:
      ++counters.target_errors;
      break;
    case RestoreProblemKind::kNote:
      ++counters.notes;
      break;
  }
  absl::MutexLock lock(&observer_mu_);
  observer.OnProblem({kind, std::move(path), std::string(operation), status});
}

void RestoreRun::TargetProblem(std::string path, std::string_view operation, const absl::Status& status) {
  if (status.code() == absl::StatusCode::kResourceExhausted) {  // ENOSPC, EDQUOT, EMFILE, ENOMEM
    Fail(Annotate(status, absl::StrCat(AbslView(operation), " ", path)));
  }
  Problem(RestoreProblemKind::kTarget, std::move(path), operation, status);
}

void RestoreRun::Fail(const absl::Status& status) {
  absl::MutexLock lock(&mu_);
  if (failure_.ok()) failure_ = status;
  stop_.store(true);
}

absl::Status RestoreRun::failure() {
  absl::MutexLock lock(&mu_);
  if (!failure_.ok()) return failure_;
  if (observer.cancel.load()) return absl::CancelledError("the restore was cancelled");
  return absl::OkStatus();
}

void RestoreRun::XattrNotRestored(const std::string& path, const std::string& name, const absl::Status& why) {
  ++counters.xattrs_not_restored;
  {
    absl::MutexLock lock(&mu_);
    // user.* and the like have any number of names: one note for the class is enough.
    if (!noted_xattrs_.insert(name.substr(0, name.find('.'))).second) return;
  }
  Problem(RestoreProblemKind::kNote, path, "set extended attribute " + name, why);
}

RestoreStats RestoreRun::stats() const {
  const Counters& c = counters;
  return {.files = c.files,
          .directories = c.directories,
          .others = c.others,
          .hard_links = c.hard_links,
          .bytes = c.bytes,
          .skipped = c.skipped,
          .left_out = c.left_out,
          .not_reached = c.not_reached,
          .verified = c.verified,
          .notes = c.notes,
          .xattrs_not_restored = c.xattrs_not_restored,
          .repository_errors = c.repository_errors,
          .target_errors = c.target_errors};
}

// --- References -----------------------------------------------------------------------------------

DirRef::~DirRef() {
  if (dir_ != nullptr && dir_->references_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    dir_->target_->Release(dir_);
  }
}

absl::StatusOr<int> PinnedDir::Fd(const DirRef& dir) {
  if (dir_.get() == dir.get()) return fd_;
  Release();
  ASSIGN_OR_RETURN(fd_, dir.get()->target_->Pin(dir.get()));
  dir_ = dir;
  return fd_;
}

void PinnedDir::Release() {
  if (!dir_) return;
  dir_.get()->target_->Unpin(dir_.get());
  dir_ = DirRef();
  fd_ = -1;
}

// --- Directories ----------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Target>> Target::Open(RestoreRun& run, std::string snapshot_prefix) {
  auto target = std::unique_ptr<Target>(new Target(run, std::move(snapshot_prefix)));
  const std::string& path = run.options.target;
  if (path.empty()) return absl::InvalidArgumentError("no target directory is given");
  target->root_existed_ = true;
  target->root_fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (target->root_fd_ < 0 && errno == ENOENT) {
    std::filesystem::path p(path);
    if (!p.has_filename()) p = p.parent_path();  // a trailing slash
    std::error_code error;
    if (p.has_parent_path()) std::filesystem::create_directories(p.parent_path(), error);
    if (error) {
      return TargetErrno(error.value(), "make the directories above " + path);
    }
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return Errno("make directory " + path);
    target->root_existed_ = false;
    target->root_fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  if (target->root_fd_ < 0) return Errno("open target directory " + path);
  struct rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    target->open_max_ = std::clamp<uint64_t>(limit.rlim_cur / 2, 16, 512);
  }
  return target;
}

Target::~Target() {
  if (root_fd_ >= 0) ::close(root_fd_);
}

DirRef Target::Root(bool has_metadata, Metadata metadata) {
  Dir* dir = new Dir;
  dir->target_ = this;
  // Mount points come with a lost+found and the like: look before creating, unless it was made just now.
  dir->existed_ = root_existed_;
  if (!root_existed_ && ::fgetxattr(root_fd_, kDefaultAcl, nullptr, 0) > 0) {
    ::fremovexattr(root_fd_, kDefaultAcl);
    ::fremovexattr(root_fd_, kAccessAcl);
    ::fchmod(root_fd_, 0700);
  }
  dir->has_metadata_ = has_metadata;
  dir->metadata_ = std::move(metadata);
  dir->fd_ = root_fd_;
  dir->pins_ = 1;  // for good
  return DirRef(dir);
}

absl::StatusOr<DirRef> Target::MakeDirectory(const DirRef& parent, PinnedDir& pinned, const std::string& name,
                                             bool has_metadata, Metadata metadata) {
  RETURN_IF_ERROR(CheckName(name));
  ASSIGN_OR_RETURN(const int parent_fd, pinned.Fd(parent));
  bool existed = false;
  if (::mkdirat(parent_fd, name.c_str(), 0700) != 0) {
    if (errno != EEXIST) return Errno("make directory");
    existed = true;
  }
  int fd = OpenDirectoryAt(parent_fd, name.c_str());
  if (fd < 0 && existed && (errno == ENOTDIR || errno == ELOOP)) {
    if (run_.options.overwrite != OverwriteMode::kAlways) {
      return absl::AlreadyExistsError("something that is not a directory is in its place");
    }
    // Removes the link or file itself. Whatever appears there next is refused by mkdir.
    if (::unlinkat(parent_fd, name.c_str(), 0) != 0) return Errno("remove what is in the place of the directory");
    if (::mkdirat(parent_fd, name.c_str(), 0700) != 0) return Errno("make directory");
    existed = false;
    fd = OpenDirectoryAt(parent_fd, name.c_str());
  }
  struct stat st;
  if (fd < 0 || ::fstat(fd, &st) != 0) {
    const absl::Status status = Errno("open directory");
    if (fd >= 0) ::close(fd);
    return status;
  }
  Dir* dir = new Dir;
  dir->device_ = st.st_dev;
  dir->inode_ = st.st_ino;
  dir->target_ = this;
  dir->parent_ = parent.get();
  parent.get()->references_.fetch_add(1, std::memory_order_relaxed);
  dir->name_ = name;
  dir->existed_ = existed;
  dir->has_metadata_ = has_metadata;
  dir->metadata_ = std::move(metadata);
  if (existed && euid_ != 0 && has_metadata) {
    // One's own read-only directory, as an earlier restore leaves it. Its mode comes with the metadata.
    if (st.st_uid == euid_ && (st.st_mode & 0700) != 0700) ::fchmod(fd, 0700);
  }
  if (!existed && parent->existed()) {
    // What a default ACL above may have given it.
    ::fremovexattr(fd, kDefaultAcl);
    ::fremovexattr(fd, kAccessAcl);
    ::fchmod(fd, 0700);
  }
  DirRef ref(dir);
  {
    absl::MutexLock lock(&mu_);
    dir->fd_ = fd;
    dir->pins_ = 1;
    ++open_;
    UnpinLocked(dir);
    if (open_ > open_max_) CloseOldest();
  }
  ++run_.counters.directories;
  return ref;
}

void Target::Release(Dir* dir) {
  // Not recursive: a tree may be 65,536 deep.
  while (dir != nullptr) {
    Dir* parent = dir->parent_;
    if (dir->has_metadata_) SetDirectoryMetadata(dir);
    if (parent != nullptr) {
      absl::MutexLock lock(&mu_);
      if (dir->fd_ >= 0) {
        Unlist(dir);
        ::close(dir->fd_);
        --open_;
      }
    }
    delete dir;
    if (parent == nullptr || parent->references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    dir = parent;
  }
}

void Target::SetDirectoryMetadata(Dir* dir) {
  if (run_.stopping()) return;  // incomplete: keep it closed
  const Metadata& m = dir->metadata_;
  absl::StatusOr<int> fd = Pin(dir);
  auto problem = [&](std::string_view operation, const absl::Status& status) {
    run_.TargetProblem(SnapshotPathOf(dir, {}), operation, status);
  };
  if (!fd.ok()) {
    problem("open directory", fd.status());
    return;
  }
  if (run_.options.owner && ::fchown(*fd, m.uid, m.gid) != 0) problem("set owner", Errno("chown"));
  if (m.xattrs != nullptr) SetXattrs(*fd, false, *m.xattrs, SnapshotPathOf(dir, {}));
  if (::fchmod(*fd, m.mode & 07777) != 0) problem("set mode", Errno("chmod"));
  if (run_.options.times) {
    const timespec times[2] = {{0, UTIME_OMIT}, ToTimespec(m.mtime)};
    if (::futimens(*fd, times) != 0) problem("set times", Errno("utimens"));
  }
  Unpin(dir);
}

// --- Open directories -----------------------------------------------------------------------------

void Target::Unlist(Dir* dir) {
  if (dir->newer_ == nullptr && dir->older_ == nullptr && newest_ != dir) return;
  (dir->newer_ != nullptr ? dir->newer_->older_ : newest_) = dir->older_;
  (dir->older_ != nullptr ? dir->older_->newer_ : oldest_) = dir->newer_;
  dir->newer_ = dir->older_ = nullptr;
}

void Target::PinLocked(Dir* dir) {
  if (dir->pins_++ == 0) Unlist(dir);
}

void Target::UnpinLocked(Dir* dir) {
  if (--dir->pins_ != 0) return;
  dir->older_ = newest_;
  dir->newer_ = nullptr;
  (newest_ != nullptr ? newest_->newer_ : oldest_) = dir;
  newest_ = dir;
}

void Target::CloseOldest() {
  Dir* dir = oldest_;
  if (dir == nullptr) return;  // all are in use: threads, so few
  Unlist(dir);
  ::close(dir->fd_);
  dir->fd_ = -1;
  --open_;
}

absl::Status Target::OpenChain(Dir* dir) {
  std::vector<Dir*> chain;
  Dir* above = dir;
  for (; above->fd_ < 0; above = above->parent_) chain.push_back(above);  // the target itself is always open
  while (!chain.empty()) {
    Dir* next = chain.back();
    chain.pop_back();
    PinLocked(above);
    if (open_ >= open_max_) CloseOldest();
    next->fd_ = OpenDirectoryAt(above->fd_, next->name_.c_str());
    absl::Status status;
    struct stat st;
    if (next->fd_ < 0 || ::fstat(next->fd_, &st) != 0) {
      status = Errno("open directory again");
    } else if (st.st_dev != next->device_ || st.st_ino != next->inode_) {
      status = absl::AbortedError("the directory was exchanged meanwhile");
    }
    if (!status.ok() && next->fd_ >= 0) {
      ::close(next->fd_);
      next->fd_ = -1;
    }
    UnpinLocked(above);
    RETURN_IF_ERROR(status);
    ++open_;
    next->pins_ = 1;
    UnpinLocked(next);
    above = next;
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Target::Pin(Dir* dir) {
  absl::MutexLock lock(&mu_);
  if (dir->fd_ < 0) RETURN_IF_ERROR(OpenChain(dir));
  PinLocked(dir);
  return dir->fd_;
}

void Target::Unpin(Dir* dir) {
  absl::MutexLock lock(&mu_);
  UnpinLocked(dir);
}

// --- Paths ----------------------------------------------------------------------------------------

std::string Target::RelativePath(const DirRef& dir) const {
  std::vector<const std::string*> names;
  for (const Dir* d = dir.get(); d->parent_ != nullptr; d = d->parent_) names.push_back(&d->name_);
  std::string out;
  for (auto it = names.rbegin(); it != names.rend(); ++it) {
    if (!out.empty()) out += '/';
    out += **it;
  }
  return out;
}

std::string Target::SnapshotPathOf(const Dir* dir, std::string_view name) const {
  std::vector<const std::string*> names;
  for (const Dir* d = dir; d->parent_ != nullptr; d = d->parent_) names.push_back(&d->name_);
  std::string out = snapshot_prefix_;
  for (auto it = names.rbegin(); it != names.rend(); ++it) {
    out += '/';
    out += **it;
  }
  if (!name.empty()) {
    out += '/';
    out += name;
  }
  return out.empty() ? "/" : out;
}

std::string Target::SnapshotPath(const DirRef& dir, std::string_view name) const {
  return SnapshotPathOf(dir.get(), name);
}

absl::StatusOr<int> Target::OpenBeneath(std::string_view path) const {
  int fd = ::fcntl(root_fd_, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return Errno("open directory");
  static constexpr size_t kStepBytesMax = 4000;  // below PATH_MAX
  static std::atomic<bool> have_openat2{true};
  while (!path.empty()) {
    // As many components at once as the kernel takes safely.
    size_t n = path.size();
    if (n > kStepBytesMax) n = path.rfind('/', kStepBytesMax);
    int next = -1;
    if (have_openat2.load(std::memory_order_relaxed) && n != path.npos) {
      struct open_how how = {};
      how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
      how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
      const std::string step(path.substr(0, n));
      do {
        next = static_cast<int>(::syscall(SYS_openat2, fd, step.c_str(), &how, sizeof(how)));
      } while (next < 0 && (errno == EAGAIN || errno == EINTR));
      if (next < 0 && (errno == ENOSYS || errno == EPERM)) {  // EPERM: a seccomp filter
        have_openat2 = false;
        continue;
      }
    } else {
      n = std::min(path.find('/'), path.size());
      next = OpenDirectoryAt(fd, std::string(path.substr(0, n)).c_str());
    }
    const absl::Status status = next < 0 ? Errno("open directory") : absl::OkStatus();
    ::close(fd);
    RETURN_IF_ERROR(status);
    fd = next;
    path.remove_prefix(std::min(n + 1, path.size()));
  }
  return fd;
}

// --- Metadata -------------------------------------------------------------------------------------

Metadata Target::MetadataOf(const Entry& entry) {
  Metadata m;
  m.mode = entry.mode & 07777;
  m.uid = entry.uid;
  m.gid = entry.gid;
  m.mtime = entry.mtime;
  if (run_.options.owner && !run_.options.numeric_owner) {
    char buffer[4096];
    if (!entry.owner_name.empty()) {
      auto [it, is_new] = users_.try_emplace(entry.owner_name, -1);
      if (is_new) {
        struct passwd record, *found = nullptr;
        if (::getpwnam_r(entry.owner_name.c_str(), &record, buffer, sizeof(buffer), &found) == 0 && found != nullptr) {
          it->second = record.pw_uid;
        }
      }
      if (it->second >= 0) m.uid = static_cast<uint32_t>(it->second);
    }
    if (!entry.group_name.empty()) {
      auto [it, is_new] = groups_.try_emplace(entry.group_name, -1);
      if (is_new) {
        struct group record, *found = nullptr;
        std::string large;
        int error = ::getgrnam_r(entry.group_name.c_str(), &record, buffer, sizeof(buffer), &found);
        if (error == ERANGE) {  // a group of many members
          large.resize(1 << 20);
          error = ::getgrnam_r(entry.group_name.c_str(), &record, large.data(), large.size(), &found);
        }
        if (error == 0 && found != nullptr) it->second = record.gr_gid;
      }
      if (it->second >= 0) m.gid = static_cast<uint32_t>(it->second);
    }
  }
  if (run_.options.xattrs && !entry.xattrs.empty()) {
    m.xattrs = std::make_unique<std::vector<Xattr>>(entry.xattrs);
  }
  return m;
}

// Setuid and setgid mean the owner and the group they were made for.
uint32_t Target::FinalMode(const Metadata& m, uint64_t uid, uint64_t gid) const {
  uint32_t mode = m.mode & 07777;
  if (uid != m.uid) mode &= ~04000u;
  if (gid != m.gid) mode &= ~02000u;
  return mode;
}

void Target::SetXattrs(int fd, bool through_proc, const std::vector<Xattr>& xattrs, const std::string& path) {
  for (const Xattr& x : xattrs) {
    const int result = through_proc
                           ? ::setxattr(ProcPath(fd).c_str(), x.name.c_str(), x.value.data(), x.value.size(), 0)
                           : ::fsetxattr(fd, x.name.c_str(), x.value.data(), x.value.size(), 0);
    if (result == 0) continue;
    const int error = errno;
    const absl::Status status = TargetErrno(error, "set extended attribute");
    const bool privileged = x.name.starts_with("trusted.") || x.name.starts_with("security.");
    if (error == EOPNOTSUPP || ((error == EPERM || error == EACCES) && (euid_ != 0 || privileged))) {
      run_.XattrNotRestored(path, x.name, status);
    } else {
      // ENOSPC here is about the space for attributes.
      run_.Problem(RestoreProblemKind::kTarget, path, "set extended attribute " + x.name, status);
    }
  }
}

std::string Target::TemporaryName() {
  return absl::StrCat(".holdfast-restore-", ::getpid(), "-", temporary_names_.fetch_add(1));
}

absl::StatusOr<OpenFile> Target::CreateFile(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& m,
                                            bool replace) {
  OpenFile file;
  const uint64_t creation_owner = dir.get()->creation_owner_.load(std::memory_order_relaxed);
  const bool owner_known = creation_owner != ~0ull;
  const bool chown =
      run_.options.owner && (!owner_known || (static_cast<uint64_t>(m.uid) << 32 | m.gid) != creation_owner);
  file.creation_mode = m.mode & 0777;
  // Owners that the snapshot's bits were not meant for.
  if (chown || !run_.options.owner) file.creation_mode = ClosedToFirstGroup(file.creation_mode);
  if (dir->existed()) file.creation_mode &= 0700;
  // Attributes are set by name rights, not by the descriptor.
  if (euid_ != 0 && m.xattrs != nullptr) file.creation_mode |= 0600;
  static constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  do {
    if (replace) file.temporary_name = TemporaryName();
    file.fd = ::openat(dir_fd, replace ? file.temporary_name.c_str() : name.c_str(), kFlags, file.creation_mode);
  } while (file.fd < 0 && (errno == EINTR || (replace && errno == EEXIST)));
  if (file.fd < 0) return Errno("create file");
  if (owner_known) {
    file.uid = static_cast<uint32_t>(creation_owner >> 32);
    file.gid = static_cast<uint32_t>(creation_owner);
  } else {
    // What a new file gets here depends on setgid, mount options and the server of a network file system: look once.
    struct stat st;
    if (::fstat(file.fd, &st) != 0) {
      absl::Status status = Errno("stat");
      DiscardFile(dir_fd, name, std::move(file));
      return status;
    }
    file.uid = st.st_uid;
    file.gid = st.st_gid;
    if (!dir->existed()) {
      dir.get()->creation_owner_.store(static_cast<uint64_t>(st.st_uid) << 32 | st.st_gid, std::memory_order_relaxed);
    }
  }
  return file;
}

void Target::DiscardFile(int dir_fd, const std::string& name, OpenFile file) {
  ::close(file.fd);
  ::unlinkat(dir_fd, file.temporary_name.empty() ? name.c_str() : file.temporary_name.c_str(), 0);
}

absl::Status Target::FinishFile(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& m,
                                OpenFile file) {
  auto problem = [&](std::string_view operation, std::string_view call) {
    const absl::Status status = Errno(call);
    run_.TargetProblem(SnapshotPath(dir, name), operation, status);
  };
  if (run_.options.owner && (file.uid != m.uid || file.gid != m.gid)) {
    if (::fchown(file.fd, m.uid, m.gid) == 0) {
      file.uid = m.uid;
      file.gid = m.gid;
    } else {
      problem("set owner", "chown");
    }
  }
  bool acl = dir->existed();
  if (acl) ::fremovexattr(file.fd, kAccessAcl);
  if (m.xattrs != nullptr) {
    SetXattrs(file.fd, false, *m.xattrs, SnapshotPath(dir, name));
    for (const Xattr& x : *m.xattrs) acl |= IsAcl(x.name);
  }
  // After the owner: changing that clears setuid and setgid.
  const uint32_t mode = FinalMode(m, file.uid, file.gid);
  if ((acl || mode != file.creation_mode) && ::fchmod(file.fd, mode) != 0) problem("set mode", "chmod");
  if (run_.options.times) {
    const timespec times[2] = {{0, UTIME_OMIT}, ToTimespec(m.mtime)};
    if (::futimens(file.fd, times) != 0) problem("set times", "utimens");
  }
  if (::close(file.fd) != 0) {
    const absl::Status status = Errno("close");
    ::unlinkat(dir_fd, file.temporary_name.empty() ? name.c_str() : file.temporary_name.c_str(), 0);
    return status;
  }
  if (!file.temporary_name.empty() && ::renameat(dir_fd, file.temporary_name.c_str(), dir_fd, name.c_str()) != 0) {
    const absl::Status status = Errno("rename over the existing one");
    ::unlinkat(dir_fd, file.temporary_name.c_str(), 0);
    return status;
  }
  return absl::OkStatus();
}

absl::Status Target::SetMetadata(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& m,
                                 const struct stat& st) {
  const int fd = ::openat(dir_fd, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return Errno("open");
  struct stat now;
  if (::fstat(fd, &now) != 0 || now.st_dev != st.st_dev || now.st_ino != st.st_ino) {
    ::close(fd);
    return absl::AbortedError("it was exchanged meanwhile");
  }
  SetMetadataOf(dir, fd, now, name, m);
  ::close(fd);
  return absl::OkStatus();
}

// `fd`: O_PATH; `now`: what it is.
void Target::SetMetadataOf(const DirRef& dir, int fd, struct stat now, const std::string& name, const Metadata& m) {
  auto problem = [&](std::string_view operation, std::string_view call) {
    const absl::Status status = Errno(call);
    run_.TargetProblem(SnapshotPath(dir, name), operation, status);
  };
  // The descriptor names the object itself, a symbolic link too.
  const std::string by_fd = ProcPath(fd);
  if (run_.options.owner && (now.st_uid != m.uid || now.st_gid != m.gid)) {
    if (::fchownat(fd, "", m.uid, m.gid, AT_EMPTY_PATH) == 0) {
      now.st_uid = m.uid;
      now.st_gid = m.gid;
      now.st_mode &= ~07000u;
    } else {
      problem("set owner", "chown");
    }
  }
  bool acl = dir->existed() && !S_ISLNK(now.st_mode);
  if (acl) ::removexattr(by_fd.c_str(), kAccessAcl);
  if (m.xattrs != nullptr) {
    SetXattrs(fd, true, *m.xattrs, SnapshotPath(dir, name));
    for (const Xattr& x : *m.xattrs) acl |= IsAcl(x.name);
  }
  const uint32_t mode = FinalMode(m, now.st_uid, now.st_gid);
  if (!S_ISLNK(now.st_mode) && (acl || (now.st_mode & 07777) != mode) && ::chmod(by_fd.c_str(), mode) != 0) {
    problem("set mode", "chmod");
  }
  if (run_.options.times) {
    const timespec times[2] = {{0, UTIME_OMIT}, ToTimespec(m.mtime)};
    if (::utimensat(AT_FDCWD, by_fd.c_str(), times, 0) != 0) problem("set times", "utimens");
  }
}

absl::Status Target::MakeSpecial(const DirRef& dir, int dir_fd, const Entry& entry, const Metadata& m, bool replace) {
  std::string name = entry.name;
  const bool is_link = entry.type == EntryType::kSymlink;
  if (is_link && entry.symlink_target.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("the target of the symbolic link has a NUL in it");
  }
  const mode_t mode = ClosedToFirstGroup(m.mode & 0777);
  mode_t type = S_IFLNK;
  switch (entry.type) {
    case EntryType::kSymlink:
      break;
    case EntryType::kFifo:
      type = S_IFIFO;
      break;
    case EntryType::kSocket:
      type = S_IFSOCK;
      break;
    case EntryType::kCharDevice:
      type = S_IFCHR;
      break;
    case EntryType::kBlockDevice:
      type = S_IFBLK;
      break;
    default:
      return absl::InvalidArgumentError("the type of the entry is unknown");
  }
  const dev_t device = type == S_IFCHR || type == S_IFBLK ? makedev(entry.device_major, entry.device_minor) : dev_t{0};
  int result = -1;
  do {
    if (replace) name = TemporaryName();
    result = is_link ? ::symlinkat(entry.symlink_target.c_str(), dir_fd, name.c_str())
                     : ::mknodat(dir_fd, name.c_str(), type | mode, device);
  } while (result != 0 && replace && errno == EEXIST);
  if (result != 0) return Errno("create");
  absl::Status status;
  if (is_link && m.xattrs == nullptr && !dir->existed()) {
    // The common case, without opening it: nobody else can reach into the directory.
    const uint64_t owner = static_cast<uint64_t>(m.uid) << 32 | m.gid;
    if (run_.options.owner && owner != dir.get()->creation_owner_.load(std::memory_order_relaxed) &&
        ::fchownat(dir_fd, name.c_str(), m.uid, m.gid, AT_SYMLINK_NOFOLLOW) != 0) {
      status = Errno("chown");
      run_.TargetProblem(SnapshotPath(dir, entry.name), "set owner", status);
    }
    const timespec times[2] = {{0, UTIME_OMIT}, ToTimespec(m.mtime)};
    if (run_.options.times && ::utimensat(dir_fd, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
      status = Errno("utimens");
      run_.TargetProblem(SnapshotPath(dir, entry.name), "set times", status);
    }
  } else {
    const int fd = ::openat(dir_fd, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || ::fstat(fd, &st) != 0) {
      status = Errno("open");
    } else if ((st.st_mode & S_IFMT) != type || st.st_nlink != 1 || (euid_ == 0 && st.st_uid != 0)) {
      status = absl::AbortedError("it was exchanged meanwhile");  // what is ours is still as it was made
    } else {
      SetMetadataOf(dir, fd, st, entry.name, m);
    }
    if (fd >= 0) ::close(fd);
    if (!status.ok()) run_.TargetProblem(SnapshotPath(dir, entry.name), "set metadata", status);
  }
  if (replace && ::renameat(dir_fd, name.c_str(), dir_fd, entry.name.c_str()) != 0) {
    status = Errno("rename over the existing one");
    ::unlinkat(dir_fd, name.c_str(), 0);
    return status;
  }
  return absl::OkStatus();
}

absl::Status Target::Link(int from_dir_fd, const std::string& from_name, int dir_fd, const std::string& name,
                          bool replace) {
  std::string made = name;
  do {
    if (replace) made = TemporaryName();
    if (::linkat(from_dir_fd, from_name.c_str(), dir_fd, made.c_str(), 0) == 0) break;
    if (!replace || errno != EEXIST) return Errno("link");
  } while (true);
  if (!replace) return absl::OkStatus();
  const int result = ::renameat(dir_fd, made.c_str(), dir_fd, name.c_str());
  const absl::Status status = result != 0 ? Errno("rename over the existing one") : absl::OkStatus();
  // Renaming one name of an object over another name of it does nothing, and leaves both.
  ::unlinkat(dir_fd, made.c_str(), 0);
  return status;
}

}  // namespace holdfast
