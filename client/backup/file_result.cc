#include "client/backup/file_result.h"

#include <cerrno>
#include <utility>

namespace holdfast {

void KeepXattrs(FileResult& result, std::vector<Xattr> xattrs) {
  size_t bytes = 0;
  for (const Xattr& x : xattrs) bytes += x.name.size() + x.value.size();
  result.has_large_xattrs = bytes > kXattrBytesKeptMax;
  if (!result.has_large_xattrs) result.xattrs = std::move(xattrs);
}

void SetSourceFailure(FileResult& result, const SourceDirectory& directory, std::string_view name,
                      std::string_view operation, const absl::Status& status) {
  const int error = SourceErrno(status);
  if (absl::IsNotFound(status) || error == ENOENT) {
    result.outcome = FileResult::Outcome::kVanished;
    return;
  }
  result.outcome = FileResult::Outcome::kFailed;
  result.flags |= kEntryReadFailed;
  result.size = 0;
  result.content = Content();
  result.holes.clear();
  result.error.path = directory.RelativePath(name);
  result.error.operation = std::string(operation);
  result.error.error_number = error != 0 ? error : EIO;
}

}  // namespace holdfast
