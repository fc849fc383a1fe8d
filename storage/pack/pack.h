// Packs: immutable blobs of chunk records (docs/format.md, section 9). A pack is written as a local spool file, made
// durable by Sync (barriers) or Finish, and then put into the storage, which may take the file by rename.
// The server holds the catalog key only; bodies stay sealed.
#ifndef HOLDFAST_STORAGE_PACK_PACK_H_
#define HOLDFAST_STORAGE_PACK_PACK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/format/record.h"
#include "core/io/io.h"
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

// What a spool file's name (without its directory) says; nullopt for a file that is none of PackWriter's, such as what
// RecoverSpoolFile has set aside.
std::optional<std::pair<PackKind, PackId>> ParseSpoolFileName(std::string_view name);

// One thread at a time. The destructor closes the file and leaves it in the spool (it may hold what a client was told
// is durable).
class PackWriter {
 public:
  // Creates the spool file `spool_directory`/<pack id hex>.<d|t>.
  static absl::StatusOr<std::unique_ptr<PackWriter>> Create(Io io, std::string spool_directory, PackKind kind,
                                                            const CatalogKey& key);
  ~PackWriter();
  // `header_bytes` is the encoded header; the body comes in parts of together header.sealed_length bytes. Hashes the
  // body, seals the header, appends; the body is not copied. After an error of the file the writer is broken and says
  // so at every later call. A record that does not fit its header or this pack is INVALID_ARGUMENT, a pack at its
  // limits RESOURCE_EXHAUSTED: both leave the writer as it was.
  absl::StatusOr<PackEntry> Append(const RecordHeader& header, std::string_view header_bytes,
                                   absl::Span<const std::string_view> body);
  absl::Status Sync();  // everything appended so far survives power loss
  // Writes trailer and footer, fsyncs file and directory, closes. The writer is done.
  absl::StatusOr<PackSummary> Finish();
  uint64_t bytes() const;
  uint32_t record_count() const;
  bool IsFull() const;  // reached the target size or the record limit
  const PackId& id() const;
  PackKind kind() const;
  const std::string& spool_path() const;
  // For records that are still in the spool. Thread-safe beside Append.
  absl::Status ReadBody(uint64_t offset, absl::Span<char> out) const;

 private:
  struct Impl;
  explicit PackWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A spool file left by a crash: cuts it behind its last good record and finishes it as Finish would; a file that is
// already finished is only checked. nullopt: nothing in it was worth keeping, the file was removed. Reads all of it.
// What cannot have come from a crash is kept: a whole first record that this key does not open is set aside as
// <path>.unreadable (nullopt, and so is every later call for that name); a finished file that it does not open is
// PERMISSION_DENIED, an unknown version FAILED_PRECONDITION.
absl::StatusOr<std::optional<PackSummary>> RecoverSpoolFile(Io io, std::string_view path, const CatalogKey& key);

// Puts a finished spool file under its name. OK when it is there afterwards (also if it already was).
absl::Status PutPack(BlobStore& store, Io io, std::string_view spool_path, const PackSummary& summary);

// Reads and authenticates the trailer. DATA_LOSS when damaged, NOT_FOUND when missing.
absl::StatusOr<PackSummary> ReadPackTrailer(BlobStore& store, PackKind kind, const PackId& id, uint64_t blob_bytes,
                                            const CatalogKey& key);
// The records of a pack whose trailer is damaged, as far as frames can be read: what is lost is only what was damaged.
// Every body it returns was read and has its digest. Reads the whole blob. DATA_LOSS when the pack's header is damaged
// (without the salt no frame opens).
absl::StatusOr<PackSummary> SalvagePack(BlobStore& store, PackKind kind, const PackId& id, uint64_t blob_bytes,
                                        const CatalogKey& key);
// Reads the whole blob and compares every frame and body with the summary (from ReadPackTrailer): DATA_LOSS names the
// records that are damaged. For scrubs and before a copy.
absl::Status VerifyPack(BlobStore& store, const PackSummary& summary, const CatalogKey& key);

// Layout only. A trailer that does not decode is DATA_LOSS.
std::string EncodeTrailer(const std::vector<PackEntry>& entries);
absl::StatusOr<std::vector<PackEntry>> DecodeTrailer(std::string_view trailer, uint32_t record_count);

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_PACK_H_
