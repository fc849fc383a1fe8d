// Settings of a repository: what every client must do alike (docs/format.md, section 4). They are public: the server
// reads them without a key. A client checks them with the admin key, or against the digest that it remembers of a blob
// that was checked so. Pure functions and a value type.
#ifndef HOLDFAST_CORE_KEYS_SETTINGS_H_
#define HOLDFAST_CORE_KEYS_SETTINGS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/crypto/types.h"

namespace holdfast {

// Of the stored settings. Counts drafts until version 1 of the format is frozen (docs/format.md, change log).
inline constexpr uint32_t kFormatVersion = 2;
inline constexpr size_t kSettingsBytesMax = 64u << 10;  // of the payload

// Where large files are cut; the defaults and limits of ChunkerParams (core/chunking).
struct ChunkerSettings {
  uint32_t min_bytes = 1u << 20;  // 64 .. max_bytes
  uint32_t max_bytes = 4u << 20;  // <= kChunkPlaintextBytesMax
  uint32_t mask_bits = 19;        // 1 .. 48
  bool operator==(const ChunkerSettings&) const = default;
};

struct RepositorySettings {
  RepositoryId repository;
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;  // never changes
  bool padding = true;                             // sizes of chunks are padded (Padme)
  ChunkerSettings chunker;
  uint64_t generation = 1;
  bool operator==(const RepositorySettings&) const = default;
};

// The blob. INVALID_ARGUMENT when `settings` breaks a rule of the format.
absl::StatusOr<std::string> EncodeSettings(const RepositorySettings& settings, const Key256& admin_key);

// For the server, and to learn the repository id: checks damage and limits, NOT who wrote it. DATA_LOSS for damage,
// FAILED_PRECONDITION when a newer version of the format is needed.
absl::StatusOr<RepositorySettings> DecodeSettings(std::string_view blob);
// For a client that was just unlocked. DATA_LOSS also when the MAC does not match or the repository is another.
absl::StatusOr<RepositorySettings> VerifySettings(std::string_view blob, const RepositoryId& repository,
                                                  const Key256& admin_key);
// For an unattended client: the blob must be byte for byte the one whose SettingsDigest was remembered (a MAC alone
// proves nothing to who lacks the key). FAILED_PRECONDITION when it is another one: the settings changed, or somebody
// forged them; either way a person must unlock this machine again.
absl::StatusOr<RepositorySettings> VerifySettings(std::string_view blob, const RepositoryId& repository,
                                                  const Digest& remembered);
// BLAKE3 of the whole blob.
Digest SettingsDigest(std::string_view blob);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_SETTINGS_H_
