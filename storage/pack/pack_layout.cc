#include "storage/pack/pack_layout.h"

#include <cstring>

#include "core/base/codec.h"
#include "core/crypto/blake3.h"
#include "core/keys/catalog_key.h"

namespace holdfast {
namespace {

// Persistent: docs/format.md, section 9.
constexpr std::string_view kHeaderMagic("HFPACK1\0", 8);
constexpr std::string_view kFooterMagic("HFPEND1\0", 8);
constexpr uint8_t kPackVersion = 1;
constexpr uint32_t kFrameNonces = 0;
constexpr uint32_t kTrailerNonces = 1;
constexpr size_t kFooterDigestedBytes = kPackFooterBytes - kDigestBytes;

AeadNonce MakeNonce(uint32_t space, uint64_t counter) {
  AeadNonce nonce;
  std::memcpy(nonce.data(), &space, sizeof(space));
  std::memcpy(nonce.data() + sizeof(space), &counter, sizeof(counter));
  return nonce;
}

std::string_view View(const std::array<uint8_t, kPackSaltBytes>& salt) {
  return {reinterpret_cast<const char*>(salt.data()), salt.size()};
}

Key256 PackKey(const CatalogKey& key, const PackHeader& header) {
  return DerivePackKey(key.key, View(header.salt), key.repository, header.id, static_cast<uint8_t>(header.kind));
}

Digest FooterDigest(std::string_view footer_bytes, std::string_view header_bytes, std::string_view sealed_trailer) {
  Blake3 hash;
  hash.Update(header_bytes).Update(sealed_trailer).Update(footer_bytes.substr(0, kFooterDigestedBytes));
  return hash.Finish();
}

}  // namespace

std::string EncodePackHeader(const PackHeader& header) {
  std::string out;
  ByteWriter w(&out);
  w.Bytes(kHeaderMagic);
  w.U8(kPackVersion);
  w.U8(static_cast<uint8_t>(header.kind));
  w.U8(static_cast<uint8_t>(header.aead));
  w.Bytes(std::string_view("\0\0\0\0\0", 5));
  w.Bytes(header.id.view());
  w.Bytes(View(header.salt));
  return out;
}

absl::StatusOr<PackHeader> DecodePackHeader(std::string_view bytes) {
  ByteReader r(bytes);
  std::string_view magic = r.Bytes(kHeaderMagic.size());
  uint8_t version = r.U8();
  uint8_t kind = r.U8();
  uint8_t aead = r.U8();
  std::string_view zeros = r.Bytes(5);
  std::string_view id = r.Bytes(PackId::kSizeInBytes);
  std::string_view salt = r.Bytes(kPackSaltBytes);
  if (!r.ok() || !r.AtEnd() || magic != kHeaderMagic) return absl::DataLossError("not a pack");
  // Zeros are not the future: after a crash they stand for what was never written.
  if (version == 0 || aead == 0) return absl::DataLossError("malformed pack header");
  if (version != kPackVersion) {
    return absl::FailedPreconditionError(absl::StrCat("pack of unknown version ", version));
  }
  if (!IsKnownAead(aead)) {
    return absl::FailedPreconditionError(absl::StrCat("pack with unknown AEAD ", aead));
  }
  if ((kind != 1 && kind != 2) || zeros != std::string_view("\0\0\0\0\0", 5)) {
    return absl::DataLossError("malformed pack header");
  }
  PackHeader header;
  header.kind = static_cast<PackKind>(kind);
  header.aead = static_cast<AeadAlgorithm>(aead);
  std::memcpy(header.id.bytes.data(), id.data(), id.size());
  std::memcpy(header.salt.data(), salt.data(), salt.size());
  return header;
}

std::string EncodePackFooter(const PackFooter& footer, std::string_view header_bytes, std::string_view sealed_trailer) {
  std::string out;
  ByteWriter w(&out);
  w.Bytes(kFooterMagic);
  w.U64(footer.trailer_offset);
  w.U32(footer.trailer_bytes);
  w.U32(footer.record_count);
  w.U64(0);
  w.Bytes(FooterDigest(out, header_bytes, sealed_trailer).view());
  return out;
}

absl::StatusOr<PackFooter> DecodePackFooter(std::string_view bytes, uint64_t pack_bytes) {
  ByteReader r(bytes);
  std::string_view magic = r.Bytes(kFooterMagic.size());
  PackFooter footer;
  footer.trailer_offset = r.U64();
  footer.trailer_bytes = r.U32();
  footer.record_count = r.U32();
  uint64_t zeros = r.U64();
  r.Bytes(kDigestBytes);
  if (!r.ok() || !r.AtEnd() || magic != kFooterMagic || zeros != 0 || footer.record_count > kPackRecordsMax ||
      footer.trailer_bytes < kAeadTagSizeInBytes || footer.trailer_bytes > kPackBytesMax ||
      pack_bytes < kPackHeaderBytes + kPackFooterBytes || footer.trailer_offset < kPackHeaderBytes ||
      footer.trailer_offset > pack_bytes - kPackFooterBytes ||
      footer.trailer_bytes != pack_bytes - kPackFooterBytes - footer.trailer_offset) {
    return absl::DataLossError("the pack has no footer, or a damaged one");
  }
  return footer;
}

bool IsPackFooterDigestRight(std::string_view footer_bytes, std::string_view header_bytes,
                             std::string_view sealed_trailer) {
  return FooterDigest(footer_bytes, header_bytes, sealed_trailer).view() == footer_bytes.substr(kFooterDigestedBytes);
}

PackSealer::PackSealer(const CatalogKey& key, const PackHeader& header) : aead_(header.aead, PackKey(key, header)) {}

void PackSealer::SealFrameHeader(uint64_t frame, absl::Span<char> buffer) const {
  aead_.Seal(MakeNonce(kFrameNonces, frame), {}, {buffer.data(), buffer.size() - kAeadTagSizeInBytes}, buffer.data());
}

bool PackSealer::OpenFrameHeader(uint64_t frame, std::string_view sealed, Digest* digest, RecordHeader* header) const {
  if (sealed.size() < kSealedFrameHeaderBytesMin) return false;
  std::string plain(sealed.size() - kAeadTagSizeInBytes, '\0');
  if (!aead_.Open(MakeNonce(kFrameNonces, frame), {}, sealed, plain.data())) return false;
  auto decoded = DecodeRecordHeader(std::string_view(plain).substr(kDigestBytes));
  if (!decoded.ok()) return false;
  std::memcpy(digest->bytes.data(), plain.data(), kDigestBytes);
  *header = *std::move(decoded);
  return true;
}

std::string PackSealer::SealTrailer(std::string_view trailer, uint32_t record_count,
                                    std::string_view header_bytes) const {
  return aead_.Seal(MakeNonce(kTrailerNonces, record_count), header_bytes, trailer);
}

absl::StatusOr<std::string> PackSealer::OpenTrailer(std::string_view sealed, uint32_t record_count,
                                                    std::string_view header_bytes) const {
  return aead_.Open(MakeNonce(kTrailerNonces, record_count), header_bytes, sealed);
}

absl::Status CheckPackLayout(const std::vector<PackEntry>& entries, PackKind kind, uint64_t trailer_offset) {
  uint64_t offset = kPackHeaderBytes;
  for (const PackEntry& entry : entries) {
    offset += kFrameLengthBytes + SealedFrameHeaderBytes(entry.header);
    if (entry.body_offset != offset) {
      return absl::DataLossError("a record is not where the pack's layout puts it");
    }
    if (static_cast<uint8_t>(entry.header.type) != static_cast<uint8_t>(kind)) {
      return absl::DataLossError("a record of another kind than its pack");
    }
    offset += entry.header.sealed_length;
  }
  if (offset != trailer_offset) {
    return absl::DataLossError("the records do not end where the trailer begins");
  }
  return absl::OkStatus();
}

std::string EncodeTrailer(const std::vector<PackEntry>& entries) {
  size_t size = 0;
  for (const PackEntry& entry : entries) size += 8 + kDigestBytes + entry.header.encoded_size();
  std::string out;
  out.reserve(size);
  ByteWriter w(&out);
  for (const PackEntry& entry : entries) {
    w.U64(entry.body_offset);
    w.Bytes(entry.digest.view());
    size_t start = out.size();
    out.resize(start + entry.header.encoded_size());
    EncodeRecordHeader(entry.header, out.data() + start);
  }
  return out;
}

absl::StatusOr<std::vector<PackEntry>> DecodeTrailer(std::string_view trailer, uint32_t record_count) {
  if (record_count > kPackRecordsMax) return absl::DataLossError("too many records in a pack");
  std::vector<PackEntry> entries;
  entries.reserve(record_count);
  ByteReader r(trailer);
  for (uint32_t i = 0; i < record_count; ++i) {
    PackEntry entry;
    entry.frame_number = i;
    entry.body_offset = r.U64();
    std::string_view digest = r.Bytes(kDigestBytes);
    if (!r.ok()) return absl::DataLossError("pack trailer too short");
    std::memcpy(entry.digest.bytes.data(), digest.data(), digest.size());
    auto header_bytes = RecordHeaderSize(trailer.substr(r.position()));
    if (!header_bytes.ok()) return absl::DataLossError(header_bytes.status().message());
    std::string_view bytes = r.Bytes(*header_bytes);
    if (!r.ok()) return absl::DataLossError("pack trailer too short");
    auto header = DecodeRecordHeader(bytes);
    if (!header.ok()) return absl::DataLossError(header.status().message());
    entry.header = *std::move(header);
    entries.push_back(std::move(entry));
  }
  if (!r.AtEnd()) return absl::DataLossError("bytes behind the pack trailer");
  return entries;
}

}  // namespace holdfast
