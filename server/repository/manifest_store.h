// The manifests of a repository in its storage, each in a blob of its own (manifest_blob.h). Knows nothing of the log:
// what is here need not be committed. Thread-safe; blocking.
#ifndef HOLDFAST_SERVER_REPOSITORY_MANIFEST_STORE_H_
#define HOLDFAST_SERVER_REPOSITORY_MANIFEST_STORE_H_

#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"

namespace holdfast {

class ManifestStore {
 public:
  // References are borrowed.
  ManifestStore(BlobStore& store, CatalogKey key, Random& random);

  // Durable when OK. One that is there already is left as it is, and OK.
  absl::Status Put(const ManifestId& id, std::string_view manifest);
  // NOT_FOUND: there is none; DATA_LOSS: it is not what was put under this id.
  absl::StatusOr<std::string> Get(const ManifestId& id) const;
  // Of all that are there; other blobs beside them are passed over.
  absl::StatusOr<std::vector<ManifestId>> List() const;

 private:
  BlobStore& store_;
  const CatalogKey key_;
  Random& random_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_MANIFEST_STORE_H_
