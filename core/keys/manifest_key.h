// Keys of a manifest's parts (docs/format.md, section 8), derived from keys that only clients have.
// core/format/manifest seals and opens with them. Pure functions, a few microseconds each.
#ifndef HOLDFAST_CORE_KEYS_MANIFEST_KEY_H_
#define HOLDFAST_CORE_KEYS_MANIFEST_KEY_H_

#include <cstdint>
#include <string_view>

#include "core/base/ids.h"
#include "core/crypto/types.h"

namespace holdfast {

// Wraps the root's content key for the readers of one agent. `key_id` is the agent's number.
Key256 DeriveStanzaKey(const Key256& reader_key, std::string_view salt, uint32_t key_id);
// Of the part that only readers see. `root_key` is the root's content key.
Key256 DeriveManifestSealedKey(const Key256& root_key, std::string_view salt, const RepositoryId& repository);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_MANIFEST_KEY_H_
