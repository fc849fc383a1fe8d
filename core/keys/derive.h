// Every key that is derived from the master secret, the keyring or a dedup secret (docs/format.md, section 2), in one
// place. What derives from the catalog key is in catalog_key.h, which the server may use; the keys of a manifest's
// parts are in manifest_key.h.
#ifndef HOLDFAST_CORE_KEYS_DERIVE_H_
#define HOLDFAST_CORE_KEYS_DERIVE_H_

#include <cstdint>

#include "core/base/ids.h"
#include "core/base/secret.h"
#include "core/crypto/types.h"

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

// What a dedup secret gives within one epoch. Value type; immutable after creation; each derivation costs a few
// microseconds.
class EpochKeys {
 public:
  EpochKeys(const Key256& dedup_secret, const RepositoryId& repository, uint32_t epoch);

  // Keys the hash that gives a data chunk its id and content key. Of all agents: they deduplicate against each other.
  const Key256& data_chunk_key() const { return data_chunk_key_; }
  // The same for an agent's tree pages; `reader_key` is the agent's (AgentReaderKey). The dedup secret is every
  // agent's; mixing in the reader key keeps an agent from computing the ids of another's pages, so none can guess at,
  // or prepare, a page. Take the agent's number from an authenticated place (manifest, credentials), not from a record
  // header.
  Key256 TreeChunkKey(const Key256& reader_key, uint32_t agent) const;
  // The part of it that comes from the dedup secret: the format's "chunk key of type tree". No key by itself.
  Key256 TreeTypeKey(uint32_t agent) const;
  const Key256& nonce_key() const { return nonce_key_; }
  const Key128& cut_key() const { return cut_key_; }            // inside large files
  const Key256& name_cut_key() const { return name_cut_key_; }  // between small files and between tree entries

 private:
  Key256 ChunkKeyOfType(uint8_t type, uint32_t agent) const;

  Key256 dedup_secret_;
  RepositoryId repository_;
  uint32_t epoch_;
  Key256 data_chunk_key_;
  Key256 nonce_key_;
  Key128 cut_key_;
  Key256 name_cut_key_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_DERIVE_H_
