#include "client/restore/read_back.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "absl/functional/function_ref.h"
#include "client/restore/beneath.h"
#include "client/restore/target_errno.h"
#include "core/base/codec.h"
#include "core/crypto/blake3.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

// Calls `take` for the bytes of [begin, end); false from it: other bytes than were written.
absl::Status ReadRange(int fd, uint64_t begin, uint64_t end, std::string& buffer,
                       absl::FunctionRef<bool(std::string_view)> take) {
  while (begin < end) {
    const ssize_t n =
        ::pread(fd, buffer.data(), std::min<uint64_t>(buffer.size(), end - begin), static_cast<off_t>(begin));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return TargetErrno(errno, "read again");
    if (n == 0) return absl::DataLossError("it ends early");
    if (!take(std::string_view(buffer.data(), n))) {
      return absl::DataLossError(absl::StrCat("other bytes than were written, near offset ", begin));
    }
    begin += n;
  }
  return absl::OkStatus();
}

absl::Status CheckZeros(int fd, uint64_t begin, uint64_t end, std::string& buffer) {
  if (begin >= end) return absl::OkStatus();
  const off_t data = ::lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
  if (data < 0 && errno == ENXIO) return absl::OkStatus();
  if (data >= 0) begin = std::max<uint64_t>(begin, data);
  return ReadRange(fd, begin, end, buffer, [](std::string_view bytes) { return IsZero(bytes); });
}

}  // namespace

FileDigest HashOfWritten(std::string_view bytes) {
  FileDigest out;
  Blake3().Update(bytes).Finish(out.data(), out.size());
  return out;
}

absl::Status CheckFile(int fd, uint64_t size, const std::vector<WrittenRange>& ranges, std::string& buffer) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return TargetErrno(errno, "stat");
  if (!S_ISREG(st.st_mode) || static_cast<uint64_t>(st.st_size) != size) {
    return absl::DataLossError(absl::StrCat("it has ", st.st_size, " bytes, not ", size));
  }
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  uint64_t at = 0;
  for (const WrittenRange& range : ranges) {
    RETURN_IF_ERROR(CheckZeros(fd, at, range.offset, buffer));
    Blake3 hash;
    at = range.offset + range.length;
    RETURN_IF_ERROR(ReadRange(fd, range.offset, at, buffer, [&](std::string_view bytes) {
      hash.Update(bytes);
      return true;
    }));
    FileDigest found;
    hash.Finish(found.data(), found.size());
    if (found != range.hash) {
      return absl::DataLossError(
          absl::StrCat("other bytes than were written, in ", range.length, " bytes at offset ", range.offset));
    }
  }
  return CheckZeros(fd, at, size, buffer);
}

void ReadBack::Add(const DirRef& dir, const std::string& name, uint64_t size, const std::vector<WrittenRange>& ranges) {
  std::string record;
  ByteWriter w(&record);
  w.LengthPrefixed(directories_.RelativePath(dir));
  w.LengthPrefixed(name);
  w.Varint(size);
  w.Varint(ranges.size());
  for (const WrittenRange& range : ranges) {
    w.Varint(range.offset);
    w.Varint(range.length);
    w.Bytes({reinterpret_cast<const char*>(range.hash.data()), range.hash.size()});
  }
  absl::MutexLock lock(&mu_);
  if (absl::Status s = list_.Append(record); !s.ok()) run_.Fail(s);
}

bool ReadBack::Next(Record* record) {
  std::string bytes;
  {
    absl::MutexLock lock(&mu_);
    if (cursor_ >= list_.end()) return false;
    absl::StatusOr<uint64_t> next = list_.Read(cursor_, &bytes);
    if (!next.ok()) {
      run_.Fail(next.status());
      return false;
    }
    cursor_ = *next;
  }
  ByteReader r(bytes);
  record->dir = r.LengthPrefixed(~0ull);
  record->name = r.LengthPrefixed(~0ull);
  record->size = r.Varint();
  record->ranges.resize(r.Varint());
  for (WrittenRange& range : record->ranges) {
    range.offset = r.Varint();
    range.length = r.Varint();
    std::string_view hash = r.Bytes(range.hash.size());
    std::copy(hash.begin(), hash.end(), range.hash.begin());
  }
  return true;
}

void ReadBack::CheckSome() {
  Record record;
  std::string open_path, buffer(1 << 20, '\0');
  int dir_fd = -1;
  while (!run_.stopping() && Next(&record)) {
    absl::Status status;
    if (dir_fd < 0 || record.dir != open_path) {
      if (dir_fd >= 0) ::close(dir_fd);
      absl::StatusOr<int> opened = OpenBeneath(directories_.root_fd(), record.dir);
      dir_fd = opened.ok() ? *opened : -1;
      open_path = record.dir;
      status = opened.status();
    }
    if (status.ok()) {
      const int fd = ::openat(dir_fd, record.name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
      if (fd < 0) {
        status = TargetErrno(errno, "open again");
      } else {
        status = CheckFile(fd, record.size, record.ranges, buffer);
        ::close(fd);
      }
    }
    if (status.ok()) {
      ++run_.counters.verified;
    } else {
      const std::string path =
          absl::StrCat(directories_.snapshot_prefix(), "/", record.dir, record.dir.empty() ? "" : "/", record.name);
      run_.ReportTargetProblem(path, "verify", status);
    }
  }
  if (dir_fd >= 0) ::close(dir_fd);
}

void ReadBack::Run(int threads) {
  if (::syncfs(directories_.root_fd()) != 0) {
    run_.Fail(TargetErrno(errno, "flush the target to disk"));
    return;
  }
  std::vector<std::thread> checkers;
  checkers.reserve(threads);
  for (int i = 0; i < threads; ++i) checkers.emplace_back([this] { CheckSome(); });
  for (std::thread& checker : checkers) checker.join();
}

}  // namespace holdfast
