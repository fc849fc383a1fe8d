// The walk. Work waits in a list in key order: directories that were started, and after each of
// them the queue of its subdirectories that were not ("branch"). Whoever looks for work takes the
// first piece, so helpers run ahead of the consumer in the very order in which it will want the
// results. The consumer never waits for the budget: if the first directory of the list is not being
// listed by a helper, it does that itself.
//
// A directory is produced in blocks of up to kBlockNames names: all of a small one at once, a huge
// one piece by piece as the consumer comes along, its names waiting sorted (and beyond
// names_bytes_max in a spill file).
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/scan/ignore_rules.h"
#include "client/scan/posix_directory.h"
#include "client/scan/scanner.h"
#include "client/scan/sorted_names.h"
#include "core/base/limits.h"

namespace holdfast {
namespace {

constexpr size_t kBlockNames = 2048;
constexpr size_t kBlocksAhead = 2;    // of the directory that the consumer is in
constexpr uint64_t kNodeBytes = 768;  // a started directory: node, handle, names, allocation overhead
constexpr size_t kListingBufferBytes = 64 << 10;
constexpr size_t kIgnoreBytesMax = 256 << 10;  // of all ignore files that apply in one directory
constexpr uint64_t kBranchBytesMax = 4 << 20;  // names of one directory's subdirectories, waiting in memory
constexpr std::string_view kCacheTagName = "CACHEDIR.TAG";
constexpr std::string_view kCacheTagSignature = "Signature: 8a477f597d28d172789f06886806bc55";

// Not in every linux/magic.h.
constexpr uint32_t kPseudoFileSystems[] = {
    0x9fa0,      // proc
    0x62656572,  // sysfs
    0x1cd1,      // devpts
    0x27e0eb,    // cgroup
    0x63677270,  // cgroup2
    0x64626720,  // debugfs
    0x74726163,  // tracefs
    0x73636673,  // securityfs
    0x6165676c,  // pstore
    0xcafe4a11,  // bpf
    0x62656570,  // configfs
    0x65735543,  // fusectl
    0x19800202,  // mqueue
    0x958458f6,  // hugetlbfs
    0x42494e4d,  // binfmt_misc
    0x0187,      // autofs: looking inside would mount
    0xde5e81e4,  // efivarfs
    0x67596969,  // rpc_pipefs
    0x6e736673,  // nsfs
    0xf97cff8c,  // selinux
    0x43415d53,  // smack
};

struct linux_dirent64 {
  uint64_t d_ino;
  int64_t d_off;
  uint16_t d_reclen;
  uint8_t d_type;
  char d_name[];
};

bool IsPseudoFileSystem(int fd) {
  struct statfs fs;
  if (fstatfs(fd, &fs) != 0) return false;
  uint32_t type = static_cast<uint32_t>(fs.f_type);
  return std::find(std::begin(kPseudoFileSystems), std::end(kPseudoFileSystems), type) != std::end(kPseudoFileSystems);
}

// Something to tell the observer when the consumer gets there.
struct Event {
  enum class Kind : uint8_t { kError, kSkipped, kVanished };
  Kind kind;
  SkipReason reason = SkipReason::kExcluded;
  int error_number = 0;
  const char* operation = "";
  // The path is made when it is told: kept ready, those of deep directories would take any memory.
  std::shared_ptr<PosixDirectory> directory;
  std::string name;
};

// Consecutive entries of one directory.
struct Block {
  struct Item {
    uint32_t name_offset;
    uint32_t flags;
    SourceStat stat;
    uint16_t name_size;
  };
  std::shared_ptr<PosixDirectory> directory;
  std::string names;
  std::vector<Item> items;
  std::vector<Event> events;
  bool last = false;    // of its directory
  int fatal_error = 0;  // of the root
  uint64_t charged_bytes = 0;
};

// The subdirectories of one directory that nobody has started.
struct Branch {
  explicit Branch(std::string spill_directory) : queue(kBranchBytesMax, std::move(spill_directory)) {}
  std::shared_ptr<PosixDirectory> directory;
  std::shared_ptr<const IgnoreChain> rules;
  RecordQueue queue;  // FileIdentity, name
};

// A directory that was started. Whoever set `busy` owns the first part; the second belongs to the
// scanner's lock.
struct Node {
  std::shared_ptr<PosixDirectory> directory;
  std::shared_ptr<const IgnoreChain> rules;
  std::shared_ptr<SharedFd> fd;        // while names are left
  std::unique_ptr<SortedNames> names;  // null: not listed yet, or no name is left
  std::string path;                    // relative, with a '/' at the end unless empty; only if there are rules
  bool only_cache_tag = false;
  std::unique_ptr<Branch> branch;  // being filled

