// The directories on the way from the target to the current entry. An entry's directory is listed in its parent long
// before its own entries come; until then it is a record in a stack that spills. Directories are made when something in
// them is (or, unless a filter says otherwise, when the walk passes them). One thread: the planner's.
#ifndef HOLDFAST_CLIENT_RESTORE_DIRECTORY_STACK_H_
#define HOLDFAST_CLIENT_RESTORE_DIRECTORY_STACK_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/restore/metadata.h"
#include "client/restore/restore_options.h"
#include "client/restore/restore_run.h"
#include "client/restore/spill.h"
#include "client/restore/target_directories.h"
#include "core/tree/entry.h"

namespace holdfast {

class DirectoryStack {
 public:
  // Borrowed; `pinned` is the planner's. `root` is the target, `memory_bytes` for directories that are listed.
  DirectoryStack(RestoreRun& run, TargetDirectories& directories, PinnedDir& pinned, DirRef root,
                 uint64_t memory_bytes);

  // Makes `directory`, from its component `skip` on, the current one. Directories come in key order; those that are
  // left are finished: what was listed in them and has no entries of its own is made.
  void MoveTo(const Components& directory, size_t skip);
  // Finishes all but the target itself, then what was listed there.
  void FinishAll();
  // Lets go of the target.
  void Clear() { levels_.clear(); }

  // Of the current directory.
  bool is_left_out() const { return levels_.back().left_out; }  // by the filter
  bool has_failed() const { return levels_.back().failed; }     // it or one above could not be made
  // A directory in it, whose entries come later.
  void List(const std::string& name, FilterResult filter, const Metadata& metadata);
  // Made, with those above, if it is not yet. Null: not possible, and reported. Valid until the next call.
  const DirRef* Made();

 private:
  struct Level {
    std::string name;
    DirRef dir;                        // null: not made yet
    std::optional<Metadata> metadata;  // until `dir` is made; null: unknown
    bool lazy = false;                 // make it only for something in it
    bool left_out = false;
    bool failed = false;
    // What is listed in it, in listed_, and how far that is done.
    uint64_t begin = 0, end = 0, cursor = 0;
  };
  struct ListedDirectory {
    std::string name;
    FilterResult filter = FilterResult::kRestore;
    Metadata metadata;
  };

  void Enter(const std::string& name);
  void Leave();
  bool MakeLevel(size_t depth);
  // Makes what is listed at `depth` with names before `before` (null: everything), and finds `before` itself.
  std::optional<ListedDirectory> FinishListed(size_t depth, const std::string* before);
  std::optional<ListedDirectory> ReadListed(uint64_t offset, uint64_t* next);

  RestoreRun& run_;
  TargetDirectories& directories_;
  PinnedDir& pinned_;
  std::vector<Level> levels_;
  SpillStore listed_;  // those of one directory stand together, and go when it is left
  std::string record_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_DIRECTORY_STACK_H_
