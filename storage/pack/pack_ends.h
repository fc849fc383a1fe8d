// The two ends of a whole pack, read and written: header, and trailer with footer.
#ifndef HOLDFAST_STORAGE_PACK_PACK_ENDS_H_
#define HOLDFAST_STORAGE_PACK_PACK_ENDS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/io/io.h"
#include "storage/pack/byte_range.h"
#include "storage/pack/pack.h"
#include "storage/pack/pack_layout.h"

namespace holdfast {

// A trailer and what it was sealed with.
struct OpenedPack {
  PackHeader header;
  std::vector<PackEntry> entries;
};

// Trailer and footer of a whole pack. DATA_LOSS: damaged or not there. PERMISSION_DENIED: undamaged, but of another
// key. FAILED_PRECONDITION: a version of the future.
absl::StatusOr<OpenedPack> OpenTrailer(const ReadRange& read, uint64_t bytes, const CatalogKey& key);

// Appends trailer and footer and makes the file durable. `summary.bytes` is where the frames end; then the whole size.
absl::Status FinishPackFile(Io io, File& file, const std::string& path, const PackSealer& sealer,
                            std::string_view header_bytes, PackSummary& summary);

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_PACK_ENDS_H_
