#include "storage/wrappers/faulty_blob_store.h"

#include <algorithm>
#include <cerrno>

#include "core/io/errno_status.h"

namespace holdfast {
namespace {

absl::Status Injected(BlobFault fault, std::string_view name) {
  if (fault == BlobFault::kNoSpace) {
    return absl::ResourceExhaustedError(absl::StrCat("injected: no space for ", AbslView(name)));
  }
  return absl::UnavailableError(absl::StrCat("injected failure: ", AbslView(name)));
}

bool MeansSomething(BlobFault fault, BlobOperation operation) {
  switch (fault) {
    case BlobFault::kFailBefore:
    case BlobFault::kFailAfter:
    case BlobFault::kLost:
      return true;
    case BlobFault::kNoSpace:
      return operation == BlobOperation::kPut;
    case BlobFault::kShort:
      return operation == BlobOperation::kPut || operation == BlobOperation::kGet || operation == BlobOperation::kList;
    case BlobFault::kCorruptByte:
      return operation == BlobOperation::kPut || operation == BlobOperation::kGet;
  }
  return false;
}

}  // namespace

void FaultyBlobStore::AddFault(ScriptedBlobFault fault) {
  absl::MutexLock lock(&mu_);
  script_.push_back(std::move(fault));
}

void FaultyBlobStore::SetRate(BlobFault fault, int per_mille) {
  absl::MutexLock lock(&mu_);
  per_mille_[static_cast<size_t>(fault)] = per_mille;
}

void FaultyBlobStore::ClearFaults() {
  absl::MutexLock lock(&mu_);
  script_.clear();
  per_mille_.fill(0);
}

uint64_t FaultyBlobStore::faults_injected() const {
  absl::MutexLock lock(&mu_);
  return faults_injected_;
}

uint64_t FaultyBlobStore::operations(BlobOperation operation) const {
  absl::MutexLock lock(&mu_);
  return operations_[static_cast<size_t>(operation)];
}

FaultyBlobStore::Chosen FaultyBlobStore::Choose(BlobOperation operation, std::string_view name) {
  absl::MutexLock lock(&mu_);
  ++operations_[static_cast<size_t>(operation)];
  Chosen chosen;
  chosen.random = random_();
  for (ScriptedBlobFault& f : script_) {
    if (f.operation != operation || !name.starts_with(f.prefix) || f.count == 0) continue;
    if (f.skip > 0) {
      --f.skip;
      continue;
    }
    --f.count;
    chosen.fault = f.fault;
    break;
  }
  for (size_t i = 0; i < kBlobFaults && !chosen.fault.has_value(); ++i) {
    BlobFault fault = static_cast<BlobFault>(i);
    if (per_mille_[i] == 0 || !MeansSomething(fault, operation)) continue;
    if (random_() % 1000 < static_cast<uint64_t>(per_mille_[i])) chosen.fault = fault;
  }
  faults_injected_ += chosen.fault.has_value();
  return chosen;
}

absl::Status FaultyBlobStore::Put(const BlobName& name, BlobSource& source, PutMode mode) {
  Chosen chosen = Choose(BlobOperation::kPut, name.str());
  if (!chosen.fault.has_value()) return inner_.Put(name, source, mode);
  switch (*chosen.fault) {
    case BlobFault::kFailBefore:
    case BlobFault::kNoSpace:
      return Injected(*chosen.fault, name.str());
    case BlobFault::kFailAfter:
      RETURN_IF_ERROR(inner_.Put(name, source, mode));
      return Injected(*chosen.fault, name.str());
    case BlobFault::kLost:
      return absl::OkStatus();
    case BlobFault::kShort:
    case BlobFault::kCorruptByte:
      break;
  }
  std::string bytes(source.size(), '\0');
  RETURN_IF_ERROR(source.ReadAt(0, absl::MakeSpan(bytes)));
  if (!bytes.empty()) {
    size_t at = chosen.random % bytes.size();
    if (*chosen.fault == BlobFault::kShort) {
      bytes.resize(at);
    } else {
      bytes[at] ^= static_cast<char>(1u << (chosen.random >> 61));
    }
  }
  return PutBytes(inner_, name, bytes, mode);
}

void FaultyBlobStore::AddBadSector(std::string_view name, uint64_t offset, uint64_t bytes) {
  absl::MutexLock lock(&mu_);
  bad_sectors_.push_back({std::string(name), offset, bytes});
}

absl::Status FaultyBlobStore::Get(const BlobName& name, uint64_t offset, absl::Span<char> out) {
  {
    absl::MutexLock lock(&mu_);
    for (const BadSector& bad : bad_sectors_) {
      if (bad.name == name.str() && offset < bad.offset + bad.bytes && offset + out.size() > bad.offset) {
        return ErrnoStatus(EIO, "reading", name.str());
      }
    }
  }
  Chosen chosen = Choose(BlobOperation::kGet, name.str());
  if (!chosen.fault.has_value()) return inner_.Get(name, offset, out);
  switch (*chosen.fault) {
    case BlobFault::kFailBefore:
    case BlobFault::kFailAfter:
    case BlobFault::kNoSpace:
      return Injected(BlobFault::kFailBefore, name.str());
    case BlobFault::kLost:
      return absl::NotFoundError(name.str());
    case BlobFault::kShort:
    case BlobFault::kCorruptByte:
      break;
  }
  RETURN_IF_ERROR(inner_.Get(name, offset, out));
  if (out.empty()) return absl::OkStatus();
  size_t at = chosen.random % out.size();
  if (*chosen.fault == BlobFault::kShort) {
    std::fill(out.begin() + at, out.end(), '\0');
  } else {
    out[at] ^= static_cast<char>(1u << (chosen.random >> 61));
  }
  return absl::OkStatus();
}

absl::StatusOr<BlobInfo> FaultyBlobStore::Stat(const BlobName& name) {
  Chosen chosen = Choose(BlobOperation::kStat, name.str());
  if (!chosen.fault.has_value()) return inner_.Stat(name);
  if (*chosen.fault == BlobFault::kLost) return absl::NotFoundError(name.str());
  return Injected(BlobFault::kFailBefore, name.str());
}

absl::StatusOr<std::vector<BlobInfo>> FaultyBlobStore::List(std::string_view prefix, std::string_view after,
                                                            int limit) {
  Chosen chosen = Choose(BlobOperation::kList, prefix);
  if (!chosen.fault.has_value()) return inner_.List(prefix, after, limit);
  if (*chosen.fault == BlobFault::kLost) return std::vector<BlobInfo>();
  if (*chosen.fault != BlobFault::kShort) return Injected(BlobFault::kFailBefore, prefix);
  ASSIGN_OR_RETURN(auto page, inner_.List(prefix, after, limit));
  if (!page.empty()) page.erase(page.begin() + static_cast<ptrdiff_t>(chosen.random % page.size()));
  return page;
}

absl::Status FaultyBlobStore::Delete(const BlobName& name) {
  Chosen chosen = Choose(BlobOperation::kDelete, name.str());
  if (!chosen.fault.has_value()) return inner_.Delete(name);
  if (*chosen.fault == BlobFault::kLost) return absl::OkStatus();
  if (*chosen.fault == BlobFault::kFailAfter) RETURN_IF_ERROR(inner_.Delete(name));
  return Injected(BlobFault::kFailBefore, name.str());
}

}  // namespace holdfast
