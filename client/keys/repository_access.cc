#include "client/keys/repository_access.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "core/base/ids.h"
#include "core/keys/derive.h"

namespace holdfast {
namespace {

constexpr size_t kIdentityFileBytesMax = 64;

std::string Directory(const RepositoryAccess::Place& place) { return place.config_directory + "/repositories"; }

// Makes it when there is none. Two processes that start at once get the same one.
absl::StatusOr<AgentIdentity> LoadOrMakeIdentity(const RepositoryAccess::Place& place, Io& io) {
  const std::string path = RepositoryAccess::IdentityPath(place);
  for (int attempt = 0; attempt < 3; ++attempt) {
    absl::StatusOr<std::string> text = ReadWholeFile(io.files, path, kIdentityFileBytesMax);
    if (text.ok()) {
      absl::StatusOr<std::string> bytes = HexDecode(StdView(absl::StripAsciiWhitespace(*text)));
      if (bytes.ok() && bytes->size() == AgentIdentity::kSizeInBytes) return AgentIdentity::FromBytes(*bytes);
      return absl::DataLossError(absl::StrCat(path, " is damaged\n  Remove it to make this machine a new agent."));
    }
    if (!absl::IsNotFound(text.status())) return text.status();
    RETURN_IF_ERROR(io.files.MakeDirectories(Directory(place)));
    AgentIdentity identity;
    io.random.Fill(absl::MakeSpan(identity.bytes));
    // Under a name of our own first: the file is complete as soon as it has its name.
    const std::string temporary = absl::StrCat(path, ".", HexEncode(identity.view()).substr(0, 8), ".tmp");
    {
      ASSIGN_OR_RETURN(std::unique_ptr<File> file, io.files.Open(temporary, OpenMode::kCreateNew));
      const std::string line = HexEncode(identity.view()) + "\n";
      const std::string_view part = line;
      absl::Status written = file->Append(absl::MakeConstSpan(&part, 1));
      if (written.ok()) written = file->Sync();
      if (!written.ok()) {
        (void)io.files.Unlink(temporary);
        return written;
      }
    }
    absl::Status renamed = io.files.RenameNoReplace(temporary, path);
    if (renamed.ok()) {
      RETURN_IF_ERROR(io.files.SyncDirectory(Directory(place)));
      return identity;
    }
    (void)io.files.Unlink(temporary);
    if (!absl::IsAlreadyExists(renamed)) return renamed;
  }
  return absl::AbortedError(absl::StrCat(path, " cannot be made"));
}

absl::Status CheckKeyringGeneration(uint64_t given, uint64_t remembered) {
  if (given >= remembered) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the server's keyring is of generation ", given, ", but this machine has seen ", remembered,
                   ": the repository was put back to an older state\n  If that was meant, run: holdfast repository "
                   "lock, then unlock."));
}

absl::Status CheckSameRepository(const RepositoryId& server, const AgentCredentials& credentials,
                                 const RepositoryAccess::Place& place) {
  if (server == credentials.repository) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the server's repository \"", place.repository,
                   "\" is not the one that was unlocked here (it has another id)\n  If it was created anew, run: "
                   "holdfast repository lock ",
                   place.repository, ", then unlock ", place.repository));
}

}  // namespace

std::string RepositoryAccess::CredentialsPath(const Place& place) {
  return absl::StrCat(Directory(place), "/", place.repository, ".credentials");
}
std::string RepositoryAccess::IdentityPath(const Place& place) {
  return absl::StrCat(Directory(place), "/", place.repository, ".identity");
}

absl::StatusOr<std::unique_ptr<RepositoryAccess>> RepositoryAccess::AsAgent(RepositoryClient& client, Place place,
                                                                            Io& io) {
  ASSIGN_OR_RETURN(AgentCredentials credentials, LoadCredentials(io.files, CredentialsPath(place)));
  ASSIGN_OR_RETURN(v1::GetKeysReply keys, FetchKeys(client, place.repository));
  ASSIGN_OR_RETURN(RepositoryId id, RepositoryId::FromBytes(keys.repository_id()));
  RETURN_IF_ERROR(CheckSameRepository(id, credentials, place));
  // Without the keyring key the number is the server's word: good enough to refuse, not to remember.
  RETURN_IF_ERROR(CheckKeyringGeneration(keys.keyring_generation(), credentials.keyring_generation));
  std::unique_ptr<RepositoryAccess> access(new RepositoryAccess(client, std::move(place), io));
  ASSIGN_OR_RETURN(access->settings_, VerifySettings(keys.settings(), id, credentials.settings_digest));
  if (access->settings_.aead != credentials.aead) return absl::DataLossError("the settings name another cipher");
  access->settings_digest_ = credentials.settings_digest;
  access->agent_ = std::move(credentials);
  return access;
}

