// The modes that objects are made with. An object is made before it has its owner, so until then it must be open to
// nobody who may not have it in the end.
#ifndef HOLDFAST_CLIENT_RESTORE_CREATION_MODE_H_
#define HOLDFAST_CLIENT_RESTORE_CREATION_MODE_H_

#include <cstdint>

namespace holdfast {

// Of something whose group changes afterwards: the group it has until then must not get more than others.
constexpr uint32_t ClosedToFirstGroup(uint32_t mode) { return ((mode >> 3) & 7 & ~mode) != 0 ? mode & ~0070u : mode; }

struct FileCreation {
  uint32_t mode = 0;              // in the end
  bool owner_may_stay = false;    // the one it is made with is known to be the one of the snapshot
  bool in_own_directory = false;  // nobody else can reach into the directory, nor put a default ACL on it
  bool xattrs_by_rights = false;  // an ordinary user sets attributes, which the file's mode must allow
};

// The final mode where that is safe, so that most files need no chmod.
constexpr uint32_t FileCreationMode(const FileCreation& file) {
  uint32_t mode = file.mode & 0777;
  // Owners that the snapshot's bits were not meant for.
  if (!file.owner_may_stay) mode = ClosedToFirstGroup(mode);
  if (!file.in_own_directory) mode &= 0700;
  if (file.xattrs_by_rights) mode |= 0600;
  return mode;
}

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_CREATION_MODE_H_
