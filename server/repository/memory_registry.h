// Repositories on storage and indexes in memory, behind real engines: for tests of what talks to a registry. The
// storage can be damaged, and outlives a restart. Thread-safe but for Restart.
#ifndef HOLDFAST_SERVER_REPOSITORY_MEMORY_REGISTRY_H_
#define HOLDFAST_SERVER_REPOSITORY_MEMORY_REGISTRY_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "server/repository/registry.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/wrappers/faulty_blob_store.h"

namespace holdfast {

class MemoryRegistry : public RepositoryRegistry {
 public:
  // Spool files go below `spool_directory`, which is made.
  MemoryRegistry(Io io, std::string spool_directory) : io_(io), spool_directory_(std::move(spool_directory)) {}

  absl::Status Create(const NewRepository& request) override;
  absl::StatusOr<std::shared_ptr<HostedRepository>> Find(std::string_view name) override;
  std::vector<std::shared_ptr<HostedRepository>> List() override;

  // What the repository's engine and keys see, and what is really stored. The repository must exist.
  FaultyBlobStore& faults(const std::string& name);
  MemoryBlobStore& blobs(const std::string& name);
  // Every repository is closed and opened anew, with an index made from its storage. Nobody may hold one meanwhile.
  // One that does not open is listed with its error.
  void Restart();

 private:
  struct Disk {
    NewRepository repository;
    MemoryBlobStore blobs;
    FaultyBlobStore faults{blobs, /*seed=*/1};
    std::shared_ptr<HostedRepository> hosted;
  };
  std::shared_ptr<HostedRepository> Open(Disk& disk);

  const Io io_;
  const std::string spool_directory_;
  absl::Mutex mu_;
  std::map<std::string, std::unique_ptr<Disk>, std::less<>> disks_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_MEMORY_REGISTRY_H_
