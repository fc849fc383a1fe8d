// KvStore in memory: for tests, simulation and repositories too small to deserve files. Nothing
// survives destruction.
#ifndef HOLDFAST_SERVER_INDEX_MEMORY_KV_STORE_H_
#define HOLDFAST_SERVER_INDEX_MEMORY_KV_STORE_H_

#include <map>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/index/kv_store.h"

namespace holdfast {

class MemoryKvStore : public KvStore {
 public:
  absl::StatusOr<std::optional<std::string>> Get(std::string_view key) override;
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) override;
  absl::Status Write(const KvBatch& batch) override;
  absl::Status Scan(std::string_view prefix, std::string_view from, const Visitor& visit) override;
  absl::Status Flush() override;
  uint64_t ApproximateMemory() override;

  // Every Write and Flush fails with this from now on, as a broken disk would (OK: heals, as reopening would).
  void FailWrites(absl::Status status);

 private:
  absl::Mutex mu_;
  std::map<std::string, std::string, std::less<>> map_ ABSL_GUARDED_BY(mu_);
  uint64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_INDEX_MEMORY_KV_STORE_H_
