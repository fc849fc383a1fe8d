#include "client/keys/tree_chunk_key.h"

#include <array>
#include <cstring>
#include <string>

#include "core/base/codec.h"
#include "core/base/secret.h"
#include "core/crypto/kdf.h"

namespace holdfast {

Key256 TreeChunkKey(const EpochKeys& epoch, const Key256& reader_key, uint32_t agent) {
  std::string info = "holdfast/1/agent-tree";
  ByteWriter(&info).U32(agent);
  const Key256 tree_key = Hkdf256(reader_key.ExposeView(), epoch.repository().view(), info);
  FixedSecret<struct TreeKeyMaterialTag, 64> ikm;
  std::memcpy(ikm.MutableBytes(), epoch.ChunkKey(ChunkType::kTree, agent).ExposeBytes(), 32);
  std::memcpy(ikm.MutableBytes() + 32, tree_key.ExposeBytes(), 32);
  return Hkdf256(ikm.ExposeView(), epoch.repository().view(), "holdfast/1/chunk-tree");
}

}  // namespace holdfast
