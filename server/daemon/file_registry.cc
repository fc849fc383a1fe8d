#include "server/daemon/file_registry.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/base/repository_name.h"
#include "core/io/errno_status.h"
#include "server/daemon/repository_config.h"
#include "server/index/rocks_kv_store.h"
#include "server/repository/key_blobs.h"
#include "server/repository/stored_keys.h"
#include "storage/file/file_blob_store.h"

namespace holdfast {
namespace {

constexpr uint64_t kConfigBytesMax = 4096;

}  // namespace

absl::StatusOr<std::unique_ptr<FileRegistry>> FileRegistry::Open(Io io, FileRegistryOptions options) {
  std::unique_ptr<FileRegistry> registry(new FileRegistry(io, std::move(options)));
  const std::string& data = registry->options_.data_directory;
  RETURN_IF_ERROR(io.files.MakeDirectories(data + "/repositories"));
  const std::string lock_path = data + "/lock";
  registry->lock_fd_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (registry->lock_fd_ < 0) return ErrnoStatus(errno, "opening", lock_path);
  if (::flock(registry->lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "locking", lock_path);
    return absl::FailedPreconditionError("another holdfastd is using " + data);
  }
  RETURN_IF_ERROR(registry->LoadServerKey());
  ASSIGN_OR_RETURN(std::vector<std::string> names, io.files.List(data + "/repositories"));
  for (const std::string& name : names) {
    if (!CheckRepositoryName(name).ok()) continue;
    absl::StatusOr<bool> unfinished = registry->IsUnfinished(name);
    if (unfinished.ok() && *unfinished) continue;
    registry->OpenAndList(name).IgnoreError();  // listed with its error
  }
  return registry;
}

FileRegistry::~FileRegistry() {
  {
    absl::MutexLock lock(&mu_);
    repositories_.clear();
  }
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

std::string FileRegistry::Folder(std::string_view name) const {
  return absl::StrCat(options_.data_directory, "/repositories/", AbslView(name));
}

absl::Status FileRegistry::LoadServerKey() {
  const std::string path = options_.data_directory + "/server.key";
  absl::StatusOr<std::string> bytes = ReadWholeFile(io_.files, path, 4096);
  if (absl::IsNotFound(bytes.status())) {
    RETURN_IF_ERROR(CheckNothingNeedsTheKey());
    io_.random.Fill({server_key_.MutableBytes(), 32});
    return WriteFileAtomically(io_, path, server_key_.ExposeView());
  }
  RETURN_IF_ERROR(bytes.status());
  if (bytes->size() != 32) return absl::DataLossError(path + " is damaged");
  server_key_ = Key256(reinterpret_cast<const uint8_t*>(bytes->data()));
  WipeMemory(bytes->data(), bytes->size());
  return absl::OkStatus();
}

absl::Status FileRegistry::CheckNothingNeedsTheKey() const {
  ASSIGN_OR_RETURN(std::vector<std::string> names, io_.files.List(options_.data_directory + "/repositories"));
  for (const std::string& name : names) {
    if (!CheckRepositoryName(name).ok()) continue;
    absl::Status config = io_.files.Stat(Folder(name) + "/config").status();
    if (absl::IsNotFound(config)) continue;
    RETURN_IF_ERROR(config);
    return absl::DataLossError(absl::StrCat(options_.data_directory,
                                            "/server.key is missing, and without it no repository opens, such as ",
                                            name, ": restore it from a copy"));
  }
  return absl::OkStatus();
}

std::shared_ptr<HostedRepository> FileRegistry::OpenHosted(const std::string& name) {
  HostedRepository::Parts parts;
  parts.name = name;
  parts.storage = Folder(name) + "/storage";
  parts.error = OpenParts(name, parts);
  return std::make_shared<HostedRepository>(std::move(parts));
}

absl::Status FileRegistry::OpenParts(const std::string& name, HostedRepository::Parts& parts) {
  const std::string folder = Folder(name);
  absl::StatusOr<std::string> config_bytes = ReadWholeFile(io_.files, folder + "/config", kConfigBytesMax);
  if (absl::IsNotFound(config_bytes.status())) {
    return absl::DataLossError(absl::StrCat("the repository's config is missing: ", config_bytes.status().message()));
  }
  RETURN_IF_ERROR(config_bytes.status());
  ASSIGN_OR_RETURN(RepositoryConfig config, DecodeRepositoryConfig(*config_bytes, server_key_));
  parts.id = config.id;
  RETURN_IF_ERROR(io_.files.MakeDirectories(folder + "/spool"));
  ASSIGN_OR_RETURN(parts.store, FileBlobStore::Open(io_, folder + "/storage"));
  parts.keys = std::make_unique<StoredKeys>(*parts.store);
  CatalogKey key;
  key.repository = config.id;
  key.aead = config.aead;
  key.key = config.catalog_key;
  const std::string index_path = folder + "/index";
  KvStoreFactory kv;
  kv.open = [index_path] { return OpenRocksKvStore(index_path); };
  kv.destroy = [index_path] { return DestroyRocksKvStore(index_path); };
  RepositoryOptions options;
  options.spool_directory = folder + "/spool";
  options.server_id = options_.server_id;
  options.crash_point = options_.crash_point;
  // On the local socket the first stream follows within milliseconds; a client that was killed before must not block
  // the next run.
  options.sessions.idle = absl::Milliseconds(500);
  parts.keys_status = parts.keys->Check(&parts.warnings);
  ASSIGN_OR_RETURN(parts.engine, Repository::Open(io_, *parts.store, std::move(kv), key, options));
  return absl::OkStatus();
}

absl::StatusOr<bool> FileRegistry::IsUnfinished(std::string_view name) const {
  const std::string folder = Folder(name);
  if (!absl::IsNotFound(io_.files.Stat(folder + "/config").status())) return false;
  FileBlobStoreOptions look_only;
  look_only.read_only = true;
  auto store = FileBlobStore::Open(io_, folder + "/storage", look_only);
  if (absl::IsNotFound(store.status())) return true;
  RETURN_IF_ERROR(store.status());
  ASSIGN_OR_RETURN(std::vector<BlobInfo> blobs, ListAll(**store, ""));
  return std::all_of(blobs.begin(), blobs.end(), [](const BlobInfo& b) { return IsKeyBlob(b.name); });
}

absl::Status FileRegistry::RemoveUnfinished(std::string_view name) {
  ASSIGN_OR_RETURN(std::unique_ptr<FileBlobStore> store, FileBlobStore::Open(io_, Folder(name) + "/storage"));
  return StoredKeys(*store).Remove();
}

absl::Status FileRegistry::OpenAndList(const std::string& name) {
  std::shared_ptr<HostedRepository> hosted = OpenHosted(name);
  absl::Status status = hosted->error();
  absl::MutexLock lock(&mu_);
  repositories_[name] = std::move(hosted);
  return status;
}

absl::Status FileRegistry::Create(const NewRepository& request) {
  RETURN_IF_ERROR(CheckRepositoryName(request.name));
  absl::MutexLock create_lock(&create_mu_);
  absl::Status taken = absl::AlreadyExistsError(absl::StrCat("a repository named ", request.name, " exists already"));
  std::shared_ptr<HostedRepository> hosted = Hosted(request.name);
  if (!hosted || !hosted->error().ok()) {
    // An earlier attempt may have come as far as the config, although its client heard of an error.
    absl::Status config = io_.files.Stat(Folder(request.name) + "/config").status();
    if (absl::IsNotFound(config)) return CreateAnew(request);
    RETURN_IF_ERROR(config);
    // Whoever asks for another one need not know whether it opens by now, which may take long.
    if (hosted && !hosted->id().IsZero() && hosted->id() != request.id) return taken;
    OpenAndList(request.name).IgnoreError();
    hosted = Hosted(request.name);
  }
  // Whose it is cannot be told: its error says more than that the name is taken.
  if (hosted->id().IsZero() && !hosted->error().ok()) {
    return Annotate(hosted->error(), absl::StrCat("repository ", request.name, " exists, but does not open"));
  }
  if (hosted->id() != request.id) return taken;
  return hosted->error();
}

absl::Status FileRegistry::CreateAnew(const NewRepository& request) {
  const std::string folder = Folder(request.name);
  RETURN_IF_ERROR(io_.files.MakeDirectories(folder));
  ASSIGN_OR_RETURN(const bool unfinished, IsUnfinished(request.name));
  if (!unfinished) {
    return absl::AlreadyExistsError(
        absl::StrCat(folder, " holds the rest of a repository whose config is gone: move it away"));
  }
  RETURN_IF_ERROR(RemoveUnfinished(request.name));
  ASSIGN_OR_RETURN(std::unique_ptr<FileBlobStore> store, FileBlobStore::Open(io_, folder + "/storage"));
  RETURN_IF_ERROR(StoredKeys(*store).Create(request.settings, request.key_slots, request.keyring));
  RepositoryConfig config;
  config.id = request.id;
  config.aead = request.aead;
  config.catalog_key = request.catalog_key;
  // It comes last: without it the folder is no repository, and a crash in between leaves nothing that counts.
  RETURN_IF_ERROR(
      WriteFileAtomically(io_, folder + "/config", EncodeRepositoryConfig(config, server_key_, io_.random)));
  // It exists from here on, also when it cannot be opened now.
  return OpenAndList(request.name);
}

std::shared_ptr<HostedRepository> FileRegistry::Hosted(std::string_view name) {
  absl::MutexLock lock(&mu_);
  auto it = repositories_.find(name);
  return it == repositories_.end() ? nullptr : it->second;
}

bool FileRegistry::MayTryAgain(const std::string& name) {
  constexpr absl::Duration kBetweenAttempts = absl::Seconds(5);
  absl::MutexLock lock(&mu_);
  const absl::Duration now = io_.clock.Monotonic();
  auto [it, first] = tried_.try_emplace(name, now);
  if (!first && now - it->second < kBetweenAttempts) return false;
  it->second = now;
  return true;
}

absl::StatusOr<std::shared_ptr<HostedRepository>> FileRegistry::Find(std::string_view name) {
  std::shared_ptr<HostedRepository> hosted = Hosted(name);
  if (!hosted) {
    return absl::NotFoundError(absl::StrCat("this server has no repository named ", AbslView(name),
                                            "; create it: holdfast repository create ", AbslView(name)));
  }
  if (!hosted->error().ok()) {
    // A full disk has room again, a storage is back: nobody should have to restart the server for that.
    absl::MutexLock create_lock(&create_mu_);
    hosted = Hosted(name);
    if (!hosted->error().ok() && MayTryAgain(hosted->name())) {
      OpenAndList(hosted->name()).IgnoreError();
      hosted = Hosted(name);
    }
  }
  if (!hosted->error().ok()) {
    return Annotate(hosted->error(), absl::StrCat("repository ", AbslView(name), " is not open"));
  }
  return hosted;
}

std::vector<std::shared_ptr<HostedRepository>> FileRegistry::List() {
  std::vector<std::shared_ptr<HostedRepository>> out;
  absl::MutexLock lock(&mu_);
  out.reserve(repositories_.size());
  for (const auto& [name, hosted] : repositories_) out.push_back(hosted);
  return out;
}

}  // namespace holdfast
