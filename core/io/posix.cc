#include "core/io/posix.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <thread>

#include "core/io/errno_status.h"

namespace holdfast {
namespace {

constexpr size_t kIoVectorsMax = 1024;  // IOV_MAX of Linux

// Calls f until it is not interrupted.
template <typename F>
auto RetryOnInterrupt(F f) {
  decltype(f()) result;
  do {
    result = f();
  } while (result == -1 && errno == EINTR);
  return result;
}

class UniqueFd {
 public:
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() {
    if (fd_ >= 0) close(fd_);  // not repeated on EINTR: Linux has released the number by then
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

class PosixFile : public File {
 public:
  PosixFile(int fd, std::string path, uint64_t size)
      : fd_(fd), path_(std::move(path)), appended_end_(size), written_back_end_(size) {}

  absl::StatusOr<size_t> ReadAt(uint64_t offset, absl::Span<char> out) override {
    if (offset > static_cast<uint64_t>(std::numeric_limits<off_t>::max()) - out.size()) {
      return ErrnoStatus(EINVAL, "read", path_);
    }
    size_t done = 0;
    while (done < out.size()) {
      ssize_t n = RetryOnInterrupt(
          [&] { return pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done)); });
      if (n < 0) return ErrnoStatus(errno, "read", path_);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }

  absl::Status Append(absl::Span<const std::string_view> parts) override {
    iovec vectors[64];
    size_t next = 0;     // part
    size_t skipped = 0;  // bytes of it that are written
    while (true) {
      size_t count = 0;
      size_t skip = skipped;
      for (size_t i = next; i < parts.size() && count < std::min(std::size(vectors), kIoVectorsMax); ++i) {
        if (parts[i].size() > skip) {
          vectors[count++] = {const_cast<char*>(parts[i].data()) + skip, parts[i].size() - skip};
        }
        skip = 0;
      }
      if (count == 0) {
        while (next < parts.size() && parts[next].size() <= skipped) {
          ++next;
          skipped = 0;
        }
        if (next >= parts.size()) return absl::OkStatus();
        continue;
      }
      ssize_t n = RetryOnInterrupt([&] { return writev(fd_.get(), vectors, static_cast<int>(count)); });
      if (n < 0) return ErrnoStatus(errno, "write", path_);
      if (n == 0) return ErrnoStatus(EIO, "write", path_);
      appended_end_.fetch_add(static_cast<uint64_t>(n), std::memory_order_relaxed);
      size_t left = static_cast<size_t>(n);
      while (left > 0) {
        size_t step = std::min(left, parts[next].size() - skipped);
        left -= step;
        skipped += step;
        if (skipped == parts[next].size()) {
          ++next;
          skipped = 0;
        }
      }
    }
  }

  absl::Status Sync() override {
    if (int error = sync_error_.load(); error != 0) {
      return ErrnoStatus(error, "sync (failed before)", path_);
    }
    if (RetryOnInterrupt([&] { return fdatasync(fd_.get()); }) != 0) {
      int error = errno;
      sync_error_.store(error);
      return ErrnoStatus(error, "sync", path_);
    }
    return absl::OkStatus();
  }

  void StartWriteback() override {
    uint64_t end = appended_end_.load(std::memory_order_relaxed);
    uint64_t start = written_back_end_.exchange(end, std::memory_order_relaxed);
    if (start >= end) return;
    (void)sync_file_range(fd_.get(), static_cast<off64_t>(start), static_cast<off64_t>(end - start),
                          SYNC_FILE_RANGE_WRITE);
  }

  absl::Status Truncate(uint64_t size) override {
    if (size > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) {
      return ErrnoStatus(EFBIG, "truncate", path_);
    }
    if (RetryOnInterrupt([&] { return ftruncate(fd_.get(), static_cast<off_t>(size)); }) != 0) {
      return ErrnoStatus(errno, "truncate", path_);
    }
    appended_end_.store(size, std::memory_order_relaxed);
    if (written_back_end_.load(std::memory_order_relaxed) > size) {
      written_back_end_.store(size, std::memory_order_relaxed);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Size() override {
    struct stat st {};
    if (fstat(fd_.get(), &st) != 0) return ErrnoStatus(errno, "stat", path_);
    return static_cast<uint64_t>(st.st_size);
  }

 private:
  const UniqueFd fd_;
  const std::string path_;
  std::atomic<uint64_t> appended_end_;      // offset behind the last appended byte
  std::atomic<uint64_t> written_back_end_;  // write-back was started up to here
  std::atomic<int> sync_error_{0};          // errno of the first failed sync
};

FileInfo ToFileInfo(const struct stat& st) {
  FileInfo info;
  info.size = S_ISREG(st.st_mode) ? static_cast<uint64_t>(st.st_size) : 0;
  info.is_directory = S_ISDIR(st.st_mode);
  info.is_regular = S_ISREG(st.st_mode);
  info.modified = absl::TimeFromTimespec(st.st_mtim);
  return info;
}

class PosixFiles : public Files {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode) override {
    std::string name(path);
    int flags = O_CLOEXEC;
    switch (mode) {
      case OpenMode::kRead:
        flags |= O_RDONLY;
        break;
      case OpenMode::kReadNoFollow:
        flags |= O_RDONLY | O_NOFOLLOW | O_NONBLOCK;  // never stuck in a FIFO
        break;
      case OpenMode::kCreateNew:
        flags |= O_RDWR | O_APPEND | O_CREAT | O_EXCL;
        break;
      case OpenMode::kAppendExisting:
        flags |= O_RDWR | O_APPEND;
        break;
    }
    int fd = RetryOnInterrupt([&] { return open(name.c_str(), flags, 0600); });
    if (fd < 0) return ErrnoStatus(errno, "open", path);
    struct stat st {};
    if (fstat(fd, &st) != 0) {
      int error = errno;
      close(fd);
      return ErrnoStatus(error, "stat", path);
    }
    if (S_ISDIR(st.st_mode)) {
      close(fd);
      return ErrnoStatus(EISDIR, "open", path);
    }
    if (mode == OpenMode::kReadNoFollow && !S_ISREG(st.st_mode)) {
      close(fd);
      return absl::FailedPreconditionError(absl::StrCat("open ", AbslView(path), ": not a regular file"));
    }
    return std::make_unique<PosixFile>(fd, std::move(name), static_cast<uint64_t>(st.st_size));
  }

  absl::Status Rename(std::string_view from, std::string_view to) override {
    std::string a(from), b(to);
    if (rename(a.c_str(), b.c_str()) != 0) return RenameError(errno, from, to);
    return absl::OkStatus();
  }

  absl::Status RenameNoReplace(std::string_view from, std::string_view to) override {
    std::string a(from), b(to);
    if (renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_NOREPLACE) == 0) {
      return absl::OkStatus();
    }
    if (errno != EINVAL && errno != ENOSYS) return RenameError(errno, from, to);
    // A file system without the flag (NFS, some FUSE): link never replaces. A crash in between leaves both names.
    if (link(a.c_str(), b.c_str()) != 0) return RenameError(errno, from, to);
    if (unlink(a.c_str()) != 0) return RenameError(errno, from, to);
    return absl::OkStatus();
  }

  absl::Status Unlink(std::string_view path) override {
    std::string name(path);
    if (unlink(name.c_str()) != 0) return ErrnoStatus(errno, "unlink", path);
    return absl::OkStatus();
  }

  absl::Status MakeDirectories(std::string_view path) override {
    std::string name(path);
    if (mkdir(name.c_str(), 0700) == 0) return SyncDirectory(ParentDirectory(path));
    if (errno == EEXIST) {
      struct stat st {};
      if (stat(name.c_str(), &st) != 0) return ErrnoStatus(errno, "stat", path);
      if (S_ISDIR(st.st_mode)) return absl::OkStatus();
      return absl::FailedPreconditionError(
          absl::StrCat("make directory ", AbslView(path), ": exists and is not a directory"));
    }
    if (errno != ENOENT) return ErrnoStatus(errno, "make directory", path);
    std::string parent = ParentDirectory(path);
    if (parent == path) return ErrnoStatus(ENOENT, "make directory", path);
    RETURN_IF_ERROR(MakeDirectories(parent));
    if (mkdir(name.c_str(), 0700) != 0 && errno != EEXIST) {
      return ErrnoStatus(errno, "make directory", path);
    }
    return SyncDirectory(parent);
  }

  absl::Status RemoveDirectory(std::string_view path) override {
    std::string name(path);
    if (rmdir(name.c_str()) != 0) {
      return ErrnoStatus(errno == EEXIST ? ENOTEMPTY : errno, "remove directory", path);
    }
    return absl::OkStatus();
  }

  absl::Status SyncDirectory(std::string_view path) override {
    std::string name(path);
    UniqueFd fd(RetryOnInterrupt([&] { return open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (fd.get() < 0) return ErrnoStatus(errno, "open directory", path);
    if (RetryOnInterrupt([&] { return fsync(fd.get()); }) != 0) {
      return ErrnoStatus(errno, "sync directory", path);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<FileInfo> Stat(std::string_view path) override {
    std::string name(path);
    struct stat st {};
    if (stat(name.c_str(), &st) != 0) return ErrnoStatus(errno, "stat", path);
    return ToFileInfo(st);
  }

  absl::StatusOr<FileInfo> StatNoFollow(std::string_view path) override {
    std::string name(path);
    struct stat st {};
    if (lstat(name.c_str(), &st) != 0) return ErrnoStatus(errno, "stat", path);
    return ToFileInfo(st);
  }

  absl::StatusOr<std::vector<std::string>> List(std::string_view path) override {
    std::string name(path);
    int fd = RetryOnInterrupt([&] { return open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (fd < 0) return ErrnoStatus(errno, "list", path);
    DIR* directory = fdopendir(fd);
    if (directory == nullptr) {
      int error = errno;
      close(fd);
      return ErrnoStatus(error, "list", path);
    }
    std::vector<std::string> names;
    int error = 0;
    while (true) {
      errno = 0;
      dirent* entry = readdir(directory);
      if (entry == nullptr) {
        error = errno;
        break;
      }
      std::string_view entry_name(entry->d_name);
      if (entry_name != "." && entry_name != "..") names.emplace_back(entry_name);
    }
    closedir(directory);
    if (error != 0) return ErrnoStatus(error, "list", path);
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  static absl::Status RenameError(int error, std::string_view from, std::string_view to) {
    return ErrnoStatus(error, absl::StrCat("rename ", AbslView(from), " to"), to);
  }
};

class PosixClock : public Clock {
 public:
  absl::Duration Monotonic() override { return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); }
  absl::Time Wall() override { return absl::Now(); }
};

class PosixRandom : public Random {
 public:
  void Fill(absl::Span<uint8_t> out) override {
    while (!out.empty()) {
      ssize_t n = RetryOnInterrupt([&] { return getrandom(out.data(), out.size(), 0); });
      if (n <= 0) {
        perror("holdfast: getrandom");
        abort();
      }
      out.remove_prefix(static_cast<size_t>(n));
    }
  }
};

class PosixEvent : public Event {
 public:
  void Notify() override {
    std::lock_guard<std::mutex> lock(mu_);
    set_ = true;
    condition_.notify_all();  // under the lock: the waiter may destroy the event as soon as it wakes
  }
  void Reset() override {
    std::lock_guard<std::mutex> lock(mu_);
    set_ = false;
  }
  bool WaitUntil(absl::Duration deadline) override {
    using std::chrono::steady_clock;
    std::unique_lock<std::mutex> lock(mu_);
    // About 100 years: more would overflow inside the standard library.
    if (deadline > absl::Hours(24 * 365 * 100)) {
      condition_.wait(lock, [&] { return set_; });
      return true;
    }
    steady_clock::time_point until(absl::ToChronoNanoseconds(deadline));
    return condition_.wait_until(lock, until, [&] { return set_; });
  }

 private:
  std::mutex mu_;
  std::condition_variable condition_;
  bool set_ = false;  // guarded by mu_
};

class PosixThread : public Thread {
 public:
  PosixThread(std::string name, std::function<void()> body)
      : thread_([name = std::move(name), body = std::move(body)] {
          pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());  // 15 is the kernel's limit
          body();
        }) {}
  ~PosixThread() override { thread_.join(); }

 private:
  std::thread thread_;
};

class PosixThreads : public Threads {
 public:
  std::unique_ptr<Thread> Spawn(std::string name, std::function<void()> body) override {
    return std::make_unique<PosixThread>(std::move(name), std::move(body));
  }
  std::unique_ptr<Event> NewEvent() override { return std::make_unique<PosixEvent>(); }
};

}  // namespace

void OccupyStandardDescriptors() {
  int fd;
  do {
    fd = ::open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= 2);
  if (fd > 2) ::close(fd);
}

void RaiseOpenFilesLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);  // if not, we live with what there is
}

Io PosixIo() {
  // Never destroyed: threads may use them until the very end of the process.
  static auto& files = *new PosixFiles;
  static auto& clock = *new PosixClock;
  static auto& random = *new PosixRandom;
  static auto& threads = *new PosixThreads;
  return Io{files, clock, random, threads};
}

}  // namespace holdfast
