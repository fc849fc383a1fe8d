// The repositories of one server. The adapters (gRPC, later REST) see this interface; the daemon implements it.
// Thread-safe; what Find returns stays usable as long as it is held.
#ifndef HOLDFAST_SERVER_REPOSITORY_REGISTRY_H_
#define HOLDFAST_SERVER_REPOSITORY_REGISTRY_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "server/repository/repository.h"
#include "storage/blob_store.h"

namespace holdfast {

struct HostedRepository {
  std::string name;
  RepositoryId id;
  std::string storage;       // where the blobs are, for display
  absl::Status error;        // not OK: engine is null, and why
  absl::Status keys_status;  // not OK: settings, slots or keyring cannot be read, so hardly anybody can use it
  absl::Mutex keys_mu;       // one writer of those at a time
  std::unique_ptr<BlobStore> store;
  std::unique_ptr<Repository> engine;  // uses the store: declared, and so destroyed, in this order
  std::vector<std::string> warnings;   // met while opening
};

struct NewRepository {
  std::string name;
  RepositoryId id;
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;
  std::string settings, key_slots, keyring;  // blobs of generation 1
  Key256 catalog_key;
};

class RepositoryRegistry {
 public:
  virtual ~RepositoryRegistry() = default;
  // ALREADY_EXISTS when the name is taken by another repository; OK when it is this one.
  virtual absl::Status Create(const NewRepository& request) = 0;
  // NOT_FOUND says how to create one; the repository's error when it could not be opened.
  virtual absl::StatusOr<std::shared_ptr<HostedRepository>> Find(std::string_view name) = 0;
  virtual std::vector<std::shared_ptr<HostedRepository>> List() = 0;
};

// OK, or why the repository cannot be used as it should.
inline absl::Status HealthOf(const HostedRepository& r) {
  if (!r.error.ok()) return r.error;
  if (!r.keys_status.ok()) return r.keys_status;
  return r.engine->status();
}

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_REGISTRY_H_
