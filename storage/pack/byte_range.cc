#include "storage/pack/byte_range.h"

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

absl::Status ReadExactly(File& file, uint64_t offset, absl::Span<char> out) {
  ASSIGN_OR_RETURN(size_t n, file.ReadAt(offset, out));
  if (n != out.size()) return absl::OutOfRangeError("the pack's file is shorter than it was");
  return absl::OkStatus();
}

}  // namespace

ReadRange FileRange(File& file) {
  return [&file](uint64_t offset, absl::Span<char> out) { return ReadExactly(file, offset, out); };
}

ReadRange BlobRange(BlobStore& store, const BlobName& name) {
  return [&store, &name](uint64_t offset, absl::Span<char> out) -> absl::Status {
    absl::Status status = store.Get(name, offset, out);
    if (absl::IsOutOfRange(status))
      return absl::DataLossError(absl::StrCat("the pack is shorter than it was: ", status.message()));
    return status;
  };
}

absl::StatusOr<std::string> ReadString(const ReadRange& read, uint64_t offset, uint64_t size) {
  std::string out(size, '\0');
  RETURN_IF_ERROR(read(offset, absl::MakeSpan(out)));
  return out;
}

}  // namespace holdfast
