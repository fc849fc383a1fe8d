#include "client/restore/metadata_writer.h"

#include <fcntl.h>
#include <sys/xattr.h>

#include <cerrno>

#include "client/restore/target_errno.h"

namespace holdfast {
namespace {

timespec ToTimespec(const Timestamp& t) {
  return {.tv_sec = static_cast<time_t>(t.seconds), .tv_nsec = static_cast<long>(t.nanos)};
}

bool HasAcl(const Metadata& m) {
  if (m.xattrs == nullptr) return false;
  for (const Xattr& x : *m.xattrs) {
    if (x.name == kDefaultAcl || x.name == kAccessAcl) return true;
  }
  return false;
}

}  // namespace

std::string ProcPath(int fd) { return absl::StrCat("/proc/self/fd/", fd); }

void MetadataWriter::Report(std::string_view operation, std::string_view call, PathOf path) {
  const absl::Status status = TargetErrno(errno, call);
  run_.ReportTargetProblem(path(), operation, status);
}

void MetadataWriter::SetXattrs(int fd, bool through_proc, const std::vector<Xattr>& xattrs, PathOf path) {
  for (const Xattr& x : xattrs) {
    const int result = through_proc
                           ? ::setxattr(ProcPath(fd).c_str(), x.name.c_str(), x.value.data(), x.value.size(), 0)
                           : ::fsetxattr(fd, x.name.c_str(), x.value.data(), x.value.size(), 0);
    if (result == 0) continue;
    const int error = errno;
    const absl::Status status = XattrErrno(error);
    const bool privileged = x.name.starts_with("trusted.") || x.name.starts_with("security.");
    if (error == EOPNOTSUPP || ((error == EPERM || error == EACCES) && (euid_ != 0 || privileged))) {
      run_.ReportXattrNotRestored(path(), x.name, status);
    } else {
      run_.ReportTargetProblem(path(), "set extended attribute " + x.name, status);
    }
  }
}

void MetadataWriter::SetOnNewFile(int fd, CreatedAs created, bool acl, const Metadata& m, PathOf path) {
  if (run_.options.owner && (created.uid != m.uid || created.gid != m.gid)) {
    if (::fchown(fd, m.uid, m.gid) == 0) {
      created.uid = m.uid;
      created.gid = m.gid;
    } else {
      Report("set owner", "chown", path);
    }
  }
  if (acl) ::fremovexattr(fd, kAccessAcl);
  if (m.xattrs != nullptr) {
    // An ordinary user needs the right to write, which a umask may have taken.
    if (euid_ != 0 && (created.mode & 0600) != 0600 && ::fchmod(fd, created.mode | 0600) == 0) created.mode |= 0600;
    SetXattrs(fd, false, *m.xattrs, path);
  }
  acl |= HasAcl(m);
  // After the owner: changing that clears setuid and setgid.
  const uint32_t mode = ModeFor(m, created.uid, created.gid);
  if ((acl || mode != created.mode) && ::fchmod(fd, mode) != 0) Report("set mode", "chmod", path);
  if (run_.options.times) {
    const timespec times[2] = {{0, UTIME_OMIT}, ToTimespec(m.mtime)};
    if (::futimens(fd, times) != 0) Report("set times", "utimens", path);
  }
}

void MetadataWriter::SetOnDirectory(int fd, const Metadata& m, PathOf path) {
  if (run_.options.owner && ::fchown(fd, m.uid, m.gid) != 0) Report("set owner", "chown", path);
  if (m.xattrs != nullptr) SetXattrs(fd, false, *m.xattrs, path);
  if (::fchmod(fd, m.mode & 07777) != 0) Report("set mode", "chmod", path);
  if (run_.options.times) {
    const timespec times[2] = {{0, UTIME_OMIT}, ToTimespec(m.mtime)};
    if (::futimens(fd, times) != 0) Report("set times", "utimens", path);
  }
}

void MetadataWriter::SetOnObject(int path_fd, struct stat now, bool acl, const Metadata& m, PathOf path) {
  // The descriptor names the object itself, a symbolic link too.
  const std::string by_fd = ProcPath(path_fd);
  if (run_.options.owner && (now.st_uid != m.uid || now.st_gid != m.gid)) {
    if (::fchownat(path_fd, "", m.uid, m.gid, AT_EMPTY_PATH) == 0) {
      now.st_uid = m.uid;
      now.st_gid = m.gid;
      now.st_mode &= ~07000u;
    } else {
      Report("set owner", "chown", path);
    }
  }
  const bool is_link = S_ISLNK(now.st_mode);
  acl = acl && !is_link;
  if (acl) ::removexattr(by_fd.c_str(), kAccessAcl);
  if (m.xattrs != nullptr) SetXattrs(path_fd, true, *m.xattrs, path);
  acl |= HasAcl(m);
  const uint32_t mode = ModeFor(m, now.st_uid, now.st_gid);
  if (!is_link && (acl || (now.st_mode & 07777) != mode) && ::chmod(by_fd.c_str(), mode) != 0) {
    Report("set mode", "chmod", path);
  }
  if (run_.options.times) {
    const timespec times[2] = {{0, UTIME_OMIT}, ToTimespec(m.mtime)};
    if (::utimensat(AT_FDCWD, by_fd.c_str(), times, 0) != 0) Report("set times", "utimens", path);
  }
}

}  // namespace holdfast
