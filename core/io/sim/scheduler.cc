#include "core/io/sim/scheduler.h"

#include <cstdio>
#include <cstdlib>

namespace holdfast {
namespace {

constexpr absl::Duration kPointDuration = absl::Microseconds(1);
constexpr std::chrono::seconds kStuckAfter{60};  // of real time without a scheduling point

uint64_t RotateLeft(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

}  // namespace

SeededBits::SeededBits(uint64_t seed) {
  for (uint64_t& word : s_) {
    uint64_t z = (seed += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    word = z ^ (z >> 31);
  }
}

uint64_t SeededBits::Next() {
  const uint64_t result = RotateLeft(s_[1] * 5, 7) * 9;
  const uint64_t t = s_[1] << 17;
  s_[2] ^= s_[0];
  s_[3] ^= s_[1];
  s_[1] ^= s_[2];
  s_[0] ^= s_[3];
  s_[2] ^= t;
  s_[3] = RotateLeft(s_[3], 45);
  return result;
}

struct Scheduler::Task {
  enum class State { kReady, kWaiting, kJoining, kDone };
  std::string name;
  State state = State::kReady;
  SimEvent* event = nullptr;                           // kWaiting
  absl::Duration deadline = absl::InfiniteDuration();  // kWaiting
  Task* joined = nullptr;                              // kJoining
  std::condition_variable baton;
};

namespace {
// Which task of which scheduler this thread is; not set in first threads.
thread_local std::pair<Scheduler*, void*> current_task{nullptr, nullptr};
}  // namespace

class Scheduler::SimEvent : public Event {
 public:
  explicit SimEvent(Scheduler& s) : s_(s) {}
  void Notify() override {
    std::lock_guard<std::mutex> lock(s_.mu_);
    set_ = true;
    for (auto& task : s_.tasks_) {
      if (task->state == Task::State::kWaiting && task->event == this) {
        task->state = Task::State::kReady;
        task->event = nullptr;
      }
    }
  }
  void Reset() override {
    std::lock_guard<std::mutex> lock(s_.mu_);
    set_ = false;
  }
  bool WaitUntil(absl::Duration deadline) override {
    s_.Point();
    std::unique_lock<std::mutex> lock(s_.mu_);
    Task& me = s_.Current();
    while (!set_) {
      if (s_.now_ >= deadline) return false;
      me.state = Task::State::kWaiting;
      me.event = this;
      me.deadline = deadline;
      s_.PassBaton(lock);
      s_.AwaitBaton(lock, me);
    }
    return true;
  }

 private:
  Scheduler& s_;
  bool set_ = false;  // guarded by s_.mu_
};

class Scheduler::SimThread : public Thread {
 public:
  SimThread(Scheduler& s, Task& task, std::function<void()> body) : s_(s), task_(task) {
    thread_ = std::thread([&s, &task, body = std::move(body)] {
      current_task = {&s, &task};
      {
        std::unique_lock<std::mutex> lock(s.mu_);
        s.AwaitBaton(lock, task);
      }
      body();
      std::unique_lock<std::mutex> lock(s.mu_);
      task.state = Task::State::kDone;
      for (auto& other : s.tasks_) {
        if (other->state == Task::State::kJoining && other->joined == &task) {
          other->state = Task::State::kReady;
        }
      }
      s.PassBaton(lock);
    });
  }
  ~SimThread() override {
    s_.Point();
    {
      std::unique_lock<std::mutex> lock(s_.mu_);
      Task& me = s_.Current();
      if (task_.state != Task::State::kDone) {
        me.state = Task::State::kJoining;
        me.joined = &task_;
        s_.PassBaton(lock);
        s_.AwaitBaton(lock, me);
      }
    }
    thread_.join();
    std::lock_guard<std::mutex> lock(s_.mu_);
    std::erase_if(s_.tasks_, [this](auto& t) { return t.get() == &task_; });
  }

 private:
  Scheduler& s_;
  Task& task_;
  std::thread thread_;
};

Scheduler::Scheduler(uint64_t seed) : seed_(seed), first_thread_(std::this_thread::get_id()), bits_(seed ^ 0x5c4ed01e) {
  tasks_.push_back(std::make_unique<Task>());
  tasks_[0]->name = "first";
  running_ = tasks_[0].get();
}
Scheduler::~Scheduler() = default;

std::unique_ptr<Thread> Scheduler::Spawn(std::string name, std::function<void()> body) {
  Task* task;
  {
    std::lock_guard<std::mutex> lock(mu_);
    Current();
    tasks_.push_back(std::make_unique<Task>());
    task = tasks_.back().get();
    task->name = std::move(name);
  }
  return std::make_unique<SimThread>(*this, *task, std::move(body));
}

std::unique_ptr<Event> Scheduler::NewEvent() { return std::make_unique<SimEvent>(*this); }

int Scheduler::unfinished_threads() {
  std::lock_guard<std::mutex> lock(mu_);
  int n = 0;
  for (auto& task : tasks_) n += task->state != Task::State::kDone;
  return n - 1;
}

absl::Duration Scheduler::Now() {
  std::lock_guard<std::mutex> lock(mu_);
  return now_;
}

void Scheduler::Advance(absl::Duration duration) {
  std::lock_guard<std::mutex> lock(mu_);
  now_ += std::max(duration, absl::ZeroDuration());
  WakeExpired();
}

Scheduler::Task& Scheduler::Current() {
  if (current_task.first == this) return *static_cast<Task*>(current_task.second);
  if (std::this_thread::get_id() == first_thread_) return *tasks_[0];
  Die("called by a thread that is none of the simulation's");
}

void Scheduler::WakeExpired() {
  for (auto& task : tasks_) {
    if (task->state == Task::State::kWaiting && task->deadline <= now_) {
      task->state = Task::State::kReady;
      task->event = nullptr;
    }
  }
}

void Scheduler::Point() {
  std::unique_lock<std::mutex> lock(mu_);
  Task& me = Current();
  PassBaton(lock);
  AwaitBaton(lock, me);
}

void Scheduler::PassBaton(std::unique_lock<std::mutex>&) {
  now_ += kPointDuration;
  ++points_;
  WakeExpired();
  while (true) {
    size_t ready = 0;
    for (auto& task : tasks_) ready += task->state == Task::State::kReady;
    if (ready > 0) {
      size_t chosen = ready == 1 ? 0 : bits_.Below(ready);
      for (auto& task : tasks_) {
        if (task->state != Task::State::kReady) continue;
        if (chosen-- == 0) {
          running_ = task.get();
          running_->baton.notify_one();
          return;
        }
      }
    }
    absl::Duration next = absl::InfiniteDuration();
    for (auto& task : tasks_) {
      if (task->state == Task::State::kWaiting) next = std::min(next, task->deadline);
    }
    if (next == absl::InfiniteDuration()) Die("deadlock: no thread can ever run again");
    now_ = next;
    WakeExpired();
  }
}

void Scheduler::AwaitBaton(std::unique_lock<std::mutex>& lock, Task& me) {
  uint64_t points = points_;
  while (running_ != &me) {
    if (me.baton.wait_for(lock, kStuckAfter, [&] { return running_ == &me; })) return;
    if (points_ == points) {
      Die("no scheduling point for a minute: does a thread hold a mutex across a call?");
    }
    points = points_;
  }
}

void Scheduler::Die(const char* why) {
  std::fprintf(stderr, "simulation with seed %llu: %s\n", static_cast<unsigned long long>(seed_), why);
  for (auto& task : tasks_) {
    const char* state = "ready";
    if (task->state == Task::State::kWaiting) state = "waiting for an event";
    if (task->state == Task::State::kJoining) state = "joining a thread";
    if (task->state == Task::State::kDone) state = "done";
    std::fprintf(stderr, "  %s: %s%s\n", task->name.c_str(), state, task.get() == running_ ? " (runs)" : "");
  }
  std::abort();
}

}  // namespace holdfast
