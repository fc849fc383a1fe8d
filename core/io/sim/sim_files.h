// The simulated file system. All of it is protected by the scheduler's baton: whoever runs owns it.
#ifndef HOLDFAST_CORE_IO_SIM_SIM_FILES_H_
#define HOLDFAST_CORE_IO_SIM_SIM_FILES_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/io/sim/scheduler.h"
#include "core/io/sim/sim_world.h"

namespace holdfast {

class SimFiles : public Files {
 public:
  SimFiles(Scheduler& scheduler, Clock& clock, uint64_t seed);
  ~SimFiles() override;

  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode) override;
  absl::Status Rename(std::string_view from, std::string_view to) override;
  absl::Status RenameNoReplace(std::string_view from, std::string_view to) override;
  absl::Status Unlink(std::string_view path) override;
  absl::Status MakeDirectories(std::string_view path) override;
  absl::Status RemoveDirectory(std::string_view path) override;
  absl::Status SyncDirectory(std::string_view path) override;
  absl::StatusOr<FileInfo> Stat(std::string_view path) override;
  absl::StatusOr<FileInfo> StatNoFollow(std::string_view path) override { return Stat(path); }
  absl::StatusOr<std::vector<std::string>> List(std::string_view path) override;

  // See SimWorld.
  void Crash(uint64_t seed, CrashMode mode);
  absl::Status CorruptByte(std::string_view path, uint64_t offset, uint8_t mask);
  void ClearFaults();

  struct Faults {
    std::optional<uint64_t> power_off_at;  // number of a call
    bool off = false;
    std::map<uint64_t, std::pair<absl::Status, SimWorld::Effect>> calls;
    int syncs = 0;
    uint64_t space = std::numeric_limits<uint64_t>::max();
  };
  Faults faults;
  uint64_t calls = 0;

 private:
  class SimFile;
  struct Inode;
  using InodePtr = std::shared_ptr<Inode>;
  // One change of one name that no sync has covered yet.
  struct NameChange {
    uint64_t number;
    InodePtr directory;
    std::string name;
    InodePtr target;                     // null: the name goes
    std::optional<uint64_t> only_after;  // the change of this number is never less durable than this one
  };
  struct Place {  // of a path
    InodePtr directory;
    std::string name;
    InodePtr target;  // null when absent
  };

  // One file call: a scheduling point, then the faults. The call is done by `f` in one step.
  template <typename R>
  R Call(const std::function<R()>& f);
  absl::StatusOr<Place> Find(std::string_view path);
  uint64_t Change(const InodePtr& directory, const std::string& name, InodePtr target,
                  std::optional<uint64_t> only_after = std::nullopt);
  absl::Status DoRename(std::string_view from, std::string_view to, bool replace);
  void MakeDurable(const std::function<bool(const NameChange&)>& wanted);
  bool TakeSyncFault();

  Scheduler& scheduler_;
  Clock& clock_;
  SeededBits bits_;
  InodePtr root_;
  std::vector<NameChange> pending_;  // oldest first
  uint64_t next_change_ = 0;
  uint64_t generation_ = 0;  // counts crashes
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_SIM_SIM_FILES_H_
