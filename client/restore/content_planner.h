// Decides what content a regular file wants, and puts it into the fetch window. One thread: the planner's.
#ifndef HOLDFAST_CLIENT_RESTORE_CONTENT_PLANNER_H_
#define HOLDFAST_CLIENT_RESTORE_CONTENT_PLANNER_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "client/restore/fetch_window.h"
#include "client/restore/file_tasks.h"
#include "client/restore/file_writer.h"
#include "client/restore/hard_links.h"
#include "client/restore/metadata.h"
#include "client/restore/restore_input.h"
#include "client/restore/restore_run.h"
#include "client/restore/target_directories.h"
#include "core/base/status.h"
#include "core/tree/entry.h"

namespace holdfast {

class ContentPlanner {
 public:
  // Borrowed. `pinned` is the planner's.
  ContentPlanner(RestoreInput& input, RestoreRun& run, FetchWindow& window, FileWriter& writer, PinnedDir& pinned)
      : input_(input), run_(run), window_(window), writer_(writer), pinned_(pinned) {}

  // A file that is to be made, whose holes are known. `link`: it is the first of several names.
  void Plan(const DirRef& dir, const Entry& entry, Metadata metadata, bool replace, std::optional<LinkKey> link);

 private:
  void PlanPieces(const Entry& entry, FileTask task, uint64_t length);
  absl::Status WindowPieces(const Entry& entry, const std::shared_ptr<ChunkedFile>& file, uint64_t length);

  RestoreInput& input_;
  RestoreRun& run_;
  FetchWindow& window_;
  FileWriter& writer_;
  PinnedDir& pinned_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_CONTENT_PLANNER_H_
