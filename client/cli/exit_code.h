// What scripts learn from the exit status. Part of the command line's fixed shape.
#ifndef HOLDFAST_CLIENT_CLI_EXIT_CODE_H_
#define HOLDFAST_CLIENT_CLI_EXIT_CODE_H_

namespace holdfast {

enum class ExitCode {
  kOk = 0,
  kIncomplete = 1,  // done, but some files could not be read, restored or verified; they are named on stderr
  kFailed = 2,
  kUsage = 64,
};

// The worse of two.
inline ExitCode Worse(ExitCode a, ExitCode b) { return static_cast<int>(a) > static_cast<int>(b) ? a : b; }

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_EXIT_CODE_H_
