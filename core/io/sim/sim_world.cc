#include "core/io/sim/sim_world.h"

#include <cstdio>
#include <cstdlib>

#include "core/io/sim/scheduler.h"
#include "core/io/sim/sim_files.h"

namespace holdfast {
namespace {

class SimClock : public Clock {
 public:
  explicit SimClock(Scheduler& scheduler) : scheduler_(scheduler) {}
  absl::Duration Monotonic() override { return scheduler_.Now(); }
  absl::Time Wall() override { return wall_origin_ + scheduler_.Now(); }
  void SetWall(absl::Time now) { wall_origin_ = now - scheduler_.Now(); }

 private:
  Scheduler& scheduler_;
  absl::Time wall_origin_ = absl::FromUnixSeconds(1'767'225'600);  // 2026-01-01
};

class SimRandom : public Random {
 public:
  explicit SimRandom(uint64_t seed) : bits_(seed ^ 0x4a2d03) {}
  void Fill(absl::Span<uint8_t> out) override {
    for (uint8_t& b : out) b = static_cast<uint8_t>(bits_.Next() >> 56);
  }

 private:
  SeededBits bits_;
};

}  // namespace

// The baton protects all of it.
struct SimWorld::Impl {
  explicit Impl(uint64_t seed_in)
      : seed(seed_in), scheduler(seed), clock(scheduler), random(seed), files(scheduler, clock, seed) {}
  const uint64_t seed;
  Scheduler scheduler;
  SimClock clock;
  SimRandom random;
  SimFiles files;
};

SimWorld::SimWorld(uint64_t seed) : impl_(std::make_unique<Impl>(seed)) {}
SimWorld::~SimWorld() = default;
Io SimWorld::io() { return Io{impl_->files, impl_->clock, impl_->random, impl_->scheduler}; }
uint64_t SimWorld::seed() const { return impl_->seed; }
void SimWorld::PowerOffAtCall(uint64_t call) { impl_->files.faults.power_off_at = call; }
bool SimWorld::is_off() const { return impl_->files.faults.off; }
uint64_t SimWorld::calls() const { return impl_->files.calls; }

void SimWorld::Crash(uint64_t seed, CrashMode mode) {
  if (impl_->scheduler.unfinished_threads() != 0) {
    std::fprintf(stderr, "simulation with seed %llu: Crash while threads run\n",
                 static_cast<unsigned long long>(impl_->seed));
    std::abort();
  }
  impl_->files.Crash(seed, mode);
}

void SimWorld::FailCall(uint64_t call, absl::Status status, Effect effect) {
  impl_->files.faults.calls[call] = {std::move(status), effect};
}
void SimWorld::FailSyncs(int count) { impl_->files.faults.syncs = count; }
void SimWorld::LimitSpace(uint64_t bytes) { impl_->files.faults.space = bytes; }
void SimWorld::ClearFaults() { impl_->files.ClearFaults(); }
absl::Status SimWorld::CorruptByte(std::string_view path, uint64_t offset, uint8_t mask) {
  return impl_->files.CorruptByte(path, offset, mask);
}
void SimWorld::Advance(absl::Duration duration) { impl_->scheduler.Advance(duration); }
void SimWorld::SetWall(absl::Time now) { impl_->clock.SetWall(now); }

}  // namespace holdfast
