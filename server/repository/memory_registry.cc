#include "server/repository/memory_registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/repository_name.h"
#include "server/index/memory_kv_store.h"

namespace holdfast {

absl::Status MemoryRegistry::Create(const NewRepository& request) {
  RETURN_IF_ERROR(CheckRepositoryName(request.name));
  absl::MutexLock lock(&mu_);
  if (auto it = disks_.find(request.name); it != disks_.end()) {
    if (it->second->repository.id == request.id) return absl::OkStatus();
    return absl::AlreadyExistsError(absl::StrCat("a repository named ", request.name, " exists already"));
  }
  auto disk = std::make_unique<Disk>();
  disk->repository = request;
  RETURN_IF_ERROR(StoredKeys(disk->faults).Create(request.settings, request.key_slots, request.keyring));
  disk->hosted = Open(*disk);
  RETURN_IF_ERROR(disk->hosted->error());
  disks_[request.name] = std::move(disk);
  return absl::OkStatus();
}

std::shared_ptr<HostedRepository> MemoryRegistry::Open(Disk& disk) {
  HostedRepository::Parts parts;
  parts.name = disk.repository.name;
  parts.id = disk.repository.id;
  parts.storage = "memory";
  parts.keys = std::make_unique<StoredKeys>(disk.faults);
  parts.keys_status = parts.keys->Check(&parts.warnings);
  CatalogKey key;
  key.repository = disk.repository.id;
  key.aead = disk.repository.aead;
  key.key = disk.repository.catalog_key;
  KvStoreFactory kv;
  kv.open = []() -> absl::StatusOr<std::unique_ptr<KvStore>> { return std::make_unique<MemoryKvStore>(); };
  kv.destroy = [] { return absl::OkStatus(); };
  RepositoryOptions options;
  options.spool_directory = absl::StrCat(spool_directory_, "/", disk.repository.name);
  options.server_id = "memory";
  auto open = [&]() -> absl::Status {
    RETURN_IF_ERROR(io_.files.MakeDirectories(options.spool_directory));
    ASSIGN_OR_RETURN(parts.engine, Repository::Open(io_, disk.faults, kv, key, options));
    return absl::OkStatus();
  };
  parts.error = open();
  return std::make_shared<HostedRepository>(std::move(parts));
}

absl::StatusOr<std::shared_ptr<HostedRepository>> MemoryRegistry::Find(std::string_view name) {
  absl::MutexLock lock(&mu_);
  auto it = disks_.find(name);
  if (it == disks_.end()) return absl::NotFoundError(absl::StrCat("there is no repository ", AbslView(name)));
  RETURN_IF_ERROR(it->second->hosted->error());
  return it->second->hosted;
}

std::vector<std::shared_ptr<HostedRepository>> MemoryRegistry::List() {
  absl::MutexLock lock(&mu_);
  std::vector<std::shared_ptr<HostedRepository>> out;
  out.reserve(disks_.size());
  for (const auto& [name, disk] : disks_) out.push_back(disk->hosted);
  return out;
}

FaultyBlobStore& MemoryRegistry::faults(const std::string& name) {
  absl::MutexLock lock(&mu_);
  return disks_.at(name)->faults;
}

MemoryBlobStore& MemoryRegistry::blobs(const std::string& name) {
  absl::MutexLock lock(&mu_);
  return disks_.at(name)->blobs;
}

void MemoryRegistry::Restart() {
  absl::MutexLock lock(&mu_);
  for (auto& [name, disk] : disks_) {
    disk->hosted.reset();  // before the new one takes the repository over
    disk->hosted = Open(*disk);
  }
}

}  // namespace holdfast
