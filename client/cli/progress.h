// The progress of a long command on standard error: one live line on a terminal (at most five times a second), else a
// plain line every ten seconds; nothing when quiet (--json). Messages from any thread go in between.
#ifndef HOLDFAST_CLIENT_CLI_PROGRESS_H_
#define HOLDFAST_CLIENT_CLI_PROGRESS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/io/io.h"

namespace holdfast {

struct ProgressState {
  std::string_view activity;  // "reading", "verifying"
  uint64_t files = 0, bytes = 0;
  uint64_t files_expected = 0, bytes_expected = 0;  // 0 = not known
};

// One line about a state, without a line end. `bytes_per_second` 0 = not known yet.
std::string ProgressLine(const ProgressState& state, double bytes_per_second, double elapsed_seconds);

class Progress {
 public:
  // `state` is called from a thread of this object until it is destroyed. `io` is borrowed.
  Progress(bool quiet, std::function<ProgressState()> state, Io& io);
  ~Progress();  // takes the live line away
  // A whole line for people, without a line end, already escaped. Also when quiet: it is how failures are named.
  void Message(std::string_view line);

 private:
  void Run();
  void Erase() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const bool quiet_;
  const bool live_;
  const std::function<ProgressState()> state_;
  Io& io_;
  const std::unique_ptr<Event> stop_;
  absl::Mutex mu_;
  bool line_shown_ ABSL_GUARDED_BY(mu_) = false;
  std::unique_ptr<Thread> thread_;  // last: joined first
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_PROGRESS_H_
