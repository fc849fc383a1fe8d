#include "core/keys/envelope.h"

#include "core/base/codec.h"
#include "core/crypto/blake3.h"

namespace holdfast {

std::string EnvelopeSignedPart(std::string_view magic, std::string_view payload) {
  std::string out;
  out.reserve(payload.size() + kEnvelopeOverheadBytes);
  ByteWriter w(&out);
  w.Bytes(magic);
  w.U32(static_cast<uint32_t>(payload.size()));
  w.Bytes(payload);
  return out;
}

std::string FinishEnvelope(std::string signed_part, std::string_view tag) {
  signed_part.append(tag);
  signed_part.append(Blake3Digest(signed_part).view());
  return signed_part;
}

absl::StatusOr<Envelope> DecodeEnvelope(std::string_view blob, std::string_view magic, size_t payload_bytes_max,
                                        std::string_view what) {
  auto damaged = [&](std::string_view why) {
    return absl::DataLossError(absl::StrCat(AbslView(what), ": ", AbslView(why)));
  };
  if (blob.size() < kEnvelopeOverheadBytes) return damaged("the blob is truncated");
  if (blob.size() > kEnvelopeOverheadBytes + payload_bytes_max) return damaged("the blob is too large");
  std::string_view hashed = blob.substr(0, blob.size() - 32);
  if (Blake3Digest(hashed).view() != blob.substr(hashed.size())) return damaged("the checksum does not match");

  ByteReader r(hashed);
  std::string_view found = r.Bytes(kEnvelopeMagicBytes);
  if (found != magic) {
    // "HFSLOT1\0": the version is the last printable character.
    if (found.substr(0, 6) == magic.substr(0, 6) && found.back() == magic.back()) {
      return absl::FailedPreconditionError(absl::StrCat(AbslView(what), ": written by a newer version of Holdfast"));
    }
    return damaged("not such a blob (wrong magic)");
  }
  uint32_t payload_size = r.U32();
  if (payload_size != blob.size() - kEnvelopeOverheadBytes) return damaged("the length does not match");
  Envelope envelope;
  envelope.payload = r.Bytes(payload_size);
  envelope.signed_part = hashed.substr(0, r.position());
  envelope.tag = r.Bytes(kEnvelopeTagBytes);
  return envelope;
}

}  // namespace holdfast
