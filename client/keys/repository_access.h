// What somebody may do with one repository: as an unlocked agent (credentials on this machine, no password needed) or
// as the owner (a password or the recovery key). Hands out the keys of backups and of snapshots; nothing here prints.
//
// Files, in <config>/repositories (0700): <name>.credentials (0600) while the repository is unlocked, and
// <name>.identity, 16 random bytes in hexadecimal that make this configuration directory one agent. The identity
// survives locking; a new configuration directory is a new agent.
#ifndef HOLDFAST_CLIENT_KEYS_REPOSITORY_ACCESS_H_
#define HOLDFAST_CLIENT_KEYS_REPOSITORY_ACCESS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "client/keys/backup_keys.h"
#include "client/keys/repository_keys.h"
#include "client/rpc/repository_client.h"
#include "core/base/secret.h"
#include "core/base/status.h"
#include "core/format/manifest.h"
#include "core/format/record_sealer.h"
#include "core/io/io.h"
#include "core/keys/credentials.h"
#include "core/keys/settings.h"

namespace holdfast {

// One thread at a time. `client` and `io` are borrowed.
class RepositoryAccess {
 public:
  struct Place {
    std::string repository;        // its name at the server
    std::string config_directory;  // <config> of machine_paths.h
    std::string agent_label;       // for people: user@host
  };

  // As the unlocked agent. NOT_FOUND: not unlocked. FAILED_PRECONDITION: the server's repository is not the one that
  // was unlocked, its settings changed, or its keyring is older than one that was seen.
  static absl::StatusOr<std::unique_ptr<RepositoryAccess>> AsAgent(RepositoryClient& client, Place place, Io& io);
  // As the owner. UNAUTHENTICATED: wrong password.
  static absl::StatusOr<std::unique_ptr<RepositoryAccess>> AsOwner(RepositoryClient& client, Place place,
                                                                   const SecretString& secret, Io& io);

  bool is_owner() const { return owner_.has_value(); }
  const RepositoryId& repository() const { return settings_.repository; }
  const RepositorySettings& settings() const { return settings_; }

  // Of this machine's agent. The owner's machine is enrolled when it is no agent yet.
  absl::StatusOr<BackupKeys> MakeBackupKeys();
  // Owner only: enrols this machine and remembers what it needs, so that AsAgent works from now on.
  absl::StatusOr<AgentCredentials> Unlock();

  // Opens manifest bytes that must be those of snapshot `id`. PERMISSION_DENIED: another agent's, and not the owner
  // here.
  struct Snapshot {
    OpenedManifest manifest;
  };
  absl::StatusOr<Snapshot> OpenSnapshot(std::string_view manifest_bytes, const ManifestId& id) const;

  // The file of an unlocked repository, and of the identity.
  static std::string CredentialsPath(const Place& place);
  static std::string IdentityPath(const Place& place);

 private:
  RepositoryAccess(RepositoryClient& client, Place place, Io& io)
      : client_(client), place_(std::move(place)), io_(io) {}

  absl::Status Enrol();  // owner: fills in agent_
  std::optional<Key256> ReaderKey(uint32_t agent) const;
  std::optional<Key256> MacKey(uint32_t agent) const;
  absl::StatusOr<SealingKeys> MakeSealingKeys(uint32_t agent, uint32_t epoch) const;

  RepositoryClient& client_;
  const Place place_;
  Io& io_;
  RepositorySettings settings_;
  Digest settings_digest_;
  std::optional<OwnerKeys> owner_;
  std::optional<AgentCredentials> agent_;  // AsAgent: from the file; AsOwner: after Enrol
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_KEYS_REPOSITORY_ACCESS_H_
