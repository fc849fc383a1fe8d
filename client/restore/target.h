// The file system that a restore writes to: directories reached by descriptors, objects made and given their metadata.
// Never follows a symbolic link below the target. Thread-safe unless said otherwise.
#ifndef HOLDFAST_CLIENT_RESTORE_TARGET_H_
#define HOLDFAST_CLIENT_RESTORE_TARGET_H_

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "client/restore/restore.h"

namespace holdfast {

// OK for a name that may be given to the kernel as one path component.
absl::Status CheckName(std::string_view name);

// What every part of one restore shares: counters, problems, the reason to stop.
class RestoreRun {
 public:
  RestoreRun(const RestoreOptions& options, RestoreObserver& observer) : options(options), observer(observer) {}
  void Problem(RestoreProblemKind kind, std::string path, std::string_view operation, const absl::Status& status);
  // A full disk ends the restore; anything else is a problem of this path.
  void TargetProblem(std::string path, std::string_view operation, const absl::Status& status);
  // The first failure wins.
  void Fail(const absl::Status& status);
  bool stopping() const {
    return stop_.load(std::memory_order_relaxed) || observer.cancel.load(std::memory_order_relaxed);
  }
  absl::Status failure();
  RestoreStats stats() const;

  const RestoreOptions& options;
  RestoreObserver& observer;
  struct Counters {
    std::atomic<uint64_t> files{0}, directories{0}, others{0}, hard_links{0}, bytes{0}, skipped{0}, left_out{0},
        not_reached{0}, verified{0}, notes{0}, xattrs_not_restored{0}, repository_errors{0}, target_errors{0};
  } counters;
  // Notes an attribute name once.
  void XattrNotRestored(const std::string& path, const std::string& name, const absl::Status& why);

 private:
  std::atomic<bool> stop_{false};
  absl::Mutex mu_;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<std::string> noted_xattrs_ ABSL_GUARDED_BY(mu_);
  absl::Mutex observer_mu_ ABSL_ACQUIRED_AFTER(mu_);
};

// Metadata to give to an object; uid and gid are those of this machine already.
struct Metadata {
  uint32_t mode = 0;
  uint32_t uid = 0, gid = 0;
  Timestamp mtime;
  std::unique_ptr<std::vector<Xattr>> xattrs;  // null: none
};

class Target;

// A directory of the target while something in or below it is pending. The last reference sets the metadata.
class Dir {
 public:
  const std::string& name() const { return name_; }
  // Was there before the restore: so it may be somebody else's, who may put other things under our names, give it a
  // default ACL or another group at any moment. One that is ours is closed to others until its metadata is set.
  bool existed() const { return existed_; }

 private:
  friend class Target;
  friend class DirRef;
  friend class PinnedDir;
  // Constant after construction.
  Target* target_ = nullptr;
  Dir* parent_ = nullptr;  // null: the target itself; holds a reference
  std::string name_;
  dev_t device_ = 0;  // these two: not of the target itself, which stays open
  ino_t inode_ = 0;
  bool existed_ = false;
  bool has_metadata_ = false;
  Metadata metadata_;
  // Synchronises itself.
  std::atomic<int> references_{1};
  std::atomic<uint64_t> creation_owner_{
      ~0ull};  // uid << 32 | gid that a new file gets; learned from the first, if ours
  // Guarded by Target::mu_.
  int fd_ = -1;
  int pins_ = 0;
  Dir* newer_ = nullptr;  // among the open ones without pins
  Dir* older_ = nullptr;
};

class DirRef {
 public:
  DirRef() = default;
  explicit DirRef(Dir* adopted) : dir_(adopted) {}
  DirRef(const DirRef& o) : dir_(o.dir_) {
    if (dir_ != nullptr) dir_->references_.fetch_add(1, std::memory_order_relaxed);
  }
  DirRef(DirRef&& o) noexcept : dir_(std::exchange(o.dir_, nullptr)) {}
  DirRef& operator=(DirRef o) noexcept {
    std::swap(dir_, o.dir_);
    return *this;
  }
  ~DirRef();
  Dir* get() const { return dir_; }
  Dir* operator->() const { return dir_; }
  explicit operator bool() const { return dir_ != nullptr; }

