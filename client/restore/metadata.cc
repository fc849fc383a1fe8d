#include "client/restore/metadata.h"

#include <algorithm>

namespace holdfast {

bool GivesRights(const Metadata& m) {
  if ((m.mode & 06000) != 0) return true;
  if (m.xattrs == nullptr) return false;
  return std::any_of(m.xattrs->begin(), m.xattrs->end(),
                     [](const Xattr& x) { return x.name == "security.capability"; });
}

uint32_t ModeFor(const Metadata& m, uint32_t uid, uint32_t gid) {
  uint32_t mode = m.mode & 07777;
  if (uid != m.uid) mode &= ~04000u;
  if (gid != m.gid) mode &= ~02000u;
  return mode;
}

uint64_t AttributeBytes(const Entry& entry) {
  uint64_t bytes = 0;
  for (const Xattr& x : entry.xattrs) bytes += x.name.size() + x.value.size();
  return bytes;
}

Metadata MetadataMaker::For(const Entry& entry) {
  Metadata m;
  m.mode = entry.mode & 07777;
  m.uid = entry.uid;
  m.gid = entry.gid;
  m.mtime = entry.mtime;
  if (by_name_) {
    if (!entry.owner_name.empty()) m.uid = names_.UserId(entry.owner_name).value_or(entry.uid);
    if (!entry.group_name.empty()) m.gid = names_.GroupId(entry.group_name).value_or(entry.gid);
  }
  if (xattrs_ && !entry.xattrs.empty()) m.xattrs = std::make_unique<std::vector<Xattr>>(entry.xattrs);
  return m;
}

}  // namespace holdfast
