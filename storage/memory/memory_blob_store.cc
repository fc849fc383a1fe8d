#include "storage/memory/memory_blob_store.h"

#include <algorithm>
#include <cstring>

namespace holdfast {

Capabilities MemoryBlobStore::capabilities() const {
  Capabilities c;
  c.put_if_absent = true;
  c.max_blob_bytes = capacity_bytes_;
  return c;
}

absl::Status MemoryBlobStore::Put(const BlobName& name, BlobSource& source, PutMode mode) {
  std::string bytes(source.size(), '\0');
  RETURN_IF_ERROR(source.ReadAt(0, absl::MakeSpan(bytes)));
  absl::MutexLock lock(&mu_);
  auto it = blobs_.find(name.str());
  uint64_t freed = 0;
  if (it != blobs_.end()) {
    if (mode == PutMode::kIfAbsent) return absl::AlreadyExistsError(name.str());
    freed = it->second->size();
  }
  if (bytes.size() > capacity_bytes_ - (used_bytes_ - freed)) {
    return absl::ResourceExhaustedError(absl::StrCat("put ", name.str(), ": the store is full"));
  }
  used_bytes_ = used_bytes_ - freed + bytes.size();
  blobs_[name.str()] = std::make_shared<const std::string>(std::move(bytes));
  return absl::OkStatus();
}

absl::StatusOr<MemoryBlobStore::Bytes> MemoryBlobStore::Find(const BlobName& name) {
  absl::MutexLock lock(&mu_);
  auto it = blobs_.find(name.str());
  if (it == blobs_.end()) return absl::NotFoundError(name.str());
  return it->second;
}

absl::Status MemoryBlobStore::Get(const BlobName& name, uint64_t offset, absl::Span<char> out) {
  ASSIGN_OR_RETURN(Bytes bytes, Find(name));
  RETURN_IF_ERROR(CheckRange(name, bytes->size(), offset, out.size()));
  if (!out.empty()) std::memcpy(out.data(), bytes->data() + offset, out.size());
  return absl::OkStatus();
}

absl::StatusOr<BlobInfo> MemoryBlobStore::Stat(const BlobName& name) {
  ASSIGN_OR_RETURN(Bytes bytes, Find(name));
  return BlobInfo{name.str(), bytes->size()};
}

absl::StatusOr<std::vector<BlobInfo>> MemoryBlobStore::List(std::string_view prefix, std::string_view after,
                                                            int limit) {
  RETURN_IF_ERROR(CheckListArguments(prefix, limit));
  std::vector<BlobInfo> out;
  absl::MutexLock lock(&mu_);
  auto it = after < prefix ? blobs_.lower_bound(prefix) : blobs_.upper_bound(after);
  for (; it != blobs_.end() && it->first.starts_with(prefix); ++it) {
    if (out.size() == static_cast<size_t>(limit)) break;
    out.push_back({it->first, it->second->size()});
  }
  return out;
}

absl::Status MemoryBlobStore::Delete(const BlobName& name) {
  absl::MutexLock lock(&mu_);
  auto it = blobs_.find(name.str());
  if (it == blobs_.end()) return absl::OkStatus();
  used_bytes_ -= it->second->size();
  blobs_.erase(it);
  return absl::OkStatus();
}

}  // namespace holdfast