 private:
  Dir* dir_ = nullptr;
};

// Keeps one directory open while a thread works in it. One thread.
class PinnedDir {
 public:
  ~PinnedDir() { Release(); }
  absl::StatusOr<int> Fd(const DirRef& dir);
  void Release();

 private:
  DirRef dir_;
  int fd_ = -1;
};

// A regular file being written.
struct OpenFile {
  int fd = -1;
  std::string temporary_name;  // not empty: renamed over the real one at the end
  uint32_t creation_mode = 0;
  uint32_t uid = 0, gid = 0;  // as created
};

class Target {
 public:
  // Creates and opens the target directory. `run` is borrowed. `snapshot_prefix` begins the paths in problems.
  static absl::StatusOr<std::unique_ptr<Target>> Open(RestoreRun& run, std::string snapshot_prefix);
  ~Target();

  // A reference to the target directory itself. Call once.
  DirRef Root(bool has_metadata, Metadata metadata);
  int root_fd() const { return root_fd_; }

  // Makes or merges a directory. Its metadata is set with the last reference.
  absl::StatusOr<DirRef> MakeDirectory(const DirRef& parent, PinnedDir& pinned, const std::string& name,
                                       bool has_metadata, Metadata metadata);

  absl::StatusOr<OpenFile> CreateFile(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& metadata,
                                      bool replace);
  // Sets metadata, closes and renames.
  absl::Status FinishFile(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& metadata,
                          OpenFile file);
  // Closes and removes.
  void DiscardFile(int dir_fd, const std::string& name, OpenFile file);

  // Symbolic links, FIFOs, sockets, devices.
  absl::Status MakeSpecial(const DirRef& dir, int dir_fd, const Entry& entry, const Metadata& metadata, bool replace);
  // A further name of an object that exists.
  absl::Status Link(int from_dir_fd, const std::string& from_name, int dir_fd, const std::string& name, bool replace);
  // Metadata of an object that stays, reached without following links. `st` is what it was when looked at; another
  // object in its place by now is left alone.
  absl::Status SetMetadata(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& metadata,
                           const struct stat& st);

  // Path of an object: in the snapshot (problems), and from the target.
  std::string SnapshotPath(const DirRef& dir, std::string_view name) const;
  std::string RelativePath(const DirRef& dir) const;
  // Opens a directory by such a path; any length. The caller closes it.
  absl::StatusOr<int> OpenBeneath(std::string_view relative_path) const;

  // Not thread-safe: planner only.
  Metadata MetadataOf(const Entry& entry);

 private:
  friend class DirRef;
  friend class PinnedDir;
  Target(RestoreRun& run, std::string prefix) : run_(run), snapshot_prefix_(std::move(prefix)) {}

  void Release(Dir* dir);
  void SetDirectoryMetadata(Dir* dir);
  absl::StatusOr<int> Pin(Dir* dir);
  void Unpin(Dir* dir);
  absl::Status OpenChain(Dir* dir) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PinLocked(Dir* dir) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void UnpinLocked(Dir* dir) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Unlist(Dir* dir) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CloseOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetMetadataOf(const DirRef& dir, int fd, struct stat now, const std::string& name, const Metadata& metadata);
  std::string SnapshotPathOf(const Dir* dir, std::string_view name) const;
  void SetXattrs(int fd, bool through_proc, const std::vector<Xattr>& xattrs, const std::string& path);
  uint32_t FinalMode(const Metadata& metadata, uint64_t uid, uint64_t gid) const;
  std::string TemporaryName();

  RestoreRun& run_;
  const std::string snapshot_prefix_;
  const uint32_t euid_ = geteuid();
  int root_fd_ = -1;
  bool root_existed_ = false;
  size_t open_max_ = 512;
  std::atomic<uint64_t> temporary_names_{0};
  absl::flat_hash_map<std::string, int64_t> users_, groups_;  // -1: unknown here
  absl::Mutex mu_;
  size_t open_ ABSL_GUARDED_BY(mu_) = 0;
  Dir* newest_ ABSL_GUARDED_BY(mu_) = nullptr;
  Dir* oldest_ ABSL_GUARDED_BY(mu_) = nullptr;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_TARGET_H_
