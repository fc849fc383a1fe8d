// A store that misbehaves on request, for tests: around any other store, by script or at random by seed. Thread-safe.
#ifndef HOLDFAST_STORAGE_WRAPPERS_FAULTY_BLOB_STORE_H_
#define HOLDFAST_STORAGE_WRAPPERS_FAULTY_BLOB_STORE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "storage/blob_store.h"

namespace holdfast {

enum class BlobOperation { kPut, kGet, kStat, kList, kDelete };
inline constexpr int kBlobOperations = 5;

enum class BlobFault {
  // Within the contract.
  kFailBefore,  // UNAVAILABLE, nothing was done
  kFailAfter,   // UNAVAILABLE, but it was done: the outcome is unknown
  kNoSpace,     // Put: RESOURCE_EXHAUSTED. Others: as kFailBefore
  // A storage that lies. Each says OK.
  kShort,        // Put: only a part is stored. Get: the rest of the range is zeros. List: some blobs are left out
  kCorruptByte,  // Put, Get: one byte is changed
  kLost,         // Put: nothing is stored. Get, Stat: NOT_FOUND. List: empty. Delete: nothing is deleted
};
inline constexpr int kBlobFaults = 6;

struct ScriptedBlobFault {
  BlobOperation operation = BlobOperation::kPut;
  BlobFault fault = BlobFault::kFailBefore;
  std::string prefix = "";  // of the names (or the list prefix) it concerns
  int skip = 0;             // so many such operations go well first
  int count = 1;            // how often it happens then
};

class FaultyBlobStore : public BlobStore {
 public:
  // Borrows `inner`.
  FaultyBlobStore(BlobStore& inner, uint64_t seed) : inner_(inner), random_(seed) {}

  void AddFault(ScriptedBlobFault fault);
  // How many of 1,000 operations suffer the fault, where it means something for the operation.
  void SetRate(BlobFault fault, int per_mille);
  // Every Get of a range that overlaps fails as a disk does there (EIO). Cleared by nothing.
  void AddBadSector(std::string_view name, uint64_t offset, uint64_t bytes);
  void ClearFaults();
  uint64_t faults_injected() const;
  uint64_t operations(BlobOperation operation) const;

  Capabilities capabilities() const override { return inner_.capabilities(); }
  absl::Status Put(const BlobName& name, BlobSource& source, PutMode mode) override;
  absl::Status Get(const BlobName& name, uint64_t offset, absl::Span<char> out) override;
  absl::StatusOr<BlobInfo> Stat(const BlobName& name) override;
  absl::StatusOr<std::vector<BlobInfo>> List(std::string_view prefix, std::string_view after, int limit) override;
  absl::Status Delete(const BlobName& name) override;

 private:
  struct Chosen {
    std::optional<BlobFault> fault;
    uint64_t random = 0;
  };
  Chosen Choose(BlobOperation operation, std::string_view name);

  BlobStore& inner_;
  mutable absl::Mutex mu_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mu_);
  std::vector<ScriptedBlobFault> script_ ABSL_GUARDED_BY(mu_);
  struct BadSector {
    std::string name;
    uint64_t offset, bytes;
  };
  std::vector<BadSector> bad_sectors_ ABSL_GUARDED_BY(mu_);
  std::array<int, kBlobFaults> per_mille_ ABSL_GUARDED_BY(mu_){};
  std::array<uint64_t, kBlobOperations> operations_ ABSL_GUARDED_BY(mu_){};
  uint64_t faults_injected_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_WRAPPERS_FAULTY_BLOB_STORE_H_
