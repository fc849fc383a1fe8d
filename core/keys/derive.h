// Every key that is derived from the master secret, the keyring or a dedup secret (docs/format.md, section 2), in one
// place. What derives from the catalog key is in catalog_key.h, which the server may use.
#ifndef HOLDFAST_CORE_KEYS_DERIVE_H_
#define HOLDFAST_CORE_KEYS_DERIVE_H_

#include <cstdint>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/ids.h"
#include "core/base/secret.h"
#include "core/crypto/types.h"
#include "core/format/record.h"

namespace holdfast {

// The secret that key slots wrap. Whoever has it has everything.
using MasterSecret = FixedSecret<struct MasterSecretTag, 32>;

// What the master secret gives. Value type; immutable after creation; each derivation costs a few microseconds.
class MasterKeys {
 public:
  MasterKeys(const MasterSecret& master, const RepositoryId& repository);
  const Key256& keyring_key() const { return keyring_key_; }    // seals the keyring
  const Key256& admin_key() const { return admin_key_; }        // authenticates settings
  const Key256& slot_mac_key() const { return slot_mac_key_; }  // authenticates the set of key slots
  // Authenticates the manifests of one agent (agent numbers start at 1).
  Key256 AgentMacKey(uint32_t agent) const;

 private:
  MasterSecret master_;
  RepositoryId repository_;
  Key256 keyring_key_;
  Key256 admin_key_;
  Key256 slot_mac_key_;
};

// Opens the manifests of one agent. The owner, who has the owner reader key, derives it for every agent, so that one
// stanza per manifest serves both and no agent can read another's.
Key256 AgentReaderKey(const Key256& owner_reader_key, const RepositoryId& repository, uint32_t agent);

// What a dedup secret gives within one epoch. Thread-safe. References stay valid as long as the object. Not copyable:
// share it.
class EpochKeys {
 public:
  EpochKeys(const Key256& dedup_secret, const RepositoryId& repository, uint32_t epoch);
  EpochKeys(const EpochKeys&) = delete;
  EpochKeys& operator=(const EpochKeys&) = delete;

  uint32_t epoch() const { return epoch_; }
  const RepositoryId& repository() const { return repository_; }
  // Keys the hash that gives a chunk its id and content key. For data `agent` does not matter (agents deduplicate
  // against each other). For trees the key of each agent that was asked for is kept: take the number from an
  // authenticated place (manifest, credentials), not from a record header.
  const Key256& ChunkKey(ChunkType type, uint32_t agent) const;
  const Key256& nonce_key() const { return nonce_key_; }
  const Key128& cut_key() const { return cut_key_; }            // inside large files
  const Key256& name_cut_key() const { return name_cut_key_; }  // between small files and between tree entries
  const Key256& file_digest_key() const { return file_digest_key_; }

 private:
  Key256 DeriveChunkKey(ChunkType type, uint32_t agent) const;

  // Constant after construction.
  const Key256 dedup_secret_;
  const RepositoryId repository_;
  const uint32_t epoch_;
  Key256 data_chunk_key_;
  Key256 nonce_key_;
  Key128 cut_key_;
  Key256 name_cut_key_;
  Key256 file_digest_key_;

  mutable absl::Mutex mu_;
  mutable std::map<uint32_t, Key256> tree_chunk_keys_ ABSL_GUARDED_BY(mu_);  // nodes never move
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_DERIVE_H_
