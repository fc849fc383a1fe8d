// Reading a pack's bytes wherever the pack is: a spool file or a blob.
#ifndef HOLDFAST_STORAGE_PACK_BYTE_RANGE_H_
#define HOLDFAST_STORAGE_PACK_BYTE_RANGE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/types/span.h"
#include "core/base/status.h"
#include "core/io/io.h"
#include "storage/blob_store.h"

namespace holdfast {

// Fills the span from the offset, or fails.
using ReadRange = std::function<absl::Status(uint64_t offset, absl::Span<char> out)>;

// What they read from is borrowed. A file or blob that ends early: OUT_OF_RANGE of a file, DATA_LOSS of a blob.
ReadRange FileRange(File& file);
ReadRange BlobRange(BlobStore& store, const BlobName& name);

absl::StatusOr<std::string> ReadString(const ReadRange& read, uint64_t offset, uint64_t size);

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_BYTE_RANGE_H_
