#include "server/index/memory_kv_store.h"

#include <algorithm>

namespace holdfast {
namespace {

// What std::map costs per entry beside the bytes, about.
constexpr uint64_t kEntryOverheadBytes = 112;

}  // namespace

absl::StatusOr<std::optional<std::string>> MemoryKvStore::Get(std::string_view key) {
  absl::ReaderMutexLock lock(&mu_);
  auto it = map_.find(key);
  if (it == map_.end()) return std::optional<std::string>();
  return std::optional<std::string>(it->second);
}

absl::StatusOr<std::vector<std::optional<std::string>>> MemoryKvStore::MultiGet(absl::Span<const std::string> keys) {
  absl::ReaderMutexLock lock(&mu_);
  std::vector<std::optional<std::string>> out(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    auto it = map_.find(keys[i]);
    if (it != map_.end()) out[i] = it->second;
  }
  return out;
}

absl::Status MemoryKvStore::Write(const KvBatch& batch) {
  RETURN_IF_ERROR(CheckKvLimits(batch));
  absl::MutexLock lock(&mu_);
  if (!failure_.ok()) return failure_;
  for (const KvBatch::Operation& op : batch.operations()) {
    auto it = map_.find(op.key);
    if (it != map_.end()) {
      bytes_ -= it->first.size() + it->second.size() + kEntryOverheadBytes;
      map_.erase(it);
    }
    if (!op.value.has_value()) continue;
    map_.emplace(op.key, *op.value);
    bytes_ += op.key.size() + op.value->size() + kEntryOverheadBytes;
  }
  return absl::OkStatus();
}

absl::Status MemoryKvStore::Scan(std::string_view prefix, std::string_view from, const Visitor& visit) {
  // A copy, so that the visitor sees the state at the call and may read the store.
  std::vector<std::pair<std::string, std::string>> found;
  {
    absl::ReaderMutexLock lock(&mu_);
    for (auto it = map_.lower_bound(std::max(prefix, from));
         it != map_.end() && std::string_view(it->first).substr(0, prefix.size()) == prefix; ++it) {
      found.emplace_back(*it);
    }
  }
  for (const auto& [key, value] : found) {
    if (!visit(key, value)) break;
  }
  return absl::OkStatus();
}

absl::Status MemoryKvStore::Flush() {
  absl::ReaderMutexLock lock(&mu_);
  return failure_;
}

uint64_t MemoryKvStore::ApproximateMemory() {
  absl::ReaderMutexLock lock(&mu_);
  return bytes_;
}

void MemoryKvStore::FailWrites(absl::Status status) {
  absl::MutexLock lock(&mu_);
  failure_ = std::move(status);
}

}  // namespace holdfast