  bool busy = false;
  bool done = false;                          // no more blocks will come
  uint64_t charged_bytes = 0;                 // for the names
  std::vector<std::unique_ptr<Block>> ready;  // at most kBlocksAhead, first one first
};

struct WorkItem {
  std::unique_ptr<Node> node;      // either
  std::unique_ptr<Branch> branch;  // or
};

// What each thread needs for listing.
struct Workbench {
  std::unique_ptr<char[]> buffer{new char[kListingBufferBytes]};
  std::string path;
};

class PosixScanner final : public Scanner {
 public:
  PosixScanner(const ScanOptions& options, ScanObserver* observer) : options_(options), observer_(observer) {
    own_state_ = options.own_state;
    std::sort(own_state_.begin(), own_state_.end());
    if (!options.exclude_patterns.empty()) {
      for (const std::string& line : options.exclude_patterns) command_line_.AddLine(line);
    }
  }
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
  // Which directories are entered.
  bool IsPseudo(int parent_fd, const char* name, uint64_t device);
  std::optional<SkipReason> WhyNotDescend(int parent_fd, const char* name, const FileIdentity& parent,
                                          const SourceStat& st);
  bool HasRules(const Node& node) const { return node.rules != nullptr || !command_line_.empty(); }

  // The work on one directory; `node` is busy, no lock held.
  std::unique_ptr<Block> MakeBlock(Node* node, Workbench* bench);
  bool List(Node* node, Block* block, Workbench* bench);
  void ReadIgnoreFile(Node* node, Block* block);
  bool IsExcluded(const Node& node, std::string_view name, bool is_directory, Workbench* bench) const;
  int ReadSmallFile(int directory_fd, const char* name, size_t size_max, std::string* out);

