// The walk. Work waits in a list in key order: directories that were started, and after each of them the queue of its
// subdirectories that were not ("branch"). Whoever looks for work takes the first piece, so helpers run ahead of the
// consumer in the very order in which it will want the results. The consumer never waits for the budget: if the first
// directory of the list is not being listed by a helper, it does that itself. Listing is in directory_lister.h.
#include <errno.h>
#include <fcntl.h>

#include <cstring>
#include <iterator>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/scan/directory_lister.h"
#include "client/scan/posix_directory.h"
#include "client/scan/scanner.h"

namespace holdfast {
namespace {

constexpr size_t kBlocksAhead = 2;  // of the directory that the consumer is in

struct WorkItem {
  std::unique_ptr<ScanNode> node;      // either
  std::unique_ptr<ScanBranch> branch;  // or
};

class PosixScanner final : public Scanner {
 public:
  PosixScanner(const ScanOptions& options, ScanObserver* observer)
      : options_(options), observer_(observer), lister_(options_) {}
  ~PosixScanner() override {
    {
      absl::MutexLock lock(&mu_);
      stopping_ = true;
      work_cv_.SignalAll();
      room_cv_.SignalAll();
    }
    for (std::thread& t : threads_) t.join();
  }

  absl::Status Start();
  absl::StatusOr<bool> Next(SourceEntry* entry) override;
  ScanStatistics statistics() const override { return statistics_; }

