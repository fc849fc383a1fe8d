#include "client/owners/owner_names.h"

#include <grp.h>
#include <pwd.h>

#include <cerrno>
#include <cstddef>
#include <vector>

namespace holdfast {
namespace {

constexpr size_t kNameBytesKeptMax = 255;

// Calls ask(buffer, size), which returns an errno, with more room until it is enough: a group comes with the names of
// all its members.
template <typename Ask>
void WithRoom(Ask ask) {
  constexpr size_t kRecordBytesMax = 8u << 20;
  int error = ERANGE;
  for (size_t size = 16384; error == ERANGE && size <= kRecordBytesMax; size *= 4) {
    std::vector<char> buffer(size);
    error = ask(buffer.data(), buffer.size());
  }
}

std::string NameOfUser(uint32_t uid) {
  std::string name;
  WithRoom([&](char* buffer, size_t size) {
    passwd entry{}, *found = nullptr;
    const int error = ::getpwuid_r(uid, &entry, buffer, size, &found);
    if (error == 0 && found != nullptr) name = found->pw_name;
    return error;
  });
  return name;
}

std::string NameOfGroup(uint32_t gid) {
  std::string name;
  WithRoom([&](char* buffer, size_t size) {
    group entry{}, *found = nullptr;
    const int error = ::getgrgid_r(gid, &entry, buffer, size, &found);
    if (error == 0 && found != nullptr) name = found->gr_name;
    return error;
  });
  return name;
}

std::optional<uint32_t> IdOfUser(const std::string& name) {
  std::optional<uint32_t> id;
  WithRoom([&](char* buffer, size_t size) {
    passwd entry{}, *found = nullptr;
    const int error = ::getpwnam_r(name.c_str(), &entry, buffer, size, &found);
    if (error == 0 && found != nullptr) id = found->pw_uid;
    return error;
  });
  return id;
}

std::optional<uint32_t> IdOfGroup(const std::string& name) {
  std::optional<uint32_t> id;
  WithRoom([&](char* buffer, size_t size) {
    group entry{}, *found = nullptr;
    const int error = ::getgrnam_r(name.c_str(), &entry, buffer, size, &found);
    if (error == 0 && found != nullptr) id = found->gr_gid;
    return error;
  });
  return id;
}

template <typename Map, typename Ask>
const std::string& NameIn(Map& names, uint32_t id, Ask ask) {
  std::unique_ptr<std::string>& name = names[id];
  if (!name) {
    name = std::make_unique<std::string>(ask(id));
    if (name->size() > kNameBytesKeptMax) name->resize(kNameBytesKeptMax);
  }
  return *name;
}

template <typename Map, typename Ask>
std::optional<uint32_t> IdIn(Map& ids, const std::string& name, Ask ask) {
  auto it = ids.find(name);
  if (it == ids.end()) it = ids.emplace(name, ask(name)).first;
  return it->second;
}

}  // namespace

const std::string& OwnerNames::User(uint32_t uid) { return NameIn(users_, uid, NameOfUser); }
const std::string& OwnerNames::Group(uint32_t gid) { return NameIn(groups_, gid, NameOfGroup); }
std::optional<uint32_t> OwnerNames::UserId(const std::string& name) { return IdIn(user_ids_, name, IdOfUser); }
std::optional<uint32_t> OwnerNames::GroupId(const std::string& name) { return IdIn(group_ids_, name, IdOfGroup); }

}  // namespace holdfast
