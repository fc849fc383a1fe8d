// Snapshot manifests (docs/format.md, section 8): parsing for everyone, sealing and opening for clients.
#ifndef HOLDFAST_CORE_FORMAT_MANIFEST_H_
#define HOLDFAST_CORE_FORMAT_MANIFEST_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/format/chunk.h"
#include "core/io/io.h"
#include "proto/holdfast/format/v1/manifest.pb.h"

namespace holdfast {

namespace pb = ::holdfast::format::v1;  // the persisted protobuf records

struct ParsedManifest {
  ManifestId id;
  pb::Manifest manifest;
  pb::ManifestCore core;
};

// Limits and shapes checked, nothing decrypted. DATA_LOSS: not a manifest.
absl::StatusOr<ParsedManifest> ParseManifest(std::string_view bytes);
absl::StatusOr<pb::ManifestCore> ParseManifestCore(std::string_view bytes);
ManifestId ManifestIdOf(std::string_view bytes);

struct ManifestKeys {
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;
  RepositoryId repository;
  uint32_t agent = 0;
  Key256 agent_mac_key;
  Key256 agent_reader_key;
};

// The bytes to commit. `root` is the reference of core.root_id.
absl::StatusOr<std::string> SealManifest(const pb::ManifestCore& core, const pb::ManifestSealed& sealed,
                                         const ChunkRef& root, const ManifestKeys& keys, Random& random);

struct OpenedManifest {
  ManifestId id;
  pb::ManifestCore core;
  pb::ManifestSealed sealed;
  ChunkRef root;
};

// `reader_key(agent)` gives the reader key for a stanza or nothing. PERMISSION_DENIED when no stanza can be opened;
// DATA_LOSS when the manifest is not authentic. The MAC is checked when `mac_key` is given.
absl::StatusOr<OpenedManifest> OpenManifest(std::string_view bytes, const RepositoryId& repository, AeadAlgorithm aead,
                                            const std::function<std::optional<Key256>(uint32_t agent)>& reader_key,
                                            const std::optional<Key256>& mac_key);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_FORMAT_MANIFEST_H_
