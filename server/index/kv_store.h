// KvStore: an ordered map of byte strings, the port below the chunk index. Implementations: rocks_kv_store.h (on disk),
// memory_kv_store.h. Thread-safe. What it holds is disposable: a crash may lose the newest batches, but never a part of
// a batch, and never an older batch while a newer one survives. Flush() makes everything written so far survive.
//
// Errors: DATA_LOSS = the stored bytes are damaged: destroy it and rebuild; RESOURCE_EXHAUSTED = disk full; UNAVAILABLE
// = the rest. After a failed Write or Flush every later Write and Flush fails with the same status until the store is
// opened again (reads go on).
#ifndef HOLDFAST_SERVER_INDEX_KV_STORE_H_
#define HOLDFAST_SERVER_INDEX_KV_STORE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "core/base/status.h"

namespace holdfast {

inline constexpr size_t kKvKeyBytesMax = 1024;
inline constexpr size_t kKvValueBytesMax = 64u << 20;

// Puts and deletes that happen together. A later operation on the same key wins. Deleting an absent key is fine.
class KvBatch {
 public:
  struct Operation {
    std::string key;
    std::optional<std::string> value;  // nullopt = delete
  };
  void Put(std::string_view key, std::string value) { operations_.push_back({std::string(key), std::move(value)}); }
  void Delete(std::string_view key) { operations_.push_back({std::string(key), std::nullopt}); }
  bool empty() const { return operations_.empty(); }
  const std::vector<Operation>& operations() const { return operations_; }

 private:
  std::vector<Operation> operations_;
};

// INVALID_ARGUMENT when a key or value is above the limits. For implementations.
inline absl::Status CheckKvLimits(const KvBatch& batch) {
  for (const KvBatch::Operation& op : batch.operations()) {
    if (op.key.size() > kKvKeyBytesMax) return absl::InvalidArgumentError("index key is too long");
    if (op.value.has_value() && op.value->size() > kKvValueBytesMax) {
      return absl::InvalidArgumentError("index value is too long");
    }
  }
  return absl::OkStatus();
}

class KvStore {
 public:
  // Returns false to end the scan. Must not write to the store.
  using Visitor = std::function<bool(std::string_view key, std::string_view value)>;

  virtual ~KvStore() = default;
  // nullopt when absent.
  virtual absl::StatusOr<std::optional<std::string>> Get(std::string_view key) = 0;
  // One answer per key, in order. Cheaper than as many Gets; keys in byte order are cheapest.
  virtual absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) = 0;
  // All or nothing. INVALID_ARGUMENT for a key or value above the limits.
  virtual absl::Status Write(const KvBatch& batch) = 0;
  // In byte order: the keys that start with `prefix` and are >= `from` (empty: from the start).
  // Sees the state at the call.
  virtual absl::Status Scan(std::string_view prefix, std::string_view from, const Visitor& visit) = 0;
  virtual absl::Status Flush() = 0;
  // Bytes of RAM in use, about.
  virtual uint64_t ApproximateMemory() = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_INDEX_KV_STORE_H_
