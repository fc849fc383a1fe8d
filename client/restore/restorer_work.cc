#include "client/restore/restorer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "client/restore/target_errno.h"
#include "core/base/codec.h"
#include "core/crypto/blake3.h"

namespace holdfast::restore_internal {
namespace {

absl::Status WriteAt(int fd, uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      return TargetErrno(errno, "write");
    }
    offset += n;
    bytes.remove_prefix(n);
  }
  return absl::OkStatus();
}

}  // namespace

FileDigest Hash(std::string_view bytes) {
  FileDigest out;
  Blake3().Update(bytes).Finish(out.data(), out.size());
  return out;
}

bool IsOfTheObject(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return true;
    default:
      return false;
  }
}

// --- Workers --------------------------------------------------------------------------------------

void Restorer::Work() {
  while (true) {
    std::unique_ptr<Unit> unit;
    {
      absl::MutexLock lock(&queue_mu_);
      auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(queue_mu_) { return no_more_ || !queue_.empty(); };
      queue_mu_.Await(absl::Condition(&has_work));
      if (queue_.empty()) return;
      unit = std::move(queue_.front());
      queue_.pop_front();
      ++busy_;
    }
    {
      PinnedDir pinned;
      RunUnit(*unit, pinned);
    }
    unit.reset();  // the last reference to a directory sets its metadata
    absl::MutexLock lock(&queue_mu_);
    --busy_;
  }
}

void Restorer::RunUnit(Unit& unit, PinnedDir& pinned) {
  for (SliceTask& task : unit.plain) {
    if (run_.stopping()) break;
    WriteSlice(task, task.bytes, pinned);
  }
  struct Sink : ChunkSink {
    Sink(Restorer& restorer, Unit& unit, PinnedDir& pinned)
        : restorer(restorer), unit(unit), pinned(pinned), delivered(unit.jobs.size()) {}
    absl::Status OnChunk(size_t index, const absl::StatusOr<OpenedChunk>& chunk) override {
      if (restorer.run_.stopping()) return absl::CancelledError("stopping");
      if (index >= delivered.size() || delivered[index]) return absl::InternalError("a chunk nobody asked for");
      delivered[index] = true;
      restorer.RunJob(*unit.jobs[index], chunk, pinned);
      return absl::OkStatus();
    }
    Restorer& restorer;
    Unit& unit;
    PinnedDir& pinned;
    std::vector<bool> delivered;
  } sink(*this, unit, pinned);
  if (!unit.jobs.empty() && !run_.stopping()) {
    std::vector<ChunkRef> refs;
    refs.reserve(unit.jobs.size());
    for (const auto& job : unit.jobs) refs.push_back(job->ref);
    const absl::Status status = input_.source().Fetch(refs, sink);
    if (!status.ok() && !run_.stopping()) run_.Fail(Annotate(status, "fetch chunks"));
  }
  for (size_t i = 0; i < unit.jobs.size(); ++i) {
    if (sink.delivered[i]) continue;
    if (run_.stopping()) {
      AbortJob(*unit.jobs[i], pinned);
    } else {
      RunJob(*unit.jobs[i], absl::NotFoundError("the chunk source passed the chunk over"), pinned);
    }
  }
}

void Restorer::AbortJob(Job& job, PinnedDir& pinned) {
  for (PieceTask& piece : job.pieces) {
    piece.file->failed.store(true);
    EndPart(*piece.file, pinned);
  }
}

