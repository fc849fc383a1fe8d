// The keyring: every secret of a repository but the master, sealed under a key derived from the master (docs/format.md,
// section 3). In memory it is a plain struct whose secrets wipe themselves. Pure functions; the client side only.
//
// Changing it: open the newest generation, change the struct, raise `generation` by one, seal, write all copies, read
// them back and open them. Clients remember the highest generation they saw and refuse an older one (that check is
// theirs).
#ifndef HOLDFAST_CORE_KEYS_KEYRING_H_
#define HOLDFAST_CORE_KEYS_KEYRING_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/io/io.h"

namespace holdfast {

inline constexpr size_t kKeyringBytesMax = 16u << 20;  // of the payload
inline constexpr uint32_t kAgentNumberMax = 65536;     // agents ever enrolled: numbers are not reused
inline constexpr size_t kKeyringEpochsMax = 1024;

// Names one installation of the agent: random, made by that machine, kept in its credentials.
using AgentIdentity = FixedId<struct AgentIdentityTag, 16>;

struct KeyringEpoch {
  uint32_t number = 0;  // >= 1
  Key256 dedup_secret;  // ids, content keys, cuts: for every agent
  Key256 catalog_key;   // log, index, packs: for the server, no agent needs it
};

struct KeyringAgent {
  uint32_t number = 0;  // 1 .. kAgentNumberMax, never reused
  AgentIdentity identity;
  std::string label;            // for people, at most kKeyLabelBytesMax bytes
  int64_t created_unix_ns = 0;  // for display
};

struct Keyring {
  RepositoryId repository;
  uint64_t generation = 1;
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;  // the repository's
  std::vector<KeyringEpoch> epochs;                // at least one, ascending
  Key256 owner_reader_key;                         // opens every manifest (AgentReaderKey in derive.h)
  std::vector<KeyringAgent> agents;                // ascending
  uint32_t next_agent_number = 1;

  // The epoch for writing. There must be one.
  const KeyringEpoch& current_epoch() const { return epochs.back(); }
  // nullptr when unknown. Valid until the keyring changes.
  const KeyringEpoch* FindEpoch(uint32_t number) const;
  const KeyringAgent* FindAgent(uint32_t number) const;
  const KeyringAgent* FindAgent(const AgentIdentity& identity) const;
};

// Generation 1 with epoch 1, no agents, fresh secrets.
Keyring NewKeyring(const RepositoryId& repository, AeadAlgorithm aead, Random& random);

// Enrols an agent and returns its number; an identity that is there keeps its entry and its number. INVALID_ARGUMENT
// for a bad label or a zero identity; RESOURCE_EXHAUSTED after kAgentNumberMax agents.
absl::StatusOr<uint32_t> AddAgent(Keyring& keyring, const AgentIdentity& identity, std::string_view label,
                                  int64_t created_unix_ns);

// The blob. INVALID_ARGUMENT when `keyring` breaks a rule of the format.
absl::StatusOr<std::string> SealKeyring(const Keyring& keyring, const Key256& keyring_key, Random& random);
// DATA_LOSS when the blob is damaged, does not open with this key, belongs to another repository or breaks the format;
// FAILED_PRECONDITION when a newer version wrote it.
absl::StatusOr<Keyring> OpenKeyring(std::string_view blob, const Key256& keyring_key, const RepositoryId& repository);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_KEYRING_H_
