// Small files: a bundle's worth is read, concatenated and offered as one chunk. Run by a worker.
#ifndef HOLDFAST_CLIENT_BACKUP_SMALL_FILES_H_
#define HOLDFAST_CLIENT_BACKUP_SMALL_FILES_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "client/backup/file_result.h"
#include "client/scan/scanner.h"
#include "client/upload/chunk_uploader.h"
#include "core/crypto/types.h"

namespace holdfast {

struct BundleJob {
  struct File {
    std::shared_ptr<SourceDirectory> directory;
    std::string name;
    std::shared_ptr<FileResult> result;
  };
  std::vector<File> files;
};

// Fills every file's result but its `ready` flag. Fails only for reasons of the repository or server.
absl::Status RunBundleJob(BundleJob& job, ChunkUploader& uploader, int level);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_SMALL_FILES_H_
