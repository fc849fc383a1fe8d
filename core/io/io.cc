#include "core/io/io.h"

#include <algorithm>

#include "core/base/ids.h"

namespace holdfast {

std::string ParentDirectory(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  while (slash > 0 && path[slash - 1] == '/') --slash;
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

absl::StatusOr<std::string> ReadWholeFile(Files& files, std::string_view path, uint64_t max_bytes) {
  ASSIGN_OR_RETURN(auto file, files.Open(path, OpenMode::kRead));
  ASSIGN_OR_RETURN(uint64_t size, file->Size());
  // One byte more than it should have: a file that grows (or has no size, as in /proc) is read to its end.
  std::string out;
  uint64_t want = std::min(std::max<uint64_t>(size, 4095), max_bytes) + 1;
  while (true) {
    size_t start = out.size();
    out.resize(want);
    ASSIGN_OR_RETURN(size_t n, file->ReadAt(start, absl::MakeSpan(out.data() + start, out.size() - start)));
    bool at_end = start + n < want;
    out.resize(start + n);
    if (out.size() > max_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("read ", AbslView(path), ": larger than ", max_bytes, " bytes"));
    }
    if (at_end) return out;
    want = std::min(want * 2, max_bytes + 1);
  }
}

absl::Status WriteFileAtomically(const Io& io, std::string_view path, std::string_view content) {
  uint8_t random[8];
  io.random.Fill(absl::MakeSpan(random));
  std::string temporary =
      absl::StrCat(AbslView(path), ".tmp-", HexEncode({reinterpret_cast<const char*>(random), sizeof(random)}));
  auto write = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto file, io.files.Open(temporary, OpenMode::kCreateNew));
    RETURN_IF_ERROR(file->Append({content}));
    RETURN_IF_ERROR(file->Sync());
    file.reset();
    return io.files.Rename(temporary, path);
  };
  if (absl::Status status = write(); !status.ok()) {
    io.files.Unlink(temporary).IgnoreError();
    return status;
  }
  return io.files.SyncDirectory(ParentDirectory(path));
}

}  // namespace holdfast
