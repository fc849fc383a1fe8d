// Real threads that hold a baton in turn; who is next is chosen by seed. Also the virtual clock, because time passes
// when nobody can run.
#ifndef HOLDFAST_CORE_IO_SIM_SCHEDULER_H_
#define HOLDFAST_CORE_IO_SIM_SCHEDULER_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/io/io.h"

namespace holdfast {

// xoshiro256**, seeded by splitmix64: fast, and the same everywhere.
class SeededBits {
 public:
  explicit SeededBits(uint64_t seed);
  uint64_t Next();
  uint64_t Below(uint64_t n) { return n == 0 ? 0 : Next() % n; }  // the bias does not matter here
  bool Coin() { return (Next() >> 63) != 0; }

 private:
  uint64_t s_[4];
};

class Scheduler : public Threads {
 public:
  explicit Scheduler(uint64_t seed);
  ~Scheduler() override;

  std::unique_ptr<Thread> Spawn(std::string name, std::function<void()> body) override;
  std::unique_ptr<Event> NewEvent() override;

  // The calling thread may lose the baton here.
  void Point();
  absl::Duration Now();
  void Advance(absl::Duration duration);
  int unfinished_threads();  // without the first one

 private:
  class SimEvent;
  class SimThread;
  struct Task;

  Task& Current();
  void WakeExpired();                                  // mu_ held
  void PassBaton(std::unique_lock<std::mutex>& lock);  // to a ready task
  void AwaitBaton(std::unique_lock<std::mutex>& lock, Task& me);
  [[noreturn]] void Die(const char* why);  // mu_ held

  const uint64_t seed_;
  const std::thread::id first_thread_;

  // All guarded by mu_, which is held for moments only; the baton is what keeps the threads apart.
  std::mutex mu_;
  SeededBits bits_;
  absl::Duration now_ = absl::ZeroDuration();
  uint64_t points_ = 0;
  std::vector<std::unique_ptr<Task>> tasks_;  // [0] is the first thread
  Task* running_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_SIM_SCHEDULER_H_
