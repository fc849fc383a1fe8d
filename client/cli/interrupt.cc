#include "client/cli/interrupt.h"

#include <signal.h>

namespace holdfast {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};

std::atomic<std::atomic<bool>*> current{nullptr};
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void OnSignal(int) {
  interrupted.store(true);
  if (std::atomic<bool>* cancel = current.load()) cancel->store(true);
}

}  // namespace

InterruptScope::InterruptScope(std::atomic<bool>* cancel) {
  current.store(cancel);
  for (int signal : kSignals) {
    struct sigaction old {};
    sigaction(signal, nullptr, &old);
    if (old.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = OnSignal;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);  // the second one finds the default action
    sigaction(signal, &action, nullptr);
  }
  if (interrupted.load()) cancel->store(true);
}

InterruptScope::~InterruptScope() {
  for (int signal : kSignals) {
    struct sigaction old {};
    sigaction(signal, nullptr, &old);
    if (old.sa_handler == OnSignal) ::signal(signal, SIG_DFL);
  }
  current.store(nullptr);
}

bool WasInterrupted() { return interrupted.load(); }

}  // namespace holdfast
