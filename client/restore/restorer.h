// Inside of a restore: what the planner hands to the workers, and the class that both are part of. The planner (one
// thread) walks the entries, makes directories and groups what wants bytes of the same chunk (restorer_plan.cc);
// workers fetch and write (restorer_work.cc). Not for use outside this folder.
#ifndef HOLDFAST_CLIENT_RESTORE_RESTORER_H_
#define HOLDFAST_CLIENT_RESTORE_RESTORER_H_

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "client/restore/restore.h"
#include "client/restore/spill.h"
#include "client/restore/target.h"
#include "core/tree/file_content.h"

namespace holdfast::restore_internal {

inline constexpr size_t kWindowEntriesMax = 16384;
inline constexpr uint64_t kBytesPerWindowEntry = 2048;  // generous: names, attributes, a directory each

// --- Hard links -----------------------------------------------------------------------------------

struct LinkKey {
  uint32_t device = 0;
  uint64_t inode = 0;
  bool operator==(const LinkKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const LinkKey& k) {
    return H::combine(std::move(h), k.device, k.inode);
  }
};

enum class LinkState : uint8_t { kPending, kDone, kFailed };

enum class LinkRole { kFirst, kFurther, kApart };

struct LinkGroup {
  uint32_t seen = 0, members = 0;
  LinkState state = LinkState::kPending;
  FileDigest content{};
  uint64_t path = 0;  // of the first one: in the spill store
};

// A member that came before the first one was written.
struct LinkWaiter {
  DirRef dir;
  Entry entry;
  bool replace = false;
  size_t weight = 1;  // window entries
};

// --- Work -----------------------------------------------------------------------------------------

struct FileTask {
  DirRef dir;
  std::string name;
  Metadata metadata;
  uint64_t size = 0;
  std::unique_ptr<ContentMap> map;  // null: no holes
  std::unique_ptr<LinkKey> link;    // null: the only name
  std::optional<FileDigest> digest;
  bool replace = false;
};

struct SliceTask : FileTask {
  uint64_t offset = 0, length = 0;  // in the bundle
  std::string bytes;                // inline content
};

struct DataRange {
  uint64_t offset = 0, length = 0;
  FileDigest hash{};
};

// A file of chunks, shared by the workers that write it. The last part finishes it.
struct ChunkedFile {
  FileTask task;
  std::atomic<int> parts{1};  // the planner holds one until the last piece is planned
  std::atomic<bool> failed{false};
  absl::Mutex mu;
  absl::Status failure ABSL_GUARDED_BY(mu);  // OK and failed: the restore as a whole stops
  RestoreProblemKind kind ABSL_GUARDED_BY(mu) = RestoreProblemKind::kRepository;
  OpenFile file ABSL_GUARDED_BY(mu);
  std::vector<DataRange> written ABSL_GUARDED_BY(mu);  // with verify
};

struct PieceTask {
  std::shared_ptr<ChunkedFile> file;
  uint64_t content_offset = 0, length = 0;
};

// A chunk and everything nearby that wants bytes of it.
struct Job {
  ChunkRef ref;
  uint64_t estimated_bytes = 0;  // of the chunk, as far as it is wanted
  uint64_t attribute_bytes = 0;  // of the files, held until they are written
  std::vector<SliceTask> slices;
  std::vector<PieceTask> pieces;
};

struct Unit {
  std::vector<std::unique_ptr<Job>> jobs;
  std::vector<SliceTask> plain;  // need no chunk
};

// Of what was written, and of what makes two names one file.
FileDigest Hash(std::string_view bytes);
// A chunk that is lost, damaged or of another version; not a server that is gone.
bool IsOfTheObject(const absl::Status& status);

class Restorer {
 public:
  Restorer(RestoreInput& input, RestoreRun& run, Target& target)
      : input_(input),
        run_(run),
        options_(run.options),
        target_(target),
        window_entries_max_(std::clamp<uint64_t>(Memory() / 2 / kBytesPerWindowEntry, 64, kWindowEntriesMax)),
        directories_(target.root_fd(), Memory() / 8),
        link_paths_(target.root_fd(), Memory() / 8),
        verify_list_(target.root_fd(), Memory() / 8) {}

  absl::Status Execute(const Components& path_inside, const std::optional<Entry>& top);

 private:
  // A directory on the way from the target to the current entry.
  struct Level {
    std::string name;
    DirRef dir;  // null: not made yet, or `closed`
    bool has_metadata = false;
    Metadata metadata;      // until `dir` is made
    bool lazy = false;      // make it only for something in it
    bool left_out = false;  // by the filter
    bool failed = false;    // could not be made
    // Its directories, in `directories_`, and how far they are done.
    uint64_t children_begin = 0, children_end = 0, cursor = 0;
  };
  struct DirectoryRecord {
    std::string name;
    FilterResult filter = FilterResult::kRestore;
    Metadata metadata;
  };

  uint64_t Memory() const { return std::max<uint64_t>(run_.options.memory_bytes, 1 << 20); }

