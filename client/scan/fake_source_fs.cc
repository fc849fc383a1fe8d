#include "client/scan/fake_source_fs.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace holdfast {
namespace {

void Split(const std::string& path, Components* directory, std::string* name) {
  size_t begin = 0;
  for (size_t slash; (slash = path.find('/', begin)) != std::string::npos; begin = slash + 1) {
    directory->push_back(path.substr(begin, slash - begin));
  }
  *name = path.substr(begin);
}

}  // namespace

FakeSourceFs::FakeSourceFs() { Add("", EntryType::kDirectory, std::make_shared<Object>()); }

std::string FakeSourceFs::KeyOf(const std::string& path) {
  Node node;
  Split(path, &node.directory, &node.name);
  return EntryKey(node.directory, node.name);
}

void FakeSourceFs::Add(const std::string& path, EntryType type, std::shared_ptr<Object> object) {
  Node node;
  Split(path, &node.directory, &node.name);
  absl::MutexLock lock(&mu_);
  SourceStat& stat = object->stat;
  if (stat.identity.inode == 0) {
    stat.identity = {7, next_inode_++};
    stat.type = type;
    stat.mode = type == EntryType::kDirectory ? 0755 : 0644;
    stat.size = type == EntryType::kFile ? object->bytes.size() : 0;
    stat.blocks = (stat.size + 511) / 512;
    stat.mtime = stat.ctime = {next_time_++, 5};
  }
  node.object = std::move(object);
  const std::string key = EntryKey(node.directory, node.name);
  nodes_[key] = std::move(node);
}

void FakeSourceFs::AddFile(const std::string& path, std::string bytes) {
  auto object = std::make_shared<Object>();
  object->bytes = std::move(bytes);
  Add(path, EntryType::kFile, std::move(object));
}

void FakeSourceFs::AddDirectory(const std::string& path) {
  Add(path, EntryType::kDirectory, std::make_shared<Object>());
}

void FakeSourceFs::AddLink(const std::string& path, std::string target) {
  auto object = std::make_shared<Object>();
  object->target = std::move(target);
  Add(path, EntryType::kSymlink, std::move(object));
}

void FakeSourceFs::AddHardLink(const std::string& path, const std::string& existing) {
  std::shared_ptr<Object> object;
  {
    absl::MutexLock lock(&mu_);
    object = nodes_.at(KeyOf(existing)).object;
    ++object->stat.link_count;
  }
  Add(path, EntryType::kFile, std::move(object));
}

void FakeSourceFs::Remove(const std::string& path) {
  absl::MutexLock lock(&mu_);
  nodes_.erase(KeyOf(path));
}

void FakeSourceFs::Write(const std::string& path, std::string bytes) {
  absl::MutexLock lock(&mu_);
  Object& object = *nodes_.at(KeyOf(path)).object;
  object.bytes = std::move(bytes);
  object.stat.size = object.bytes.size();
  object.stat.blocks = (object.stat.size + 511) / 512;
  object.stat.mtime = object.stat.ctime = {next_time_++, 5};
}

void FakeSourceFs::Change(const std::string& path, const std::function<void(Object&)>& change) {
  absl::MutexLock lock(&mu_);
  change(*nodes_.at(KeyOf(path)).object);
}

void FakeSourceFs::Fail(const std::string& path, const std::string& operation, int error_number) {
  Change(path, [&](Object& o) { o.errors[operation] = SourceErrnoStatus(error_number, operation); });
}

void FakeSourceFs::SetHook(Hook hook) {
  absl::MutexLock lock(&mu_);
  hook_ = hook ? std::make_shared<const Hook>(std::move(hook)) : nullptr;
}

void FakeSourceFs::AddScanError(SourceError error) {
  absl::MutexLock lock(&mu_);
  scan_errors_.push_back(std::move(error));
}

uint64_t FakeSourceFs::opens() const {
  absl::MutexLock lock(&mu_);
  return opens_;
}

absl::Status FakeSourceFs::Begin(const Object& object, const std::string& path, std::string_view operation) {
  std::shared_ptr<const Hook> hook;
  {
    absl::MutexLock lock(&mu_);
    hook = hook_;
  }
  if (hook) (*hook)(path, operation);
  absl::MutexLock lock(&mu_);
  auto it = object.errors.find(std::string(operation));
  return it == object.errors.end() ? absl::OkStatus() : it->second;
}

absl::StatusOr<std::shared_ptr<FakeSourceFs::Object>> FakeSourceFs::Begin(const std::string& path,
                                                                          std::string_view operation) {
  std::shared_ptr<Object> object;
  for (bool again : {false, true}) {
    {
      absl::MutexLock lock(&mu_);
      auto it = nodes_.find(KeyOf(path));
      if (it == nodes_.end()) return SourceErrnoStatus(ENOENT, operation);
      object = it->second.object;
      if (operation == "open" && again) ++opens_;
    }
    // The hook may have removed or replaced it.
    if (!again) RETURN_IF_ERROR(Begin(*object, path, operation));
  }
  return object;
}