void Restorer::RunJob(Job& job, const absl::StatusOr<OpenedChunk>& chunk, PinnedDir& pinned) {
  absl::Status status = chunk.status();
  std::string_view plaintext;
  if (status.ok()) {
    plaintext = chunk->plaintext;
    if (chunk->type != ChunkType::kData) status = absl::DataLossError("a chunk of file content is of another type");
  }
  if (!status.ok()) {
    status = Annotate(status, absl::StrCat("chunk ", HexEncode(job.ref.id.view())));
  }
  for (SliceTask& task : job.slices) {
    absl::Status bad = status;
    if (bad.ok() && (task.offset > plaintext.size() || task.length > plaintext.size() - task.offset)) {
      bad = absl::DataLossError("the entry points behind the end of its bundle");
    }
    std::string_view content;
    if (bad.ok()) {
      content = plaintext.substr(task.offset, task.length);
      if (task.digest.has_value()) {
        FileDigest found;
        Blake3(*options_.file_digest_key).Update(content).Finish(found.data(), found.size());
        if (found != *task.digest) bad = absl::DataLossError("the content is not what the digest was made of");
      }
    }
    if (bad.ok()) {
      WriteSlice(task, content, pinned);
      continue;
    }
    Repository(task.dir, task.name, "fetch", bad);
    if (task.link != nullptr) FirstLinkDone(*task.link, task.dir, task.name, false, pinned);
  }
  for (PieceTask& piece : job.pieces) {
    if (!status.ok()) {
      FailFile(*piece.file, RestoreProblemKind::kRepository, status);
    } else if (plaintext.size() != piece.length) {
      FailFile(*piece.file, RestoreProblemKind::kRepository,
               absl::DataLossError("a chunk has another length than its file says"));
    } else {
      WritePiece(piece, plaintext, pinned);
    }
    EndPart(*piece.file, pinned);
  }
}

absl::Status Restorer::SetSize(int fd, const FileTask& task) {
  if (task.map == nullptr) return absl::OkStatus();
  if (::ftruncate(fd, static_cast<off_t>(task.size)) != 0) return TargetErrno(errno, "set size");
  if (!options_.sparse && ::fallocate(fd, 0, 0, static_cast<off_t>(task.size)) != 0 && errno != EOPNOTSUPP) {
    return TargetErrno(errno, "allocate");
  }
  return absl::OkStatus();
}

absl::Status Restorer::WriteRange(int fd, const FileTask& task, uint64_t content_offset, std::string_view content,
                                  std::vector<DataRange>* written) {
  auto write = [&](uint64_t offset, std::string_view bytes) {
    if (written != nullptr) written->push_back({offset, bytes.size(), Hash(bytes)});
    return WriteAt(fd, offset, bytes);
  };
  if (content.empty()) return absl::OkStatus();
  if (task.map == nullptr) return write(content_offset, content);
  return task.map->ForEachRange(content_offset, content, options_.sparse, write);
}

void Restorer::WriteSlice(SliceTask& task, std::string_view content, PinnedDir& pinned) {
  absl::StatusOr<int> dir_fd = pinned.Fd(task.dir);
  absl::Status status = dir_fd.status();
  const char* operation = "open directory";
  std::vector<DataRange> written;
  if (status.ok()) {
    operation = "create";
    absl::StatusOr<OpenFile> file = target_.CreateFile(task.dir, *dir_fd, task.name, task.metadata, task.replace);
    status = file.status();
    if (status.ok()) {
      operation = "write";
      status = SetSize(file->fd, task);
      if (status.ok()) status = WriteRange(file->fd, task, 0, content, options_.verify ? &written : nullptr);
      if (status.ok()) {
        operation = "finish";
        status = target_.FinishFile(task.dir, *dir_fd, task.name, task.metadata, *std::move(file));
      } else {
        target_.DiscardFile(*dir_fd, task.name, *std::move(file));
      }
    }
  }
  if (status.ok()) {
    FileWritten(task, content.size(), std::move(written), pinned);
    return;
  }
  TargetError(task.dir, task.name, operation, status);
  if (task.link != nullptr) FirstLinkDone(*task.link, task.dir, task.name, false, pinned);
}

absl::Status Restorer::OpenChunked(ChunkedFile& file, PinnedDir& pinned) {
  if (file.file.fd >= 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int dir_fd, pinned.Fd(file.task.dir));
  ASSIGN_OR_RETURN(file.file,
                   target_.CreateFile(file.task.dir, dir_fd, file.task.name, file.task.metadata, file.task.replace));
  return SetSize(file.file.fd, file.task);
}