  // Planning; the calling thread.
  void PlanTree(const Components& path_inside);
  void ReportGaps(const EntryIterator& it, size_t* reported);
  void GoTo(const Components& directory, size_t skip);
  void Enter(const std::string& name);
  void Leave();
  void FinishUnvisited(Level& level, std::string_view before, DirectoryRecord* found, bool* is_found);
  bool Make(size_t depth);
  void AddDirectory(Level& level, const Entry& entry, FilterResult filter);
  bool ReadDirectory(uint64_t offset, DirectoryRecord* record, uint64_t* next);
  void PlanEntry(const DirRef& dir, const Entry& entry);
  void PlanObject(const DirRef& dir, const Entry& entry, bool replace, std::unique_ptr<LinkKey> link);
  void PlanFile(const DirRef& dir, const Entry& entry, bool replace, std::unique_ptr<LinkKey> link);
  bool Decide(const DirRef& dir, const Entry& entry, const Metadata& metadata, bool* replace, bool* present);
  FileDigest ContentIdentity(const Entry& entry) const;
  LinkRole LinkRoleOf(const Entry& entry);
  bool DecideLink(const DirRef& dir, const Entry& entry, bool* replace);
  void PlanLink(const DirRef& dir, const Entry& entry, bool replace);
  bool LinkNow(const DirRef& dir, const std::string& name, const std::string& from, bool replace);
  Job& JobFor(const ChunkRef& ref);
  void HoldAttributes(Job& job, const Entry& entry);
  void LimitWindow();
  void Dispatch();
  void DispatchAll();
  void Push(std::unique_ptr<Unit> unit);
  void Retry();
  void WaitUntilIdle();

  // Workers.
  void Work();
  void RunUnit(Unit& unit, PinnedDir& pinned);
  void RunJob(Job& job, const absl::StatusOr<OpenedChunk>& chunk, PinnedDir& pinned);
  void AbortJob(Job& job, PinnedDir& pinned);
  void WriteSlice(SliceTask& task, std::string_view content, PinnedDir& pinned);
  void WritePiece(PieceTask& piece, std::string_view content, PinnedDir& pinned);
  void FailFile(ChunkedFile& file, RestoreProblemKind kind, const absl::Status& status);
  void EndPart(ChunkedFile& file, PinnedDir& pinned);
  absl::Status WriteRange(int fd, const FileTask& task, uint64_t content_offset, std::string_view content,
                          std::vector<DataRange>* written);
  absl::Status SetSize(int fd, const FileTask& task);
  absl::Status OpenChunked(ChunkedFile& file, PinnedDir& pinned) ABSL_EXCLUSIVE_LOCKS_REQUIRED(file.mu);
  void FileWritten(const FileTask& task, uint64_t bytes, std::vector<DataRange> written, PinnedDir& pinned);
  void FirstLinkDone(const LinkKey& key, const DirRef& dir, const std::string& name, bool ok, PinnedDir& pinned);

  void VerifyAll();
  void VerifySome();
  absl::Status VerifyFile(int fd, uint64_t size, const std::vector<DataRange>& ranges, std::string& buffer);

  // Of one object what is damaged or lost. That nothing can be had at the moment is nobody's damage: it ends the
  // restore.
  void Repository(const DirRef& dir, std::string_view name, std::string_view operation, const absl::Status& s) {
    if (!IsOfTheObject(s)) {
      if (!run_.stopping()) run_.Fail(Annotate(s, operation));
      return;
    }
    run_.Problem(RestoreProblemKind::kRepository, target_.SnapshotPath(dir, name), operation, s);
  }
  void TargetError(const DirRef& dir, std::string_view name, std::string_view operation, const absl::Status& s) {
    run_.TargetProblem(target_.SnapshotPath(dir, name), operation, s);
  }
  void Note(const DirRef& dir, std::string_view name, std::string_view operation, const absl::Status& s) {
    run_.Problem(RestoreProblemKind::kNote, target_.SnapshotPath(dir, name), operation, s);
  }

  RestoreInput& input_;
  RestoreRun& run_;
  const RestoreOptions& options_;
  Target& target_;
  const size_t window_entries_max_;

  // Planner only.
  std::vector<Level> levels_;
  std::string prefix_;  // snapshot path of the target
  SpillStore directories_;
  PinnedDir planner_dir_;
  std::deque<std::unique_ptr<Job>> window_;
  absl::flat_hash_map<ChunkId, Job*> window_by_id_;
  uint64_t window_bytes_ = 0;
  size_t window_entries_ = 0;
  // Of several chunks, planned since the window was last empty: each is open while it is written.
  size_t window_files_ = 0;
  std::vector<SliceTask> plain_;
  uint64_t plain_attribute_bytes_ = 0;
  std::string cached_path_;  // of the directory open for links
  int cached_fd_ = -1;
  std::string record_;

  // Units on their way to the workers.
  absl::Mutex queue_mu_;
  std::deque<std::unique_ptr<Unit>> queue_ ABSL_GUARDED_BY(queue_mu_);
  size_t busy_ ABSL_GUARDED_BY(queue_mu_) = 0;
  bool no_more_ ABSL_GUARDED_BY(queue_mu_) = false;

  absl::Mutex links_mu_;
  absl::flat_hash_map<LinkKey, LinkGroup> links_ ABSL_GUARDED_BY(links_mu_);
  absl::flat_hash_map<LinkKey, std::vector<LinkWaiter>> waiters_ ABSL_GUARDED_BY(links_mu_);
  std::vector<LinkWaiter> retries_ ABSL_GUARDED_BY(links_mu_);  // could not be linked to the first one
  std::atomic<size_t> waiting_{0};                              // in waiters_
  std::atomic<bool> have_retries_{false};
  SpillStore link_paths_ ABSL_GUARDED_BY(links_mu_);

  absl::Mutex verify_mu_;
  SpillStore verify_list_ ABSL_GUARDED_BY(verify_mu_);
  uint64_t verify_cursor_ ABSL_GUARDED_BY(verify_mu_) = 0;
};

}  // namespace holdfast::restore_internal

#endif  // HOLDFAST_CLIENT_RESTORE_RESTORER_H_
