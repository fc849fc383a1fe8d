#include "core/io/sim/sim_files.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/io/errno_status.h"

namespace holdfast {

struct SimFiles::Inode {
  bool is_directory = false;
  absl::Time modified;
  // Files.
  std::string content;
  std::string durable;
  size_t common = 0;  // so many first bytes of the two are known to be the same
  // Directories.
  std::map<std::string, InodePtr> entries;
  std::map<std::string, InodePtr> durable_entries;
};

namespace {

absl::Status Off() { return absl::UnavailableError("simulated power failure"); }

}  // namespace

template <typename R>
R SimFiles::Call(const std::function<R()>& f) {
  scheduler_.Point();
  const uint64_t number = ++calls;
  if (faults.off) return Off();
  if (faults.power_off_at.has_value() && number >= *faults.power_off_at) {
    faults.off = true;
    if (bits_.Coin()) (void)f();
    return Off();
  }
  if (auto it = faults.calls.find(number); it != faults.calls.end()) {
    auto [status, effect] = it->second;
    faults.calls.erase(it);
    if (effect == SimWorld::Effect::kDone) (void)f();
    return status;
  }
  return f();
}

class SimFiles::SimFile : public File {
 public:
  SimFile(SimFiles& files, InodePtr inode, std::string path, bool writable)
      : files_(files),
        inode_(std::move(inode)),
        path_(std::move(path)),
        writable_(writable),
        generation_(files.generation_) {}

  absl::StatusOr<size_t> ReadAt(uint64_t offset, absl::Span<char> out) override {
    return Call<absl::StatusOr<size_t>>([&]() -> absl::StatusOr<size_t> {
      const std::string& content = inode_->content;
      if (offset >= content.size()) return 0;
      size_t n = std::min<uint64_t>(out.size(), content.size() - offset);
      std::copy_n(content.data() + offset, n, out.data());
      return n;
    });
  }

  absl::Status Append(absl::Span<const std::string_view> parts) override {
    return Call<absl::Status>([&]() -> absl::Status {
      if (!writable_) return ErrnoStatus(EBADF, "write", path_);
      inode_->modified = files_.clock_.Wall();
      for (std::string_view part : parts) {
        uint64_t n = std::min<uint64_t>(part.size(), files_.faults.space);
        inode_->content.append(part.substr(0, n));
        if (files_.faults.space != std::numeric_limits<uint64_t>::max()) files_.faults.space -= n;
        if (n < part.size()) return ErrnoStatus(ENOSPC, "write", path_);
      }
      return absl::OkStatus();
    });
  }

  absl::Status Sync() override {
    return Call<absl::Status>([&]() -> absl::Status {
      if (sync_failed_ || files_.TakeSyncFault()) {
        sync_failed_ = true;
        return ErrnoStatus(EIO, "sync", path_);
      }
      inode_->durable.resize(inode_->common);
      inode_->durable.append(inode_->content, inode_->common);
      inode_->common = inode_->content.size();
      return absl::OkStatus();
    });
  }

  absl::Status Truncate(uint64_t size) override {
    return Call<absl::Status>([&]() -> absl::Status {
      if (!writable_) return ErrnoStatus(EINVAL, "truncate", path_);
      inode_->content.resize(size);
      inode_->common = std::min<size_t>(inode_->common, size);
      inode_->modified = files_.clock_.Wall();
      return absl::OkStatus();
    });
  }

  absl::StatusOr<uint64_t> Size() override {
    return Call<absl::StatusOr<uint64_t>>([&]() -> absl::StatusOr<uint64_t> { return inode_->content.size(); });
  }

 private:
  template <typename R>
  R Call(const std::function<R()>& f) {
    return files_.Call<R>([&]() -> R {
      if (generation_ != files_.generation_) return absl::UnavailableError("a file from before the crash");
      return f();
    });
  }

