// Keys of the catalog objects (docs/format.md, section 2), derived from the catalog key of an epoch and the object's
// own random salt. The catalog key opens names of chunks and their graph, no content: it is the only key that a server
// holds, and this is the only header about repository keys that a server uses. Pure functions, a few microseconds each.
#ifndef HOLDFAST_CORE_KEYS_CATALOG_KEY_H_
#define HOLDFAST_CORE_KEYS_CATALOG_KEY_H_

#include <cstdint>
#include <string_view>

#include "core/base/ids.h"
#include "core/crypto/types.h"

namespace holdfast {

inline constexpr size_t kCatalogSaltSizeInBytes = 32;

// `kind` as in the pack's header: 1 data, 2 tree.
Key256 DerivePackKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository,
                     const PackId& pack, uint8_t kind);
Key256 DeriveIndexSegmentKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository,
                             uint64_t sequence);
Key256 DeriveLogKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository, uint64_t slot);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_CATALOG_KEY_H_
