// One repository of a server, as the adapters see it: open, with its keys and its engine, or listed with the reason
// why it is not.
#ifndef HOLDFAST_SERVER_REPOSITORY_HOSTED_REPOSITORY_H_
#define HOLDFAST_SERVER_REPOSITORY_HOSTED_REPOSITORY_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "server/repository/repository.h"
#include "server/repository/stored_keys.h"
#include "storage/blob_store.h"

namespace holdfast {

// Constant after it was made; keys and engine synchronise themselves.
class HostedRepository {
 public:
  struct Parts {
    std::string name;
    RepositoryId id;                    // zero: not known, as it is not open
    std::string storage;                // where the blobs are, for display
    std::vector<std::string> warnings;  // met while opening
    absl::Status error;                 // not OK: it is not open, and why
    absl::Status keys_status;           // not OK: the keys cannot be read, so hardly anybody can use it
    // Keys and engine are set when `error` is OK, and the store unless somebody else owns it. They use it: destroyed
    // before it.
    std::unique_ptr<BlobStore> store;
    std::unique_ptr<StoredKeys> keys;
    std::unique_ptr<Repository> engine;
  };
  explicit HostedRepository(Parts parts) : parts_(std::move(parts)) {}

  const std::string& name() const { return parts_.name; }
  const RepositoryId& id() const { return parts_.id; }
  const std::string& storage() const { return parts_.storage; }
  const absl::Status& error() const { return parts_.error; }
  // Of one that is open.
  StoredKeys& keys() { return *parts_.keys; }
  Repository& engine() { return *parts_.engine; }

  // OK, or why the repository cannot be used as it should.
  absl::Status Health() const;
  // Met while opening and since.
  std::vector<std::string> Warnings() const;
  // All zero when it is not open.
  RepositoryStatistics Statistics() const;

 private:
  const Parts parts_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_HOSTED_REPOSITORY_H_
