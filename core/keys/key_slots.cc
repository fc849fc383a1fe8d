#include "core/keys/key_slots.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/codec.h"
#include "core/crypto/aead.h"
#include "core/keys/envelope.h"
#include "core/keys/recovery_key.h"
#include "proto/holdfast/format/v1/keys.pb.h"

namespace holdfast {
namespace {

namespace pb = ::holdfast::format::v1;

constexpr std::string_view kMagic("HFSLOT1\0", 8);
constexpr std::string_view kWhat = "key slots";
constexpr size_t kKekBytes = 32;  // of Argon2's output; the rest is the commitment

template <size_t N>
std::string_view View(const std::array<uint8_t, N>& a) {
  return {reinterpret_cast<const char*>(a.data()), N};
}

template <size_t N>
bool Copy(const std::string& from, std::array<uint8_t, N>& to) {
  if (from.size() != N) return false;
  std::memcpy(to.data(), from.data(), N);
  return true;
}

std::string WrapAad(const RepositoryId& repository, KeySlotKind kind) {
  std::string aad = "holdfast/1/slot";
  ByteWriter w(&aad);
  w.Bytes(repository.view());
  w.U8(static_cast<uint8_t>(kind));
  return aad;
}

// The rules of the format that both sides keep; the message says which one is broken.
absl::Status Check(const KeySlots& slots) {
  auto broken = [](std::string_view why) { return absl::InvalidArgumentError(AbslView(why)); };
  if (slots.repository.IsZero()) return broken("no repository id");
  if (slots.generation == 0 || slots.generation > kGenerationMax) return broken("generation out of range");
  if (slots.slots.empty()) return broken("no slot");
  if (slots.slots.size() > kKeySlotsMax) return broken("too many slots");
  uint32_t last = 0;
  for (const KeySlot& slot : slots.slots) {
    if (slot.id <= last) return broken("slot ids do not ascend");
    last = slot.id;
    RETURN_IF_ERROR(CheckArgon2Params(slot.argon2));
    if (slot.label.size() > kKeyLabelBytesMax) return broken("label too long");
  }
  if (slots.next_slot_id <= last) return broken("the next slot id is taken");
  return absl::OkStatus();
}

struct Decoded {
  KeySlots slots;
  Envelope envelope;  // views into the blob
};

absl::StatusOr<Decoded> Decode(std::string_view blob) {
  auto broken = [](std::string_view why) {
    return absl::DataLossError(absl::StrCat(AbslView(kWhat), ": ", AbslView(why)));
  };
  Decoded out;
  ASSIGN_OR_RETURN(out.envelope, DecodeEnvelope(blob, kMagic, kKeySlotsBytesMax, kWhat));
  pb::KeySlots message;
  if (!message.ParseFromArray(out.envelope.payload.data(), static_cast<int>(out.envelope.payload.size()))) {
    return broken("not a KeySlots record");
  }
  auto repository = RepositoryId::FromBytes(message.repository_id());
  if (!repository.ok()) return broken("bad repository id");
  if (message.slots_size() > static_cast<int>(kKeySlotsMax)) return broken("too many slots");
  out.slots.repository = *repository;
  out.slots.generation = message.generation();
  out.slots.next_slot_id = message.next_slot_id();
  for (const pb::KeySlot& in : message.slots()) {
    KeySlot slot;
    slot.id = in.id();
    if (in.kind() != pb::KeySlot::KIND_PASSWORD && in.kind() != pb::KeySlot::KIND_RECOVERY) {
      return absl::FailedPreconditionError("key slots: a slot of a kind that only a newer version of Holdfast knows");
    }
    slot.kind = static_cast<KeySlotKind>(in.kind());
    slot.label = in.label();
    slot.argon2 = {in.argon2_memory_kib(), in.argon2_passes()};
    slot.created_unix_ns = in.created_unix_ns();
    if (!Copy(in.salt(), slot.salt) || !Copy(in.commitment(), slot.commitment) ||
        !Copy(in.wrapped_master(), slot.wrapped_master)) {
      return broken("a field of a slot has the wrong size");
    }
    out.slots.slots.push_back(std::move(slot));
  }
  absl::Status rules = Check(out.slots);
  if (!rules.ok()) return broken(StdView(rules.message()));
  return out;
}

absl::Status CheckRepository(const KeySlots& slots, const RepositoryId& repository) {
  if (slots.repository == repository) return absl::OkStatus();
  return absl::DataLossError("key slots: they belong to another repository");
}

absl::Status CheckMac(const Envelope& envelope, const Key256& slot_mac_key) {
  if (EqualInConstantTime(View(HmacSha256(slot_mac_key, envelope.signed_part)), envelope.tag)) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      "key slots: the set was altered by somebody without the master secret (its MAC does not match)");
}

// A recovery key in its canonical spelling, anything else as it is.
absl::StatusOr<SecretString> CanonicalSecret(KeySlotKind kind, const SecretString& secret) {
  if (kind == KeySlotKind::kRecovery) return ParseRecoveryKey(secret.ExposeView());
  return secret.Clone();
}

absl::StatusOr<KeySlot> MakeSlot(const RepositoryId& repository, const MasterSecret& master, const NewKeySlot& request,
                                 const SecretString& secret, Random& random) {
  if (secret.empty()) return absl::InvalidArgumentError("an empty password protects nothing");
  RETURN_IF_ERROR(CheckKeyLabel(request.label));
  RETURN_IF_ERROR(CheckArgon2Params(request.argon2));
  ASSIGN_OR_RETURN(SecretString canonical, CanonicalSecret(request.kind, secret));
  KeySlot slot;
  slot.kind = request.kind;
  slot.label = request.label;
  slot.argon2 = request.argon2;
  slot.created_unix_ns = request.created_unix_ns;
  random.Fill(absl::MakeSpan(slot.salt));
  ASSIGN_OR_RETURN(Key512 out, Argon2id(canonical.ExposeView(), View(slot.salt), slot.argon2));
  std::memcpy(slot.commitment.data(), out.ExposeBytes() + kKekBytes, slot.commitment.size());
  AeadNonce nonce;
  random.Fill(absl::MakeSpan(nonce));
  std::memcpy(slot.wrapped_master.data(), nonce.data(), nonce.size());
  Aead(AeadAlgorithm::kAes256Gcm, Key256(out.ExposeBytes()))
      .Seal(nonce, WrapAad(repository, slot.kind), master.ExposeView(),
            reinterpret_cast<char*>(slot.wrapped_master.data()) + nonce.size());
  return slot;
}

// True and the master when `secret` (canonical for the slot's kind) is this slot's.
absl::StatusOr<bool> TrySlot(const KeySlot& slot, const RepositoryId& repository, const SecretString& secret,
                             MasterSecret& master) {
  ASSIGN_OR_RETURN(Key512 out, Argon2id(secret.ExposeView(), View(slot.salt), slot.argon2));
  if (!EqualInConstantTime(View(slot.commitment), out.ExposeView().substr(kKekBytes))) return false;
  AeadNonce nonce;
  std::memcpy(nonce.data(), slot.wrapped_master.data(), nonce.size());
  std::string_view sealed = View(slot.wrapped_master).substr(nonce.size());
  if (!Aead(AeadAlgorithm::kAes256Gcm, Key256(out.ExposeBytes()))
           .Open(nonce, WrapAad(repository, slot.kind), sealed, reinterpret_cast<char*>(master.MutableBytes()))) {
    return absl::DataLossError(
        absl::StrCat("key slots: slot ", slot.id, " takes this password but its wrapped key is damaged"));
  }
  return true;
}

}  // namespace

