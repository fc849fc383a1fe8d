// What a pack is (docs/format.md, section 9): an immutable blob of chunk records. Its names and limits, and what is
// known of one that was written or read. The server holds the catalog key only; bodies stay sealed.
#ifndef HOLDFAST_STORAGE_PACK_PACK_H_
#define HOLDFAST_STORAGE_PACK_PACK_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/format/record.h"
#include "storage/blob_store.h"

namespace holdfast {

inline constexpr uint64_t kPackBytesTarget = 64u << 20;
inline constexpr uint32_t kPackRecordsMax = 65536;
inline constexpr uint64_t kPackTrailerBytesTarget = 32u << 20;
inline constexpr uint64_t kPackBytesMax =
    2 * kPackBytesTarget;  // frames and trailer; Append refuses what would pass it
inline constexpr uint64_t kPackHeaderBytes = 64;
inline constexpr uint64_t kPackFooterBytes = 64;

enum class PackKind : uint8_t { kData = 1, kTree = 2 };

// What every catalog object of a repository is sealed with.
struct CatalogKey {
  RepositoryId repository;
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;
  Key256 key;
};

struct PackEntry {
  uint32_t frame_number = 0;  // not the ordinal in a list where records are lost
  uint64_t body_offset = 0;   // of the sealed body in the blob
  Digest digest;              // BLAKE3 of the sealed body
  RecordHeader header;
};

struct PackSummary {
  PackId id;
  PackKind kind = PackKind::kData;
  uint64_t bytes = 0;
  std::vector<PackEntry> entries;
};

BlobName PackBlobName(PackKind kind, const PackId& id);
// Both ways; nullopt for a name that is not a pack's.
std::optional<std::pair<PackKind, PackId>> ParsePackBlobName(std::string_view name);

std::string SpoolFileName(PackKind kind, const PackId& id);
// What a spool file's name (without its directory) says; nullopt for a file that is none of PackWriter's, such as what
// RecoverSpoolFile has set aside.
std::optional<std::pair<PackKind, PackId>> ParseSpoolFileName(std::string_view name);

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_PACK_H_
