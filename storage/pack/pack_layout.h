// Layout and sealing of a pack's parts (docs/format.md, section 9), for the writer and the reader. No I/O.
#ifndef HOLDFAST_STORAGE_PACK_PACK_LAYOUT_H_
#define HOLDFAST_STORAGE_PACK_PACK_LAYOUT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/crypto/aead.h"
#include "storage/pack/pack.h"

namespace holdfast {

inline constexpr size_t kPackSaltBytes = 32;
inline constexpr size_t kFrameLengthBytes = 4;
inline constexpr size_t kDigestBytes = Digest::kSizeInBytes;
// Sealed frame headers: digest, record header, tag.
inline constexpr uint32_t kSealedFrameHeaderBytesMin = kDigestBytes + kRecordHeaderFixedBytes + kAeadTagSizeInBytes;
inline constexpr uint32_t kSealedFrameHeaderBytesMax = kSealedFrameHeaderBytesMin + 32 * kChunkChildrenMax;

inline size_t SealedFrameHeaderBytes(const RecordHeader& header) {
  return kDigestBytes + header.encoded_size() + kAeadTagSizeInBytes;
}
// Whether a frame's length field can be true.
inline bool IsPlausibleFrameLength(uint32_t length) {
  return length >= kSealedFrameHeaderBytesMin && length <= kSealedFrameHeaderBytesMax &&
         (length - kSealedFrameHeaderBytesMin) % 32 == 0;
}

struct PackHeader {
  PackKind kind = PackKind::kData;
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;
  PackId id;
  std::array<uint8_t, kPackSaltBytes> salt{};
};
std::string EncodePackHeader(const PackHeader& header);
// DATA_LOSS when it is none; FAILED_PRECONDITION for a version or AEAD of the future.
absl::StatusOr<PackHeader> DecodePackHeader(std::string_view bytes);

struct PackFooter {
  uint64_t trailer_offset = 0;
  uint32_t trailer_bytes = 0;  // sealed
  uint32_t record_count = 0;
};
std::string EncodePackFooter(const PackFooter& footer, std::string_view header_bytes, std::string_view sealed_trailer);
// DATA_LOSS unless it is the footer of a pack of `pack_bytes`. Does not check the digest: the trailer is not read yet.
absl::StatusOr<PackFooter> DecodePackFooter(std::string_view bytes, uint64_t pack_bytes);
bool IsPackFooterDigestRight(std::string_view footer_bytes, std::string_view header_bytes,
                             std::string_view sealed_trailer);

// Layout only. A trailer that does not decode is DATA_LOSS.
std::string EncodeTrailer(const std::vector<PackEntry>& entries);
absl::StatusOr<std::vector<PackEntry>> DecodeTrailer(std::string_view trailer, uint32_t record_count);

// The pack key at work. Thread-safe.
class PackSealer {
 public:
  PackSealer(const CatalogKey& key, const PackHeader& header);
  // `buffer` holds a plaintext frame header and then room for the tag. In place.
  void SealFrameHeader(uint64_t frame, absl::Span<char> buffer) const;
  // The digest and the record header; false when it does not open or does not decode.
  bool OpenFrameHeader(uint64_t frame, std::string_view sealed, Digest* digest, RecordHeader* header) const;
  std::string SealTrailer(std::string_view trailer, uint32_t record_count, std::string_view header_bytes) const;
  absl::StatusOr<std::string> OpenTrailer(std::string_view sealed, uint32_t record_count,
                                          std::string_view header_bytes) const;

 private:
  const Aead aead_;
};

// Whether the entries fill the pack exactly from its header to its trailer, and are of its kind: DATA_LOSS otherwise.
absl::Status CheckPackLayout(const std::vector<PackEntry>& entries, PackKind kind, uint64_t trailer_offset);

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_PACK_LAYOUT_H_
