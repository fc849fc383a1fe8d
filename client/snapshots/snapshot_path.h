// SNAPSHOT[:PATH] as given on a command line. Pure.
#ifndef HOLDFAST_CLIENT_SNAPSHOTS_SNAPSHOT_PATH_H_
#define HOLDFAST_CLIENT_SNAPSHOTS_SNAPSHOT_PATH_H_

#include <string>

#include "core/tree/entry.h"

namespace holdfast {

struct SnapshotPath {
  std::string snapshot;
  Components path;
};
SnapshotPath ParseSnapshotPath(const std::string& text);
std::string JoinComponents(const Components& path);  // with '/', no '/' in front

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SNAPSHOTS_SNAPSHOT_PATH_H_
