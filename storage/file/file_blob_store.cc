#include "storage/file/file_blob_store.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "core/base/ids.h"

namespace holdfast {
namespace {

constexpr std::string_view kTemporaryDirectory = ".tmp";
constexpr absl::Duration kTemporaryFileAgeMax = absl::Hours(24);
constexpr size_t kCopyStepBytes = 1u << 20;
constexpr uint64_t kWritebackStepBytes = 8u << 20;

// "" for a name without a directory.
std::string DirectoryOf(std::string_view name) {
  size_t slash = name.rfind('/');
  return slash == std::string_view::npos ? "" : std::string(name.substr(0, slash));
}

bool IsReserved(std::string_view name) { return name.starts_with(kTemporaryDirectory); }

absl::Status CheckName(const BlobName& name) {
  if (!IsReserved(name.str())) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name.str(), ": names that begin with .tmp are the file store's own"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<FileBlobStore>> FileBlobStore::Open(Io io, std::string root,
                                                                   FileBlobStoreOptions options) {
  while (root.size() > 1 && root.back() == '/') root.pop_back();
  if (root.empty()) return absl::InvalidArgumentError("the file store needs a directory");
  auto store = std::unique_ptr<FileBlobStore>(new FileBlobStore(io, std::move(root), options));
  if (options.read_only) {
    ASSIGN_OR_RETURN(FileInfo info, io.files.Stat(store->root_));
    if (!info.is_directory) {
      return absl::FailedPreconditionError(absl::StrCat(store->root_, ": not a directory"));
    }
    return store;
  }
  RETURN_IF_ERROR(io.files.MakeDirectories(store->root_));
  // An earlier process may have been killed between making the root and syncing its name. Where the directory above is
  // not ours to open, somebody else made the root.
  if (absl::Status s = io.files.SyncDirectory(ParentDirectory(store->root_)); !s.ok() && !absl::IsPermissionDenied(s)) {
    return s;
  }
  RETURN_IF_ERROR(io.files.MakeDirectories(store->PathOf(kTemporaryDirectory)));
  store->RemoveOldTemporaryFiles();
  return store;
}

std::string FileBlobStore::PathOf(std::string_view relative) const {
  if (relative.empty()) return root_;
  return absl::StrCat(root_, root_ == "/" ? "" : "/", AbslView(relative));
}

void FileBlobStore::RemoveOldTemporaryFiles() {
  std::string directory = PathOf(kTemporaryDirectory);
  auto names = io_.files.List(directory);
  if (!names.ok()) return;  // tidying only: the next open tries again
  for (const std::string& name : *names) {
    std::string path = absl::StrCat(directory, "/", name);
    auto info = io_.files.StatNoFollow(path);
    if (info.ok() && info->is_regular && io_.clock.Wall() - info->modified > kTemporaryFileAgeMax) {
      io_.files.Unlink(path).IgnoreError();
    }
  }
}

Capabilities FileBlobStore::capabilities() const {
  Capabilities c;
  c.put_if_absent = true;
  c.max_blob_bytes = std::numeric_limits<int64_t>::max();
  return c;
}

absl::Status FileBlobStore::CheckDirectory(std::string_view relative, bool create) {
  if (relative.empty()) return absl::OkStatus();
  std::string key(relative);
  {
    absl::MutexLock lock(&mu_);
    if (checked_.contains(key)) return absl::OkStatus();
  }
  std::string above = DirectoryOf(relative);
  RETURN_IF_ERROR(CheckDirectory(above, create));
  std::string path = PathOf(relative);
  auto info = io_.files.StatNoFollow(path);
  if (absl::IsNotFound(info.status()) && create) {
    RETURN_IF_ERROR(io_.files.MakeDirectories(path));
    info = io_.files.StatNoFollow(path);
  }
  RETURN_IF_ERROR(info.status());
  if (!info->is_directory) {
    if (!create) return absl::NotFoundError(absl::StrCat(path, ": not a directory"));
    return absl::FailedPreconditionError(absl::StrCat(path, ": not a directory"));
  }
  if (!options_.read_only) {
    // Whoever made it may not have synced its name yet, or was killed before that.
    RETURN_IF_ERROR(io_.files.SyncDirectory(PathOf(above)));
  }
  absl::MutexLock lock(&mu_);
  checked_.insert(std::move(key));
  return absl::OkStatus();
}

absl::Status FileBlobStore::Settle(const std::string& relative) {
  if (options_.read_only) return absl::OkStatus();
  uint64_t version;
  bool idle;
  {
    absl::MutexLock lock(&mu_);
    Directory& directory = directories_[relative];
    idle = directory.puts == 0;
    if (!directory.unsynced && idle) return absl::OkStatus();
    version = directory.version;
  }
  absl::Status status = io_.files.SyncDirectory(PathOf(relative));
  // A file system that is read-only still gives its blobs back. But one that became so after a rename of ours may have
  // lost it: what is seen of it is in memory only.
  if (absl::IsPermissionDenied(status)) {
    return version == 0 ? absl::OkStatus() : absl::UnavailableError(status.message());
  }
  RETURN_IF_ERROR(status);
  absl::MutexLock lock(&mu_);
  Directory& directory = directories_[relative];
  // Only if no rename fell into the time of the sync.
  if (idle && directory.version == version) directory.unsynced = false;
  return absl::OkStatus();
}

// The durable-write protocol. When Put returns OK, all of it has happened, in this order:
//  1. The directories above the blob exist, and each was synced after the name of the next was made (CheckDirectory).
//  2. All bytes are in a file under another name on the same file system, and that file was synced: by who wrote the
//     spool file, or by Copy.
//  3. That file is renamed to the blob's name; for kIfAbsent by a rename that never replaces. Now readers see the blob,
//     whole, and Settle makes them wait for step 4.
//  4. The blob's directory is synced: the blob is durable.
//  5. The spool's directory is synced, so that a crash does not bring back the spool name beside the blob's. Not needed
//     for durability: its failure is not reported.
// After a failure of 1-3 a temporary file is removed. After a failure of 4 the outcome is unknown, and the directory
// stays unsettled, so that whoever sees the blob syncs it first.
absl::Status FileBlobStore::Put(const BlobName& name, BlobSource& source, PutMode mode) {
  RETURN_IF_ERROR(CheckName(name));
  if (options_.read_only) return absl::PermissionDeniedError("the store was opened read-only");
  std::string directory = DirectoryOf(name.str());
  RETURN_IF_ERROR(CheckDirectory(directory, /*create=*/true));
  if (mode == PutMode::kIfAbsent) {  // spares the copying; the race is decided by the rename
    auto info = StatBlob(name);
    if (info.ok()) {
      RETURN_IF_ERROR(Settle(directory));
      return absl::AlreadyExistsError(name.str());
    }
    if (!absl::IsNotFound(info.status())) return info.status();
  }

  if (auto spool_path = source.spool_path(); spool_path.has_value()) {
    ASSIGN_OR_RETURN(FileInfo info, io_.files.StatNoFollow(*spool_path));
    if (!info.is_regular || info.size != source.size()) {
      return absl::FailedPreconditionError(absl::StrCat(*spool_path, ": not a file of ", source.size(), " bytes"));
    }
    absl::Status status = Rename(*spool_path, name, mode);
    if (status.ok()) io_.files.SyncDirectory(ParentDirectory(*spool_path)).IgnoreError();
    // FAILED_PRECONDITION: it is on another file system.
    if (!absl::IsFailedPrecondition(status)) return status;
  }

  uint8_t random[8];
  io_.random.Fill(absl::MakeSpan(random));
  std::string temporary = absl::StrCat(PathOf(kTemporaryDirectory), "/",
                                       HexEncode({reinterpret_cast<const char*>(random), sizeof(random)}));
  absl::Status status = Copy(source, temporary);
  if (status.ok()) status = Rename(temporary, name, mode);
  if (!status.ok()) io_.files.Unlink(temporary).IgnoreError();
  return status;
}

absl::Status FileBlobStore::Copy(BlobSource& source, const std::string& path) {
  ASSIGN_OR_RETURN(auto file, io_.files.Open(path, OpenMode::kCreateNew));
  const uint64_t size = source.size();
  std::string buffer(std::min<uint64_t>(size, kCopyStepBytes), '\0');
  uint64_t started = 0;
  for (uint64_t offset = 0; offset < size;) {
    size_t n = std::min<uint64_t>(size - offset, buffer.size());
    RETURN_IF_ERROR(source.ReadAt(offset, absl::MakeSpan(buffer.data(), n)));
    RETURN_IF_ERROR(file->Append({std::string_view(buffer.data(), n)}));
    offset += n;
    if (offset - started >= kWritebackStepBytes) {
      file->StartWriteback();
      started = offset;
    }
  }
  return file->Sync();
}

// Steps 3 and 4.
absl::Status FileBlobStore::Rename(const std::string& from, const BlobName& to, PutMode mode) {
  const std::string directory = DirectoryOf(to.str());
  const std::string path = PathOf(to.str());
  uint64_t version;
  {
    absl::MutexLock lock(&mu_);
    Directory& d = directories_[directory];
    ++d.puts;
    version = ++d.version;
  }
  absl::Status status =
      mode == PutMode::kIfAbsent ? io_.files.RenameNoReplace(from, path) : io_.files.Rename(from, path);
  bool synced = false;
  // After ALREADY_EXISTS as well: the caller may take it for an OK, so the other's blob has to be durable.
  if (status.ok() || absl::IsAlreadyExists(status)) {
    absl::Status sync = io_.files.SyncDirectory(PathOf(directory));
    synced = sync.ok();
    if (!synced) status = absl::UnavailableError(sync.message());
  }
  {
    absl::MutexLock lock(&mu_);
    Directory& d = directories_[directory];
    --d.puts;
    if (!synced) {
      d.unsynced = true;
    } else if (d.puts == 0 && d.version == version) {
      d.unsynced = false;
    }
  }
  if (absl::IsAlreadyExists(status)) {
    auto info = io_.files.StatNoFollow(path);
    if (info.ok() && !info->is_regular) {
      return absl::FailedPreconditionError(absl::StrCat(path, ": exists and is not a blob"));
    }
  }
  return status;
}

absl::StatusOr<FileInfo> FileBlobStore::StatBlob(const BlobName& name) {
  RETURN_IF_ERROR(CheckDirectory(DirectoryOf(name.str()), /*create=*/false));
  ASSIGN_OR_RETURN(FileInfo info, io_.files.StatNoFollow(PathOf(name.str())));
  if (!info.is_regular) return absl::NotFoundError(absl::StrCat(name.str(), ": not a blob"));
  return info;
}

absl::Status FileBlobStore::Get(const BlobName& name, uint64_t offset, absl::Span<char> out) {
  RETURN_IF_ERROR(CheckName(name));
  const std::string directory = DirectoryOf(name.str());
  RETURN_IF_ERROR(CheckDirectory(directory, /*create=*/false));
  auto file = io_.files.Open(PathOf(name.str()), OpenMode::kReadNoFollow);
  if (absl::IsFailedPrecondition(file.status())) {
    return absl::NotFoundError(absl::StrCat(name.str(), ": not a blob"));
  }
  RETURN_IF_ERROR(file.status());
  ASSIGN_OR_RETURN(uint64_t size, (*file)->Size());
  RETURN_IF_ERROR(CheckRange(name, size, offset, out.size()));
  ASSIGN_OR_RETURN(size_t n, (*file)->ReadAt(offset, out));
  if (n != out.size()) {
    return absl::UnavailableError(absl::StrCat(name.str(), ": the file ended while it was read"));
  }
  return Settle(directory);
}

absl::StatusOr<BlobInfo> FileBlobStore::Stat(const BlobName& name) {
  RETURN_IF_ERROR(CheckName(name));
  ASSIGN_OR_RETURN(FileInfo info, StatBlob(name));
  RETURN_IF_ERROR(Settle(DirectoryOf(name.str())));
  return BlobInfo{name.str(), info.size};
}

absl::Status FileBlobStore::Delete(const BlobName& name) {
  RETURN_IF_ERROR(CheckName(name));
  if (options_.read_only) return absl::PermissionDeniedError("the store was opened read-only");
  auto info = StatBlob(name);
  if (absl::IsNotFound(info.status())) return absl::OkStatus();
  RETURN_IF_ERROR(info.status());
  absl::Status status = io_.files.Unlink(PathOf(name.str()));
  if (absl::IsNotFound(status)) return absl::OkStatus();
  RETURN_IF_ERROR(status);
  return io_.files.SyncDirectory(PathOf(DirectoryOf(name.str())));
}

absl::StatusOr<std::vector<BlobInfo>> FileBlobStore::List(std::string_view prefix, std::string_view after, int limit) {
  RETURN_IF_ERROR(CheckListArguments(prefix, limit));
  std::vector<BlobInfo> out;
  std::string directory = DirectoryOf(prefix);
  absl::Status status = CheckDirectory(directory, /*create=*/false);
  if (absl::IsNotFound(status)) return out;
  RETURN_IF_ERROR(status);
  RETURN_IF_ERROR(ListDirectory(directory, prefix, after, static_cast<size_t>(limit), out));
  return out;
}

// Byte order of whole names is not the order of a directory's entries: "a.b" < "a/c" < "a0". An entry's place is its
// name if it is a file, its name and '/' if it is a directory. Which of the two it is takes a Stat, and those are what
// a list costs: so entries wait in a heap under the lower of their two places and are looked at when their turn comes.
absl::Status FileBlobStore::ListDirectory(const std::string& relative, std::string_view prefix, std::string_view after,
                                          size_t limit, std::vector<BlobInfo>& out) {
  auto names = io_.files.List(PathOf(relative));
  if (absl::IsNotFound(names.status())) return absl::OkStatus();  // removed meanwhile
  RETURN_IF_ERROR(names.status());
  RETURN_IF_ERROR(Settle(relative));

  std::vector<std::string> places;
  for (const std::string& entry : *names) {
    std::string name = relative.empty() ? entry : absl::StrCat(relative, "/", entry);
    if (!std::string_view(name).starts_with(prefix) || IsReserved(name)) continue;
    if (!BlobName::Parse(name).ok()) continue;
    if (name > after) {
      places.push_back(std::move(name));
      continue;
    }
    name.push_back('/');
    if (name > after || after.starts_with(name)) places.push_back(std::move(name));
  }
  std::priority_queue<std::string, std::vector<std::string>, std::greater<std::string>> heap(
      std::greater<std::string>(), std::move(places));
  while (!heap.empty() && out.size() < limit) {
    std::string place = heap.top();
    heap.pop();
    const bool as_directory = place.back() == '/';
    if (as_directory) place.pop_back();
    auto info = io_.files.StatNoFollow(PathOf(place));
    if (absl::IsNotFound(info.status())) continue;  // deleted meanwhile
    RETURN_IF_ERROR(info.status());
    if (info->is_regular && !as_directory) {
      out.push_back({std::move(place), info->size});
    } else if (info->is_directory && !as_directory) {
      heap.push(place + "/");
    } else if (info->is_directory) {
      absl::Status status = CheckDirectory(place, /*create=*/false);
      if (absl::IsNotFound(status)) continue;
      RETURN_IF_ERROR(status);
      RETURN_IF_ERROR(ListDirectory(place, prefix, after, limit, out));
    }
  }
  return absl::OkStatus();
}

}  // namespace holdfast
