// The envelope of key slots, keyring and settings (docs/format.md, sections 3 and 4):
//   magic (8), u32 payload length, payload, tag (32, its meaning is the owner's), BLAKE3 of everything before (32).
// Only the BLAKE3, that is damage and not forgery, is checked here. Pure functions.
#ifndef HOLDFAST_CORE_KEYS_ENVELOPE_H_
#define HOLDFAST_CORE_KEYS_ENVELOPE_H_

#include <string>
#include <string_view>

#include "core/base/status.h"

namespace holdfast {

inline constexpr size_t kEnvelopeMagicBytes = 8;
inline constexpr size_t kEnvelopeTagBytes = 32;
inline constexpr size_t kEnvelopeOverheadBytes = kEnvelopeMagicBytes + 4 + kEnvelopeTagBytes + 32;

// Views into the blob that was decoded.
struct Envelope {
  std::string_view signed_part;  // magic .. payload: what a MAC is over
  std::string_view payload;
  std::string_view tag;  // 32 bytes
};

// magic .. payload. `magic` has 8 bytes.
std::string EnvelopeSignedPart(std::string_view magic, std::string_view payload);
// Appends tag (32 bytes) and BLAKE3.
std::string FinishEnvelope(std::string signed_part, std::string_view tag);

// `what` names the blob in messages. DATA_LOSS for damage; FAILED_PRECONDITION for an intact blob whose magic differs
// in its version (the byte before the last) only: a newer Holdfast wrote it.
absl::StatusOr<Envelope> DecodeEnvelope(std::string_view blob, std::string_view magic, size_t payload_bytes_max,
                                        std::string_view what);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_ENVELOPE_H_
