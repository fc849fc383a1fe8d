// What a slot of the repository log says (docs/format.md, section 11), and its sealed form. No I/O.
#ifndef HOLDFAST_SERVER_LOG_LOG_RECORD_H_
#define HOLDFAST_SERVER_LOG_LOG_RECORD_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "storage/blob_store.h"
#include "storage/pack/pack.h"

namespace holdfast {

inline constexpr uint32_t kLogSlotBytesMax = 16u << 20;
inline constexpr uint64_t kLogSlotNumberMax = uint64_t{1} << 40;

// A server took the repository over (every open writes one).
struct TakeoverRecord {
  uint64_t epoch = 0;
  std::string server_id;  // who: for people and reports, no meaning
  bool operator==(const TakeoverRecord&) const = default;
};
// The commit point of a snapshot. The core is carried so that listing reads no manifests.
struct CommittedRecord {
  ManifestId manifest;
  std::string source;     // label
  uint64_t sequence = 0;  // per source
  uint32_t agent = 0;
  std::string session;  // id of the upload session
  std::string core;     // serialized ManifestCore
  bool operator==(const CommittedRecord&) const = default;
};
struct DeletedRecord {
  ManifestId manifest;
  std::string core;  // the stub
  std::string reason;
  std::string actor;
  bool operator==(const DeletedRecord&) const = default;
};
struct UndeletedRecord {
  ManifestId manifest;
  std::string actor;
  bool operator==(const UndeletedRecord&) const = default;
};
struct SessionRevokedRecord {
  std::string session;
  std::string reason;
  bool operator==(const SessionRevokedRecord&) const = default;
};
// These packs are about to be deleted; valid from this slot on.
struct PurgeIntentRecord {
  std::string purge_id;
  std::vector<PackId> packs;
  bool operator==(const PurgeIntentRecord&) const = default;
};
struct CheckpointRecord {
  uint64_t through_slot = 0;  // everything up to here is in the blob
  std::string blob_name;
  Digest digest;
  bool operator==(const CheckpointRecord&) const = default;
};
using LogPayload = std::variant<TakeoverRecord, CommittedRecord, DeletedRecord, UndeletedRecord, SessionRevokedRecord,
                                PurgeIntentRecord, CheckpointRecord>;

struct LogRecord {
  uint64_t slot = 0;          // from 1
  uint64_t server_epoch = 0;  // of the server that wrote it
  Digest previous;            // BLAKE3 of the blob of the slot before; zeros in slot 1 or when that was
                              // unreadable
  absl::Time time;            // repository time: never goes back
  LogPayload payload;
};

BlobName LogSlotBlobName(uint64_t slot);
// nullopt for a name that is not a slot's.
std::optional<uint64_t> ParseLogSlotBlobName(std::string_view name);

// The blob of a slot. `salt` must be fresh randomness. RESOURCE_EXHAUSTED above kLogSlotBytesMax.
absl::StatusOr<std::string> SealLogRecord(const LogRecord& record, const CatalogKey& key,
                                          const std::array<uint8_t, 32>& salt);
// DATA_LOSS when the blob is not intact or not this slot's; FAILED_PRECONDITION when a newer version wrote it.
absl::StatusOr<LogRecord> OpenLogRecord(std::string_view blob, uint64_t slot, const CatalogKey& key);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_LOG_LOG_RECORD_H_
