// A condition variable on Io events, so that engine code blocks only where a simulation can see it. Used with a mutex:
//   queue.Wait(&mu, [&] { return ready_; });      // mu held before and after; pred evaluated with it held
//   queue.NotifyAll();                            // mu held
#ifndef HOLDFAST_CORE_IO_WAIT_QUEUE_H_
#define HOLDFAST_CORE_IO_WAIT_QUEUE_H_

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "core/io/io.h"

namespace holdfast {

class WaitQueue {
 public:
  explicit WaitQueue(Threads& threads) : threads_(threads) {}

  template <typename Predicate>
  void Wait(absl::Mutex* mu, Predicate ready) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (ready()) return;
    std::unique_ptr<Event> event = threads_.NewEvent();
    waiters_.push_back(event.get());
    while (!ready()) {
      event->Reset();
      mu->Unlock();
      event->WaitUntil(absl::InfiniteDuration());
      mu->Lock();
    }
    waiters_.erase(std::find(waiters_.begin(), waiters_.end(), event.get()));
  }
  void NotifyAll() {
    for (Event* waiter : waiters_) waiter->Notify();
  }

 private:
  Threads& threads_;
  std::vector<Event*> waiters_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_WAIT_QUEUE_H_
