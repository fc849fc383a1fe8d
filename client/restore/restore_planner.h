// Walks the entries of a restore in key order and decides for each what is to be done: directories go to the stack,
// further names to the hard links, content to the content planner; symbolic links and special files are made at once.
// One thread: the one that called Restore.
#ifndef HOLDFAST_CLIENT_RESTORE_RESTORE_PLANNER_H_
#define HOLDFAST_CLIENT_RESTORE_RESTORE_PLANNER_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "client/restore/content_planner.h"
#include "client/restore/directory_stack.h"
#include "client/restore/fetch_window.h"
#include "client/restore/file_writer.h"
#include "client/restore/hard_links.h"
#include "client/restore/metadata.h"
#include "client/restore/overwrite_decision.h"
#include "client/restore/restore_input.h"
#include "client/restore/restore_run.h"
#include "client/restore/target_directories.h"
#include "client/restore/target_files.h"
#include "core/base/status.h"
#include "core/tree/entry.h"

namespace holdfast {

// What the planner plans with. Borrowed.
struct PlannerParts {
  RestoreInput& input;
  RestoreRun& run;
  TargetDirectories& directories;
  TargetFiles& files;
  HardLinks& links;
  FetchWindow& window;
  FileWriter& writer;
};

class RestorePlanner {
 public:
  // `root`: the target, which gets `root_metadata` in the end, if there is any. `memory_bytes`: for directories that
  // are listed.
  RestorePlanner(const PlannerParts& parts, const Entry* root_metadata, uint64_t memory_bytes);

  // Everything below a directory of the snapshot, into the target.
  void PlanTree(const Components& path_inside);
  // One entry that is not a directory, into the target.
  void PlanOne(const Entry& entry);
  // Plans once more what could not be linked. False: there was nothing.
  bool PlanRetries();
  // When nothing is written any more: lets go of the directories.
  void Close();

 private:
  void ReportGaps(const EntryIterator& it);
  void PlanIn(const Components& directory, size_t skip, const Entry& entry);
  void PlanDirectory(const Entry& entry, FilterResult filter);
  void PlanEntry(const DirRef& dir, const Entry& entry);
  void PlanFurtherName(const FurtherName& further);
  void PlanObject(const DirRef& dir, const Entry& entry, bool replace, std::optional<LinkKey> link);
  // Null: reported.
  std::optional<OverwriteDecision> Decide(const DirRef& dir, const Entry& entry, bool is_further_name,
                                          std::optional<WhatIsThere>* there);
  // Says of a name that is not made why not; true: what is there is as wanted.
  bool LeaveAlone(const DirRef& dir, const Entry& entry, OverwriteDecision decision, const WhatIsThere& there);

  PlannerParts parts_;
  RestoreRun& run_;
  MetadataMaker metadata_;
  PinnedDir pinned_;
  DirectoryStack directories_;
  ContentPlanner content_;
  size_t gaps_reported_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_RESTORE_PLANNER_H_
