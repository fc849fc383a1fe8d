// A simulated machine behind the Io seam, for tests: files in memory that know what is durable, a virtual clock, seeded
// randomness, and threads that run one at a time in an order chosen by seed. The same seed and the same program give
// the same run.
//
// Files. Bytes and lengths become durable by File::Sync, names by SyncDirectory (or MakeDirectories). A rename is never
// lost halfway: after a crash the file has its old name, its new name or both. Nothing else is promised, which is less
// than real file systems do. No symbolic links; no "..". The root and the working directory are the same.
//
// Threads. Every file call, every wait and every join is a scheduling point: another thread may go on there. Notify,
// Reset, clock and randomness are none, so they may be called with a mutex held; holding one across a scheduling point
// hangs, which is found after a minute and reported. A deadlock aborts. Both print the seed. Time passes by 1 us per
// scheduling point, and to the next deadline when nobody can run.
//
// The thread that makes the world is its first thread. Only threads from io().threads may use it otherwise.
#ifndef HOLDFAST_CORE_IO_SIM_SIM_WORLD_H_
#define HOLDFAST_CORE_IO_SIM_SIM_WORLD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "core/io/io.h"

namespace holdfast {

// What a crash leaves of what was not synced.
enum class CrashMode {
  kDrop,  // nothing
  kKeep,  // all of it (kill -9)
  kTorn,  // by seed: some names; some bytes, cut anywhere, parts of them zero
};

class SimWorld {
 public:
  explicit SimWorld(uint64_t seed);
  ~SimWorld();  // threads must have been joined
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;

  Io io();
  uint64_t seed() const;

  // Crashes. At file call number `call` (1 is the first one ever) the power goes: that call has its effect or not, by
  // seed, and it and all later ones fail with UNAVAILABLE. Threads see only that; join them, then Crash.
  void PowerOffAtCall(uint64_t call);
  bool is_off() const;
  uint64_t calls() const;  // file calls so far
  // Turns the files into what survives, the power on again and all faults off. Open files of before are dead
  // (UNAVAILABLE). The calling thread is the only one left.
  void Crash(uint64_t seed, CrashMode mode);

  // Faults.
  enum class Effect { kNone, kDone };  // whether the call fails before or after it did its work
  void FailCall(uint64_t call, absl::Status status, Effect effect = Effect::kNone);
  void FailSyncs(int count);        // of files and directories: the next ones, UNAVAILABLE
  void LimitSpace(uint64_t bytes);  // that can still be appended; then RESOURCE_EXHAUSTED
  void ClearFaults();
  // The byte at `offset` of a file is exclusive-ored with `mask`, durably: a bad disk.
  absl::Status CorruptByte(std::string_view path, uint64_t offset, uint8_t mask);

  // Time.
  void Advance(absl::Duration duration);  // not into the past
  void SetWall(absl::Time now);           // jumps the wall clock only

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_SIM_SIM_WORLD_H_
