#include "client/restore/metadata.h"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <cerrno>

namespace holdfast {
namespace {

int64_t UserNumber(const std::string& name) {
  char buffer[4096];
  struct passwd record, *found = nullptr;
  if (::getpwnam_r(name.c_str(), &record, buffer, sizeof(buffer), &found) != 0 || found == nullptr) return -1;
  return record.pw_uid;
}

int64_t GroupNumber(const std::string& name) {
  char buffer[4096];
  std::string large;
  struct group record, *found = nullptr;
  int error = ::getgrnam_r(name.c_str(), &record, buffer, sizeof(buffer), &found);
  if (error == ERANGE) {  // a group of many members
    large.resize(1 << 20);
    error = ::getgrnam_r(name.c_str(), &record, large.data(), large.size(), &found);
  }
  return error == 0 && found != nullptr ? static_cast<int64_t>(record.gr_gid) : -1;
}

}  // namespace

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
    if (!entry.owner_name.empty()) {
      auto [it, is_new] = users_.try_emplace(entry.owner_name, -1);
      if (is_new) it->second = UserNumber(entry.owner_name);
      if (it->second >= 0) m.uid = static_cast<uint32_t>(it->second);
    }
    if (!entry.group_name.empty()) {
      auto [it, is_new] = groups_.try_emplace(entry.group_name, -1);
      if (is_new) it->second = GroupNumber(entry.group_name);
      if (it->second >= 0) m.gid = static_cast<uint32_t>(it->second);
    }
  }
  if (xattrs_ && !entry.xattrs.empty()) m.xattrs = std::make_unique<std::vector<Xattr>>(entry.xattrs);
  return m;
}

}  // namespace holdfast
