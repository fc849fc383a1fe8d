// Everything in the directories of a target that is not a directory: regular files, symbolic links, FIFOs, sockets,
// devices and further names. What replaces something is made beside it under a temporary name and renamed over it.
// Thread-safe; `dir_fd` is always the descriptor of `dir`, from a PinnedDir.
#ifndef HOLDFAST_CLIENT_RESTORE_TARGET_FILES_H_
#define HOLDFAST_CLIENT_RESTORE_TARGET_FILES_H_

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "client/restore/metadata.h"
#include "client/restore/metadata_writer.h"
#include "client/restore/restore_run.h"
#include "client/restore/target_directories.h"
#include "client/restore/umask.h"
#include "core/base/status.h"
#include "core/tree/entry.h"

namespace holdfast {

// A regular file being written. Goes back to FinishFile or DiscardFile.
struct NewFile {
  int fd = -1;
  std::string temporary_name;  // not empty: renamed over the real one at the end
  CreatedAs created;
};

class TargetFiles {
 public:
  // Both borrowed.
  TargetFiles(RestoreRun& run, TargetDirectories& directories) : run_(run), directories_(directories), metadata_(run) {}

  // Closed to strangers until it is finished.
  absl::StatusOr<NewFile> CreateFile(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& metadata,
                                     bool replace);
  // Sets metadata, closes and renames.
  absl::Status FinishFile(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& metadata,
                          const NewFile& file);
  // Closes and removes.
  void DiscardFile(int dir_fd, const std::string& name, const NewFile& file);

  // Symbolic links, FIFOs, sockets, devices.
  absl::Status MakeSpecial(const DirRef& dir, int dir_fd, const Entry& entry, const Metadata& metadata, bool replace);
  // A further name of an object that exists.
  absl::Status Link(int from_dir_fd, const std::string& from_name, int dir_fd, const std::string& name, bool replace);

  // What is there under a name; null: nothing.
  absl::StatusOr<std::optional<struct stat>> Look(int dir_fd, const std::string& name);
  bool IsSymlinkTo(int dir_fd, const std::string& name, const std::string& target);
  // Metadata of an object that stays. `seen` is what it was when looked at; another object in its place by now is left
  // alone.
  absl::Status SetMetadata(const DirRef& dir, int dir_fd, const std::string& name, const Metadata& metadata,
                           const struct stat& seen);

 private:
  absl::Status SetMetadataOfSpecial(const DirRef& dir, int dir_fd, const std::string& made, mode_t type,
                                    const std::string& name, const Metadata& metadata);
  void SetMetadataOfOwnLink(const DirRef& dir, int dir_fd, const std::string& made, const std::string& name,
                            const Metadata& metadata);
  std::string TemporaryName();

  RestoreRun& run_;
  TargetDirectories& directories_;
  MetadataWriter metadata_;
  const uint32_t euid_ = geteuid();
  const uint32_t umask_ = ReadUmask();
  std::atomic<uint64_t> temporary_names_{0};
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_TARGET_FILES_H_
