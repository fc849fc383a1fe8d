// The repositories of one server. The adapters (gRPC, later REST) see this interface; the daemon implements it.
// Thread-safe; what Find returns stays usable as long as it is held.
#ifndef HOLDFAST_SERVER_REPOSITORY_REGISTRY_H_
#define HOLDFAST_SERVER_REPOSITORY_REGISTRY_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "server/repository/hosted_repository.h"

namespace holdfast {

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
  // One that is open. NOT_FOUND, which may say how to create one; the repository's error when it could not be opened.
  virtual absl::StatusOr<std::shared_ptr<HostedRepository>> Find(std::string_view name) = 0;
  virtual std::vector<std::shared_ptr<HostedRepository>> List() = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_REGISTRY_H_
