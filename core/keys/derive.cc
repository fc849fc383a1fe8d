#include "core/keys/derive.h"

#include <cstring>
#include <string>

#include "core/base/codec.h"
#include "core/crypto/kdf.h"

namespace holdfast {
namespace {

// Of chunks (docs/format.md, section 5). core/format names them, too, and uses keys of this folder.
constexpr uint8_t kDataType = 1;
constexpr uint8_t kTreeType = 2;

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
      data_chunk_key_(ChunkKeyOfType(kDataType, 0)),
      nonce_key_(Hkdf256(dedup_secret.ExposeView(), repository.view(), InfoWithNumber("holdfast/1/nonce", epoch))),
      cut_key_(Hkdf128(dedup_secret.ExposeView(), repository.view(), "holdfast/1/cut")),
      name_cut_key_(Hkdf256(dedup_secret.ExposeView(), repository.view(), "holdfast/1/name-cut")) {}

Key256 EpochKeys::ChunkKeyOfType(uint8_t type, uint32_t agent) const {
  std::string info = "holdfast/1/chunk";
  ByteWriter w(&info);
  w.U32(epoch_);
  w.U8(type);
  w.U32(agent);
  return Hkdf256(dedup_secret_.ExposeView(), repository_.view(), info);
}

Key256 EpochKeys::TreeTypeKey(uint32_t agent) const { return ChunkKeyOfType(kTreeType, agent); }

Key256 EpochKeys::TreeChunkKey(const Key256& reader_key, uint32_t agent) const {
  const Key256 agent_tree_key =
      Hkdf256(reader_key.ExposeView(), repository_.view(), InfoWithNumber("holdfast/1/agent-tree", agent));
  FixedSecret<struct TreeKeyMaterialTag, 64> ikm;
  std::memcpy(ikm.MutableBytes(), TreeTypeKey(agent).ExposeBytes(), 32);
  std::memcpy(ikm.MutableBytes() + 32, agent_tree_key.ExposeBytes(), 32);
  return Hkdf256(ikm.ExposeView(), repository_.view(), "holdfast/1/chunk-tree");
}

}  // namespace holdfast
