// Writes the content of regular files: whole ones from a slice of a bundle, large ones piece by piece as their chunks
// come, in any order and from several threads. A file whose content cannot be had or written is not there afterwards.
// Thread-safe; `pinned` is of the calling thread.
#ifndef HOLDFAST_CLIENT_RESTORE_FILE_WRITER_H_
#define HOLDFAST_CLIENT_RESTORE_FILE_WRITER_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "client/restore/file_tasks.h"
#include "client/restore/hard_links.h"
#include "client/restore/read_back.h"
#include "client/restore/restore_observer.h"
#include "client/restore/restore_run.h"
#include "client/restore/target_directories.h"
#include "client/restore/target_files.h"
#include "core/base/status.h"

namespace holdfast {

class FileWriter {
 public:
  // Borrowed. `read_back` is told what was written; null: nobody wants to know.
  FileWriter(RestoreRun& run, TargetDirectories& directories, TargetFiles& files, HardLinks& links, ReadBack* read_back)
      : run_(run), directories_(directories), files_(files), links_(links), read_back_(read_back) {}

  // A whole file.
  void WriteSlice(const SliceTask& task, std::string_view content, PinnedDir& pinned);
  // Its content cannot be had; `operation` found that out.
  void GiveUpFile(const FileTask& task, std::string_view operation, const absl::Status& why, PinnedDir& pinned);

  // A piece of a file, and with the last one the file.
  void WritePiece(const PieceTask& piece, std::string_view content, PinnedDir& pinned);
  // The piece cannot be had: nor can the file.
  void GiveUpPiece(const PieceTask& piece, const absl::Status& why, PinnedDir& pinned);
  // The restore as a whole stops.
  void AbandonPiece(const PieceTask& piece, PinnedDir& pinned);

  // What is behind the calls for pieces, for who holds a part itself. The first failure wins.
  void FailFile(ChunkedFile& file, RestoreProblemKind kind, const absl::Status& status);
  void EndPart(ChunkedFile& file, PinnedDir& pinned);

 private:
  struct FileRange {
    uint64_t offset = 0;
    std::string_view bytes;
  };
  absl::Status SetSize(int fd, const FileTask& task);
  absl::StatusOr<std::vector<FileRange>> RangesOf(const FileTask& task, uint64_t content_offset,
                                                  std::string_view content);
  std::vector<WrittenRange> HashesOf(const std::vector<FileRange>& ranges);
  absl::Status WriteNewFile(const SliceTask& task, std::string_view content, PinnedDir& pinned,
                            std::string_view* operation, std::vector<WrittenRange>* written);
  absl::Status WritePart(ChunkedFile& file, uint64_t content_offset, std::string_view content, PinnedDir& pinned);
  absl::Status OpenOnce(ChunkedFile& file, PinnedDir& pinned) ABSL_EXCLUSIVE_LOCKS_REQUIRED(file.mu);
  absl::Status FinishOrDiscard(ChunkedFile& file, PinnedDir& pinned) ABSL_EXCLUSIVE_LOCKS_REQUIRED(file.mu);
  void FileDone(const FileTask& task, uint64_t bytes, const std::vector<WrittenRange>& written, PinnedDir& pinned);
  void FileFailed(const FileTask& task, PinnedDir& pinned);
  void CountBytes(uint64_t bytes);

  RestoreRun& run_;
  TargetDirectories& directories_;
  TargetFiles& files_;
  HardLinks& links_;
  ReadBack* const read_back_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_FILE_WRITER_H_