 private:
  // The list of work.
  using Position = std::list<WorkItem>::iterator;
  Position TakeWork(bool room) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Position StartNext(Position branch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Erase(Position position) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WorkOn(Position position, Workbench* bench) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::unique_ptr<ScanBlock> NextBlock();
  void RunHelper();
  void Report(const ScanEvent& event);

  const ScanOptions options_;
  ScanObserver* const observer_;
  DirectoryLister lister_;

  // The consumer's.
  ScanStatistics statistics_;
  SourceEntry root_;
  std::optional<SkipReason> root_skipped_;
  bool root_pending_ = true;
  std::unique_ptr<ScanBlock> block_;
  size_t next_item_ = 0;
  Workbench bench_;
  absl::Status failed_;

  absl::Mutex mu_;
  absl::CondVar work_cv_;   // for helpers: there may be work
  absl::CondVar room_cv_;   // for helpers: half of the budget is free again
  absl::CondVar ready_cv_;  // for the consumer: a helper has finished something
  std::list<WorkItem> work_ ABSL_GUARDED_BY(mu_);
  // Before this, nothing is left to be started.
  Position first_open_ ABSL_GUARDED_BY(mu_);
  uint64_t charged_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t wait_for_work_ ABSL_GUARDED_BY(mu_) = 0;  // helpers
  uint32_t wait_for_room_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<ScanEvent> late_events_ ABSL_GUARDED_BY(mu_);
  bool consumer_waits_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

absl::Status PosixScanner::Start() {
  // The root is the one place where a link is followed.
  int raw = open(options_.root.c_str(), O_PATH | O_CLOEXEC);
  if (raw < 0) return Annotate(SourceErrnoStatus(errno, "open"), options_.root);
  auto fd = std::make_shared<SharedFd>(raw);
  if (int e = StatAt(raw, "", &root_.stat); e != 0) return Annotate(SourceErrnoStatus(e, "stat"), options_.root);
  bool is_directory = root_.stat.type == EntryType::kDirectory;
  if (is_directory) {
    int readable = -1;
    if (int e = OpenAt(raw, ".", O_DIRECTORY, &readable); e != 0) {
      return Annotate(SourceErrnoStatus(e, "open"), options_.root);
    }
    fd = std::make_shared<SharedFd>(readable);
  }
  auto directory = std::make_shared<PosixDirectory>(fd, root_.stat);
  root_.directory = directory;
  absl::MutexLock lock(&mu_);
  first_open_ = work_.end();
  if (!is_directory) return absl::OkStatus();
  root_skipped_ = lister_.WhyNotScan(fd->get(), root_.stat.identity);
  if (root_skipped_.has_value()) {
    root_.flags = kEntryNotDescended;
    return absl::OkStatus();
  }
  auto node = std::make_unique<ScanNode>();
  node->directory = std::move(directory);
  work_.push_back({std::move(node), nullptr});
  for (uint32_t i = 0; i < options_.prefetch_threads; ++i) threads_.emplace_back([this] { RunHelper(); });
  return absl::OkStatus();
}

// ---------------------------------------------------------------------------------------------------------------------
// The list of work

void PosixScanner::Erase(Position position) {
  if (position == first_open_) ++first_open_;
  work_.erase(position);
}

// Starts the first subdirectory that waits in `branch`: a busy node in front of it. end() if none was left.
PosixScanner::Position PosixScanner::StartNext(Position branch) {
  ScanBranch& b = *branch->branch;
  std::string record;
  if (!b.queue.Pop(&record)) {
    if (b.queue.error() != 0) {
      late_events_.push_back({ScanEvent::Kind::kError,
                              {},
                              b.queue.error(),
                              "keep subdirectories in the spill directory",
                              b.directory,
                              ""});
    }
    return work_.end();
  }
  FileIdentity identity;
  std::memcpy(&identity, record.data(), sizeof(identity));
  auto node = std::make_unique<ScanNode>();
  node->directory =
      std::make_shared<PosixDirectory>(b.directory, std::string_view(record).substr(sizeof(identity)), identity);
  node->rules = b.rules;
  node->busy = true;
  return work_.insert(branch, WorkItem{std::move(node), nullptr});
}

// The first piece of work in key order that nobody does, marked busy; end() = none now. Without room, only what the
// consumer needs next.
PosixScanner::Position PosixScanner::TakeWork(bool room) {
  if (work_.empty()) return work_.end();
  Position head = work_.begin();
  if (head->node != nullptr && !head->node->busy && !head->node->done && head->node->ready.size() < kBlocksAhead) {
    head->node->busy = true;
    return head;
  }
  if (!room) return work_.end();
  while (first_open_ != work_.end()) {
    if (first_open_->branch == nullptr) {
      ++first_open_;
      continue;
    }
    Position started = StartNext(first_open_);
    if (started != work_.end()) return started;
    Erase(first_open_);
  }
  return work_.end();
}

// `position` holds a busy node. Unlocks while working.
void PosixScanner::WorkOn(Position position, Workbench* bench) {
  ScanNode* node = position->node.get();
  mu_.Unlock();
  std::unique_ptr<ScanBlock> block = lister_.MakeBlock(node, bench);
  uint64_t names_bytes = node->names == nullptr ? 0 : node->names->bytes();
  mu_.Lock();
  charged_bytes_ += block->charged_bytes + names_bytes - node->charged_bytes;
  node->charged_bytes = names_bytes;
  node->done = block->last;
  node->busy = false;
  node->ready.push_back(std::move(block));
  if (node->done && node->branch != nullptr) {
    Position inserted = work_.insert(std::next(position), WorkItem{nullptr, std::move(node->branch)});
    // Is it before first_open_? Looking as far as the next branch tells; few nodes are in between.
    Position p = std::next(inserted);
    while (p != first_open_ && p != work_.end() && p->branch == nullptr) ++p;
    if (p == first_open_) first_open_ = inserted;
  }
  if (wait_for_work_ > 0 && (!node->done || (first_open_ != work_.end()))) work_cv_.Signal();
}

void PosixScanner::RunHelper() {
  Workbench bench;
  absl::MutexLock lock(&mu_);
  while (!stopping_) {
    const bool room = charged_bytes_ < options_.prefetch_bytes_max;
    Position position = TakeWork(room);
    if (position != work_.end()) {
      WorkOn(position, &bench);
      if (consumer_waits_) ready_cv_.Signal();
    } else if (room) {
      ++wait_for_work_;
      work_cv_.Wait(&mu_);
      --wait_for_work_;
    } else {
      ++wait_for_room_;
      room_cv_.Wait(&mu_);
      --wait_for_room_;
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The consumer

std::unique_ptr<ScanBlock> PosixScanner::NextBlock() {
  absl::MutexLock lock(&mu_);
  if (block_ != nullptr) charged_bytes_ -= block_->charged_bytes;
  while (!work_.empty()) {
    Position head = work_.begin();
    if (head->branch != nullptr) {
      Position started = StartNext(head);
      if (started == work_.end()) {
        Erase(head);
      } else {
        WorkOn(started, &bench_);
      }
      continue;
    }
    ScanNode& node = *head->node;
    if (!node.ready.empty()) {
      std::unique_ptr<ScanBlock> block = std::move(node.ready.front());
      node.ready.erase(node.ready.begin());
      if (node.done && node.ready.empty()) {
        Erase(head);
      } else if (wait_for_work_ > 0) {
        work_cv_.Signal();
      }
      if (wait_for_room_ > 0) {
        bool next_is_large = !work_.empty() && work_.front().node != nullptr && !work_.front().node->done;
        if (charged_bytes_ < options_.prefetch_bytes_max / 2 || next_is_large) room_cv_.SignalAll();
      }
      return block;
    }
    if (!node.busy) {
      node.busy = true;
      WorkOn(head, &bench_);
      continue;
    }
    // A helper is at it: do something else that will be needed, if there is room for the result.
    Position other = TakeWork(charged_bytes_ < options_.prefetch_bytes_max);
    if (other != work_.end()) {
      WorkOn(other, &bench_);
      continue;
    }
    consumer_waits_ = true;
    ready_cv_.Wait(&mu_);
    consumer_waits_ = false;
  }
  return nullptr;
}

void PosixScanner::Report(const ScanEvent& event) {
  const std::string path = event.directory == nullptr ? "" : event.directory->RelativePath(event.name);
  switch (event.kind) {
    case ScanEvent::Kind::kError:
      ++statistics_.errors;
      if (observer_ != nullptr) observer_->OnError({path, event.operation, event.error_number});
      break;
    case ScanEvent::Kind::kSkipped:
      ++statistics_.skipped;
      if (observer_ != nullptr) observer_->OnSkipped(path, event.reason);
      break;
    case ScanEvent::Kind::kVanished:
      ++statistics_.vanished;
      if (observer_ != nullptr) observer_->OnVanished(path);
      break;
  }
}

absl::StatusOr<bool> PosixScanner::Next(SourceEntry* entry) {
  if (root_pending_) {
    root_pending_ = false;
    *entry = root_;
    if (root_skipped_.has_value()) Report({ScanEvent::Kind::kSkipped, *root_skipped_, 0, "", nullptr, ""});
  } else {
    while (block_ == nullptr || next_item_ == block_->items.size()) {
      if (!failed_.ok()) return failed_;
      std::unique_ptr<ScanBlock> block = NextBlock();
      block_ = std::move(block);
      next_item_ = 0;
      std::vector<ScanEvent> late;
      {
        absl::MutexLock lock(&mu_);
        late.swap(late_events_);
      }
      for (const ScanEvent& event : late) Report(event);
      if (block_ == nullptr) return false;
      for (const ScanEvent& event : block_->events) Report(event);
      if (block_->fatal_error != 0) {
        failed_ = Annotate(SourceErrnoStatus(block_->fatal_error, "list"), options_.root);
      }
    }
    const ScanBlock::Item& item = block_->items[next_item_++];
    entry->name.assign(block_->names, item.name_offset, item.name_size);
    entry->stat = item.stat;
    entry->flags = item.flags;
    if (entry->directory != block_->directory) entry->directory = block_->directory;
  }
  ++statistics_.entries;
  if (entry->stat.type == EntryType::kDirectory) ++statistics_.directories;
  if (entry->stat.type == EntryType::kFile) {
    ++statistics_.files;
    statistics_.file_bytes += entry->stat.size;
  }
  return true;
}

class PosixSourceFs final : public SourceFs {
 public:
  absl::StatusOr<std::unique_ptr<Scanner>> Scan(const ScanOptions& options, ScanObserver* observer) override {
    auto scanner = std::make_unique<PosixScanner>(options, observer);
    RETURN_IF_ERROR(scanner->Start());
    return std::unique_ptr<Scanner>(std::move(scanner));
  }
};

}  // namespace

std::unique_ptr<SourceFs> NewPosixSourceFs() { return std::make_unique<PosixSourceFs>(); }

std::string_view SkipReasonText(SkipReason reason) {
  switch (reason) {
    case SkipReason::kExcluded:
      return "excluded by a pattern";
    case SkipReason::kOtherFileSystem:
      return "on another file system";
    case SkipReason::kPseudoFileSystem:
      return "pseudo file system";
    case SkipReason::kOwnState:
      return "Holdfast's own data";
    case SkipReason::kCacheDirectory:
      return "cache directory (CACHEDIR.TAG)";
  }
  return "unknown";
}

}  // namespace holdfast
