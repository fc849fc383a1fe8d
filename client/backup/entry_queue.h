// Entries of the walk that wait for their turn in the tree: while files are read by the workers in any order, entries
// are finished in the walk's.
#ifndef HOLDFAST_CLIENT_BACKUP_ENTRY_QUEUE_H_
#define HOLDFAST_CLIENT_BACKUP_ENTRY_QUEUE_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "client/backup/file_result.h"
#include "client/backup/large_file.h"
#include "client/backup/link_groups.h"
#include "client/scan/scanner.h"
#include "core/base/status.h"
#include "core/tree/entry.h"

namespace holdfast {

struct PendingEntry {
  std::shared_ptr<const Components> directory;
  Entry entry;
  std::shared_ptr<SourceDirectory> source;  // only when something is to be read, or may go wrong later
  std::shared_ptr<FileResult> small;        // being read
  std::shared_ptr<LargeFileJob> large;      // being read
  LinkGroups::Membership link;              // hard links

  // What it waits for, if it is read at all: null for what is not.
  FileResult* result() const { return small ? small.get() : large ? &large->result() : nullptr; }
};

// One thread.
class EntryQueue {
 public:
  static constexpr size_t kEntriesMax = 8192;
  static constexpr size_t kComponentsMax = 1u << 20;  // names of directories on the paths of the entries: 32 MiB
  explicit EntryQueue(size_t entries_max = kEntriesMax, size_t components_max = kComponentsMax)
      : entries_max_(entries_max), components_max_(components_max) {}

  bool empty() const { return entries_.empty(); }
  // Stays where it is until it is finished.
  PendingEntry& Push(PendingEntry&& pending);

  // Finishes the front; false: it has to wait.
  using Finish = absl::FunctionRef<absl::StatusOr<bool>(PendingEntry& front)>;
  // Blocks until `ready`, which is to be asked again whenever something was read.
  using Wait = absl::FunctionRef<absl::Status(const std::function<bool()>& ready)>;
  enum class Until { kNotFull, kEmpty };
  // Finishes entries from the front as far as that goes, and waits only while more than the limits, or with kEmpty any,
  // are left. The first error of either ends it.
  absl::Status Drain(Until until, Finish finish, Wait wait);

 private:
  struct Queued {
    Queued(PendingEntry&& entry, size_t new_components) : pending(std::move(entry)), components(new_components) {}
    PendingEntry pending;
    const size_t components;  // of its directory, if no entry before has the same
  };
  bool IsFull() const { return entries_.size() > entries_max_ || components_ > components_max_; }
  absl::StatusOr<bool> FinishFront(Finish finish);

  const size_t entries_max_, components_max_;
  std::deque<Queued> entries_;
  size_t components_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_ENTRY_QUEUE_H_