absl::StatusOr<std::unique_ptr<RepositoryAccess>> RepositoryAccess::AsOwner(RepositoryClient& client, Place place,
                                                                            const SecretString& secret, Io& io) {
  ASSIGN_OR_RETURN(v1::GetKeysReply keys, FetchKeys(client, place.repository));
  std::unique_ptr<RepositoryAccess> access(new RepositoryAccess(client, std::move(place), io));
  ASSIGN_OR_RETURN(access->owner_, OpenOwnerKeys(keys, secret));
  const OwnerKeys& owner = *access->owner_;
  ASSIGN_OR_RETURN(access->settings_, VerifySettings(owner.settings, owner.repository,
                                                     MasterKeys(owner.opened.master, owner.repository).admin_key()));
  access->settings_digest_ = SettingsDigest(owner.settings);
  if (access->settings_.aead != owner.keyring.aead) {
    return absl::DataLossError("the settings and the keyring name different ciphers");
  }
  absl::StatusOr<AgentCredentials> remembered = LoadCredentials(io.files, CredentialsPath(access->place_));
  if (remembered.ok()) {
    RETURN_IF_ERROR(CheckSameRepository(owner.repository, *remembered, access->place_));
    RETURN_IF_ERROR(CheckKeyringGeneration(owner.keyring.generation, remembered->keyring_generation));
  }
  return access;
}

absl::Status RepositoryAccess::Enrol() {
  if (agent_) return absl::OkStatus();
  ASSIGN_OR_RETURN(AgentIdentity identity, LoadOrMakeIdentity(place_, io_));
  RETURN_IF_ERROR(EnrolAgent(client_, place_.repository, identity, place_.agent_label, io_, *owner_));
  const KeyringAgent* agent = owner_->keyring.FindAgent(identity);
  ASSIGN_OR_RETURN(
      agent_, MakeCredentials(owner_->keyring, MasterKeys(owner_->opened.master, owner_->repository), agent->number));
  agent_->repository_name = place_.repository;
  agent_->settings_generation = settings_.generation;
  agent_->settings_digest = settings_digest_;
  return absl::OkStatus();
}

absl::StatusOr<AgentCredentials> RepositoryAccess::Unlock() {
  RETURN_IF_ERROR(Enrol());
  RETURN_IF_ERROR(SaveCredentials(io_, CredentialsPath(place_), *agent_));
  return *agent_;
}

std::optional<Key256> RepositoryAccess::ReaderKey(uint32_t agent) const {
  if (owner_) {
    return AgentReaderKey(owner_->keyring.owner_reader_key, owner_->repository, agent);
  }
  if (agent_ && agent_->agent_number == agent) return agent_->reader_key;
  return std::nullopt;
}

std::optional<Key256> RepositoryAccess::MacKey(uint32_t agent) const {
  if (owner_) return MasterKeys(owner_->opened.master, owner_->repository).AgentMacKey(agent);
  if (agent_ && agent_->agent_number == agent) return agent_->mac_key;
  return std::nullopt;
}

absl::StatusOr<SealingKeys> RepositoryAccess::MakeSealingKeys(uint32_t agent, uint32_t epoch) const {
  Key256 dedup_secret;
  if (owner_) {
    const KeyringEpoch* found = owner_->keyring.FindEpoch(epoch);
    if (found == nullptr) return absl::NotFoundError(absl::StrCat("the keyring has no key epoch ", epoch));
    dedup_secret = found->dedup_secret;
  } else {
    if (agent_->epoch != epoch) {
      return absl::PermissionDeniedError(absl::StrCat("this machine was unlocked for key epoch ", agent_->epoch,
                                                      ", not ", epoch, "; the repository's password opens it"));
    }
    dedup_secret = agent_->dedup_secret;
  }
  std::optional<Key256> reader_key = ReaderKey(agent);
  if (!reader_key) return absl::PermissionDeniedError("it belongs to another agent");
  const EpochKeys keys(dedup_secret, settings_.repository, epoch);
  SealingKeys sealing;
  sealing.repository = settings_.repository;
  sealing.aead = settings_.aead;
  sealing.epoch = epoch;
  sealing.agent = agent;
  sealing.padding = settings_.padding;
  sealing.data_key = keys.data_chunk_key();
  sealing.tree_key = keys.TreeChunkKey(*reader_key, agent);
  sealing.nonce_key = keys.nonce_key();
  return sealing;
}

absl::StatusOr<BackupKeys> RepositoryAccess::MakeBackupKeys() {
  RETURN_IF_ERROR(Enrol());
  BackupKeys out;
  ASSIGN_OR_RETURN(out.sealing, MakeSealingKeys(agent_->agent_number, agent_->epoch));
  out.manifest.aead = settings_.aead;
  out.manifest.repository = settings_.repository;
  out.manifest.agent = agent_->agent_number;
  out.manifest.agent_mac_key = agent_->mac_key;
  out.manifest.agent_reader_key = agent_->reader_key;
  const EpochKeys keys(agent_->dedup_secret, settings_.repository, agent_->epoch);
  out.cut_key = keys.cut_key();
  out.name_cut_key = keys.name_cut_key();
  out.chunker = {settings_.chunker.min_bytes, settings_.chunker.max_bytes, settings_.chunker.mask_bits};
  return out;
}

absl::StatusOr<RepositoryAccess::Snapshot> RepositoryAccess::OpenSnapshot(std::string_view manifest_bytes,
                                                                          const ManifestId& id) const {
  if (ManifestIdOf(manifest_bytes) != id) {
    return absl::DataLossError("the manifest that the server gave is not that of this snapshot");
  }
  ASSIGN_OR_RETURN(ParsedManifest parsed, ParseManifest(manifest_bytes));
  Snapshot out;
  ASSIGN_OR_RETURN(out.manifest, OpenManifest(
                                     manifest_bytes, settings_.repository, settings_.aead,
                                     [this](uint32_t agent) { return ReaderKey(agent); }, MacKey(parsed.core.agent())));
  return out;
}

}  // namespace holdfast