class FakeSourceFs::File : public SourceFile {
 public:
  File(FakeSourceFs& fs, std::string path, std::shared_ptr<Object> object)
      : fs_(fs), path_(std::move(path)), object_(std::move(object)) {
    absl::MutexLock lock(&fs_.mu_);
    opened_ = object_->stat;
  }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, char* buffer, size_t size) override {
    RETURN_IF_ERROR(fs_.Begin(*object_, path_, "read"));
    absl::MutexLock lock(&fs_.mu_);
    if (offset >= object_->bytes.size()) return 0;
    return object_->bytes.copy(buffer, size, offset);
  }
  const SourceStat& OpenedStat() const override { return opened_; }
  absl::StatusOr<SourceStat> Stat() override {
    RETURN_IF_ERROR(fs_.Begin(*object_, path_, "stat"));
    absl::MutexLock lock(&fs_.mu_);
    return object_->stat;
  }
  absl::StatusOr<std::optional<Range>> NextData(uint64_t offset) override {
    RETURN_IF_ERROR(fs_.Begin(*object_, path_, "map"));
    absl::MutexLock lock(&fs_.mu_);
    if (!object_->data) return std::optional<Range>(Range{offset, object_->bytes.size()});
    for (const Range& range : *object_->data) {
      if (range.end > offset) return std::optional<Range>(Range{std::max(range.begin, offset), range.end});
    }
    return std::optional<Range>();
  }
  absl::StatusOr<std::vector<Xattr>> ReadXattrs() override {
    RETURN_IF_ERROR(fs_.Begin(*object_, path_, "attributes"));
    absl::MutexLock lock(&fs_.mu_);
    return object_->xattrs;
  }

 private:
  FakeSourceFs& fs_;
  const std::string path_;
  const std::shared_ptr<Object> object_;
  SourceStat opened_;
};

class FakeSourceFs::Directory : public SourceDirectory {
 public:
  Directory(FakeSourceFs& fs, Components components) : fs_(fs), components_(std::move(components)) {}
  Components components() const override { return components_; }
  std::string RelativePath(std::string_view name) const override {
    std::string path;
    for (const std::string& c : components_) path += c + "/";
    return path.append(name);
  }
  FileIdentity identity() const override { return {}; }
  absl::StatusOr<std::unique_ptr<SourceFile>> OpenFile(std::string_view name) override {
    const std::string path = RelativePath(name);
    ASSIGN_OR_RETURN(std::shared_ptr<Object> object, fs_.Begin(path, "open"));
    return std::make_unique<File>(fs_, path, std::move(object));
  }
  absl::StatusOr<SourceStat> Stat(std::string_view name) override {
    ASSIGN_OR_RETURN(std::shared_ptr<Object> object, fs_.Begin(RelativePath(name), "stat"));
    absl::MutexLock lock(&fs_.mu_);
    return object->stat;
  }
  absl::StatusOr<std::string> ReadLink(std::string_view name) override {
    ASSIGN_OR_RETURN(std::shared_ptr<Object> object, fs_.Begin(RelativePath(name), "link"));
    absl::MutexLock lock(&fs_.mu_);
    return object->target;
  }
  absl::StatusOr<std::vector<Xattr>> ReadXattrs(std::string_view name) override {
    ASSIGN_OR_RETURN(std::shared_ptr<Object> object, fs_.Begin(RelativePath(name), "attributes"));
    absl::MutexLock lock(&fs_.mu_);
    return object->xattrs;
  }

 private:
  FakeSourceFs& fs_;
  const Components components_;
};

// Sees what is added behind the place where it is.
class FakeSourceFs::Walk : public Scanner {
 public:
  explicit Walk(FakeSourceFs& fs) : fs_(fs) {}
  absl::StatusOr<bool> Next(SourceEntry* entry) override {
    absl::MutexLock lock(&fs_.mu_);
    auto it = statistics_.entries == 0 ? fs_.nodes_.begin() : fs_.nodes_.upper_bound(key_);
    if (it == fs_.nodes_.end()) return false;
    key_ = it->first;
    const Node& node = it->second;
    if (!directory_ || directory_->components() != node.directory) {
      directory_ = std::make_shared<Directory>(fs_, node.directory);
    }
    entry->name = node.name;
    entry->stat = node.object->stat;
    entry->flags = 0;
    entry->directory = directory_;
    ++statistics_.entries;
    return true;
  }
  ScanStatistics statistics() const override { return statistics_; }

 private:
  FakeSourceFs& fs_;
  std::string key_;
  std::shared_ptr<Directory> directory_;
  ScanStatistics statistics_;
};

absl::StatusOr<std::unique_ptr<Scanner>> FakeSourceFs::Scan(const ScanOptions&, ScanObserver* observer) {
  std::vector<SourceError> errors;
  {
    absl::MutexLock lock(&mu_);
    errors = scan_errors_;
  }
  for (const SourceError& e : errors) observer->OnError(e);
  return std::make_unique<Walk>(*this);
}

}  // namespace holdfast