  SimFiles& files_;
  const InodePtr inode_;
  const std::string path_;
  const bool writable_;
  const uint64_t generation_;
  bool sync_failed_ = false;
};

SimFiles::SimFiles(Scheduler& scheduler, Clock& clock, uint64_t seed)
    : scheduler_(scheduler), clock_(clock), bits_(seed ^ 0xf11e5), root_(std::make_shared<Inode>()) {
  root_->is_directory = true;
}
SimFiles::~SimFiles() = default;

absl::StatusOr<SimFiles::Place> SimFiles::Find(std::string_view path) {
  if (path.empty()) return ErrnoStatus(ENOENT, "find", path);
  Place place{nullptr, "", root_};
  size_t at = 0;
  while (at < path.size()) {
    size_t slash = std::min(path.find('/', at), path.size());
    std::string component(path.substr(at, slash - at));
    at = slash + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") return absl::UnimplementedError("the simulated files know no ..");
    if (component.size() > 255) return ErrnoStatus(ENAMETOOLONG, "find", path);
    if (place.target == nullptr) return ErrnoStatus(ENOENT, "find", path);
    if (!place.target->is_directory) return ErrnoStatus(ENOTDIR, "find", path);
    InodePtr directory = place.target;
    auto it = directory->entries.find(component);
    place.target = it == directory->entries.end() ? nullptr : it->second;
    place.directory = std::move(directory);
    place.name = std::move(component);
  }
  return place;
}

uint64_t SimFiles::Change(const InodePtr& directory, const std::string& name, InodePtr target,
                          std::optional<uint64_t> only_after) {
  if (target == nullptr) {
    directory->entries.erase(name);
  } else {
    directory->entries[name] = target;
  }
  directory->modified = clock_.Wall();
  pending_.push_back({next_change_, directory, name, std::move(target), only_after});
  return next_change_++;
}

bool SimFiles::TakeSyncFault() {
  if (faults.syncs <= 0) return false;
  --faults.syncs;
  return true;
}

absl::StatusOr<std::unique_ptr<File>> SimFiles::Open(std::string_view path, OpenMode mode) {
  using R = absl::StatusOr<std::unique_ptr<File>>;
  return Call<R>([&]() -> R {
    ASSIGN_OR_RETURN(Place place, Find(path));
    const bool create = mode == OpenMode::kCreateNew;
    if (place.target != nullptr) {
      if (create) return ErrnoStatus(EEXIST, "open", path);
      if (place.target->is_directory) return ErrnoStatus(EISDIR, "open", path);
    } else {
      if (!create) return ErrnoStatus(ENOENT, "open", path);
      place.target = std::make_shared<Inode>();
      place.target->modified = clock_.Wall();
      Change(place.directory, place.name, place.target);
    }
    return std::make_unique<SimFile>(*this, place.target, std::string(path),
                                     create || mode == OpenMode::kAppendExisting);
  });
}

absl::Status SimFiles::DoRename(std::string_view from, std::string_view to, bool replace) {
  return Call<absl::Status>([&]() -> absl::Status {
    ASSIGN_OR_RETURN(Place source, Find(from));
    ASSIGN_OR_RETURN(Place target, Find(to));
    if (source.target == nullptr) return ErrnoStatus(ENOENT, "rename", from);
    if (source.directory == nullptr || target.directory == nullptr) return ErrnoStatus(EBUSY, "rename", from);
    if (target.target != nullptr) {
      if (!replace) return ErrnoStatus(EEXIST, "rename to", to);
      if (target.target == source.target) return absl::OkStatus();
      if (target.target->is_directory && !source.target->is_directory) return ErrnoStatus(EISDIR, "rename to", to);
      if (!target.target->is_directory && source.target->is_directory) return ErrnoStatus(ENOTDIR, "rename to", to);
      if (!target.target->entries.empty()) return ErrnoStatus(ENOTEMPTY, "rename to", to);
    }
    uint64_t added = Change(target.directory, target.name, source.target);
    Change(source.directory, source.name, nullptr, added);
    return absl::OkStatus();
  });
}

absl::Status SimFiles::Rename(std::string_view from, std::string_view to) { return DoRename(from, to, true); }
absl::Status SimFiles::RenameNoReplace(std::string_view from, std::string_view to) { return DoRename(from, to, false); }

absl::Status SimFiles::Unlink(std::string_view path) {
  return Call<absl::Status>([&]() -> absl::Status {
    ASSIGN_OR_RETURN(Place place, Find(path));
    if (place.target == nullptr) return ErrnoStatus(ENOENT, "unlink", path);
    if (place.target->is_directory) return ErrnoStatus(EISDIR, "unlink", path);
    Change(place.directory, place.name, nullptr);
    return absl::OkStatus();
  });
}

absl::Status SimFiles::MakeDirectories(std::string_view path) {
  std::string parent = ParentDirectory(path);
  if (auto info = Stat(path); info.ok()) {
    if (info->is_directory) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(AbslView(path), ": not a directory"));
  } else if (!absl::IsNotFound(info.status())) {
    return info.status();
  }
  if (parent != path) RETURN_IF_ERROR(MakeDirectories(parent));
  RETURN_IF_ERROR(Call<absl::Status>([&]() -> absl::Status {
    ASSIGN_OR_RETURN(Place place, Find(path));
    if (place.target != nullptr) return absl::OkStatus();  // another thread's
    auto inode = std::make_shared<Inode>();
    inode->is_directory = true;
    inode->modified = clock_.Wall();
    Change(place.directory, place.name, std::move(inode));
    return absl::OkStatus();
  }));
  return SyncDirectory(parent);
}

