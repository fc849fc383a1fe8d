// Chunk record header and body prefix (docs/format.md, section 5). Layout only: no I/O, no cryptography.
#ifndef HOLDFAST_CORE_FORMAT_RECORD_H_
#define HOLDFAST_CORE_FORMAT_RECORD_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/limits.h"
#include "core/base/status.h"
#include "core/format/chunk.h"

namespace holdfast {

enum class Codec : uint8_t { kNone = 0, kZstd = 1 };

inline constexpr size_t kRecordHeaderFixedBytes = 52;
inline constexpr size_t kRecordIdAt = 20;        // where the id is in the fixed part
inline constexpr size_t kBodyPrefixBytes = 9;    // codec, plaintext length, padding length
inline constexpr uint32_t kSealedBytesMin = 37;  // nonce + prefix + tag

struct RecordHeader {
  ChunkType type = ChunkType::kData;
  uint8_t aead = 0;
  uint32_t epoch = 0;
  uint32_t uploader = 0;       // agent number
  uint32_t sealed_length = 0;  // bytes of the sealed body that follows
  ChunkId id;
  std::vector<ChunkId> children;  // strictly ascending

  size_t encoded_size() const { return kRecordHeaderFixedBytes + 32 * children.size(); }
};

// Writes encoded_size() bytes to `out`.
void EncodeRecordHeader(const RecordHeader& header, char* out);
std::string EncodeRecordHeader(const RecordHeader& header);
// The size of the whole header from its first 52 bytes; INVALID_ARGUMENT when these are nonsense.
absl::StatusOr<size_t> RecordHeaderSize(std::string_view first_52_bytes);
// `in` is exactly one header. INVALID_ARGUMENT names what is wrong. All rules of the specification are checked.
absl::StatusOr<RecordHeader> DecodeRecordHeader(std::string_view in);

struct BodyPrefix {
  Codec codec = Codec::kNone;
  uint32_t plaintext_length = 0;
  uint32_t padding_length = 0;
};
void EncodeBodyPrefix(const BodyPrefix& prefix, char out[kBodyPrefixBytes]);
absl::StatusOr<BodyPrefix> DecodeBodyPrefix(std::string_view body);  // checks limits against body.size()

// Padme: how many zero bytes to add to a body of `length` bytes (Nikitin et al., PETS 2019).
uint32_t PadmePadding(uint32_t length);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_FORMAT_RECORD_H_
