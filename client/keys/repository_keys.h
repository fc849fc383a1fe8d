// Making and changing what a repository's server keeps of its keys: settings, key slots, keyring. Nothing here prints.
// The master secret never leaves the client; the catalog key goes to the server once, at creation.
// Thread-safe: no state.
#ifndef HOLDFAST_CLIENT_KEYS_REPOSITORY_KEYS_H_
#define HOLDFAST_CLIENT_KEYS_REPOSITORY_KEYS_H_

#include <functional>
#include <string>
#include <string_view>

#include "client/rpc/repository_client.h"
#include "core/base/ids.h"
#include "core/base/secret.h"
#include "core/base/status.h"
#include "core/crypto/kdf.h"
#include "core/crypto/types.h"
#include "core/io/io.h"
#include "core/keys/key_slots.h"
#include "core/keys/keyring.h"
#include "proto/holdfast/v1/service.pb.h"

namespace holdfast {

struct RepositoryToCreate {
  std::string name;
  Argon2Params argon2;
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;
  // Hides the exact sizes of chunks, for about 1.5 % of space. Off by default: with it the size targets of
  // docs/benchmarks.md would not hold.
  bool padding = false;
};

// What the server is to store for a new repository: fresh id, master secret, keyring without agents, a slot for
// `password` and, when it is not empty, one for `recovery_key` (canonical spelling).
absl::StatusOr<v1::CreateRepositoryRequest> CreateRepositoryKeys(const RepositoryToCreate& repository,
                                                                 const SecretString& password,
                                                                 const SecretString& recovery_key, Io& io);

// NOT_FOUND, with how to create it, when the server has no such repository.
absl::StatusOr<v1::GetKeysReply> FetchKeys(RepositoryClient& client, const std::string& repository);

// The keys blobs opened with a password or recovery key.
struct OwnerKeys {
  RepositoryId repository;
  OpenedKeySlots opened;
  Keyring keyring;
  uint64_t key_slots_generation = 0;  // the highest at the server: the next one is this plus one
  uint64_t keyring_generation = 0;
  std::string settings;  // the blob, not yet checked
};
// UNAUTHENTICATED: wrong password. Costs an Argon2id.
absl::StatusOr<OwnerKeys> OpenOwnerKeys(const v1::GetKeysReply& keys, const SecretString& secret);

// Replaces the way to open the repository. Adds a slot for `secret` and removes the slots that `is_replaced` chooses.
// Two consecutive generations are written, because the server keeps two: nothing stored opens with a removed slot
// afterwards. Whoever kept an older blob, or the master secret, is not shut out.
// ABORTED: somebody else changes keys at the same time, even after trying again.
absl::Status ReplaceKeySlots(RepositoryClient& client, const std::string& repository, const SecretString& old_secret,
                             const NewKeySlot& request, const SecretString& new_secret,
                             const std::function<bool(const KeySlot& slot, uint32_t opened_slot_id)>& is_replaced,
                             Io& io);

// Gives the agent of `identity` a number if it has none, and returns the keyring that has it, durable at the server.
// `keys` is updated.
absl::Status EnrolAgent(RepositoryClient& client, const std::string& repository, const AgentIdentity& identity,
                        std::string_view label, Io& io, OwnerKeys& keys);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_KEYS_REPOSITORY_KEYS_H_
