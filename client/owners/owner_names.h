// Names of users and groups in this machine's user database, and the way back: a backup stores names beside numbers,
// and a restore prefers them. Each is asked for once.
#ifndef HOLDFAST_CLIENT_OWNERS_OWNER_NAMES_H_
#define HOLDFAST_CLIENT_OWNERS_OWNER_NAMES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"

namespace holdfast {

// One thread. Memory: what was asked for. The first question for each may be slow (a directory service).
class OwnerNames {
 public:
  // Empty: this machine knows none, or could not find out. At most 255 bytes. Valid as long as this object.
  const std::string& User(uint32_t uid);
  const std::string& Group(uint32_t gid);
  // Nothing: likewise.
  std::optional<uint32_t> UserId(const std::string& name);
  std::optional<uint32_t> GroupId(const std::string& name);

 private:
  absl::flat_hash_map<uint32_t, std::unique_ptr<std::string>> users_, groups_;
  absl::flat_hash_map<std::string, std::optional<uint32_t>> user_ids_, group_ids_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_OWNERS_OWNER_NAMES_H_
