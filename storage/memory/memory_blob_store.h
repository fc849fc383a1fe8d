// Blobs in memory: for tests, and the model that the conformance suite compares others with. Thread-safe.
#ifndef HOLDFAST_STORAGE_MEMORY_MEMORY_BLOB_STORE_H_
#define HOLDFAST_STORAGE_MEMORY_MEMORY_BLOB_STORE_H_

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "storage/blob_store.h"

namespace holdfast {

class MemoryBlobStore : public BlobStore {
 public:
  // Puts fail with RESOURCE_EXHAUSTED when all blobs together would take more than `capacity_bytes`.
  explicit MemoryBlobStore(uint64_t capacity_bytes = std::numeric_limits<uint64_t>::max())
      : capacity_bytes_(capacity_bytes) {}

  Capabilities capabilities() const override;
  absl::Status Put(const BlobName& name, BlobSource& source, PutMode mode) override;
  absl::Status Get(const BlobName& name, uint64_t offset, absl::Span<char> out) override;
  absl::StatusOr<BlobInfo> Stat(const BlobName& name) override;
  absl::StatusOr<std::vector<BlobInfo>> List(std::string_view prefix, std::string_view after, int limit) override;
  absl::Status Delete(const BlobName& name) override;

 private:
  using Bytes = std::shared_ptr<const std::string>;  // shared: a Get copies outside of the lock
  absl::StatusOr<Bytes> Find(const BlobName& name);

  const uint64_t capacity_bytes_;
  absl::Mutex mu_;
  std::map<std::string, Bytes, std::less<>> blobs_ ABSL_GUARDED_BY(mu_);
  uint64_t used_bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_MEMORY_MEMORY_BLOB_STORE_H_
