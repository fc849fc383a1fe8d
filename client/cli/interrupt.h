// Ctrl-C and SIGTERM for commands that can stop in an orderly way: the first signal sets a flag, the second kills.
#ifndef HOLDFAST_CLIENT_CLI_INTERRUPT_H_
#define HOLDFAST_CLIENT_CLI_INTERRUPT_H_

#include <atomic>

namespace holdfast {

// While it lives, the first SIGINT or SIGTERM sets *cancel. A signal that the caller's environment ignores (nohup)
// stays ignored. One at a time.
class InterruptScope {
 public:
  explicit InterruptScope(std::atomic<bool>* cancel);
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
};

// A signal came, in any scope so far.
bool WasInterrupted();

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_INTERRUPT_H_
