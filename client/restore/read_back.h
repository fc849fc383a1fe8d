// The verification after a restore: remembers what was written, and when everything is, flushes the target to disk and
// compares what is there.
#ifndef HOLDFAST_CLIENT_RESTORE_READ_BACK_H_
#define HOLDFAST_CLIENT_RESTORE_READ_BACK_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/restore/restore_run.h"
#include "client/restore/spill.h"
#include "client/restore/target_directories.h"
#include "core/base/status.h"
#include "core/tree/entry.h"

namespace holdfast {

// What was written in one piece. Outside of a file's ranges there are zeros.
struct WrittenRange {
  uint64_t offset = 0, length = 0;
  FileDigest hash{};
};

FileDigest HashOfWritten(std::string_view bytes);

// 24 bytes per range; spills.
class ReadBack {
 public:
  // Borrowed.
  ReadBack(RestoreRun& run, TargetDirectories& directories, uint64_t memory_bytes)
      : run_(run), directories_(directories), list_(directories.root_fd(), memory_bytes) {}

  // Any thread. `ranges` in order.
  void Add(const DirRef& dir, const std::string& name, uint64_t size, const std::vector<WrittenRange>& ranges);
  // Reads every file again, in `threads` threads, and reports those that are not as they were written. Blocks.
  void Run(int threads);

 private:
  struct Record {
    std::string dir, name;
    uint64_t size = 0;
    std::vector<WrittenRange> ranges;
  };
  bool Next(Record* record);
  void CheckSome();

  RestoreRun& run_;
  TargetDirectories& directories_;
  absl::Mutex mu_;
  SpillStore list_ ABSL_GUARDED_BY(mu_);
  uint64_t cursor_ ABSL_GUARDED_BY(mu_) = 0;
};

// DATA_LOSS if the file behind `fd` has another size or other bytes.
absl::Status CheckFile(int fd, uint64_t size, const std::vector<WrittenRange>& ranges, std::string& buffer);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_READ_BACK_H_
