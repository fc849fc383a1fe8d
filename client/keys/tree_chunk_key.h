// The chunk key of an agent's tree pages (docs/format.md, section 2). The dedup secret is every agent's; mixing in the
// agent's reader key keeps an agent from computing the ids of another's pages, so none can guess at, or prepare, a
// page.
#ifndef HOLDFAST_CLIENT_KEYS_TREE_CHUNK_KEY_H_
#define HOLDFAST_CLIENT_KEYS_TREE_CHUNK_KEY_H_

#include <cstdint>

#include "core/crypto/types.h"
#include "core/keys/derive.h"

namespace holdfast {

// `reader_key` is agent's (AgentReaderKey). Pure; a few microseconds.
Key256 TreeChunkKey(const EpochKeys& epoch, const Key256& reader_key, uint32_t agent);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_KEYS_TREE_CHUNK_KEY_H_
