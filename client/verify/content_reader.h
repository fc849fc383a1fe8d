// Reads a file's content out of a snapshot, in order, holes included.
#ifndef HOLDFAST_CLIENT_VERIFY_CONTENT_READER_H_
#define HOLDFAST_CLIENT_VERIFY_CONTENT_READER_H_

#include <functional>
#include <string_view>

#include "core/base/status.h"
#include "core/tree/entry.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {

// Calls `write` with the file's bytes in order. `entry` is a file with its side chunks resolved. DATA_LOSS when the
// content is damaged or contradicts the size; errors of `write`. Memory: about 16 MiB and one chunk.
absl::Status ReadContent(const SnapshotReader& snapshot, const Entry& entry,
                         const std::function<absl::Status(std::string_view bytes)>& write);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_VERIFY_CONTENT_READER_H_
