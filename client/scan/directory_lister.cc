#include "client/scan/directory_lister.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "client/scan/pseudo_file_system.h"
#include "core/base/limits.h"

namespace holdfast {
namespace {

constexpr size_t kBlockNames = 2048;
constexpr uint64_t kNodeBytes = 768;           // a started directory: node, handle, names, allocation overhead
constexpr size_t kIgnoreBytesMax = 256 << 10;  // of all ignore files that apply in one directory
constexpr std::string_view kCacheTagName = "CACHEDIR.TAG";
constexpr std::string_view kCacheTagSignature = "Signature: 8a477f597d28d172789f06886806bc55";

struct linux_dirent64 {
  uint64_t d_ino;
  int64_t d_off;
  uint16_t d_reclen;
  uint8_t d_type;
  char d_name[];
};

}  // namespace

DirectoryLister::DirectoryLister(const ScanOptions& options) : options_(options), own_state_(options.own_state) {
  std::sort(own_state_.begin(), own_state_.end());
  for (const std::string& line : options.exclude_patterns) command_line_.AddLine(line);
}

std::optional<SkipReason> DirectoryLister::WhyNotScan(int fd, const FileIdentity& root) {
  {
    absl::MutexLock lock(&pseudo_mu_);
    pseudo_[root.device] = false;  // asked below; a pseudo root has nothing inside to ask about
  }
  if (std::binary_search(own_state_.begin(), own_state_.end(), root)) return SkipReason::kOwnState;
  if (options_.skip_pseudo_file_systems && IsPseudoFileSystem(fd)) return SkipReason::kPseudoFileSystem;
  return std::nullopt;
}

bool DirectoryLister::IsPseudo(int parent_fd, const char* name, uint64_t device) {
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

std::optional<SkipReason> DirectoryLister::WhyNotDescend(int parent_fd, const char* name, const FileIdentity& parent,
                                                         const SourceStat& st) {
  if (std::binary_search(own_state_.begin(), own_state_.end(), st.identity)) return SkipReason::kOwnState;
  if (st.identity.device == parent.device) return std::nullopt;
  if (options_.skip_pseudo_file_systems && IsPseudo(parent_fd, name, st.identity.device)) {
    return SkipReason::kPseudoFileSystem;
  }
  if (options_.one_file_system) return SkipReason::kOtherFileSystem;
  return std::nullopt;
}

int DirectoryLister::ReadSmallFile(int directory_fd, const char* name, size_t size_max, std::string* out) {
  int raw = -1;
  if (int e = OpenAt(directory_fd, name, 0, &raw); e != 0) return e;
  SharedFd fd(raw);
  struct stat st {};
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

void DirectoryLister::ReadIgnoreFile(ScanNode* node, ScanBlock* block) {
  std::string text;
  int e = ReadSmallFile(node->fd->get(), options_.ignore_file_name.c_str(), kIgnoreBytesMax, &text);
  const uint64_t chain_bytes = text.size() + (node->rules == nullptr ? 0 : node->rules->text_bytes());
  if (e == 0 && chain_bytes > kIgnoreBytesMax) e = EFBIG;
  if (e != 0) {
    block->events.push_back(
        {ScanEvent::Kind::kError, {}, e, "read ignore file", node->directory, options_.ignore_file_name});
    return;
  }
  IgnoreList list = IgnoreList::Parse(text);
  if (list.empty()) return;
  node->rules = std::make_shared<IgnoreChain>(std::move(node->rules), node->directory->RelativePath(""),
                                              std::move(list), text.size());
}

// Reads and sorts the names. False: nothing to go on with; the block says why.
bool DirectoryLister::List(ScanNode* node, ScanBlock* block, Workbench* bench) {
  auto fail = [&](const char* operation, int e) {
    bool is_root = node->directory->depth() == 0;
    if (is_root) {
      block->fatal_error = e;
    } else if (e == ENOENT) {
      block->events.push_back({ScanEvent::Kind::kVanished, {}, e, operation, node->directory, ""});
    } else {
      block->events.push_back({ScanEvent::Kind::kError, {}, e, operation, node->directory, ""});
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
    long n = syscall(SYS_getdents64, fd, bench->buffer.get(), Workbench::kBufferBytes);
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
      block->events.push_back({ScanEvent::Kind::kSkipped, SkipReason::kCacheDirectory, 0, "", node->directory, ""});
    }
  }
  if (has_ignore_file && !node->only_cache_tag) ReadIgnoreFile(node, block);
  if (HasRules(*node)) {
    node->path = node->directory->RelativePath("");
    if (!node->path.empty()) node->path += '/';
  }
  return true;
}

bool DirectoryLister::IsExcluded(const ScanNode& node, std::string_view name, bool is_directory,
                                 Workbench* bench) const {
  bench->path.assign(node.path);
  bench->path.append(name);
  IgnoreVerdict v = command_line_.Match(bench->path, node.path.size(), is_directory);
  if (v == IgnoreVerdict::kNone && node.rules != nullptr) {
    v = node.rules->Match(bench->path, node.path.size(), is_directory);
  }
  return v == IgnoreVerdict::kExclude;
}

std::unique_ptr<ScanBlock> DirectoryLister::MakeBlock(ScanNode* node, Workbench* bench) {
  auto block = std::make_unique<ScanBlock>();
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
    auto tell = [&](ScanEvent::Kind kind, SkipReason reason, int e, const char* operation) {
      block->events.push_back({kind, reason, e, operation, node->directory, std::string(name)});
      event_bytes += name.size();
    };
    for (size_t k = 0; k < kBlockNames && (more = names.Next(&name, &type)); ++k) {
      if (node->only_cache_tag && name != kCacheTagName) continue;
      if (has_rules && type != DT_UNKNOWN && IsExcluded(*node, name, type == DT_DIR, bench)) {
        tell(ScanEvent::Kind::kSkipped, SkipReason::kExcluded, 0, "");
        continue;
      }
      terminated.assign(name);
      ScanBlock::Item item{};
      if (int e = StatAt(fd, terminated.c_str(), &item.stat); e != 0) {
        tell(e == ENOENT ? ScanEvent::Kind::kVanished : ScanEvent::Kind::kError, {}, e, "stat");
        continue;
      }
      const bool is_directory = item.stat.type == EntryType::kDirectory;
      // The type may have been unknown, or have changed meanwhile.
      if (has_rules && (type == DT_UNKNOWN || (type == DT_DIR) != is_directory) &&
          IsExcluded(*node, name, is_directory, bench)) {
        tell(ScanEvent::Kind::kSkipped, SkipReason::kExcluded, 0, "");
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
          tell(ScanEvent::Kind::kSkipped, *why, 0, "");
        } else {
          if (node->branch == nullptr) {
            node->branch = std::make_unique<ScanBranch>(options_.spill_directory);
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
          {ScanEvent::Kind::kError, {}, names.error(), "sort names in the spill directory", node->directory, ""});
    }
  }
  if (!more) {
    node->names = nullptr;
    node->fd = nullptr;
    node->rules = nullptr;
    block->last = true;
  }
  block->charged_bytes = kNodeBytes + sizeof(ScanBlock) + block->names.capacity() +
                         block->items.capacity() * sizeof(ScanBlock::Item) +
                         block->events.capacity() * sizeof(ScanEvent) + event_bytes;
  return block;
}

}  // namespace holdfast
