#include "core/keys/derive.h"

#include <string>

#include "core/base/codec.h"
#include "core/crypto/kdf.h"

namespace holdfast {
namespace {

std::string InfoWithNumber(std::string_view label, uint32_t number) {
  std::string info(label);
  ByteWriter(&info).U32(number);
  return info;
}

}  // namespace

MasterKeys::MasterKeys(const MasterSecret& master, const RepositoryId& repository)
    : master_(master),
      repository_(repository),
      keyring_key_(Hkdf256(master.ExposeView(), repository.view(), "holdfast/1/keyring")),
      admin_key_(Hkdf256(master.ExposeView(), repository.view(), "holdfast/1/admin")),
      slot_mac_key_(Hkdf256(master.ExposeView(), repository.view(), "holdfast/1/slots")) {}

Key256 MasterKeys::AgentMacKey(uint32_t agent) const {
  return Hkdf256(master_.ExposeView(), repository_.view(), InfoWithNumber("holdfast/1/agent-mac", agent));
}

Key256 AgentReaderKey(const Key256& owner_reader_key, const RepositoryId& repository, uint32_t agent) {
  return Hkdf256(owner_reader_key.ExposeView(), repository.view(), InfoWithNumber("holdfast/1/agent-reader", agent));
}

EpochKeys::EpochKeys(const Key256& dedup_secret, const RepositoryId& repository, uint32_t epoch)
    : dedup_secret_(dedup_secret),
      repository_(repository),
      epoch_(epoch),
      data_chunk_key_(DeriveChunkKey(ChunkType::kData, 0)),
      nonce_key_(Hkdf256(dedup_secret.ExposeView(), repository.view(), InfoWithNumber("holdfast/1/nonce", epoch))),
      cut_key_(Hkdf128(dedup_secret.ExposeView(), repository.view(), "holdfast/1/cut")),
      name_cut_key_(Hkdf256(dedup_secret.ExposeView(), repository.view(), "holdfast/1/name-cut")),
      file_digest_key_(Hkdf256(dedup_secret.ExposeView(), repository.view(), "holdfast/1/file-digest")) {}

Key256 EpochKeys::DeriveChunkKey(ChunkType type, uint32_t agent) const {
  std::string info = "holdfast/1/chunk";
  ByteWriter w(&info);
  w.U32(epoch_);
  w.U8(static_cast<uint8_t>(type));
  w.U32(agent);
  return Hkdf256(dedup_secret_.ExposeView(), repository_.view(), info);
}

const Key256& EpochKeys::ChunkKey(ChunkType type, uint32_t agent) const {
  if (type == ChunkType::kData) return data_chunk_key_;
  absl::MutexLock lock(&mu_);
  auto it = tree_chunk_keys_.find(agent);
  if (it == tree_chunk_keys_.end()) {
    it = tree_chunk_keys_.emplace(agent, DeriveChunkKey(ChunkType::kTree, agent)).first;
  }
  return it->second;
}

}  // namespace holdfast