absl::Status SimFiles::RemoveDirectory(std::string_view path) {
  return Call<absl::Status>([&]() -> absl::Status {
    ASSIGN_OR_RETURN(Place place, Find(path));
    if (place.target == nullptr) return ErrnoStatus(ENOENT, "remove directory", path);
    if (!place.target->is_directory) return ErrnoStatus(ENOTDIR, "remove directory", path);
    if (!place.target->entries.empty()) return ErrnoStatus(ENOTEMPTY, "remove directory", path);
    if (place.directory == nullptr) return ErrnoStatus(EBUSY, "remove directory", path);
    Change(place.directory, place.name, nullptr);
    return absl::OkStatus();
  });
}

absl::Status SimFiles::SyncDirectory(std::string_view path) {
  return Call<absl::Status>([&]() -> absl::Status {
    ASSIGN_OR_RETURN(Place place, Find(path));
    if (place.target == nullptr) return ErrnoStatus(ENOENT, "sync directory", path);
    if (!place.target->is_directory) return ErrnoStatus(ENOTDIR, "sync directory", path);
    if (TakeSyncFault()) return ErrnoStatus(EIO, "sync directory", path);
    MakeDurable([&](const NameChange& c) { return c.directory == place.target; });
    return absl::OkStatus();
  });
}

// Applies what is wanted, what that must not be ahead of, and what came earlier to the same names.
void SimFiles::MakeDurable(const std::function<bool(const NameChange&)>& wanted) {
  std::set<uint64_t> needed;
  std::set<std::pair<Inode*, std::string>> names;
  std::vector<bool> chosen(pending_.size());
  for (size_t i = pending_.size(); i-- > 0;) {
    const NameChange& c = pending_[i];
    if (!wanted(c) && !needed.contains(c.number) && !names.contains({c.directory.get(), c.name})) continue;
    chosen[i] = true;
    names.insert({c.directory.get(), c.name});
    if (c.only_after.has_value()) needed.insert(*c.only_after);
  }
  std::vector<NameChange> left;
  for (size_t i = 0; i < pending_.size(); ++i) {
    NameChange& c = pending_[i];
    if (!chosen[i]) {
      left.push_back(std::move(c));
    } else if (c.target == nullptr) {
      c.directory->durable_entries.erase(c.name);
    } else {
      c.directory->durable_entries[c.name] = c.target;
    }
  }
  pending_ = std::move(left);
}