absl::Status CheckKeyLabel(std::string_view label) {
  if (label.size() > kKeyLabelBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a label of ", label.size(), " bytes where at most ", kKeyLabelBytesMax, " are allowed"));
  }
  for (unsigned char c : label) {
    if (c < 0x20 || c == 0x7f) return absl::InvalidArgumentError("a label with control characters");
  }
  return absl::OkStatus();
}

MasterSecret GenerateMasterSecret(Random& random) {
  MasterSecret master;
  random.Fill(absl::MakeSpan(master.MutableBytes(), MasterSecret::kSizeInBytes));
  return master;
}

absl::StatusOr<uint32_t> AddKeySlot(KeySlots& slots, const MasterSecret& master, const NewKeySlot& request,
                                    const SecretString& secret, Random& random) {
  if (slots.slots.size() >= kKeySlotsMax) {
    return absl::ResourceExhaustedError(absl::StrCat("a repository has at most ", kKeySlotsMax, " key slots"));
  }
  ASSIGN_OR_RETURN(KeySlot slot, MakeSlot(slots.repository, master, request, secret, random));
  slot.id = slots.next_slot_id++;
  slots.slots.push_back(std::move(slot));
  return slots.slots.back().id;
}

absl::Status RemoveKeySlot(KeySlots& slots, uint32_t id) {
  auto it = std::find_if(slots.slots.begin(), slots.slots.end(), [&](const KeySlot& s) { return s.id == id; });
  if (it == slots.slots.end()) return absl::NotFoundError(absl::StrCat("there is no key slot ", id));
  if (slots.slots.size() == 1) {
    return absl::FailedPreconditionError("this is the last key slot: without it nobody could open the repository");
  }
  slots.slots.erase(it);
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> ReplaceKeySlot(KeySlots& slots, uint32_t id, const MasterSecret& master,
                                        const NewKeySlot& request, const SecretString& secret, Random& random) {
  auto it = std::find_if(slots.slots.begin(), slots.slots.end(), [&](const KeySlot& s) { return s.id == id; });
  if (it == slots.slots.end()) return absl::NotFoundError(absl::StrCat("there is no key slot ", id));
  ASSIGN_OR_RETURN(KeySlot slot, MakeSlot(slots.repository, master, request, secret, random));
  slot.id = slots.next_slot_id++;
  slots.slots.erase(it);
  slots.slots.push_back(std::move(slot));
  return slots.slots.back().id;
}

absl::StatusOr<std::string> EncodeKeySlots(const KeySlots& slots, const Key256& slot_mac_key) {
  absl::Status rules = Check(slots);
  if (!rules.ok()) return Annotate(rules, kWhat);
  pb::KeySlots message;
  message.set_repository_id(std::string(slots.repository.view()));
  message.set_generation(slots.generation);
  message.set_next_slot_id(slots.next_slot_id);
  for (const KeySlot& slot : slots.slots) {
    pb::KeySlot& out = *message.add_slots();
    out.set_id(slot.id);
    out.set_kind(static_cast<pb::KeySlot::Kind>(slot.kind));
    out.set_label(slot.label);
    out.set_argon2_memory_kib(slot.argon2.memory_kib);
    out.set_argon2_passes(slot.argon2.passes);
    out.set_salt(std::string(View(slot.salt)));
    out.set_commitment(std::string(View(slot.commitment)));
    out.set_wrapped_master(std::string(View(slot.wrapped_master)));
    out.set_created_unix_ns(slot.created_unix_ns);
  }
  std::string signed_part = EnvelopeSignedPart(kMagic, message.SerializeAsString());
  std::array<uint8_t, 32> mac = HmacSha256(slot_mac_key, signed_part);
  return FinishEnvelope(std::move(signed_part), View(mac));
}

absl::StatusOr<KeySlots> DecodeKeySlots(std::string_view blob) {
  ASSIGN_OR_RETURN(Decoded decoded, Decode(blob));
  return std::move(decoded.slots);
}

absl::StatusOr<KeySlots> VerifyKeySlots(std::string_view blob, const RepositoryId& repository,
                                        const Key256& slot_mac_key) {
  ASSIGN_OR_RETURN(Decoded decoded, Decode(blob));
  RETURN_IF_ERROR(CheckRepository(decoded.slots, repository));
  RETURN_IF_ERROR(CheckMac(decoded.envelope, slot_mac_key));
  return std::move(decoded.slots);
}

absl::StatusOr<OpenedKeySlots> OpenKeySlots(std::string_view blob, const RepositoryId& repository,
                                            const SecretString& secret) {
  ASSIGN_OR_RETURN(Decoded decoded, Decode(blob));  // all parameters are within the limits after this
  RETURN_IF_ERROR(CheckRepository(decoded.slots, repository));
  OpenedKeySlots opened;
  // Only what is spelled like a recovery key can open a recovery slot, so that an ordinary password costs nothing
  // there.
  for (KeySlotKind kind : {KeySlotKind::kRecovery, KeySlotKind::kPassword}) {
    absl::StatusOr<SecretString> canonical = CanonicalSecret(kind, secret);
    if (!canonical.ok()) continue;
    for (const KeySlot& slot : decoded.slots.slots) {
      if (slot.kind != kind) continue;
      ASSIGN_OR_RETURN(bool ours, TrySlot(slot, repository, *canonical, opened.master));
      if (!ours) continue;
      RETURN_IF_ERROR(CheckMac(decoded.envelope, MasterKeys(opened.master, repository).slot_mac_key()));
      opened.slot_id = slot.id;
      opened.slots = std::move(decoded.slots);
      return opened;
    }
  }
  return absl::UnauthenticatedError("wrong password");
}

absl::StatusOr<MasterSecret> OpenMaster(std::string_view blob, const RepositoryId& repository,
                                        const SecretString& secret) {
  ASSIGN_OR_RETURN(OpenedKeySlots opened, OpenKeySlots(blob, repository, secret));
  return opened.master;
}

}  // namespace holdfast
