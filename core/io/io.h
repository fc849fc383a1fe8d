// All that the engine may ask of the machine: files, clock, randomness, threads. Implementations: posix.h (the real
// one) and sim/ (testonly: virtual time, faults, crash states, a schedule chosen by seed). The file walk of a backup
// (client/scan has a port of its own) and the writer of a restore are not behind it. Every interface
// here is thread-safe unless it says otherwise. Hold no mutex across file calls or waits: under simulation every call
// is a scheduling point.
#ifndef HOLDFAST_CORE_IO_IO_H_
#define HOLDFAST_CORE_IO_IO_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/status.h"

namespace holdfast {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Duration Monotonic() = 0;  // for deadlines and measurements; the origin means nothing
  virtual absl::Time Wall() = 0;           // for display and schedules; never a safety argument
};

class Random {
 public:
  virtual ~Random() = default;
  // Cryptographically strong in the posix implementation. Cannot fail (crashes when the system has no randomness).
  virtual void Fill(absl::Span<uint8_t> out) = 0;
};

// A level-triggered flag: the only way for engine code to block. Notify() sets it, Reset() clears it.
class Event {
 public:
  virtual ~Event() = default;
  virtual void Notify() = 0;
  virtual void Reset() = 0;
  // Blocks until notified (true) or until Monotonic() reaches `deadline` (false). InfiniteDuration = no deadline.
  virtual bool WaitUntil(absl::Duration deadline) = 0;
};

class Thread {
 public:
  virtual ~Thread() = default;  // joins
};

class Threads {
 public:
  virtual ~Threads() = default;
  virtual std::unique_ptr<Thread> Spawn(std::string name, std::function<void()> body) = 0;
  virtual std::unique_ptr<Event> NewEvent() = 0;
};

enum class OpenMode {
  kRead,            // must exist
  kReadNoFollow,    // the same, but FAILED_PRECONDITION unless the name itself is a regular file's, not a link's
  kCreateNew,       // must not exist (ALREADY_EXISTS); read and append; mode 0600
  kAppendExisting,  // must exist; read and append
};

// One open file; closing (destruction) loses nothing that was synced. Appends from one thread at a time.
class File {
 public:
  virtual ~File() = default;
  // Short only at the end of the file.
  virtual absl::StatusOr<size_t> ReadAt(uint64_t offset, absl::Span<char> out) = 0;
  // Appends all parts in order, or fails: then the length of the file is undefined until Truncate.
  // RESOURCE_EXHAUSTED for a full disk or quota.
  virtual absl::Status Append(absl::Span<const std::string_view> parts) = 0;
  // Data and length are durable when it returns OK. Once it failed, every later Sync fails (fsync may have dropped
  // pages).
  virtual absl::Status Sync() = 0;
  // A hint to start writing back what was appended; never waits, never fails.
  virtual void StartWriteback() {}
  virtual absl::Status Truncate(uint64_t size) = 0;
  virtual absl::StatusOr<uint64_t> Size() = 0;
};

struct FileInfo {
  uint64_t size = 0;  // bytes
  bool is_directory = false;
  bool is_regular = false;  // neither: a symbolic link (StatNoFollow), device, socket, FIFO
  absl::Time modified = absl::UnixEpoch();
};

// Paths are native, absolute or relative to the working directory; '/' separates. Errors (errno_status.h has the whole
// table): NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED (ENOSPC, EDQUOT, EMFILE),
// FAILED_PRECONDITION (not empty, a directory, a symbolic link, another file system), INVALID_ARGUMENT (name too long),
// UNAVAILABLE (EIO and the rest).
class Files {
 public:
  virtual ~Files() = default;
  virtual absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode) = 0;
  virtual absl::Status Rename(std::string_view from, std::string_view to) = 0;           // replaces
  virtual absl::Status RenameNoReplace(std::string_view from, std::string_view to) = 0;  // ALREADY_EXISTS
  virtual absl::Status Unlink(std::string_view path) = 0;                                // NOT_FOUND when absent
  virtual absl::Status MakeDirectories(std::string_view path) = 0;  // with parents, mode 0700; existing is OK; durable:
                                                                    // syncs the parents of what it made
  virtual absl::Status RemoveDirectory(std::string_view path) = 0;  // must be empty
  virtual absl::Status SyncDirectory(std::string_view path) = 0;    // names in it are durable
  virtual absl::StatusOr<FileInfo> Stat(std::string_view path) = 0;                  // follows symbolic links
  virtual absl::StatusOr<FileInfo> StatNoFollow(std::string_view path) = 0;          // of the last component itself
  virtual absl::StatusOr<std::vector<std::string>> List(std::string_view path) = 0;  // names, byte order, no . and ..
};

// Borrowed; outlives its users.
struct Io {
  Files& files;
  Clock& clock;
  Random& random;
  Threads& threads;
};

// The directory a path is in: "." for a plain name, "/" for what is in the root.
std::string ParentDirectory(std::string_view path);
// Conveniences over Files.
// Whole file, at most max_bytes (RESOURCE_EXHAUSTED beyond).
absl::StatusOr<std::string> ReadWholeFile(Files& files, std::string_view path, uint64_t max_bytes);
// Durable and atomic: a temporary name beside it, sync, rename over, sync of the directory.
absl::Status WriteFileAtomically(const Io& io, std::string_view path, std::string_view content);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_IO_H_
