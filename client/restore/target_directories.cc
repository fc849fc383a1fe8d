#include "client/restore/target_directories.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "client/restore/beneath.h"
#include "client/restore/target_errno.h"

namespace holdfast {
namespace {

absl::Status Errno(std::string_view action) { return TargetErrno(errno, action); }

// Takes away what a default ACL above gave a directory that was just made.
void StripInheritedAcl(int fd) {
  ::fremovexattr(fd, kDefaultAcl);
  ::fremovexattr(fd, kAccessAcl);
  ::fchmod(fd, 0700);
}

}  // namespace

// --- References -----------------------------------------------------------------------------------

std::optional<Owner> TargetDirectory::creation_owner() const {
  const uint64_t packed = creation_owner_.load(std::memory_order_relaxed);
  if (packed == ~0ull) return std::nullopt;
  return Owner{static_cast<uint32_t>(packed >> 32), static_cast<uint32_t>(packed)};
}

void TargetDirectory::LearnCreationOwner(Owner owner) {
  if (existed_) return;  // its owner may change the rules
  creation_owner_.store(static_cast<uint64_t>(owner.uid) << 32 | owner.gid, std::memory_order_relaxed);
}

DirRef::~DirRef() {
  if (dir_ != nullptr && dir_->references_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    dir_->directories_->Release(dir_);
  }
}

absl::StatusOr<int> PinnedDir::Fd(const DirRef& dir) {
  if (dir_.get() == dir.get()) return fd_;
  Release();
  ASSIGN_OR_RETURN(fd_, dir->directories_->Pin(dir.get()));
  dir_ = dir;
  return fd_;
}

void PinnedDir::Release() {
  if (!dir_) return;
  dir_->directories_->Unpin(dir_.get());
  dir_ = DirRef();
  fd_ = -1;
}

// --- Making ---------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<TargetDirectories>> TargetDirectories::Open(RestoreRun& run,
                                                                           std::string snapshot_prefix) {
  auto target = std::unique_ptr<TargetDirectories>(new TargetDirectories(run, std::move(snapshot_prefix)));
  const std::string& path = run.options.target;
  if (path.empty()) return absl::InvalidArgumentError("no target directory is given");
  target->root_existed_ = true;
  target->root_fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (target->root_fd_ < 0 && errno == ENOENT) {
    std::filesystem::path p(path);
    if (!p.has_filename()) p = p.parent_path();  // a trailing slash, which would have a link followed
    std::error_code error;
    if (p.has_parent_path()) std::filesystem::create_directories(p.parent_path(), error);
    if (error) {
      return TargetErrno(error.value(), "make the directories above " + path);
    }
    if (target->MakeClosed(AT_FDCWD, p.c_str()) == 0) {
      target->root_existed_ = false;
      target->root_fd_ = OpenDirectoryAt(AT_FDCWD, p.c_str());  // a link that took its place is not followed
    } else if (errno == EEXIST) {
      target->root_fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } else {
      return Errno("make directory " + path);
    }
  }
  struct stat st {};
  if (target->root_fd_ < 0 || ::fstat(target->root_fd_, &st) != 0) return Errno("open target directory " + path);
  if (!CanBeJustMade(st.st_mode, st.st_uid, target->euid_)) target->root_existed_ = true;
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    target->open_max_ = std::clamp<uint64_t>(limit.rlim_cur / 4, 16, 512);
  }
  return target;
}

TargetDirectories::~TargetDirectories() {
  if (root_fd_ >= 0) ::close(root_fd_);
}

DirRef TargetDirectories::Root(std::optional<Metadata> metadata) {
  auto* dir = new TargetDirectory;
  dir->directories_ = this;
  // Mount points come with a lost+found and the like: look before creating, unless it was made just now.
  dir->existed_ = root_existed_;
  if (!root_existed_ && ::fgetxattr(root_fd_, kDefaultAcl, nullptr, 0) > 0) StripInheritedAcl(root_fd_);
  dir->has_metadata_ = metadata.has_value();
  if (metadata.has_value()) dir->metadata_ = *std::move(metadata);
  dir->fd_ = root_fd_;
  dir->pins_ = 1;  // for good
  return DirRef(dir);
}

