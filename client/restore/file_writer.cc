#include "client/restore/file_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "client/restore/target_errno.h"
#include "core/tree/file_content.h"

namespace holdfast {
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

// --- Parts of both kinds --------------------------------------------------------------------------

absl::Status FileWriter::SetSize(int fd, const FileTask& task) {
  if (task.map == nullptr) return absl::OkStatus();
  if (::ftruncate(fd, static_cast<off_t>(task.size)) != 0) return TargetErrno(errno, "set size");
  if (!run_.options.sparse && ::fallocate(fd, 0, 0, static_cast<off_t>(task.size)) != 0 && errno != EOPNOTSUPP) {
    return TargetErrno(errno, "allocate");
  }
  return absl::OkStatus();
}

// Where the content belongs in the file.
absl::StatusOr<std::vector<FileWriter::FileRange>> FileWriter::RangesOf(const FileTask& task, uint64_t content_offset,
                                                                        std::string_view content) {
  std::vector<FileRange> ranges;
  if (content.empty()) return ranges;
  auto add = [&](uint64_t offset, std::string_view bytes) {
    ranges.push_back({offset, bytes});
    return absl::OkStatus();
  };
  if (task.map == nullptr) {
    RETURN_IF_ERROR(add(content_offset, content));
  } else {
    RETURN_IF_ERROR(task.map->ForEachRange(content_offset, content, run_.options.sparse, add));
  }
  return ranges;
}

std::vector<WrittenRange> FileWriter::HashesOf(const std::vector<FileRange>& ranges) {
  std::vector<WrittenRange> out;
  if (read_back_ == nullptr) return out;
  for (const FileRange& r : ranges) out.push_back({r.offset, r.bytes.size(), HashOfWritten(r.bytes)});
  return out;
}

void FileWriter::CountBytes(uint64_t bytes) {
  run_.observer.bytes_done.fetch_add(bytes, std::memory_order_relaxed);
  run_.counters.bytes.fetch_add(bytes, std::memory_order_relaxed);
}

void FileWriter::FileDone(const FileTask& task, uint64_t bytes, const std::vector<WrittenRange>& written,
                          PinnedDir& pinned) {
  run_.observer.files_done.fetch_add(1, std::memory_order_relaxed);
  run_.counters.files.fetch_add(1, std::memory_order_relaxed);
  if (bytes != 0) CountBytes(bytes);
  if (read_back_ != nullptr) read_back_->Add(task.dir, task.name, task.size, written);
  if (task.link.has_value()) links_.FirstDone(*task.link, task.dir, task.name, true, pinned);
}

void FileWriter::FileFailed(const FileTask& task, PinnedDir& pinned) {
  if (task.link.has_value()) links_.FirstDone(*task.link, task.dir, task.name, false, pinned);
}

// --- Whole files ----------------------------------------------------------------------------------

void FileWriter::WriteSlice(const SliceTask& task, std::string_view content, PinnedDir& pinned) {
  std::string_view operation;
  std::vector<WrittenRange> written;
  const absl::Status status = WriteNewFile(task, content, pinned, &operation, &written);
  if (status.ok()) {
    FileDone(task, content.size(), written, pinned);
  } else {
    run_.ReportTargetProblem(directories_.SnapshotPath(task.dir, task.name), operation, status);
    FileFailed(task, pinned);
  }
}

absl::Status FileWriter::WriteNewFile(const SliceTask& task, std::string_view content, PinnedDir& pinned,
                                      std::string_view* operation, std::vector<WrittenRange>* written) {
  *operation = "open directory";
  ASSIGN_OR_RETURN(const int dir_fd, pinned.Fd(task.dir));
  *operation = "create";
  ASSIGN_OR_RETURN(NewFile file, files_.CreateFile(task.dir, dir_fd, task.name, task.metadata, task.replace));
  *operation = "write";
  absl::Status status = SetSize(file.fd, task);
  absl::StatusOr<std::vector<FileRange>> ranges = RangesOf(task, 0, content);
  if (status.ok()) status = ranges.status();
  if (status.ok()) {
    *written = HashesOf(*ranges);
    for (const FileRange& r : *ranges) {
      if (status.ok()) status = WriteAt(file.fd, r.offset, r.bytes);
    }
  }
  if (!status.ok()) {
    files_.DiscardFile(dir_fd, task.name, file);
    return status;
  }
  *operation = "finish";
  return files_.FinishFile(task.dir, dir_fd, task.name, task.metadata, file);
}

void FileWriter::GiveUpFile(const FileTask& task, std::string_view operation, const absl::Status& why,
                            PinnedDir& pinned) {
  run_.ReportRepositoryProblem(directories_.SnapshotPath(task.dir, task.name), operation, why);
  FileFailed(task, pinned);
}

// --- Files in pieces ------------------------------------------------------------------------------

absl::Status FileWriter::OpenOnce(ChunkedFile& file, PinnedDir& pinned) {
  if (file.file.fd >= 0) return absl::OkStatus();
  const FileTask& task = file.task;
  ASSIGN_OR_RETURN(const int dir_fd, pinned.Fd(task.dir));
  ASSIGN_OR_RETURN(file.file, files_.CreateFile(task.dir, dir_fd, task.name, task.metadata, task.replace));
  return SetSize(file.file.fd, task);
}

absl::Status FileWriter::WritePart(ChunkedFile& file, uint64_t content_offset, std::string_view content,
                                   PinnedDir& pinned) {
  ASSIGN_OR_RETURN(const std::vector<FileRange> ranges, RangesOf(file.task, content_offset, content));
  const std::vector<WrittenRange> hashes = HashesOf(ranges);
  int fd = -1;
  {
    absl::MutexLock lock(&file.mu);
    RETURN_IF_ERROR(OpenOnce(file, pinned));
    fd = file.file.fd;
  }
  {
    absl::MutexLock lock(&file.write_mu);
    for (const FileRange& r : ranges) RETURN_IF_ERROR(WriteAt(fd, r.offset, r.bytes));
  }
  if (!hashes.empty()) {
    absl::MutexLock lock(&file.mu);
    file.written.insert(file.written.end(), hashes.begin(), hashes.end());
  }
  return absl::OkStatus();
}

void FileWriter::WritePiece(const PieceTask& piece, std::string_view content, PinnedDir& pinned) {
  if (!piece.file->failed.load()) {
    const absl::Status status = WritePart(*piece.file, piece.content_offset, content, pinned);
    if (status.ok()) {
      CountBytes(content.size());
    } else {
      FailFile(*piece.file, RestoreProblemKind::kTarget, status);
    }
  }
  EndPart(*piece.file, pinned);
}

void FileWriter::GiveUpPiece(const PieceTask& piece, const absl::Status& why, PinnedDir& pinned) {
  FailFile(*piece.file, RestoreProblemKind::kRepository, why);
  EndPart(*piece.file, pinned);
}

void FileWriter::AbandonPiece(const PieceTask& piece, PinnedDir& pinned) {
  piece.file->failed.store(true);
  EndPart(*piece.file, pinned);
}

void FileWriter::FailFile(ChunkedFile& file, RestoreProblemKind kind, const absl::Status& status) {
  absl::MutexLock lock(&file.mu);
  if (file.failed.exchange(true) || run_.stopping()) return;
  file.failure = status;
  file.kind = kind;
}

// OK: the file is there.
absl::Status FileWriter::FinishOrDiscard(ChunkedFile& file, PinnedDir& pinned) {
  const FileTask& task = file.task;
  absl::StatusOr<int> dir_fd = pinned.Fd(task.dir);
  absl::Status status = dir_fd.status();
  if (!file.failed.load()) {
    if (status.ok()) status = OpenOnce(file, pinned);  // a file without pieces
    if (status.ok()) {
      NewFile finished = std::exchange(file.file, NewFile());
      return files_.FinishFile(task.dir, *dir_fd, task.name, task.metadata, std::move(finished));
    }
  }
  if (file.file.fd < 0) return status;
  if (dir_fd.ok()) {
    files_.DiscardFile(*dir_fd, task.name, std::exchange(file.file, NewFile()));
  } else {
    ::close(std::exchange(file.file, NewFile()).fd);
  }
  return status;
}

void FileWriter::EndPart(ChunkedFile& file, PinnedDir& pinned) {
  if (file.parts.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  absl::Status status;
  RestoreProblemKind kind = RestoreProblemKind::kTarget;
  std::vector<WrittenRange> written;
  bool is_there = false;
  {
    absl::MutexLock lock(&file.mu);
    status = FinishOrDiscard(file, pinned);
    if (file.failed.load()) {
      status = file.failure;
      kind = file.kind;
    } else {
      is_there = status.ok();
    }
    written = std::move(file.written);
  }
  if (is_there) {
    std::sort(written.begin(), written.end(),
              [](const WrittenRange& a, const WrittenRange& b) { return a.offset < b.offset; });
    FileDone(file.task, 0, written, pinned);
    return;
  }
  if (!status.ok()) {
    std::string path = directories_.SnapshotPath(file.task.dir, file.task.name);
    if (kind == RestoreProblemKind::kRepository) {
      run_.ReportRepositoryProblem(std::move(path), "fetch", status);
    } else {
      run_.ReportTargetProblem(std::move(path), "write", status);
    }
  }
  FileFailed(file.task, pinned);
}

}  // namespace holdfast
