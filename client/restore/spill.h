// Records in the order they were appended, in memory up to a limit and behind that in an unlinked temporary file. Works
// as a log (append, read anywhere) and as a stack (append, truncate). Not thread-safe.
#ifndef HOLDFAST_CLIENT_RESTORE_SPILL_H_
#define HOLDFAST_CLIENT_RESTORE_SPILL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace holdfast {

class SpillStore {
 public:
  // The temporary file is made, when needed, in the directory behind `directory_fd` (borrowed).
  SpillStore(int directory_fd, uint64_t memory_bytes_max)
      : directory_fd_(directory_fd), memory_bytes_max_(memory_bytes_max) {}
  ~SpillStore();
  SpillStore(const SpillStore&) = delete;
  SpillStore& operator=(const SpillStore&) = delete;

  uint64_t end() const { return base_ + memory_.size(); }
  // Appends at end(), which is the record's offset.
  absl::Status Append(std::string_view record);
  // Reads the record at `offset`; returns the offset of the next one.
  absl::StatusOr<uint64_t> Read(uint64_t offset, std::string* record);
  // Drops everything from `offset`, which is the offset of a record or end().
  absl::Status Truncate(uint64_t offset);

 private:
  absl::Status Flush();

  const int directory_fd_;
  const uint64_t memory_bytes_max_;
  int fd_ = -1;
  uint64_t base_ = 0;   // bytes in the file
  std::string memory_;  // what follows them
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_SPILL_H_
