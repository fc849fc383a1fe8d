// Names of one object: which of them is restored, which are linked to it, and which wait until it is there. Groups are
// known by the device and inode of the entries. The planner asks for the role of each name in key order; whoever has
// made (or failed to make) the first name of a group says so, and the names that waited are linked. Names that could
// not be linked come back to the planner, which restores them for themselves.
#ifndef HOLDFAST_CLIENT_RESTORE_HARD_LINKS_H_
#define HOLDFAST_CLIENT_RESTORE_HARD_LINKS_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "client/restore/restore_run.h"
#include "client/restore/spill.h"
#include "client/restore/target_directories.h"
#include "client/restore/target_files.h"
#include "core/tree/entry.h"

namespace holdfast {

struct LinkKey {
  uint32_t device = 0;
  uint64_t inode = 0;
  bool operator==(const LinkKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const LinkKey& k) {
    return H::combine(std::move(h), k.device, k.inode);
  }
};

enum class LinkRole {
  kFirst,    // is restored; FirstDone must follow
  kFurther,  // for Place
  kApart,    // differs from the first one: restored for itself
};

enum class LinkPlacement {
  kDone,   // linked, or will be
  kFirst,  // the first one failed: this one takes its place
  kApart,  // could not be linked: restored for itself
};

// A further name whose place is free, or may be replaced.
struct FurtherName {
  DirRef dir;
  Entry entry;
  bool replace = false;
};

// What two names of one object must agree in.
FileDigest LinkIdentity(const Entry& entry);

// About 60 bytes per group of which not all members have been seen, and the path of its first one, which spills.
class HardLinks {
 public:
  // Borrowed. `memory_bytes`: for paths.
  HardLinks(RestoreRun& run, TargetDirectories& directories, TargetFiles& files, uint64_t memory_bytes)
      : run_(run), directories_(directories), files_(files), paths_(directories.root_fd(), memory_bytes) {}
  ~HardLinks();

  // Planner only.
  LinkRole RoleOf(const Entry& entry);
  // `pinned` of the planner.
  LinkPlacement Place(FurtherName further, PinnedDir& pinned);
  // Names that could not be linked to what they waited for; each is for Place once more.
  std::vector<FurtherName> TakeRetries();
  bool has_retries() const { return has_retries_.load(std::memory_order_relaxed); }
  // When nothing is written any more: lets go of what waits, and of the directories.
  void Close();

  // Any thread.
  void FirstDone(const LinkKey& key, const DirRef& dir, const std::string& name, bool is_there, PinnedDir& pinned);
  // Memory of names that wait, in units of kBytesPerWaitingName.
  size_t waiting() const { return waiting_.load(std::memory_order_relaxed); }
  static constexpr uint64_t kBytesPerWaitingName = 2048;  // generous: a name, attributes, a directory

 private:
  enum class State : uint8_t { kPending, kDone, kFailed };
  struct Group {
    uint32_t seen = 0, members = 0;
    State state = State::kPending;
    FileDigest identity{};
    uint64_t path = 0;  // of the first one: in paths_
  };
  static size_t WeightOf(const Entry& entry);
  bool LinkToPath(const FurtherName& further, const std::string& path, PinnedDir& pinned);

  RestoreRun& run_;
  TargetDirectories& directories_;
  TargetFiles& files_;

  // Planner only: the directory that the last link was made from.
  std::string from_path_;
  int from_fd_ = -1;

  std::atomic<size_t> waiting_{0};
  std::atomic<bool> has_retries_{false};
  absl::Mutex mu_;
  absl::flat_hash_map<LinkKey, Group> groups_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<LinkKey, std::vector<FurtherName>> waiters_ ABSL_GUARDED_BY(mu_);
  std::vector<FurtherName> retries_ ABSL_GUARDED_BY(mu_);
  SpillStore paths_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_HARD_LINKS_H_
