// The directories of a target while something in them is pending: made or merged into, kept open as far as descriptors
// allow, found again by name without following a symbolic link or taking another directory for them, and given their
// metadata when everything below them is done, deepest first.
#ifndef HOLDFAST_CLIENT_RESTORE_TARGET_DIRECTORIES_H_
#define HOLDFAST_CLIENT_RESTORE_TARGET_DIRECTORIES_H_

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/restore/metadata.h"
#include "client/restore/metadata_writer.h"
#include "client/restore/restore_run.h"
#include "client/restore/umask.h"
#include "core/base/status.h"

namespace holdfast {

class TargetDirectories;

struct Owner {
  uint32_t uid = 0, gid = 0;
  bool operator==(const Owner&) const = default;
};

// What was opened under a name where a directory was just made can be that directory: it is ours, and closed. Setgid
// may come from the directory above.
constexpr bool CanBeJustMade(uint32_t mode, uint32_t uid, uint32_t euid) {
  return uid == euid && (mode & 05777 & ~0700u) == 0;
}

// One directory; see DirRef.
class TargetDirectory {
 public:
  // Was there before the restore: so it may be somebody else's, who may put other things under our names, give it a
  // default ACL or another group at any moment. One that is ours is closed to others until its metadata is set.
  bool existed() const { return existed_; }
  // Whom new files in it belong to, if that has been found out and cannot change. Thread-safe.
  std::optional<Owner> creation_owner() const;
  void LearnCreationOwner(Owner owner);

 private:
  friend class TargetDirectories;
  friend class DirRef;
  friend class PinnedDir;
  // Constant after construction.
  TargetDirectories* directories_ = nullptr;
  TargetDirectory* parent_ = nullptr;  // null: the target itself; holds a reference
  std::string name_;
  dev_t device_ = 0;  // these two: not of the target itself, which stays open
  ino_t inode_ = 0;
  bool existed_ = false;
  bool has_metadata_ = false;
  Metadata metadata_;
  // Synchronises itself.
  std::atomic<int> references_{1};
  std::atomic<uint64_t> creation_owner_{~0ull};  // uid << 32 | gid
  // Guarded by TargetDirectories::mu_.
  int fd_ = -1;
  int pins_ = 0;
  TargetDirectory* newer_ = nullptr;  // among the open ones without pins
  TargetDirectory* older_ = nullptr;
};

// Keeps a directory, and those above it, pending. The last reference sets its metadata.
class DirRef {
 public:
  DirRef() = default;
  explicit DirRef(TargetDirectory* adopted) : dir_(adopted) {}
  DirRef(const DirRef& o) : dir_(o.dir_) {
    if (dir_ != nullptr) dir_->references_.fetch_add(1, std::memory_order_relaxed);
  }
  DirRef(DirRef&& o) noexcept : dir_(std::exchange(o.dir_, nullptr)) {}
  DirRef& operator=(DirRef o) noexcept {
    std::swap(dir_, o.dir_);
    return *this;
  }
  ~DirRef();
  TargetDirectory* get() const { return dir_; }
  TargetDirectory* operator->() const { return dir_; }
  explicit operator bool() const { return dir_ != nullptr; }

 private:
  TargetDirectory* dir_ = nullptr;
};

// Keeps one directory open while a thread works in it. One thread.
class PinnedDir {
 public:
  PinnedDir() = default;
  PinnedDir(const PinnedDir&) = delete;
  PinnedDir& operator=(const PinnedDir&) = delete;
  ~PinnedDir() { Release(); }
  // Valid until the next call for another directory.
  absl::StatusOr<int> Fd(const DirRef& dir);
  void Release();

 private:
  DirRef dir_;
  int fd_ = -1;
};

// Thread-safe. Outlives every DirRef.
class TargetDirectories {
 public:
  // Makes (parents too) and opens the target directory of run.options. `run` is borrowed. `snapshot_prefix` begins the
  // paths in problems.
  static absl::StatusOr<std::unique_ptr<TargetDirectories>> Open(RestoreRun& run, std::string snapshot_prefix);
  ~TargetDirectories();

  // A reference to the target directory itself; null `metadata` leaves it as it is. Call once.
  DirRef Root(std::optional<Metadata> metadata);
  int root_fd() const { return root_fd_; }

  // Makes or merges a directory. Null `metadata`: it stays closed, or as it was.
  absl::StatusOr<DirRef> MakeDirectory(const DirRef& parent, PinnedDir& pinned, const std::string& name,
                                       std::optional<Metadata> metadata);

  // Path of an object ("": of the directory): in the snapshot, for problems; and from the target.
  std::string SnapshotPath(const DirRef& dir, std::string_view name) const { return SnapshotPathOf(dir.get(), name); }
  std::string RelativePath(const DirRef& dir) const;
  const std::string& snapshot_prefix() const { return snapshot_prefix_; }

 private:
  friend class DirRef;
  friend class PinnedDir;
  TargetDirectories(RestoreRun& run, std::string prefix)
      : run_(run), metadata_(run), snapshot_prefix_(std::move(prefix)) {}

  // mkdirat of a directory that is ours alone, whatever the umask. -1 and errno.
  int MakeClosed(int parent_fd, const char* path);
  // The new or existing directory, open; `*existed` says which.
  absl::StatusOr<int> MakeAndOpen(int parent_fd, const std::string& name, bool* existed);
  void Release(TargetDirectory* dir);
  void SetMetadata(TargetDirectory* dir);
  absl::StatusOr<int> Pin(TargetDirectory* dir);
  void Unpin(TargetDirectory* dir);
  absl::Status OpenChain(TargetDirectory* dir) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PinLocked(TargetDirectory* dir) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void UnpinLocked(TargetDirectory* dir) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Unlist(TargetDirectory* dir) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CloseOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::string SnapshotPathOf(const TargetDirectory* dir, std::string_view name) const;

  // Constant after Open.
  RestoreRun& run_;
  MetadataWriter metadata_;
  const std::string snapshot_prefix_;
  const uint32_t euid_ = geteuid();
  const uint32_t umask_ = ReadUmask();
  int root_fd_ = -1;
  bool root_existed_ = false;
  size_t open_max_ = 512;
  absl::Mutex mu_;
  size_t open_ ABSL_GUARDED_BY(mu_) = 0;
  TargetDirectory* newest_ ABSL_GUARDED_BY(mu_) = nullptr;
  TargetDirectory* oldest_ ABSL_GUARDED_BY(mu_) = nullptr;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_TARGET_DIRECTORIES_H_
