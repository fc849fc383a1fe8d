// What a server knows of a repository beyond its storage: id, AEAD and catalog key. A small file: magic, version byte;
// repository id, AEAD; nonce and the catalog key sealed under the server's key.
#ifndef HOLDFAST_SERVER_DAEMON_REPOSITORY_CONFIG_H_
#define HOLDFAST_SERVER_DAEMON_REPOSITORY_CONFIG_H_

#include <string>
#include <string_view>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/io/io.h"

namespace holdfast {

struct RepositoryConfig {
  RepositoryId id;
  AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm;
  Key256 catalog_key;
};

std::string EncodeRepositoryConfig(const RepositoryConfig& config, const Key256& server_key, Random& random);
// DATA_LOSS when it is damaged, of another version, or sealed under another server's key.
absl::StatusOr<RepositoryConfig> DecodeRepositoryConfig(std::string_view in, const Key256& server_key);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_DAEMON_REPOSITORY_CONFIG_H_
