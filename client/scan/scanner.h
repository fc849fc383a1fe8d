// The source side of a backup: walks a tree in key order and opens what it found. This is the port
// boundary: everything the client knows of the platform's file system on the reading side is behind
// SourceFs.
//
// Paths handed to observers are raw bytes relative to the root, components joined by '/', "" = the root itself. They
// are for people and reports; nothing is ever opened through them: every access goes name by name from an open
// directory, never follows a symbolic link, and checks that a reopened directory is still the same (device, inode), so
// depth and length are unlimited and a directory swapped for a link is refused.
#ifndef HOLDFAST_CLIENT_SCAN_SCANNER_H_
#define HOLDFAST_CLIENT_SCAN_SCANNER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/tree/entry.h"

namespace holdfast {

// What identifies an object on this machine while it exists. The device is a raw st_dev: not stable
// across boots.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  auto operator<=>(const FileIdentity&) const = default;
};

inline constexpr uint64_t kXattrBytesReadMax = kChunkPlaintextBytesMax;

// Plain data; cheap to copy.
struct SourceStat {
  FileIdentity identity;
  EntryType type = EntryType::kFile;
  uint32_t mode = 0;  // 12 bits
  uint32_t uid = 0, gid = 0;
  uint32_t link_count = 1;
  uint64_t size = 0;
  uint64_t blocks = 0;  // of 512 bytes; below size / 512 = sparse or compressed
  Timestamp mtime, ctime;
  std::optional<Timestamp> birth_time;
  uint32_t device_major = 0, device_minor = 0;  // of character and block devices
  bool operator==(const SourceStat&) const = default;
};

// An open regular file. One thread at a time; closes with the object.
class SourceFile {
 public:
  struct Range {
    uint64_t begin = 0, end = 0;
  };
  virtual ~SourceFile() = default;
  // Fills `buffer` from `offset`; less than `size` only at the end of the file.
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset, char* buffer, size_t size) = 0;
  // What fstat said when it was opened: costs nothing. Stat() asks again.
  virtual const SourceStat& OpenedStat() const = 0;
  virtual absl::StatusOr<SourceStat> Stat() = 0;
  // The first range with data at or after `offset`; nullopt = only holes are left. Without hole support the answer is
  // the whole rest of the file.
  virtual absl::StatusOr<std::optional<Range>> NextData(uint64_t offset) = 0;
  // As SourceDirectory::ReadXattrs, on the open file.
  virtual absl::StatusOr<std::vector<Xattr>> ReadXattrs() = 0;
};

// A directory of the tree. Handles are cheap, may be used by any thread at the same time, may outlive the scanner, and
// hold no descriptor of their own: the process keeps the 512 most recently used directories open and reopens others.
//
// `name` is the name of an entry directly inside; the empty name means the directory itself (and for the handle of the
// root entry: the root, also when it is a plain file). Errors: NOT_FOUND it vanished; PERMISSION_DENIED; ABORTED it or
// a directory above is no longer what was listed (replaced, changed type); others from errno. SourceErrno() gives the
// errno back.
class SourceDirectory {
 public:
  virtual ~SourceDirectory() = default;
  virtual Components components() const = 0;                          // from the root down; O(depth)
  virtual std::string RelativePath(std::string_view name) const = 0;  // for reports
  virtual FileIdentity identity() const = 0;

  virtual absl::StatusOr<std::unique_ptr<SourceFile>> OpenFile(std::string_view name) = 0;
  virtual absl::StatusOr<SourceStat> Stat(std::string_view name) = 0;  // never follows a link
  virtual absl::StatusOr<std::string> ReadLink(std::string_view name) = 0;
  // All namespaces this process may read (user, security, system ACLs, trusted as root), sorted by name; empty where
  // the file system has none. Works for every entry type. Names and values of more than kXattrBytesReadMax in all are
  // too many to store: some are left out then.
  virtual absl::StatusOr<std::vector<Xattr>> ReadXattrs(std::string_view name) = 0;
};

