// Key slots: the ways to the master secret (docs/format.md, section 3). A slot wraps it under a key that Argon2id makes
// of a password or of the recovery key; the set is authenticated with a key derived from the master itself. Nothing in
// a blob is secret, everything in it is hostile until OpenMaster said OK. Pure functions and value types; the client
// side only.
//
// Changing slots: open, change the struct, raise `generation` by one, encode, write all copies of the new generation,
// read them back and open them, then delete generations so that two are left. Removing a slot revokes nobody who copied
// the master secret, or an older blob together with its password.
#ifndef HOLDFAST_CORE_KEYS_KEY_SLOTS_H_
#define HOLDFAST_CORE_KEYS_KEY_SLOTS_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/base/secret.h"
#include "core/base/status.h"
#include "core/crypto/kdf.h"
#include "core/io/io.h"
#include "core/keys/derive.h"

namespace holdfast {

inline constexpr size_t kKeySlotsMax = 64;
inline constexpr size_t kKeySlotsBytesMax = 1u << 20;  // of the payload
inline constexpr size_t kKeyLabelBytesMax = 128;
inline constexpr uint64_t kGenerationMax = 0xffffffff;  // blob names have 8 hex digits

enum class KeySlotKind : uint8_t {
  kPassword = 1,
  kRecovery = 2,  // its secret is a recovery key (recovery_key.h)
};

struct KeySlot {
  uint32_t id = 0;  // >= 1, never reused
  KeySlotKind kind = KeySlotKind::kPassword;
  std::string label;  // for people
  Argon2Params argon2;
  std::array<uint8_t, 16> salt{};
  std::array<uint8_t, 32> commitment{};  // tells whether a secret is this slot's before anything is decrypted
  std::array<uint8_t, 60> wrapped_master{};
  int64_t created_unix_ns = 0;
};

struct KeySlots {
  RepositoryId repository;
  uint64_t generation = 1;
  std::vector<KeySlot> slots;  // ascending ids
  uint32_t next_slot_id = 1;
};

// What the caller decides about a new slot.
struct NewKeySlot {
  KeySlotKind kind = KeySlotKind::kPassword;
  std::string label;  // UTF-8 without control characters, at most kKeyLabelBytesMax
  Argon2Params argon2;
  int64_t created_unix_ns = 0;  // for display
};

MasterSecret GenerateMasterSecret(Random& random);

// Adds a slot and returns its id; costs one Argon2id. INVALID_ARGUMENT for an empty password, a recovery key with a
// wrong checksum, a bad label or parameters outside of the limits; RESOURCE_EXHAUSTED at kKeySlotsMax or without
// memory. `slots` is unchanged after an error.
absl::StatusOr<uint32_t> AddKeySlot(KeySlots& slots, const MasterSecret& master, const NewKeySlot& request,
                                    const SecretString& secret, Random& random);
// NOT_FOUND for an unknown id; FAILED_PRECONDITION for the last slot: nobody could open the repository any more.
absl::Status RemoveKeySlot(KeySlots& slots, uint32_t id);
// Adds the new slot in the place of slot `id` (a changed password) and returns the new id. Errors of both of the above,
// but it works with one slot and with kKeySlotsMax.
absl::StatusOr<uint32_t> ReplaceKeySlot(KeySlots& slots, uint32_t id, const MasterSecret& master,
                                        const NewKeySlot& request, const SecretString& secret, Random& random);

// The blob. INVALID_ARGUMENT when `slots` breaks a rule of the format (no slot, bad generation, ...).
absl::StatusOr<std::string> EncodeKeySlots(const KeySlots& slots, const Key256& slot_mac_key);

// For display, and to learn the repository id: checks damage and every limit, but NOT who wrote it. DATA_LOSS when the
// blob is corrupt or breaks the format (Argon2 parameters outside of the limits included); FAILED_PRECONDITION when a
// newer version wrote it. Never starts an Argon2.
absl::StatusOr<KeySlots> DecodeKeySlots(std::string_view blob);
// The same, with the MAC: DATA_LOSS when it does not match (somebody changed the set of slots) or the repository is
// another.
absl::StatusOr<KeySlots> VerifyKeySlots(std::string_view blob, const RepositoryId& repository,
                                        const Key256& slot_mac_key);

struct OpenedKeySlots {
  MasterSecret master;
  KeySlots slots;        // authenticated
  uint32_t slot_id = 0;  // the one that opened
};
// Tries `secret` on each slot: one Argon2id per password slot, up to the one that opens, and first on recovery slots if
// it is spelled like a recovery key. UNAUTHENTICATED when no slot takes it (wrong password); DATA_LOSS as above, and
// when the blob belongs to another repository or was altered by somebody without the master secret; RESOURCE_EXHAUSTED
// without the memory for Argon2.
absl::StatusOr<OpenedKeySlots> OpenKeySlots(std::string_view blob, const RepositoryId& repository,
                                            const SecretString& secret);
absl::StatusOr<MasterSecret> OpenMaster(std::string_view blob, const RepositoryId& repository,
                                        const SecretString& secret);

// OK for a label that people may be shown: at most kKeyLabelBytesMax bytes, no control characters.
absl::Status CheckKeyLabel(std::string_view label);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_KEY_SLOTS_H_