int TargetDirectories::MakeClosed(int parent_fd, const char* path) {
  if (::mkdirat(parent_fd, path, 0700) != 0) return -1;
  if ((umask_ & 0700) == 0) return 0;
  // A umask that takes rights from the owner, who needs them to open the directory; or one that is not known, as there
  // is no /proc. Root opens it in any case, and so needs no /proc.
  bool is_path_only = false;
  int fd = OpenDirectoryAt(parent_fd, path);
  if (fd < 0) {
    is_path_only = true;
    fd = ::openat(parent_fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  }
  if (fd < 0) return -1;
  const int result = is_path_only ? ::chmod(ProcPath(fd).c_str(), 0700) : ::fchmod(fd, 0700);
  const int error = errno;
  ::close(fd);
  errno = error;
  return result;
}

absl::StatusOr<int> TargetDirectories::MakeAndOpen(int parent_fd, const std::string& name, bool* existed) {
  *existed = false;
  if (MakeClosed(parent_fd, name.c_str()) != 0) {
    if (errno != EEXIST) return Errno("make directory");
    *existed = true;
  }
  int fd = OpenDirectoryAt(parent_fd, name.c_str());
  if (fd < 0 && *existed && (errno == ENOTDIR || errno == ELOOP)) {
    if (run_.options.overwrite != OverwriteMode::kAlways) {
      return absl::AlreadyExistsError("something that is not a directory is in its place");
    }
    // Removes the link or file itself. Whatever appears there next is refused by mkdir.
    if (::unlinkat(parent_fd, name.c_str(), 0) != 0) return Errno("remove what is in the place of the directory");
    if (MakeClosed(parent_fd, name.c_str()) != 0) return Errno("make directory");
    *existed = false;
    fd = OpenDirectoryAt(parent_fd, name.c_str());
  }
  if (fd < 0) return Errno("open directory");
  return fd;
}

absl::StatusOr<DirRef> TargetDirectories::MakeDirectory(const DirRef& parent, PinnedDir& pinned,
                                                        const std::string& name, std::optional<Metadata> metadata) {
  RETURN_IF_ERROR(CheckName(name));
  ASSIGN_OR_RETURN(const int parent_fd, pinned.Fd(parent));
  bool existed = false;
  ASSIGN_OR_RETURN(const int fd, MakeAndOpen(parent_fd, name, &existed));
  struct stat st {};
  if (::fstat(fd, &st) != 0) {
    const absl::Status status = Errno("open directory");
    ::close(fd);
    return status;
  }
  // Whoever may write the directory above can have put something else there since.
  if (parent->existed() && !CanBeJustMade(st.st_mode, st.st_uid, euid_)) existed = true;
  if (existed && euid_ != 0 && metadata.has_value()) {
    // One's own read-only directory, as an earlier restore leaves it. Its mode comes with the metadata.
    if (st.st_uid == euid_ && (st.st_mode & 0700) != 0700) ::fchmod(fd, 0700);
  }
  if (!existed && parent->existed()) StripInheritedAcl(fd);
  auto* dir = new TargetDirectory;
  dir->device_ = st.st_dev;
  dir->inode_ = st.st_ino;
  dir->directories_ = this;
  dir->parent_ = parent.get();
  parent->references_.fetch_add(1, std::memory_order_relaxed);
  dir->name_ = name;
  dir->existed_ = existed;
  dir->has_metadata_ = metadata.has_value();
  if (metadata.has_value()) dir->metadata_ = *std::move(metadata);
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

void TargetDirectories::Release(TargetDirectory* dir) {
  // Not recursive: a tree may be 65,536 deep.
  while (dir != nullptr) {
    TargetDirectory* parent = dir->parent_;
    if (dir->has_metadata_) SetMetadata(dir);
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

void TargetDirectories::SetMetadata(TargetDirectory* dir) {
  if (run_.stopping()) return;  // incomplete: keep it closed
  absl::StatusOr<int> fd = Pin(dir);
  if (!fd.ok()) {
    run_.ReportTargetProblem(SnapshotPathOf(dir, {}), "open directory", fd.status());
    return;
  }
  metadata_.SetOnDirectory(*fd, dir->metadata_, [&] { return SnapshotPathOf(dir, {}); });
  Unpin(dir);
}

// --- Open directories -----------------------------------------------------------------------------

void TargetDirectories::Unlist(TargetDirectory* dir) {
  if (dir->newer_ == nullptr && dir->older_ == nullptr && newest_ != dir) return;
  (dir->newer_ != nullptr ? dir->newer_->older_ : newest_) = dir->older_;
  (dir->older_ != nullptr ? dir->older_->newer_ : oldest_) = dir->newer_;
  dir->newer_ = dir->older_ = nullptr;
}

void TargetDirectories::PinLocked(TargetDirectory* dir) {
  if (dir->pins_++ == 0) Unlist(dir);
}

void TargetDirectories::UnpinLocked(TargetDirectory* dir) {
  if (--dir->pins_ != 0) return;
  dir->older_ = newest_;
  dir->newer_ = nullptr;
  (newest_ != nullptr ? newest_->newer_ : oldest_) = dir;
  newest_ = dir;
}

void TargetDirectories::CloseOldest() {
  TargetDirectory* dir = oldest_;
  if (dir == nullptr) return;  // all are in use: threads, so few
  Unlist(dir);
  ::close(dir->fd_);
  dir->fd_ = -1;
  --open_;
}

absl::Status TargetDirectories::OpenChain(TargetDirectory* dir) {
  std::vector<TargetDirectory*> chain;
  TargetDirectory* above = dir;
  for (; above->fd_ < 0; above = above->parent_) chain.push_back(above);  // the target itself is always open
  while (!chain.empty()) {
    TargetDirectory* next = chain.back();
    chain.pop_back();
    PinLocked(above);
    if (open_ >= open_max_) CloseOldest();
    next->fd_ = OpenDirectoryAt(above->fd_, next->name_.c_str());
    absl::Status status;
    struct stat st {};
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

absl::StatusOr<int> TargetDirectories::Pin(TargetDirectory* dir) {
  absl::MutexLock lock(&mu_);
  if (dir->fd_ < 0) RETURN_IF_ERROR(OpenChain(dir));
  PinLocked(dir);
  return dir->fd_;
}

void TargetDirectories::Unpin(TargetDirectory* dir) {
  absl::MutexLock lock(&mu_);
  UnpinLocked(dir);
}

// --- Paths ----------------------------------------------------------------------------------------

std::string TargetDirectories::RelativePath(const DirRef& dir) const {
  std::vector<const std::string*> names;
  for (const TargetDirectory* d = dir.get(); d->parent_ != nullptr; d = d->parent_) names.push_back(&d->name_);
  std::string out;
  for (auto it = names.rbegin(); it != names.rend(); ++it) {
    if (!out.empty()) out += '/';
    out += **it;
  }
  return out;
}

std::string TargetDirectories::SnapshotPathOf(const TargetDirectory* dir, std::string_view name) const {
  std::vector<const std::string*> names;
  for (const TargetDirectory* d = dir; d->parent_ != nullptr; d = d->parent_) names.push_back(&d->name_);
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

}  // namespace holdfast
