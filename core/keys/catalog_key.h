// Keys of the catalog objects (docs/format.md, sections 2 and 8), derived from the catalog key of an epoch and the
// object's own random salt. Packs, the log and stored manifests are sealed with them, and nothing derives one
// elsewhere. The catalog key opens names of chunks and their graph, no content: it is the only key that a server holds,
// and this the only header of core/keys that server and storage see. Pure functions, a few microseconds each.
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
// Version 1 of the format reserves index segments and writes none.
Key256 DeriveIndexSegmentKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository,
                             uint64_t sequence);
Key256 DeriveLogKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository, uint64_t slot);
Key256 DeriveManifestBlobKey(const Key256& catalog_key, std::string_view salt, const RepositoryId& repository,
                             const ManifestId& manifest);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_CATALOG_KEY_H_
