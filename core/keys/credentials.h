// What an unlocked machine keeps, so that it can back up and restore its own snapshots unattended (design, section 3):
// never the master secret, the owner's reader key or the catalog key. Who reads this file can write as this agent, read
// this agent's snapshots and confirm guesses about content; nothing else.
//
// The file: magic "HFCRED1\0", fields by hand, BLAKE3; local to one machine and no part of the repository's format.
// Functions are thread-safe; the file is replaced atomically, and the last writer wins.
#ifndef HOLDFAST_CORE_KEYS_CREDENTIALS_H_
#define HOLDFAST_CORE_KEYS_CREDENTIALS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/base/secret.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/io/io.h"
#include "core/keys/derive.h"
#include "core/keys/keyring.h"

namespace holdfast {

inline constexpr size_t kRepositoryNameBytesMax = 255;

struct AgentCredentials {
  RepositoryId repository;
  std::string repository_name;  // the server's name for it
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;
  uint64_t settings_generation = 0;
  Digest settings_digest;           // of the settings blob that was checked at unlocking (settings.h)
  uint64_t keyring_generation = 0;  // the highest seen: an older keyring is refused
  uint32_t epoch = 0;               // the one for writing
  Key256 dedup_secret;              // its secret
  uint32_t agent_number = 0;
  AgentIdentity identity;
  std::string label;
  Key256 reader_key;  // of this agent: opens, and makes, the stanzas of its own manifests
  Key256 mac_key;     // of this agent: authenticates its manifests
};

// Credentials of an enrolled agent. The caller fills in repository_name, settings_generation and settings_digest.
// NOT_FOUND when the keyring has no such agent.
absl::StatusOr<AgentCredentials> MakeCredentials(const Keyring& keyring, const MasterKeys& master_keys,
                                                 uint32_t agent_number);

// INVALID_ARGUMENT when a field breaks its limit.
absl::StatusOr<SecretString> EncodeCredentials(const AgentCredentials& credentials);
// DATA_LOSS when damaged; FAILED_PRECONDITION when a newer version wrote it.
absl::StatusOr<AgentCredentials> DecodeCredentials(std::string_view bytes);

// Durable; mode 0600; the directory must exist. Errors of Files.
absl::Status SaveCredentials(Io& io, std::string_view path, const AgentCredentials& credentials);
// NOT_FOUND when this machine is not unlocked; else as DecodeCredentials, with the path in the message.
absl::StatusOr<AgentCredentials> LoadCredentials(Files& files, std::string_view path);
// Removes the file, durably; NOT_FOUND when there is none. Copies in backups and on the medium are beyond its reach.
absl::Status ForgetCredentials(Files& files, std::string_view path);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_CREDENTIALS_H_
