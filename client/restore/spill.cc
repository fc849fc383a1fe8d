#include "client/restore/spill.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "client/restore/target_errno.h"

namespace holdfast {

SpillStore::~SpillStore() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status SpillStore::Append(std::string_view record) {
  uint32_t length = static_cast<uint32_t>(record.size());
  memory_.append(reinterpret_cast<const char*>(&length), sizeof(length));
  memory_.append(record);
  return memory_.size() > memory_bytes_max_ ? Flush() : absl::OkStatus();
}

absl::Status SpillStore::Flush() {
  if (fd_ < 0) {
    fd_ = ::openat(directory_fd_, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd_ < 0) {  // a file system without O_TMPFILE
      const std::string name = absl::StrCat(".holdfast-spill-", ::getpid(), "-", reinterpret_cast<uintptr_t>(this));
      fd_ = ::openat(directory_fd_, name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
      if (fd_ < 0) return TargetErrno(errno, "make a temporary file in the target");
      ::unlinkat(directory_fd_, name.c_str(), 0);
    }
  }
  size_t done = 0;
  while (done < memory_.size()) {
    ssize_t n = ::pwrite(fd_, memory_.data() + done, memory_.size() - done, base_ + done);
    if (n < 0) {
      if (errno == EINTR) continue;
      return TargetErrno(errno, "write a temporary file in the target");
    }
    done += n;
  }
  base_ += done;
  memory_.clear();
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> SpillStore::Read(uint64_t offset, std::string* record) {
  uint32_t length = 0;
  if (offset >= base_) {
    const size_t at = offset - base_;
    std::memcpy(&length, memory_.data() + at, sizeof(length));
    record->assign(memory_, at + sizeof(length), length);
    return offset + sizeof(length) + length;
  }
  // One call for nearly every record.
  char head[512];
  ssize_t n = ::pread(fd_, head, std::min<uint64_t>(sizeof(head), base_ - offset), offset);
  if (n < static_cast<ssize_t>(sizeof(length))) {
    return TargetErrno(n < 0 ? errno : EIO, "read a temporary file in the target");
  }
  std::memcpy(&length, head, sizeof(length));
  record->resize(length);
  size_t have = std::min<size_t>(length, n - sizeof(length));
  std::memcpy(record->data(), head + sizeof(length), have);
  while (have < length) {
    n = ::pread(fd_, record->data() + have, length - have, offset + sizeof(length) + have);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return TargetErrno(n < 0 ? errno : EIO, "read a temporary file in the target");
    have += n;
  }
  return offset + sizeof(length) + length;
}

absl::Status SpillStore::Truncate(uint64_t offset) {
  if (offset >= base_) {
    memory_.resize(offset - base_);
    return absl::OkStatus();
  }
  memory_.clear();
  base_ = offset;
  if (::ftruncate(fd_, static_cast<off_t>(offset)) != 0) {
    return TargetErrno(errno, "truncate a temporary file in the target");
  }
  return absl::OkStatus();
}

}  // namespace holdfast