  // The list of work.
  using Position = std::list<WorkItem>::iterator;
  Position TakeWork(bool room) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Position StartNext(Position branch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Erase(Position position) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WorkOn(Position position, Workbench* bench) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::unique_ptr<Block> NextBlock();
  void RunHelper();
  void Report(const Event& event);

  const ScanOptions options_;
  ScanObserver* const observer_;
  const bool reads_everything_ = geteuid() == 0;
  std::vector<FileIdentity> own_state_;
  IgnoreList command_line_;

  // The consumer's.
  ScanStatistics statistics_;
  SourceEntry root_;
  std::optional<SkipReason> root_skipped_;
  bool root_pending_ = true;
  std::unique_ptr<Block> block_;
  size_t next_item_ = 0;
  Workbench bench_;
  absl::Status failed_;

  absl::Mutex pseudo_mu_;
  std::map<uint64_t, bool> pseudo_ ABSL_GUARDED_BY(pseudo_mu_);  // by st_dev

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
  std::vector<Event> late_events_ ABSL_GUARDED_BY(mu_);
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
  {
    absl::MutexLock lock(&pseudo_mu_);
    pseudo_[root_.stat.identity.device] = false;  // asked below; a pseudo root has nothing inside to ask about
  }
  auto directory = std::make_shared<PosixDirectory>(fd, root_.stat);
  root_.directory = directory;
  absl::MutexLock lock(&mu_);
  first_open_ = work_.end();
  if (!is_directory) return absl::OkStatus();
  if (std::binary_search(own_state_.begin(), own_state_.end(), root_.stat.identity)) {
    root_skipped_ = SkipReason::kOwnState;
  } else if (options_.skip_pseudo_file_systems && IsPseudoFileSystem(fd->get())) {
    root_skipped_ = SkipReason::kPseudoFileSystem;
  }
  if (root_skipped_.has_value()) {
    root_.flags = kEntryNotDescended;
    return absl::OkStatus();
  }
  auto node = std::make_unique<Node>();
  node->directory = std::move(directory);
  work_.push_back({std::move(node), nullptr});
  for (uint32_t i = 0; i < options_.prefetch_threads; ++i) threads_.emplace_back([this] { RunHelper(); });
  return absl::OkStatus();
}

// ---------------------------------------------------------------------------------------------------------------------
// One directory

bool PosixScanner::IsPseudo(int parent_fd, const char* name, uint64_t device) {
  {
    absl::MutexLock lock(&pseudo_mu_);
    if (auto it = pseudo_.find(device); it != pseudo_.end()) return it->second;
  }
  // O_PATH without O_DIRECTORY: does not make an automounter act.
  int fd = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return false;
  bool pseudo = IsPseudoFileSystem(fd);
  close(fd);
  absl::MutexLock lock(&pseudo_mu_);
  pseudo_[device] = pseudo;
  return pseudo;
}

std::optional<SkipReason> PosixScanner::WhyNotDescend(int parent_fd, const char* name, const FileIdentity& parent,
                                                      const SourceStat& st) {
  if (std::binary_search(own_state_.begin(), own_state_.end(), st.identity)) return SkipReason::kOwnState;
  if (st.identity.device == parent.device) return std::nullopt;
  if (options_.skip_pseudo_file_systems && IsPseudo(parent_fd, name, st.identity.device)) {
    return SkipReason::kPseudoFileSystem;
  }
  if (options_.one_file_system) return SkipReason::kOtherFileSystem;
  return std::nullopt;
}

int PosixScanner::ReadSmallFile(int directory_fd, const char* name, size_t size_max, std::string* out) {
  int raw = -1;
  if (int e = OpenAt(directory_fd, name, 0, &raw); e != 0) return e;
  SharedFd fd(raw);
  struct stat st;
  if (fstat(raw, &st) != 0) return errno;
  if (!S_ISREG(st.st_mode)) return EINVAL;
  out->resize(size_max + 1);
  size_t done = 0;
  while (done < out->size()) {
    ssize_t n = pread(raw, out->data() + done, out->size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  out->resize(done);
  return 0;
}

void PosixScanner::ReadIgnoreFile(Node* node, Block* block) {
  std::string text;
  int e = ReadSmallFile(node->fd->get(), options_.ignore_file_name.c_str(), kIgnoreBytesMax, &text);
  const uint64_t chain_bytes = text.size() + (node->rules == nullptr ? 0 : node->rules->text_bytes());
  if (e == 0 && chain_bytes > kIgnoreBytesMax) e = EFBIG;
  if (e != 0) {
    block->events.push_back(
        {Event::Kind::kError, {}, e, "read ignore file", node->directory, options_.ignore_file_name});
    return;
  }
  IgnoreList list = IgnoreList::Parse(text);
  if (list.empty()) return;
  node->rules = std::make_shared<IgnoreChain>(std::move(node->rules), node->directory->RelativePath(""),
                                              std::move(list), text.size());
}

// Reads and sorts the names. False: nothing to go on with; the block says why.
bool PosixScanner::List(Node* node, Block* block, Workbench* bench) {
  auto fail = [&](const char* operation, int e) {
    bool is_root = node->directory->depth() == 0;
    if (is_root) {
      block->fatal_error = e;
    } else if (e == ENOENT) {
      block->events.push_back({Event::Kind::kVanished, {}, e, operation, node->directory, ""});
    } else {
      block->events.push_back({Event::Kind::kError, {}, e, operation, node->directory, ""});
    }
    return false;
  };
  // Nothing in it could be stored.
  if (node->directory->depth() >= kPathDepthMax || node->directory->path_bytes() >= kEntryKeyBytesMax) {
    return fail("descend", ENAMETOOLONG);
  }
  if (int e = node->directory->Open(&node->fd); e != 0) return fail("open directory", e);
  int fd = node->fd->get();
  node->names = std::make_unique<SortedNames>(options_.names_bytes_max, options_.spill_directory);
  bool has_ignore_file = false, has_cache_tag = false;
  while (true) {
    long n = syscall(SYS_getdents64, fd, bench->buffer.get(), kListingBufferBytes);
    if (n == 0) break;
    if (n < 0) {
      if (errno == EINTR) continue;
      // What was read so far is still worth keeping.
      int e = errno;
      fail("list", e);
      if (e == ENOENT || node->names->size() == 0) return false;
      break;
    }
    for (const char* p = bench->buffer.get(); p < bench->buffer.get() + n;) {
      const auto* d = reinterpret_cast<const linux_dirent64*>(p);
      p += d->d_reclen;
      std::string_view name(d->d_name);
      if (name == "." || name == ".." || name.empty()) continue;
      if (name == options_.ignore_file_name) has_ignore_file = true;
      if (name == kCacheTagName) has_cache_tag = true;
      node->names->Add(name, d->d_type);
    }
  }
  node->names->Sort();
  if (has_cache_tag && options_.skip_cache_directories) {
    std::string head;
    const std::string tag_name(kCacheTagName);
    if (ReadSmallFile(fd, tag_name.c_str(), kCacheTagSignature.size() - 1, &head) == 0 && head == kCacheTagSignature) {
      node->only_cache_tag = true;
      block->events.push_back({Event::Kind::kSkipped, SkipReason::kCacheDirectory, 0, "", node->directory, ""});
    }
  }
  if (has_ignore_file && !node->only_cache_tag) ReadIgnoreFile(node, block);
  if (HasRules(*node)) {
    node->path = node->directory->RelativePath("");
    if (!node->path.empty()) node->path += '/';
  }
  return true;
}

bool PosixScanner::IsExcluded(const Node& node, std::string_view name, bool is_directory, Workbench* bench) const {
  bench->path.assign(node.path);
  bench->path.append(name);
  IgnoreVerdict v = command_line_.Match(bench->path, node.path.size(), is_directory);
  if (v == IgnoreVerdict::kNone && node.rules != nullptr) {
    v = node.rules->Match(bench->path, node.path.size(), is_directory);
  }
  return v == IgnoreVerdict::kExclude;
}

std::unique_ptr<Block> PosixScanner::MakeBlock(Node* node, Workbench* bench) {
  auto block = std::make_unique<Block>();
  block->directory = node->directory;
  bool more = true;
  size_t event_bytes = 0;
  if (node->names == nullptr) more = List(node, block.get(), bench);
  if (more) {
    const bool has_rules = HasRules(*node);
    const int fd = node->fd->get();
    SortedNames& names = *node->names;
    block->items.reserve(std::min<uint64_t>(names.size(), kBlockNames));
    std::string_view name;
    uint8_t type = 0;
    std::string terminated;
    auto tell = [&](Event::Kind kind, SkipReason reason, int e, const char* operation) {
      block->events.push_back({kind, reason, e, operation, node->directory, std::string(name)});
      event_bytes += name.size();
    };
    for (size_t k = 0; k < kBlockNames && (more = names.Next(&name, &type)); ++k) {
      if (node->only_cache_tag && name != kCacheTagName) continue;
      if (has_rules && type != DT_UNKNOWN && IsExcluded(*node, name, type == DT_DIR, bench)) {
        tell(Event::Kind::kSkipped, SkipReason::kExcluded, 0, "");
        continue;
      }
      terminated.assign(name);
      Block::Item item{};
      if (int e = StatAt(fd, terminated.c_str(), &item.stat); e != 0) {
        tell(e == ENOENT ? Event::Kind::kVanished : Event::Kind::kError, {}, e, "stat");
        continue;
      }
      const bool is_directory = item.stat.type == EntryType::kDirectory;
      // The type may have been unknown, or have changed meanwhile.
      if (has_rules && (type == DT_UNKNOWN || (type == DT_DIR) != is_directory) &&
          IsExcluded(*node, name, is_directory, bench)) {
        tell(Event::Kind::kSkipped, SkipReason::kExcluded, 0, "");
        continue;
      }
      if (is_directory) {
        std::optional<SkipReason> why = WhyNotDescend(fd, terminated.c_str(), node->directory->identity(), item.stat);
        // That it could not be listed is found out when its entry is long stored.
        if (!why.has_value() && !reads_everything_ &&
            faccessat(fd, terminated.c_str(), R_OK | X_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) != 0) {
          item.flags = kEntryReadFailed;
        }
        if (why.has_value()) {
          item.flags = kEntryNotDescended;
          tell(Event::Kind::kSkipped, *why, 0, "");
        } else {
          if (node->branch == nullptr) {
            node->branch = std::make_unique<Branch>(options_.spill_directory);
            node->branch->directory = node->directory;
            node->branch->rules = node->rules;
          }
          bench->path.assign(reinterpret_cast<const char*>(&item.stat.identity), sizeof(FileIdentity));
          bench->path.append(name);
          node->branch->queue.Push(bench->path);
        }
      }
      item.name_offset = static_cast<uint32_t>(block->names.size());
      item.name_size = static_cast<uint16_t>(name.size());
      block->names.append(name);
      block->items.push_back(item);
    }
    if (names.size() <= kBlockNames) more = false;
    if (!more && names.error() != 0) {
      block->events.push_back(
          {Event::Kind::kError, {}, names.error(), "sort names in the spill directory", node->directory, ""});
    }
  }
  if (!more) {
    node->names = nullptr;
    node->fd = nullptr;
    node->rules = nullptr;
    block->last = true;
  }
  block->charged_bytes = kNodeBytes + sizeof(Block) + block->names.capacity() +
                         block->items.capacity() * sizeof(Block::Item) + block->events.capacity() * sizeof(Event) +
                         event_bytes;
  return block;
}

// ---------------------------------------------------------------------------------------------------------------------
// The list of work

void PosixScanner::Erase(Position position) {
  if (position == first_open_) ++first_open_;
  work_.erase(position);
}

// Starts the first subdirectory that waits in `branch`: a busy node in front of it. end() if none
// was left.
PosixScanner::Position PosixScanner::StartNext(Position branch) {
  Branch& b = *branch->branch;
  std::string record;
  if (!b.queue.Pop(&record)) {
    if (b.queue.error() != 0) {
      late_events_.push_back(
          {Event::Kind::kError, {}, b.queue.error(), "keep subdirectories in the spill directory", b.directory, ""});
    }
    return work_.end();
  }
  FileIdentity identity;
  std::memcpy(&identity, record.data(), sizeof(identity));
  auto node = std::make_unique<Node>();
  node->directory =
      std::make_shared<PosixDirectory>(b.directory, std::string_view(record).substr(sizeof(identity)), identity);
  node->rules = b.rules;
  node->busy = true;
  return work_.insert(branch, WorkItem{std::move(node), nullptr});
}

// The first piece of work in key order that nobody does, marked busy; end() = none now. Without
// room, only what the consumer needs next.
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
  Node* node = position->node.get();
  mu_.Unlock();
  std::unique_ptr<Block> block = MakeBlock(node, bench);
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

std::unique_ptr<Block> PosixScanner::NextBlock() {
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
    Node& node = *head->node;
    if (!node.ready.empty()) {
      std::unique_ptr<Block> block = std::move(node.ready.front());
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

void PosixScanner::Report(const Event& event) {
  const std::string path = event.directory == nullptr ? "" : event.directory->RelativePath(event.name);
  switch (event.kind) {
    case Event::Kind::kError:
      ++statistics_.errors;
      if (observer_ != nullptr) observer_->OnError({path, event.operation, event.error_number});
      break;
    case Event::Kind::kSkipped:
      ++statistics_.skipped;
      if (observer_ != nullptr) observer_->OnSkipped(path, event.reason);
      break;
    case Event::Kind::kVanished:
      ++statistics_.vanished;
      if (observer_ != nullptr) observer_->OnVanished(path);
      break;
  }
}

absl::StatusOr<bool> PosixScanner::Next(SourceEntry* entry) {
  if (root_pending_) {
    root_pending_ = false;
    *entry = root_;
    if (root_skipped_.has_value()) Report({Event::Kind::kSkipped, *root_skipped_, 0, "", nullptr, ""});
  } else {
    while (block_ == nullptr || next_item_ == block_->items.size()) {
      if (!failed_.ok()) return failed_;
      std::unique_ptr<Block> block = NextBlock();
      block_ = std::move(block);
      next_item_ = 0;
      std::vector<Event> late;
      {
        absl::MutexLock lock(&mu_);
        late.swap(late_events_);
      }
      for (const Event& event : late) Report(event);
      if (block_ == nullptr) return false;
      for (const Event& event : block_->events) Report(event);
      if (block_->fatal_error != 0) {
        failed_ = Annotate(SourceErrnoStatus(block_->fatal_error, "list"), options_.root);
      }
    }
    const Block::Item& item = block_->items[next_item_++];
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