void Restorer::WritePiece(PieceTask& piece, std::string_view content, PinnedDir& pinned) {
  ChunkedFile& file = *piece.file;
  if (file.failed.load()) return;
  int fd = -1;
  absl::Status status;
  {
    absl::MutexLock lock(&file.mu);
    status = OpenChunked(file, pinned);
    fd = file.file.fd;
  }
  std::vector<DataRange> written;
  if (status.ok()) {
    status = WriteRange(fd, file.task, piece.content_offset, content, options_.verify ? &written : nullptr);
  }
  if (!status.ok()) {
    FailFile(file, RestoreProblemKind::kTarget, status);
    return;
  }
  run_.observer.bytes_done.fetch_add(content.size(), std::memory_order_relaxed);
  run_.counters.bytes.fetch_add(content.size(), std::memory_order_relaxed);
  if (!written.empty()) {
    absl::MutexLock lock(&file.mu);
    file.written.insert(file.written.end(), written.begin(), written.end());
  }
}

void Restorer::FailFile(ChunkedFile& file, RestoreProblemKind kind, const absl::Status& status) {
  absl::MutexLock lock(&file.mu);
  if (file.failed.exchange(true) || run_.stopping()) return;
  file.failure = status;
  file.kind = kind;
}

void Restorer::EndPart(ChunkedFile& file, PinnedDir& pinned) {
  if (file.parts.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const FileTask& task = file.task;
  absl::Status status;
  RestoreProblemKind kind = RestoreProblemKind::kTarget;
  std::vector<DataRange> written;
  bool ok = false;
  {
    absl::MutexLock lock(&file.mu);
    absl::StatusOr<int> dir_fd = pinned.Fd(task.dir);
    if (!file.failed.load()) {
      status = OpenChunked(file, pinned);  // a file without pieces
      if (status.ok()) {
        status =
            dir_fd.ok() ? target_.FinishFile(task.dir, *dir_fd, task.name, task.metadata, file.file) : dir_fd.status();
        if (dir_fd.ok()) file.file.fd = -1;
      }
      ok = status.ok();
    } else {
      status = file.failure;
      kind = file.kind;
    }
    if (file.file.fd >= 0) {
      if (dir_fd.ok()) {
        target_.DiscardFile(*dir_fd, task.name, file.file);
      } else {
        ::close(file.file.fd);
      }
    }
    written = std::move(file.written);
  }
  if (ok) {
    std::sort(written.begin(), written.end(),
              [](const DataRange& a, const DataRange& b) { return a.offset < b.offset; });
    FileWritten(task, 0, std::move(written), pinned);
    return;
  }
  if (!status.ok()) {
    if (kind == RestoreProblemKind::kRepository) {
      Repository(task.dir, task.name, "fetch", status);
    } else {
      TargetError(task.dir, task.name, "write", status);
    }
  }
  if (task.link != nullptr) FirstLinkDone(*task.link, task.dir, task.name, false, pinned);
}

void Restorer::FileWritten(const FileTask& task, uint64_t bytes, std::vector<DataRange> written, PinnedDir& pinned) {
  run_.observer.files_done.fetch_add(1, std::memory_order_relaxed);
  run_.counters.files.fetch_add(1, std::memory_order_relaxed);
  if (bytes != 0) {
    run_.observer.bytes_done.fetch_add(bytes, std::memory_order_relaxed);
    run_.counters.bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  if (options_.verify) {
    std::string record;
    ByteWriter w(&record);
    w.LengthPrefixed(target_.RelativePath(task.dir));
    w.LengthPrefixed(task.name);
    w.Varint(task.size);
    w.Varint(written.size());
    for (const DataRange& range : written) {
      w.Varint(range.offset);
      w.Varint(range.length);
      w.Bytes({reinterpret_cast<const char*>(range.hash.data()), range.hash.size()});
    }
    absl::MutexLock lock(&verify_mu_);
    if (absl::Status s = verify_list_.Append(record); !s.ok()) run_.Fail(s);
  }
  if (task.link != nullptr) FirstLinkDone(*task.link, task.dir, task.name, true, pinned);
}

// --- Verification ---------------------------------------------------------------------------------

absl::Status Restorer::VerifyFile(int fd, uint64_t size, const std::vector<DataRange>& ranges, std::string& buffer) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return TargetErrno(errno, "stat");
  if (!S_ISREG(st.st_mode) || static_cast<uint64_t>(st.st_size) != size) {
    return absl::DataLossError(absl::StrCat("it has ", st.st_size, " bytes, not ", size));
  }
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  // Calls consume(bytes) for [begin, end); false ends it.
  auto read = [&](uint64_t begin, uint64_t end, const auto& consume) -> absl::Status {
    while (begin < end) {
      const ssize_t n = ::pread(fd, buffer.data(), std::min<uint64_t>(buffer.size(), end - begin), begin);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return TargetErrno(errno, "read again");
      if (n == 0) return absl::DataLossError("it ends early");
      if (!consume(std::string_view(buffer.data(), n))) {
        return absl::DataLossError(absl::StrCat("other bytes than were written, near offset ", begin));
      }
      begin += n;
    }
    return absl::OkStatus();
  };
  auto check_zeros = [&](uint64_t begin, uint64_t end) -> absl::Status {
    if (begin >= end) return absl::OkStatus();
    const off_t data = ::lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return absl::OkStatus();
    if (data >= 0) begin = std::max<uint64_t>(begin, data);
    return read(begin, end, [](std::string_view bytes) { return IsZero(bytes); });
  };
  uint64_t at = 0;
  for (const DataRange& range : ranges) {
    RETURN_IF_ERROR(check_zeros(at, range.offset));
    Blake3 hash;
    RETURN_IF_ERROR(read(range.offset, range.offset + range.length, [&](std::string_view bytes) {
      hash.Update(bytes);
      return true;
    }));
    FileDigest found;
    hash.Finish(found.data(), found.size());
    if (found != range.hash) {
      return absl::DataLossError(
          absl::StrCat("other bytes than were written, in ", range.length, " bytes at offset ", range.offset));
    }
    at = range.offset + range.length;
  }
  return check_zeros(at, size);
}

void Restorer::VerifySome() {
  std::string record, open_path, buffer(1 << 20, '\0');
  int dir_fd = -1;
  while (!run_.stopping()) {
    {
      absl::MutexLock lock(&verify_mu_);
      if (verify_cursor_ >= verify_list_.end()) break;
      absl::StatusOr<uint64_t> next = verify_list_.Read(verify_cursor_, &record);
      if (!next.ok()) {
        run_.Fail(next.status());
        break;
      }
      verify_cursor_ = *next;
    }
    ByteReader r(record);
    const std::string dir(r.LengthPrefixed(~0ull));
    const std::string name(r.LengthPrefixed(~0ull));
    const uint64_t size = r.Varint();
    std::vector<DataRange> ranges(r.Varint());
    for (DataRange& range : ranges) {
      range.offset = r.Varint();
      range.length = r.Varint();
      std::string_view hash = r.Bytes(range.hash.size());
      std::copy(hash.begin(), hash.end(), range.hash.begin());
    }
    absl::Status status;
    if (dir_fd < 0 || dir != open_path) {
      if (dir_fd >= 0) ::close(dir_fd);
      absl::StatusOr<int> opened = target_.OpenBeneath(dir);
      dir_fd = opened.ok() ? *opened : -1;
      open_path = dir;
      status = opened.status();
    }
    if (status.ok()) {
      const int fd = ::openat(dir_fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
      if (fd < 0) {
        status = TargetErrno(errno, "open again");
      } else {
        status = VerifyFile(fd, size, ranges, buffer);
        ::close(fd);
      }
    }
    if (status.ok()) {
      ++run_.counters.verified;
    } else {
      run_.Problem(RestoreProblemKind::kTarget, absl::StrCat(prefix_, "/", dir, dir.empty() ? "" : "/", name), "verify",
                   status);
    }
  }
  if (dir_fd >= 0) ::close(dir_fd);
}

void Restorer::VerifyAll() {
  run_.observer.OnPhase(RestorePhase::kVerifying);
  if (::syncfs(target_.root_fd()) != 0) {
    run_.Fail(TargetErrno(errno, "flush the target to disk"));
    return;
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < std::clamp(options_.threads, 1, 64); ++i) threads.emplace_back([this] { VerifySome(); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace holdfast::restore_internal
