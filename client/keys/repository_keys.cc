#include "client/keys/repository_keys.h"

#include <algorithm>
#include <utility>

#include "core/keys/recovery_key.h"
#include "core/keys/settings.h"

namespace holdfast {
namespace {

constexpr int kAttemptsMax = 8;  // when others change keys at the same time

int64_t NowNs(Io& io) { return absl::ToUnixNanos(io.clock.Wall()); }

}  // namespace

absl::StatusOr<v1::CreateRepositoryRequest> CreateRepositoryKeys(const RepositoryToCreate& repository,
                                                                 const SecretString& password,
                                                                 const SecretString& recovery_key, Io& io) {
  RepositorySettings settings;
  io.random.Fill(absl::MakeSpan(settings.repository.bytes));
  settings.aead = repository.aead;
  settings.padding = repository.padding;
  const MasterSecret master = GenerateMasterSecret(io.random);
  const MasterKeys master_keys(master, settings.repository);

  KeySlots slots;
  slots.repository = settings.repository;
  NewKeySlot slot{
      .kind = KeySlotKind::kPassword, .label = "password", .argon2 = repository.argon2, .created_unix_ns = NowNs(io)};
  RETURN_IF_ERROR(AddKeySlot(slots, master, slot, password, io.random).status());
  if (!recovery_key.empty()) {
    slot.kind = KeySlotKind::kRecovery;
    slot.label = "recovery key";
    RETURN_IF_ERROR(AddKeySlot(slots, master, slot, recovery_key, io.random).status());
  }
  const Keyring keyring = NewKeyring(settings.repository, settings.aead, io.random);

  v1::CreateRepositoryRequest request;
  request.set_name(repository.name);
  request.set_repository_id(std::string(settings.repository.view()));
  request.set_aead(static_cast<uint32_t>(settings.aead));
  ASSIGN_OR_RETURN(*request.mutable_settings(), EncodeSettings(settings, master_keys.admin_key()));
  ASSIGN_OR_RETURN(*request.mutable_key_slots(), EncodeKeySlots(slots, master_keys.slot_mac_key()));
  ASSIGN_OR_RETURN(*request.mutable_keyring(), SealKeyring(keyring, master_keys.keyring_key(), io.random));
  request.set_catalog_key(std::string(keyring.current_epoch().catalog_key.ExposeView()));
  return request;
}

absl::StatusOr<v1::GetKeysReply> FetchKeys(RepositoryClient& client, const std::string& repository) {
  absl::StatusOr<v1::GetKeysReply> reply = client.GetKeys(repository);
  if (absl::IsNotFound(reply.status())) {
    return absl::NotFoundError(absl::StrCat("the server has no repository \"", repository,
                                            "\"\n  Create it with: holdfast repository create ", repository,
                                            "\n  or see what there is with: holdfast repository list"));
  }
  return reply;
}

absl::StatusOr<OwnerKeys> OpenOwnerKeys(const v1::GetKeysReply& keys, const SecretString& secret) {
  OwnerKeys out;
  ASSIGN_OR_RETURN(out.repository, RepositoryId::FromBytes(keys.repository_id()));
  ASSIGN_OR_RETURN(out.opened, OpenKeySlots(keys.key_slots(), out.repository, secret));
  const MasterKeys master_keys(out.opened.master, out.repository);
  ASSIGN_OR_RETURN(out.keyring, OpenKeyring(keys.keyring(), master_keys.keyring_key(), out.repository));
  out.key_slots_generation = std::max(keys.key_slots_generation(), out.opened.slots.generation);
  out.keyring_generation = std::max(keys.keyring_generation(), out.keyring.generation);
  out.settings = keys.settings();
  return out;
}

absl::Status ReplaceKeySlots(RepositoryClient& client, const std::string& repository, const SecretString& old_secret,
                             const NewKeySlot& request, const SecretString& new_secret,
                             const std::function<bool(const KeySlot& slot, uint32_t opened_slot_id)>& is_replaced,
                             Io& io) {
  absl::Status last;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    ASSIGN_OR_RETURN(v1::GetKeysReply keys, FetchKeys(client, repository));
    ASSIGN_OR_RETURN(OwnerKeys owner, OpenOwnerKeys(keys, old_secret));
    KeySlots slots = owner.opened.slots;
    std::vector<uint32_t> replaced;
    for (const KeySlot& slot : slots.slots) {
      if (is_replaced(slot, owner.opened.slot_id)) replaced.push_back(slot.id);
    }
    // The first is replaced and not removed and added, which works with the last slot and with the highest number of
    // slots, too.
    if (replaced.empty()) {
      RETURN_IF_ERROR(AddKeySlot(slots, owner.opened.master, request, new_secret, io.random).status());
    } else {
      RETURN_IF_ERROR(ReplaceKeySlot(slots, replaced[0], owner.opened.master, request, new_secret, io.random).status());
      for (size_t i = 1; i < replaced.size(); ++i) RETURN_IF_ERROR(RemoveKeySlot(slots, replaced[i]));
    }
    const MasterKeys master_keys(owner.opened.master, owner.repository);
    const int generations = replaced.empty() ? 1 : 2;
    for (int i = 1; i <= generations; ++i) {
      slots.generation = owner.key_slots_generation + i;
      v1::PutKeysRequest put;
      put.set_repository(repository);
      put.set_generation(slots.generation);
      ASSIGN_OR_RETURN(*put.mutable_key_slots(), EncodeKeySlots(slots, master_keys.slot_mac_key()));
      last = client.PutKeys(put);
      // Somebody else wrote the next generation, out of ours: the old one is gone all the same.
      if (i == 2 && absl::IsAborted(last)) last = absl::OkStatus();
      if (!last.ok()) break;
      // Read back and compare before the generation that the old password opens goes away.
      ASSIGN_OR_RETURN(v1::GetKeysReply stored, FetchKeys(client, repository));
      if (stored.key_slots_generation() == slots.generation && stored.key_slots() != put.key_slots()) {
        return absl::DataLossError("the server does not give back the key slots that it was given");
      }
    }
    if (last.ok()) return last;
    // Lost a race before anything was written: start over from what is there now.
    if (!absl::IsAborted(last)) return last;
  }
  return last;
}

