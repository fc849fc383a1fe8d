#include "client/snapshots/snapshot_path.h"

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace holdfast {

SnapshotPath ParseSnapshotPath(const std::string& text) {
  SnapshotPath out;
  const size_t colon = text.find(':');
  out.snapshot = text.substr(0, colon);
  if (colon == std::string::npos) return out;
  for (absl::string_view part : absl::StrSplit(absl::string_view(text).substr(colon + 1), '/')) {
    if (!part.empty() && part != ".") out.path.emplace_back(part);
  }
  return out;
}

std::string JoinComponents(const Components& path) {
  std::string out;
  for (const std::string& name : path) {
    if (!out.empty()) out += '/';
    out += name;
  }
  return out;
}

}  // namespace holdfast
