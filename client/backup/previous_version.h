// The chunks of a file's previous version, as hints for cutting the file as it is now.
#ifndef HOLDFAST_CLIENT_BACKUP_PREVIOUS_VERSION_H_
#define HOLDFAST_CLIENT_BACKUP_PREVIOUS_VERSION_H_

#include <vector>

#include "core/chunking/hints.h"
#include "core/format/chunk.h"

namespace holdfast {

struct PreviousVersion {
  std::vector<PreviousPiece> pieces;
  std::vector<ChunkRef> refs;  // of the pieces
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_PREVIOUS_VERSION_H_
