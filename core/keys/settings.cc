#include "core/keys/settings.h"

#include <array>
#include <utility>

#include "core/base/limits.h"
#include "core/crypto/aead.h"
#include "core/crypto/blake3.h"
#include "core/crypto/kdf.h"
#include "core/keys/envelope.h"
#include "proto/holdfast/format/v1/settings.pb.h"

namespace holdfast {
namespace {

namespace pb = ::holdfast::format::v1;

constexpr std::string_view kMagic("HFREPO1\0", 8);
constexpr std::string_view kWhat = "settings";
constexpr uint64_t kGenerationMax = 0xffffffff;  // blob names have 8 hex digits

std::string_view View(const std::array<uint8_t, 32>& a) { return {reinterpret_cast<const char*>(a.data()), a.size()}; }

// The rules of the format that both sides keep; the message says which one is broken.
absl::Status Check(const RepositorySettings& settings) {
  auto broken = [](std::string_view why) { return absl::InvalidArgumentError(AbslView(why)); };
  if (settings.repository.IsZero()) return broken("no repository id");
  if (settings.generation == 0 || settings.generation > kGenerationMax) return broken("generation out of range");
  if (!IsKnownAead(static_cast<uint8_t>(settings.aead))) return broken("unknown AEAD");
  const ChunkerSettings& c = settings.chunker;
  if (c.min_bytes < 64 || c.min_bytes > c.max_bytes || c.max_bytes > kChunkPlaintextBytesMax) {
    return broken("chunk sizes out of range");
  }
  if (c.mask_bits < 1 || c.mask_bits > 48) return broken("chunker mask out of range");
  return absl::OkStatus();
}

struct Decoded {
  RepositorySettings settings;
  Envelope envelope;  // views into the blob
};

absl::StatusOr<Decoded> Decode(std::string_view blob) {
  auto broken = [](std::string_view why) {
    return absl::DataLossError(absl::StrCat(AbslView(kWhat), ": ", AbslView(why)));
  };
  Decoded out;
  ASSIGN_OR_RETURN(out.envelope, DecodeEnvelope(blob, kMagic, kSettingsBytesMax, kWhat));
  pb::FormatSettings message;
  if (!message.ParseFromArray(out.envelope.payload.data(), static_cast<int>(out.envelope.payload.size()))) {
    return broken("not a FormatSettings record");
  }
  if (message.format_version() < kFormatVersion) {
    return absl::FailedPreconditionError(
        "settings: the repository was made before its format was settled, and this program does not read it\n  Back up "
        "into a new repository, or restore with the program that made this one.");
  }
  if (message.format_version() != kFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat("settings: the repository has format version ",
                                                      message.format_version(), ", this program knows ",
                                                      kFormatVersion));
  }
  auto repository = RepositoryId::FromBytes(message.repository_id());
  if (!repository.ok()) return broken("bad repository id");
  out.settings.repository = *repository;
  if (message.aead() > 255) return broken("unknown AEAD");
  out.settings.aead = static_cast<AeadAlgorithm>(message.aead());
  out.settings.padding = message.padding();
  out.settings.chunker = {message.chunker().min_bytes(), message.chunker().max_bytes(), message.chunker().mask_bits()};
  out.settings.generation = message.generation();
  absl::Status rules = Check(out.settings);
  if (!rules.ok()) return broken(StdView(rules.message()));
  return out;
}

absl::Status CheckRepository(const RepositorySettings& settings, const RepositoryId& repository) {
  if (settings.repository == repository) return absl::OkStatus();
  return absl::DataLossError("settings: they belong to another repository");
}

}  // namespace

absl::StatusOr<std::string> EncodeSettings(const RepositorySettings& settings, const Key256& admin_key) {
  absl::Status rules = Check(settings);
  if (!rules.ok()) return Annotate(rules, kWhat);
  pb::FormatSettings message;
  message.set_repository_id(std::string(settings.repository.view()));
  message.set_format_version(kFormatVersion);
  message.set_aead(static_cast<uint8_t>(settings.aead));
  message.set_padding(settings.padding);
  message.mutable_chunker()->set_min_bytes(settings.chunker.min_bytes);
  message.mutable_chunker()->set_max_bytes(settings.chunker.max_bytes);
  message.mutable_chunker()->set_mask_bits(settings.chunker.mask_bits);
  message.set_generation(settings.generation);
  std::string signed_part = EnvelopeSignedPart(kMagic, message.SerializeAsString());
  std::array<uint8_t, 32> mac = HmacSha256(admin_key, signed_part);
  return FinishEnvelope(std::move(signed_part), View(mac));
}

absl::StatusOr<RepositorySettings> DecodeSettings(std::string_view blob) {
  ASSIGN_OR_RETURN(Decoded decoded, Decode(blob));
  return decoded.settings;
}

absl::StatusOr<RepositorySettings> VerifySettings(std::string_view blob, const RepositoryId& repository,
                                                  const Key256& admin_key) {
  ASSIGN_OR_RETURN(Decoded decoded, Decode(blob));
  RETURN_IF_ERROR(CheckRepository(decoded.settings, repository));
  if (!EqualInConstantTime(View(HmacSha256(admin_key, decoded.envelope.signed_part)), decoded.envelope.tag)) {
    return absl::DataLossError("settings: altered by somebody without the master secret (their MAC does not match)");
  }
  return decoded.settings;
}

absl::StatusOr<RepositorySettings> VerifySettings(std::string_view blob, const RepositoryId& repository,
                                                  const Digest& remembered) {
  ASSIGN_OR_RETURN(Decoded decoded, Decode(blob));
  RETURN_IF_ERROR(CheckRepository(decoded.settings, repository));
  if (SettingsDigest(blob) != remembered) {
    return absl::FailedPreconditionError(
        "settings: they are not the ones that this machine was unlocked with; unlock it again to accept them");
  }
  return decoded.settings;
}

Digest SettingsDigest(std::string_view blob) { return Blake3Digest(blob); }

}  // namespace holdfast
