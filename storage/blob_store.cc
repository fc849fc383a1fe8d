#include "storage/blob_store.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace holdfast {
namespace {

constexpr size_t kNameBytesMax = 255;

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

// Whether `name` is well formed; with `prefix` set, whether it could be the beginning of such a name.
bool IsWellFormed(std::string_view name, bool prefix) {
  if (name.size() > kNameBytesMax) return false;
  size_t start = 0;
  while (true) {
    size_t end = name.find('/', start);
    bool last = end == std::string_view::npos;
    std::string_view component = name.substr(start, last ? end : end - start);
    for (char c : component) {
      if (!IsNameCharacter(c)) return false;
    }
    if (last && prefix) return true;  // may go on
    if (component.empty() || component == "." || component == "..") return false;
    if (last) return true;
    start = end + 1;
  }
}

}  // namespace

absl::StatusOr<BlobName> BlobName::Parse(std::string_view name) {
  if (!IsWellFormed(name, /*prefix=*/false)) {
    return absl::InvalidArgumentError(absl::StrCat("malformed blob name of ", name.size(), " bytes"));
  }
  return BlobName(std::string(name));
}

BlobName BlobName::FromTrusted(std::string name) {
  if (!IsWellFormed(name, /*prefix=*/false)) {
    std::fprintf(stderr, "holdfast: malformed blob name in our own code: %s\n", name.c_str());
    std::abort();
  }
  return BlobName(std::move(name));
}

absl::Status StringBlobSource::ReadAt(uint64_t offset, absl::Span<char> out) {
  if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
    return absl::OutOfRangeError("range behind the end of the source");
  }
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
  return absl::OkStatus();
}

absl::Status CheckListArguments(std::string_view prefix, int limit) {
  if (limit < 1 || limit > kListLimitMax) {
    return absl::InvalidArgumentError(absl::StrCat("list limit ", limit, " is out of range"));
  }
  if (!IsWellFormed(prefix, /*prefix=*/true)) {
    return absl::InvalidArgumentError("no blob name can begin with this prefix");
  }
  return absl::OkStatus();
}

absl::Status CheckRange(const BlobName& name, uint64_t blob_bytes, uint64_t offset, uint64_t size) {
  if (offset > blob_bytes || size > blob_bytes - offset) {
    return absl::OutOfRangeError(
        absl::StrCat(name.str(), ": ", size, " bytes at ", offset, " end behind the blob of ", blob_bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> GetWholeBlob(BlobStore& store, const BlobName& name, uint64_t max_bytes) {
  ASSIGN_OR_RETURN(BlobInfo info, store.Stat(name));
  if (info.size > max_bytes) {
    return absl::OutOfRangeError(absl::StrCat(name.str(), ": ", info.size, " bytes, larger than ", max_bytes));
  }
  std::string out(info.size, '\0');
  RETURN_IF_ERROR(store.Get(name, 0, absl::MakeSpan(out)));
  return out;
}

absl::Status PutBytes(BlobStore& store, const BlobName& name, std::string_view bytes, PutMode mode) {
  StringBlobSource source(bytes);
  return store.Put(name, source, mode);
}

absl::StatusOr<std::vector<BlobInfo>> ListAll(BlobStore& store, std::string_view prefix) {
  std::vector<BlobInfo> all;
  while (true) {
    ASSIGN_OR_RETURN(auto page, store.List(prefix, all.empty() ? "" : all.back().name, kListLimitMax));
    if (page.empty()) return all;
    bool full = page.size() >= static_cast<size_t>(kListLimitMax);
    all.insert(all.end(), std::make_move_iterator(page.begin()), std::make_move_iterator(page.end()));
    if (!full) return all;
  }
}

}  // namespace holdfast