absl::Status EnrolAgent(RepositoryClient& client, const std::string& repository, const AgentIdentity& identity,
                        std::string_view label, Io& io, OwnerKeys& keys) {
  const MasterKeys master_keys(keys.opened.master, keys.repository);
  absl::Status last;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    if (keys.keyring.FindAgent(identity) != nullptr) return absl::OkStatus();
    Keyring changed = keys.keyring;
    // Each generation that was lost may have given out a number, which must not be given to another agent.
    changed.next_agent_number +=
        static_cast<uint32_t>(std::min<uint64_t>(keys.keyring_generation - changed.generation, kAgentNumberMax));
    RETURN_IF_ERROR(AddAgent(changed, identity, label, NowNs(io)).status());
    changed.generation = keys.keyring_generation + 1;
    v1::PutKeysRequest put;
    put.set_repository(repository);
    put.set_generation(changed.generation);
    ASSIGN_OR_RETURN(*put.mutable_keyring(), SealKeyring(changed, master_keys.keyring_key(), io.random));
    last = client.PutKeys(put);
    if (!last.ok() && !absl::IsAborted(last)) return last;
    // What counts is what is stored: read it back, whoever was faster.
    ASSIGN_OR_RETURN(v1::GetKeysReply stored, FetchKeys(client, repository));
    ASSIGN_OR_RETURN(Keyring reread, OpenKeyring(stored.keyring(), master_keys.keyring_key(), keys.repository));
    if (reread.generation < keys.keyring.generation) {
      return absl::DataLossError("the server gives back an older keyring than before");
    }
    keys.keyring = std::move(reread);
    keys.keyring_generation = std::max(stored.keyring_generation(), keys.keyring.generation);
  }
  if (keys.keyring.FindAgent(identity) != nullptr) return absl::OkStatus();
  return last.ok() ? absl::AbortedError("the server does not keep the changed keyring") : last;
}

}  // namespace holdfast
