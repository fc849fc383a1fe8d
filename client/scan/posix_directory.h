// The Linux side of SourceDirectory and SourceFile, for the scanner and its tests. Every access goes name by name from
// an open directory.
#ifndef HOLDFAST_CLIENT_SCAN_POSIX_DIRECTORY_H_
#define HOLDFAST_CLIENT_SCAN_POSIX_DIRECTORY_H_

#include <sys/stat.h>

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client/scan/scanner.h"

namespace holdfast {

inline constexpr size_t kOpenDirectoriesMax = 512;  // of the process; half of the usual limit of 1,024 descriptors

// A descriptor that closes with its last user.
class SharedFd {
 public:
  explicit SharedFd(int fd) : fd_(fd) {}
  SharedFd(const SharedFd&) = delete;
  SharedFd& operator=(const SharedFd&) = delete;
  ~SharedFd();
  int get() const { return fd_; }

 private:
  const int fd_;
};

// All of these return 0 or an errno.

// Never follows a link and never triggers an automount. An empty name is `directory_fd` itself.
int StatAt(int directory_fd, const char* name, SourceStat* out);
// Read-only, never following a link, without touching the access time where we may; extra flags as for open(2).
int OpenAt(int directory_fd, const char* name, int extra_flags, int* fd);

class PosixDirectory final : public SourceDirectory, public std::enable_shared_from_this<PosixDirectory> {
 public:
  // Of the root: `fd` stays open with the handle. For a root that is no directory it is an O_PATH
  // descriptor of it.
  PosixDirectory(std::shared_ptr<SharedFd> fd, const SourceStat& root);
  PosixDirectory(std::shared_ptr<PosixDirectory> parent, std::string_view name, FileIdentity identity);
  ~PosixDirectory() override;

  Components components() const override;
  std::string RelativePath(std::string_view name) const override;
  FileIdentity identity() const override { return identity_; }
  uint32_t depth() const { return depth_; }            // components
  uint64_t path_bytes() const { return path_bytes_; }  // of them, with a separator each

  absl::StatusOr<std::unique_ptr<SourceFile>> OpenFile(std::string_view name) override;
  absl::StatusOr<SourceStat> Stat(std::string_view name) override;
  absl::StatusOr<std::string> ReadLink(std::string_view name) override;
  absl::StatusOr<std::vector<Xattr>> ReadXattrs(std::string_view name) override;

  // Its descriptor, from the process's cache or opened again from the nearest open directory above.
  int Open(std::shared_ptr<SharedFd>* fd);

 private:
  friend class OpenDirectories;

  std::shared_ptr<PosixDirectory> parent_;  // null: the root
  const std::string name_;
  const FileIdentity identity_;
  const uint32_t depth_ = 0;
  const uint64_t path_bytes_ = 0;
  const bool root_is_directory_ = true;
  const std::shared_ptr<SharedFd> root_fd_;
  // Of the OpenDirectories cache, under its lock.
  std::shared_ptr<SharedFd> cached_fd_;
  std::list<PosixDirectory*>::iterator cached_at_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SCAN_POSIX_DIRECTORY_H_
