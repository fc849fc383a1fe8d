#include "storage/pack/frame_reader.h"

#include <algorithm>
#include <cstring>

#include "core/crypto/blake3.h"

namespace holdfast {
namespace {

constexpr size_t kWindowBytes = 4u << 20;
constexpr uint64_t kSectorBytes = 4096;
constexpr size_t kFrameBytesMin = kFrameLengthBytes + kSealedFrameHeaderBytesMin + kSealedBytesMin;

}  // namespace

absl::StatusOr<std::string_view> FrameReader::View(uint64_t offset, size_t n) {
  if (offset < window_start_ || offset + n > window_start_ + window_.size()) {
    size_t want = std::min<uint64_t>(std::max(n, kWindowBytes), bytes_ - offset);
    // Where a large window met a bad sector, small reads go around it.
    if (offset >= bad_begin_ && offset < bad_end_) want = n;
    window_start_ = offset;
    absl::Status status;
    while (true) {
      window_.resize(want);
      status = read_(offset, absl::MakeSpan(window_));
      if (!IsMediumError(status) || want == n) break;
      bad_begin_ = offset;
      bad_end_ = offset + want;
      want = n;
    }
    if (!status.ok()) {
      window_.clear();
      return status;
    }
  }
  return std::string_view(window_).substr(offset - window_start_, n);
}

absl::StatusOr<std::optional<ScannedFrame>> FrameReader::Read(uint64_t offset, uint64_t frame) {
  if (offset > bytes_ || bytes_ - offset < kFrameLengthBytes) return std::nullopt;
  absl::StatusOr<std::string_view> length_bytes = View(offset, kFrameLengthBytes);
  if (IsMediumError(length_bytes.status())) return std::nullopt;
  RETURN_IF_ERROR(length_bytes.status());
  uint32_t length;
  std::memcpy(&length, length_bytes->data(), sizeof(length));
  const uint64_t header_offset = offset + kFrameLengthBytes;
  if (!IsPlausibleFrameLength(length) || length > bytes_ - header_offset) return std::nullopt;
  absl::StatusOr<std::string_view> sealed = View(header_offset, length);
  if (IsMediumError(sealed.status())) return std::nullopt;
  RETURN_IF_ERROR(sealed.status());
  ScannedFrame out;
  if (!sealer_.OpenFrameHeader(frame, *sealed, &out.entry.digest, &out.entry.header) ||
      static_cast<uint8_t>(out.entry.header.type) != static_cast<uint8_t>(kind_)) {
    return std::nullopt;
  }
  out.entry.frame_number = static_cast<uint32_t>(frame);
  out.entry.body_offset = header_offset + length;
  const uint32_t body_bytes = out.entry.header.sealed_length;
  if (body_bytes > bytes_ - out.entry.body_offset) {
    out.end = bytes_;
    return out;
  }
  absl::StatusOr<std::string_view> body = View(out.entry.body_offset, body_bytes);
  if (!IsMediumError(body.status())) RETURN_IF_ERROR(body.status());
  out.end = out.entry.body_offset + body_bytes;
  out.body_good = body.ok() && Blake3Digest(*body) == out.entry.digest;
  return out;
}

absl::StatusOr<bool> FrameReader::FindNext(uint64_t* offset, uint64_t* frame) {
  const uint64_t start = *offset;
  for (uint64_t at = start; at < bytes_ && bytes_ - at >= kFrameBytesMin; ++at) {
    absl::StatusOr<std::string_view> length_bytes = View(at, kFrameLengthBytes);
    if (IsMediumError(length_bytes.status())) {
      at |= kSectorBytes - 1;  // the rest of the sector is as bad
      continue;
    }
    RETURN_IF_ERROR(length_bytes.status());
    uint32_t length;
    std::memcpy(&length, length_bytes->data(), sizeof(length));
    if (!IsPlausibleFrameLength(length)) continue;  // all but a few in a million
    // As many frames as fit into what was passed may be missing.
    const uint64_t skipped_max = std::min((at - start) / kFrameBytesMin, kFramesSkippedMax);
    for (uint64_t skipped = 0; skipped <= skipped_max; ++skipped) {
      ASSIGN_OR_RETURN(auto found, Read(at, *frame + skipped));
      if (!found.has_value()) continue;
      *offset = at;
      *frame += skipped;
      return true;
    }
  }
  return false;
}

}  // namespace holdfast
