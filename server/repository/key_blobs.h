// Settings, key slots and keyring as numbered generations with copies (docs/format.md, sections 1, 3 and 4). The server
// cannot open them; it keeps them, checks them for damage and hands them out. Thread-safe; blocks on the storage.
#ifndef HOLDFAST_SERVER_REPOSITORY_KEY_BLOBS_H_
#define HOLDFAST_SERVER_REPOSITORY_KEY_BLOBS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "storage/blob_store.h"

namespace holdfast {

enum class KeyBlobKind { kSettings, kSlots, kKeyring };
std::string_view KeyBlobKindName(KeyBlobKind kind);

// By its name, of any kind.
bool IsKeyBlob(std::string_view name);

struct KeyBlob {
  uint64_t generation = 0;
  std::string bytes;
};

// The newest generation that has an intact copy. NOT_FOUND: none was ever written; DATA_LOSS: none is intact. Damaged
// copies and generations that were passed over are named in `warnings`.
absl::StatusOr<KeyBlob> ReadNewestKeyBlob(BlobStore& store, KeyBlobKind kind, std::vector<std::string>* warnings);

// Writes generation `generation` with all its copies, or none, reads them back, then removes generations before the
// previous one. UNAVAILABLE: whether it was written is not known; ABORTED when it is not the newest plus one,
// INVALID_ARGUMENT when the bytes are not intact.
absl::Status PutKeyBlob(BlobStore& store, KeyBlobKind kind, uint64_t generation, std::string_view bytes);

// Puts the copies of the newest generation that are missing, as after a crash between two of them.
absl::Status RestoreKeyBlobCopies(BlobStore& store, KeyBlobKind kind);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_KEY_BLOBS_H_
