// What scripts learn from the exit status, and the one place that decides it. Part of the command line's fixed shape.
#ifndef HOLDFAST_CLIENT_CLI_EXIT_CODE_H_
#define HOLDFAST_CLIENT_CLI_EXIT_CODE_H_

#include <cstdint>

#include "core/base/status.h"

namespace holdfast {

enum class ExitCode {
  kOk = 0,
  kIncomplete = 1,  // done, but some files could not be read, restored or verified; they are named on stderr
  kFailed = 2,
  kUsage = 64,
};

// What came of a command that went through its work. Everything counted has been named.
struct Outcome {
  uint64_t not_read = 0;      // source files that a backup could not read: the snapshot lacks them
  uint64_t not_restored = 0;  // by a restore, or because the backup could not read them
  uint64_t damaged = 0;       // found by verify or ls: files, or parts of the tree
  uint64_t failed = 0;        // pieces of work that failed altogether: one PATH of several, an unusable repository
};
ExitCode ExitCodeOf(const Outcome& outcome);

// Of a command that ended with an error: kUsage for the caller's (AsUsage), kFailed for all others.
ExitCode ExitCodeOf(const absl::Status& error);
// Marks an error as the caller's. OK stays OK.
absl::Status AsUsage(absl::Status status);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_EXIT_CODE_H_