struct SourceEntry {
  std::string name;  // raw bytes; empty for the root
  SourceStat stat;
  // 0 or kEntryNotDescended (a directory whose contents were left out because of a mount point, a
  // pseudo file system or own state; its SkipReason was reported), or kEntryReadFailed (a directory that this process
  // may not list; the error is reported when its turn comes).
  uint32_t flags = 0;
  // The directory the entry is in: directory->OpenFile(name) and so on work for every entry including the root (for
  // which name and components() are empty). All entries of one directory share one handle: compare pointers to see a
  // change of directory.
  std::shared_ptr<SourceDirectory> directory;
};

enum class SkipReason : uint8_t {
  kExcluded,          // --exclude or an ignore file; entry left out
  kOtherFileSystem,   // one_file_system; entry kept, not descended
  kPseudoFileSystem,  // proc, sysfs, cgroup, ...; entry kept, not descended
  kOwnState,          // repository or server state; entry kept, not descended
  kCacheDirectory,    // valid CACHEDIR.TAG; directory and tag kept, the rest left out
};
std::string_view SkipReasonText(SkipReason reason);

struct SourceError {
  std::string path;       // raw bytes relative to the root
  std::string operation;  // "list", "stat", "open", "read ignore file", ...
  int error_number = 0;   // errno
};

// All calls come from inside Scanner::Next(), on its thread, near the place in the order where they
// belong.
class ScanObserver {
 public:
  virtual ~ScanObserver() = default;
  // The walk goes on: an unreadable directory is still an entry, its contents are missing.
  virtual void OnError(const SourceError&) {}
  virtual void OnSkipped(std::string_view /*path*/, SkipReason) {}
  // Listed, gone when looked at: normal on a live system.
  virtual void OnVanished(std::string_view /*path*/) {}
};

struct ScanOptions {
  std::string root;  // absolute or relative; a symbolic link here (only here) is followed
  // gitignore lines relative to the root; they outrank ignore files. `!pattern` takes an exclusion
  // back.
  std::vector<std::string> exclude_patterns;
  std::string ignore_file_name = ".holdfastignore";  // gitignore semantics per directory; "" = none
  bool one_file_system = false;
  bool skip_cache_directories = true;
  bool skip_pseudo_file_systems = true;
  std::vector<FileIdentity> own_state;  // directories that are never descended
  // Helpers that list ahead; 0 = all work in Next(). More than 2 did not pay on 2 cores.
  uint32_t prefetch_threads = 2;
  // Results waiting for Next(). When full, helpers pause; Next() never waits for the budget.
  uint64_t prefetch_bytes_max = 4u << 20;
  // Names of one directory sorted in memory; beyond this, runs go to an unlinked file in
  // spill_directory.
  uint64_t names_bytes_max = 32u << 20;
  std::string spill_directory = "/var/tmp";
};

struct ScanStatistics {
  uint64_t entries = 0, directories = 0, files = 0;
  uint64_t file_bytes = 0;  // sum of st_size of regular files, hard links counted every time
  uint64_t errors = 0, skipped = 0, vanished = 0;
};

// One pass over a tree in key order (docs/format.md, section 7): the root, then each directory's entries sorted by raw
// bytes, completely, before its subdirectories in the same order. One consumer. Memory does not grow with the number of
// files. Destroying it early is fine and stops the helpers.
class Scanner {
 public:
  virtual ~Scanner() = default;
  // Fills *entry (reusing its buffers) and returns true; false at the end. An error means that the root itself cannot
  // be listed; everything else goes to the observer.
  virtual absl::StatusOr<bool> Next(SourceEntry* entry) = 0;
  virtual ScanStatistics statistics() const = 0;  // from the consumer's thread
};

class SourceFs {
 public:
  virtual ~SourceFs() = default;
  // `observer` may be null; it must outlive the scanner. Fails if the root cannot be opened.
  virtual absl::StatusOr<std::unique_ptr<Scanner>> Scan(const ScanOptions& options, ScanObserver* observer) = 0;
};

// Linux. Stateless, thread-safe.
std::unique_ptr<SourceFs> NewPosixSourceFs();

// A Status from errno with the errno in its payload, and the way back (0 = carries none).
absl::Status SourceErrnoStatus(int error_number, std::string_view operation);
int SourceErrno(const absl::Status& status);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SCAN_SCANNER_H_