absl::StatusOr<FileInfo> SimFiles::Stat(std::string_view path) {
  using R = absl::StatusOr<FileInfo>;
  return Call<R>([&]() -> R {
    ASSIGN_OR_RETURN(Place place, Find(path));
    if (place.target == nullptr) return ErrnoStatus(ENOENT, "stat", path);
    FileInfo info;
    info.size = place.target->content.size();
    info.is_directory = place.target->is_directory;
    info.is_regular = !place.target->is_directory;
    info.modified = place.target->modified;
    return info;
  });
}

absl::StatusOr<std::vector<std::string>> SimFiles::List(std::string_view path) {
  using R = absl::StatusOr<std::vector<std::string>>;
  return Call<R>([&]() -> R {
    ASSIGN_OR_RETURN(Place place, Find(path));
    if (place.target == nullptr) return ErrnoStatus(ENOENT, "list", path);
    if (!place.target->is_directory) return ErrnoStatus(ENOTDIR, "list", path);
    std::vector<std::string> names;
    for (auto& [name, inode] : place.target->entries) names.push_back(name);
    return names;
  });
}

void SimFiles::Crash(uint64_t seed, CrashMode mode) {
  SeededBits bits(seed ^ 0xc7a54);
  ++generation_;
  faults = Faults();

  // Names: which of the pending changes made it.
  if (mode == CrashMode::kKeep) MakeDurable([](const NameChange&) { return true; });
  if (mode == CrashMode::kTorn) {
    std::set<std::pair<Inode*, std::string>> lost_names;
    std::set<uint64_t> lost;
    std::set<uint64_t> kept;
    const uint64_t percent = bits.Below(101);
    for (const NameChange& c : pending_) {
      std::pair<Inode*, std::string> name(c.directory.get(), c.name);
      bool keep = bits.Below(100) < percent && !lost_names.contains(name) &&
                  !(c.only_after.has_value() && lost.contains(*c.only_after));
      if (keep) {
        kept.insert(c.number);
      } else {
        lost_names.insert(name);
        lost.insert(c.number);
      }
    }
    MakeDurable([&](const NameChange& c) { return kept.contains(c.number); });
  }
  pending_.clear();

  // Bytes, of all that can still be reached.
  auto torn = [&](const Inode& file) -> std::string {
    const uint64_t choice = bits.Below(4);
    if (choice == 0) return file.durable;
    if (choice == 1) return file.content;
    if (file.durable.size() > file.common && bits.Coin()) return file.durable;
    size_t length = file.common + bits.Below(file.content.size() - file.common + 1);
    std::string out = file.content.substr(0, length);
    if (length > file.common && bits.Coin()) {  // a part that was never written back reads as zeros
      size_t begin = file.common + bits.Below(length - file.common);
      size_t n = 1 + bits.Below(length - begin);
      std::fill_n(out.begin() + begin, n, '\0');
    }
    return out;
  };
  std::set<Inode*> visited;
  std::function<void(Inode&)> settle = [&](Inode& inode) {
    if (!visited.insert(&inode).second) return;
    if (!inode.is_directory) {
      if (mode == CrashMode::kDrop) inode.content = inode.durable;
      if (mode == CrashMode::kTorn) inode.content = torn(inode);
      inode.durable = inode.content;
      inode.common = inode.content.size();
      return;
    }
    inode.entries = inode.durable_entries;
    for (auto& [name, child] : inode.entries) settle(*child);
  };
  settle(*root_);
}

absl::Status SimFiles::CorruptByte(std::string_view path, uint64_t offset, uint8_t mask) {
  ASSIGN_OR_RETURN(Place place, Find(path));
  if (place.target == nullptr || place.target->is_directory) return ErrnoStatus(ENOENT, "corrupt", path);
  if (offset >= place.target->content.size()) return absl::OutOfRangeError("behind the end of the file");
  place.target->content[offset] ^= static_cast<char>(mask);
  if (offset < place.target->durable.size()) place.target->durable[offset] ^= static_cast<char>(mask);
  return absl::OkStatus();
}

void SimFiles::ClearFaults() { faults = Faults(); }

}  // namespace holdfast
