// What the planner hands to the workers: files to be written, grouped by the chunks that they want bytes of.
#ifndef HOLDFAST_CLIENT_RESTORE_FILE_TASKS_H_
#define HOLDFAST_CLIENT_RESTORE_FILE_TASKS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/restore/hard_links.h"
#include "client/restore/metadata.h"
#include "client/restore/read_back.h"
#include "client/restore/restore_observer.h"
#include "client/restore/target_directories.h"
#include "client/restore/target_files.h"
#include "core/base/status.h"
#include "core/tree/entry.h"
#include "core/tree/file_content.h"

namespace holdfast {

struct FileTask {
  DirRef dir;
  std::string name;
  Metadata metadata;
  uint64_t size = 0;
  std::unique_ptr<ContentMap> map;   // null: no holes
  std::optional<LinkKey> link;       // the first of several names
  std::optional<FileDigest> digest;  // to be checked
  bool replace = false;
};

// A file whose content is in one place: in a bundle, or in the entry.
struct SliceTask : FileTask {
  uint64_t offset = 0, length = 0;  // in the bundle
  std::string bytes;                // in the entry
};

// A file of chunks, shared by the workers that write it. Whoever ends the last part finishes it.
struct ChunkedFile {
  FileTask task;
  std::atomic<int> parts{1};  // the planner holds one until the last piece is planned
  std::atomic<bool> failed{false};
  // Held during a write: the kernel lets in one writer of a file at a time, too, but has the others spin meanwhile on
  // processors that could fetch and open chunks. Here they sleep, each with the one chunk that it has opened. Never
  // together with `mu`.
  absl::Mutex write_mu;
  absl::Mutex mu;
  absl::Status failure ABSL_GUARDED_BY(mu);  // OK and failed: the restore as a whole stops
  RestoreProblemKind kind ABSL_GUARDED_BY(mu) = RestoreProblemKind::kRepository;
  NewFile file ABSL_GUARDED_BY(mu);
  std::vector<WrittenRange> written ABSL_GUARDED_BY(mu);  // with verify
};

struct PieceTask {
  std::shared_ptr<ChunkedFile> file;
  uint64_t content_offset = 0, length = 0;
};

// A chunk and everything nearby that wants bytes of it.
struct WantedChunk {
  ChunkRef ref;
  uint64_t estimated_bytes = 0;  // of the chunk, as far as it is wanted
  uint64_t attribute_bytes = 0;  // of the files, held until they are written
  std::vector<SliceTask> slices;
  std::vector<PieceTask> pieces;
};

// Fetched in one call.
struct FetchBatch {
  std::vector<std::unique_ptr<WantedChunk>> chunks;
  std::vector<SliceTask> without_chunk;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_FILE_TASKS_H_
