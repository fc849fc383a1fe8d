#include "client/restore/overwrite_decision.h"

#include <sys/sysmacros.h>

#include <algorithm>

namespace holdfast {
namespace {

bool IsSameDevice(const struct stat& st, const Entry& entry) {
  return st.st_rdev == makedev(entry.device_major, entry.device_minor);
}

// As far as can be seen without reading it.
bool HasContentOf(const WhatIsThere& there, const Entry& entry) {
  const struct stat& st = there.st;
  switch (entry.type) {
    case EntryType::kFile:
      // More names than the snapshot knows: metadata set here would be set on something else, too.
      return S_ISREG(st.st_mode) && static_cast<uint64_t>(st.st_size) == entry.size &&
             st.st_mtim.tv_sec == entry.mtime.seconds && st.st_mtim.tv_nsec == static_cast<long>(entry.mtime.nanos) &&
             st.st_nlink <= std::max(entry.link_count, 1u);
    case EntryType::kSymlink:
      return S_ISLNK(st.st_mode) && there.is_same_symlink;
    case EntryType::kFifo:
      return S_ISFIFO(st.st_mode);
    case EntryType::kSocket:
      return S_ISSOCK(st.st_mode);
    case EntryType::kCharDevice:
      return S_ISCHR(st.st_mode) && IsSameDevice(st, entry);
    case EntryType::kBlockDevice:
      return S_ISBLK(st.st_mode) && IsSameDevice(st, entry);
    default:
      return false;
  }
}

}  // namespace

OverwriteDecision DecideOverwrite(OverwriteMode mode, const std::optional<WhatIsThere>& there,
                                  const WhatIsToBe& to_be) {
  if (!there.has_value()) return OverwriteDecision::kCreate;
  const bool is_directory = S_ISDIR(there->st.st_mode);
  switch (mode) {
    case OverwriteMode::kSkip:
      return OverwriteDecision::kSkip;
    case OverwriteMode::kNever:
      return is_directory ? OverwriteDecision::kRefuseDirectory : OverwriteDecision::kRefuse;
    case OverwriteMode::kAlways:
      return is_directory ? OverwriteDecision::kRefuseDirectory : OverwriteDecision::kReplace;
    case OverwriteMode::kIfChanged:
      if (is_directory) return OverwriteDecision::kRefuseDirectory;
      // Whether it is a name of the same object already is quicker made so than found out.
      if (to_be.is_further_name) return OverwriteDecision::kReplace;
      // Rights are given to content that was just written, not to what somebody put there with the same size and time.
      if (to_be.entry.type == EntryType::kFile && to_be.gives_rights) return OverwriteDecision::kReplace;
      return HasContentOf(*there, to_be.entry) ? OverwriteDecision::kOnlySetMetadata : OverwriteDecision::kReplace;
  }
  return OverwriteDecision::kRefuse;
}

}  // namespace holdfast
