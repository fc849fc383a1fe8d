// Metadata that an object of the target is to have, as this machine counts it.
#ifndef HOLDFAST_CLIENT_RESTORE_METADATA_H_
#define HOLDFAST_CLIENT_RESTORE_METADATA_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "client/owners/owner_names.h"
#include "client/restore/restore_options.h"
#include "core/tree/entry.h"

namespace holdfast {

struct Metadata {
  uint32_t mode = 0;          // 12 bits
  uint32_t uid = 0, gid = 0;  // of this machine
  Timestamp mtime;
  std::unique_ptr<std::vector<Xattr>> xattrs;  // null: none
};

// The file runs with more rights than who starts it: setuid, setgid, capabilities.
bool GivesRights(const Metadata& metadata);

// The mode of something that has this owner in the end: setuid and setgid mean the owner and the group they were made
// for.
uint32_t ModeFor(const Metadata& metadata, uint32_t uid, uint32_t gid);

// What the extended attributes of an entry take in memory.
uint64_t AttributeBytes(const Entry& entry);

// Metadata of entries: owners by name where this machine knows the names, attributes if they are wanted. Asks for each
// name once. One thread.
class MetadataMaker {
 public:
  explicit MetadataMaker(const RestoreOptions& options)
      : by_name_(options.owner && !options.numeric_owner), xattrs_(options.xattrs) {}
  Metadata For(const Entry& entry);

 private:
  const bool by_name_;
  const bool xattrs_;
  OwnerNames names_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_METADATA_H_
