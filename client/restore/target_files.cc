#include "client/restore/target_files.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <utility>

#include "client/restore/creation_mode.h"
#include "client/restore/target_errno.h"

namespace holdfast {
namespace {

absl::Status Errno(std::string_view action) { return TargetErrno(errno, action); }

// S_IFMT of an entry; 0: unknown, or not a special file.
mode_t TypeOf(EntryType type) {
  switch (type) {
    case EntryType::kSymlink:
      return S_IFLNK;
    case EntryType::kFifo:
      return S_IFIFO;
    case EntryType::kSocket:
      return S_IFSOCK;
    case EntryType::kCharDevice:
      return S_IFCHR;
    case EntryType::kBlockDevice:
      return S_IFBLK;
    default:
      return 0;
  }
}

}  // namespace

std::string TargetFiles::TemporaryName() {
  return absl::StrCat(".holdfast-restore-", ::getpid(), "-", temporary_names_.fetch_add(1));
}

// --- Regular files --------------------------------------------------------------------------------

absl::StatusOr<NewFile> TargetFiles::CreateFile(const DirRef& dir, int dir_fd, const std::string& name,
                                                const Metadata& m, bool replace) {
  NewFile file;
  const std::optional<Owner> owner = dir->creation_owner();
  file.created.mode = FileCreationMode({.mode = m.mode,
                                        .owner_may_stay = run_.options.owner && owner == Owner{m.uid, m.gid},
                                        .in_own_directory = !dir->existed(),
                                        .xattrs_by_rights = euid_ != 0 && m.xattrs != nullptr});
  static constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  do {
    if (replace) file.temporary_name = TemporaryName();
    file.fd = ::openat(dir_fd, replace ? file.temporary_name.c_str() : name.c_str(), kFlags, file.created.mode);
  } while (file.fd < 0 && (errno == EINTR || (replace && errno == EEXIST)));
  if (file.fd < 0) return Errno("create file");
  // A default ACL would count in place of the umask; where there may be one, the mode is set again in any case.
  file.created.mode &= ~umask_;
  if (owner.has_value()) {
    file.created.uid = owner->uid;
    file.created.gid = owner->gid;
    return file;
  }
  // What a new file gets here depends on setgid, mount options and the server of a network file system: look once.
  struct stat st {};
  if (::fstat(file.fd, &st) != 0) {
    absl::Status status = Errno("stat");
    DiscardFile(dir_fd, name, file);
    return status;
  }
  file.created.uid = st.st_uid;
  file.created.gid = st.st_gid;
  dir->LearnCreationOwner({st.st_uid, st.st_gid});
  return file;
}

void TargetFiles::DiscardFile(int dir_fd, const std::string& name, const NewFile& file) {
  ::close(file.fd);
  ::unlinkat(dir_fd, file.temporary_name.empty() ? name.c_str() : file.temporary_name.c_str(), 0);
}

absl::Status TargetFiles::FinishFile(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& m,
                                     const NewFile& file) {
  metadata_.SetOnNewFile(file.fd, file.created, dir->existed(), m,
                         [&] { return directories_.SnapshotPath(dir, name); });
  if (::close(file.fd) != 0) {
    absl::Status status = Errno("close");
    ::unlinkat(dir_fd, file.temporary_name.empty() ? name.c_str() : file.temporary_name.c_str(), 0);
    return status;
  }
  if (!file.temporary_name.empty() && ::renameat(dir_fd, file.temporary_name.c_str(), dir_fd, name.c_str()) != 0) {
    absl::Status status = Errno("rename over the existing one");
    ::unlinkat(dir_fd, file.temporary_name.c_str(), 0);
    return status;
  }
  return absl::OkStatus();
}

// --- Special files and links ----------------------------------------------------------------------

absl::Status TargetFiles::MakeSpecial(const DirRef& dir, int dir_fd, const Entry& entry, const Metadata& m,
                                      bool replace) {
  const mode_t type = TypeOf(entry.type);
  if (type == 0) return absl::InvalidArgumentError("the type of the entry is unknown");
  const bool is_link = type == S_IFLNK;
  if (is_link && entry.symlink_target.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("the target of the symbolic link has a NUL in it");
  }
  const mode_t mode = ClosedToFirstGroup(m.mode & 0777);
  const dev_t device = type == S_IFCHR || type == S_IFBLK ? makedev(entry.device_major, entry.device_minor) : dev_t{0};
  std::string made = entry.name;
  int result = -1;
  do {
    if (replace) made = TemporaryName();
    result = is_link ? ::symlinkat(entry.symlink_target.c_str(), dir_fd, made.c_str())
                     : ::mknodat(dir_fd, made.c_str(), type | mode, device);
  } while (result != 0 && replace && errno == EEXIST);
  if (result != 0) return Errno("create");
  if (is_link && m.xattrs == nullptr && !dir->existed()) {
    SetMetadataOfOwnLink(dir, dir_fd, made, entry.name, m);
  } else if (absl::Status s = SetMetadataOfSpecial(dir, dir_fd, made, type, entry.name, m); !s.ok()) {
    run_.ReportTargetProblem(directories_.SnapshotPath(dir, entry.name), "set metadata", s);
  }
  if (replace && ::renameat(dir_fd, made.c_str(), dir_fd, entry.name.c_str()) != 0) {
    absl::Status status = Errno("rename over the existing one");
    ::unlinkat(dir_fd, made.c_str(), 0);
    return status;
  }
  return absl::OkStatus();
}

// The common case, without opening it: nobody else can reach into the directory.
void TargetFiles::SetMetadataOfOwnLink(const DirRef& dir, int dir_fd, const std::string& made, const std::string& name,
                                       const Metadata& m) {
  auto report = [&](std::string_view operation, const absl::Status& status) {
    run_.ReportTargetProblem(directories_.SnapshotPath(dir, name), operation, status);
  };
  if (run_.options.owner && dir->creation_owner() != Owner{m.uid, m.gid} &&
      ::fchownat(dir_fd, made.c_str(), m.uid, m.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    report("set owner", Errno("chown"));
  }
  const timespec times[2] = {{0, UTIME_OMIT}, {static_cast<time_t>(m.mtime.seconds), static_cast<long>(m.mtime.nanos)}};
  if (run_.options.times && ::utimensat(dir_fd, made.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
    report("set times", Errno("utimens"));
  }
}

absl::Status TargetFiles::SetMetadataOfSpecial(const DirRef& dir, int dir_fd, const std::string& made, mode_t type,
                                               const std::string& name, const Metadata& m) {
  const int fd = ::openat(dir_fd, made.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  struct stat st {};
  absl::Status status;
  if (fd < 0 || ::fstat(fd, &st) != 0) {
    status = Errno("open");
  } else if ((st.st_mode & S_IFMT) != type || st.st_nlink != 1 || (euid_ == 0 && st.st_uid != 0)) {
    status = absl::AbortedError("it was exchanged meanwhile");  // what is ours is still as it was made
  } else {
    metadata_.SetOnObject(fd, st, dir->existed(), m, [&] { return directories_.SnapshotPath(dir, name); });
  }
  if (fd >= 0) ::close(fd);
  return status;
}

absl::Status TargetFiles::Link(int from_dir_fd, const std::string& from_name, int dir_fd, const std::string& name,
                               bool replace) {
  std::string made = name;
  do {
    if (replace) made = TemporaryName();
    if (::linkat(from_dir_fd, from_name.c_str(), dir_fd, made.c_str(), 0) == 0) break;
    if (!replace || errno != EEXIST) return Errno("link");
  } while (true);
  if (!replace) return absl::OkStatus();
  const int result = ::renameat(dir_fd, made.c_str(), dir_fd, name.c_str());
  absl::Status status = result != 0 ? Errno("rename over the existing one") : absl::OkStatus();
  // Renaming one name of an object over another name of it does nothing, and leaves both.
  ::unlinkat(dir_fd, made.c_str(), 0);
  return status;
}

// --- What is there --------------------------------------------------------------------------------

absl::StatusOr<std::optional<struct stat>> TargetFiles::Look(int dir_fd, const std::string& name) {
  struct stat st {};
  if (::fstatat(dir_fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) return st;
  if (errno == ENOENT) return std::nullopt;
  return Errno("stat");
}

bool TargetFiles::IsSymlinkTo(int dir_fd, const std::string& name, const std::string& target) {
  std::string found(target.size() + 1, '\0');  // one more shows that it is longer
  const ssize_t n = ::readlinkat(dir_fd, name.c_str(), found.data(), found.size());
  return n == static_cast<ssize_t>(target.size()) && found.compare(0, n, target) == 0;
}

absl::Status TargetFiles::SetMetadata(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& m,
                                      const struct stat& seen) {
  const int fd = ::openat(dir_fd, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return Errno("open");
  struct stat now {};
  if (::fstat(fd, &now) != 0 || now.st_dev != seen.st_dev || now.st_ino != seen.st_ino) {
    ::close(fd);
    return absl::AbortedError("it was exchanged meanwhile");
  }
  metadata_.SetOnObject(fd, now, dir->existed(), m, [&] { return directories_.SnapshotPath(dir, name); });
  ::close(fd);
  return absl::OkStatus();
}

}  // namespace holdfast
