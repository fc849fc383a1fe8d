#include "core/keys/keyring.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "core/base/codec.h"
#include "core/crypto/aead.h"
#include "core/keys/envelope.h"
#include "core/keys/key_slots.h"
#include "proto/holdfast/format/v1/keys.pb.h"

namespace holdfast {
namespace {

namespace pb = ::holdfast::format::v1;

constexpr std::string_view kMagic("HFRING1\0", 8);
constexpr std::string_view kWhat = "keyring";

void Wipe(std::string* s) {
  if (!s->empty()) WipeMemory(s->data(), s->size());
}

// Protobuf keeps bytes in strings that it does not wipe.
struct WipedMessage {
  pb::Keyring message;
  ~WipedMessage() {
    Wipe(message.mutable_owner_reader_key());
    for (pb::Keyring::Epoch& epoch : *message.mutable_epochs()) {
      Wipe(epoch.mutable_dedup_secret());
      Wipe(epoch.mutable_catalog_key());
    }
  }
};

struct WipedString {
  std::string value;
  ~WipedString() { Wipe(&value); }
};

Key256 RandomKey(Random& random) {
  Key256 key;
  random.Fill(absl::MakeSpan(key.MutableBytes(), Key256::kSizeInBytes));
  return key;
}

bool CopyKey(const std::string& from, Key256& to) {
  if (from.size() != Key256::kSizeInBytes) return false;
  std::memcpy(to.MutableBytes(), from.data(), from.size());
  return true;
}

// The rules of the format that both sides keep; the message says which one is broken.
absl::Status Check(const Keyring& keyring) {
  auto broken = [](std::string_view why) { return absl::InvalidArgumentError(AbslView(why)); };
  if (keyring.repository.IsZero()) return broken("no repository id");
  if (keyring.generation == 0 || keyring.generation > kGenerationMax) return broken("generation out of range");
  if (!IsKnownAead(static_cast<uint8_t>(keyring.aead))) return broken("unknown AEAD");
  if (keyring.epochs.empty()) return broken("no epoch");
  if (keyring.epochs.size() > kKeyringEpochsMax) return broken("too many epochs");
  uint32_t last = 0;
  for (const KeyringEpoch& epoch : keyring.epochs) {
    if (epoch.number <= last) return broken("epochs do not ascend");
    last = epoch.number;
    if (epoch.dedup_secret.IsZero() || epoch.catalog_key.IsZero()) return broken("an epoch without its secrets");
  }
  if (keyring.owner_reader_key.IsZero()) return broken("no owner reader key");
  last = 0;
  std::set<AgentIdentity> identities;
  for (const KeyringAgent& agent : keyring.agents) {
    if (agent.number <= last) return broken("agent numbers do not ascend");
    last = agent.number;
    if (agent.identity.IsZero() || !identities.insert(agent.identity).second) {
      return broken("an agent without an identity of its own");
    }
    if (agent.label.size() > kKeyLabelBytesMax) return broken("label too long");
  }
  if (last > kAgentNumberMax || keyring.next_agent_number > kAgentNumberMax + 1) return broken("too many agents");
  if (keyring.next_agent_number <= last) return broken("the next agent number is taken");
  return absl::OkStatus();
}

// 32 bytes: u64 generation, u8 AEAD, zeros. In the clear, so that a reader knows them before it can open.
std::string Tag(uint64_t generation, uint8_t aead) {
  std::string tag;
  ByteWriter w(&tag);
  w.U64(generation);
  w.U8(aead);
  tag.resize(kEnvelopeTagBytes, '\0');
  return tag;
}

std::string Aad(const RepositoryId& repository, uint64_t generation, uint8_t aead) {
  std::string aad(kMagic);
  ByteWriter w(&aad);
  w.Bytes(repository.view());
  w.U64(generation);
  w.U8(aead);
  return aad;
}

}  // namespace

const KeyringEpoch* Keyring::FindEpoch(uint32_t number) const {
  for (const KeyringEpoch& epoch : epochs) {
    if (epoch.number == number) return &epoch;
  }
  return nullptr;
}

const KeyringAgent* Keyring::FindAgent(uint32_t number) const {
  for (const KeyringAgent& agent : agents) {
    if (agent.number == number) return &agent;
  }
  return nullptr;
}

const KeyringAgent* Keyring::FindAgent(const AgentIdentity& identity) const {
  for (const KeyringAgent& agent : agents) {
    if (agent.identity == identity) return &agent;
  }
  return nullptr;
}

Keyring NewKeyring(const RepositoryId& repository, AeadAlgorithm aead, Random& random) {
  Keyring keyring;
  keyring.repository = repository;
  keyring.aead = aead;
  KeyringEpoch epoch;
  epoch.number = 1;
  epoch.dedup_secret = RandomKey(random);
  epoch.catalog_key = RandomKey(random);
  keyring.epochs.push_back(epoch);
  keyring.owner_reader_key = RandomKey(random);
  return keyring;
}

absl::StatusOr<uint32_t> AddAgent(Keyring& keyring, const AgentIdentity& identity, std::string_view label,
                                  int64_t created_unix_ns) {
  if (identity.IsZero()) return absl::InvalidArgumentError("an agent without an identity");
  RETURN_IF_ERROR(CheckKeyLabel(label));
  if (const KeyringAgent* known = keyring.FindAgent(identity)) return known->number;
  if (keyring.next_agent_number > kAgentNumberMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a repository enrols at most ", kAgentNumberMax, " agents in its life"));
  }
  KeyringAgent agent;
  agent.number = keyring.next_agent_number++;
  agent.identity = identity;
  agent.label = std::string(label);
  agent.created_unix_ns = created_unix_ns;
  keyring.agents.push_back(std::move(agent));
  return keyring.agents.back().number;
}

absl::StatusOr<std::string> SealKeyring(const Keyring& keyring, const Key256& keyring_key, Random& random) {
  absl::Status rules = Check(keyring);
  if (!rules.ok()) return Annotate(rules, kWhat);
  const uint8_t aead = static_cast<uint8_t>(keyring.aead);
  WipedMessage wiped;
  pb::Keyring& message = wiped.message;
  message.set_repository_id(std::string(keyring.repository.view()));
  message.set_generation(keyring.generation);
  message.set_aead(aead);
  for (const KeyringEpoch& epoch : keyring.epochs) {
    pb::Keyring::Epoch& out = *message.add_epochs();
    out.set_number(epoch.number);
    out.mutable_dedup_secret()->assign(epoch.dedup_secret.ExposeView());
    out.mutable_catalog_key()->assign(epoch.catalog_key.ExposeView());
  }
  message.mutable_owner_reader_key()->assign(keyring.owner_reader_key.ExposeView());
  for (const KeyringAgent& agent : keyring.agents) {
    pb::Keyring::Agent& out = *message.add_agents();
    out.set_number(agent.number);
    out.set_identity(std::string(agent.identity.view()));
    out.set_label(agent.label);
    out.set_created_unix_ns(agent.created_unix_ns);
  }
  message.set_next_agent_number(keyring.next_agent_number);

  WipedString plain;
  plain.value.resize(message.ByteSizeLong());
  if (plain.value.size() > kKeyringBytesMax - kAeadNonceSizeInBytes - kAeadTagSizeInBytes) {
    return absl::ResourceExhaustedError("keyring: too large");
  }
  if (!message.SerializeToArray(plain.value.data(), static_cast<int>(plain.value.size()))) {
    return absl::InternalError("keyring: cannot be serialized");
  }
  AeadNonce nonce;
  random.Fill(absl::MakeSpan(nonce));
  std::string payload(reinterpret_cast<const char*>(nonce.data()), nonce.size());
  payload.resize(nonce.size() + plain.value.size() + kAeadTagSizeInBytes);
  Aead(keyring.aead, keyring_key)
      .Seal(nonce, Aad(keyring.repository, keyring.generation, aead), plain.value, payload.data() + nonce.size());
  return FinishEnvelope(EnvelopeSignedPart(kMagic, payload), Tag(keyring.generation, aead));
}

absl::StatusOr<Keyring> OpenKeyring(std::string_view blob, const Key256& keyring_key, const RepositoryId& repository) {
  auto broken = [](std::string_view why) {
    return absl::DataLossError(absl::StrCat(AbslView(kWhat), ": ", AbslView(why)));
  };
  ASSIGN_OR_RETURN(Envelope envelope, DecodeEnvelope(blob, kMagic, kKeyringBytesMax, kWhat));
  ByteReader tag(envelope.tag);
  uint64_t generation = tag.U64();
  uint8_t aead = tag.U8();
  if (envelope.tag != Tag(generation, aead)) return broken("bytes that must be zero are not");
  if (!IsKnownAead(aead)) {
    return absl::FailedPreconditionError(
        "keyring: sealed with an algorithm that only a newer version of Holdfast knows");
  }
  if (envelope.payload.size() < kAeadNonceSizeInBytes + kAeadTagSizeInBytes) return broken("the payload is too short");
  AeadNonce nonce;
  std::memcpy(nonce.data(), envelope.payload.data(), nonce.size());
  std::string_view sealed = envelope.payload.substr(nonce.size());
  WipedString plain;
  plain.value.resize(sealed.size() - kAeadTagSizeInBytes);
  if (!Aead(static_cast<AeadAlgorithm>(aead), keyring_key)
           .Open(nonce, Aad(repository, generation, aead), sealed, plain.value.data())) {
    return broken("it does not open with this repository's key: forged, or of another repository");
  }
  WipedMessage wiped;
  pb::Keyring& message = wiped.message;
  if (!message.ParseFromArray(plain.value.data(), static_cast<int>(plain.value.size()))) {
    return broken("not a Keyring record");
  }
  Keyring keyring;
  if (message.repository_id() != repository.view()) return broken("it belongs to another repository");
  keyring.repository = repository;
  if (message.generation() != generation || message.aead() != aead) return broken("it contradicts its envelope");
  keyring.generation = generation;
  keyring.aead = static_cast<AeadAlgorithm>(aead);
  keyring.epochs.reserve(message.epochs_size());
  for (const pb::Keyring::Epoch& in : message.epochs()) {
    KeyringEpoch& epoch = keyring.epochs.emplace_back();
    epoch.number = in.number();
    if (!CopyKey(in.dedup_secret(), epoch.dedup_secret) || !CopyKey(in.catalog_key(), epoch.catalog_key)) {
      return broken("a key has the wrong size");
    }
  }
  if (!CopyKey(message.owner_reader_key(), keyring.owner_reader_key)) return broken("a key has the wrong size");
  keyring.agents.reserve(message.agents_size());
  for (const pb::Keyring::Agent& in : message.agents()) {
    KeyringAgent& agent = keyring.agents.emplace_back();
    agent.number = in.number();
    auto identity = AgentIdentity::FromBytes(in.identity());
    if (!identity.ok()) return broken("an identity has the wrong size");
    agent.identity = *identity;
    agent.label = in.label();
    agent.created_unix_ns = in.created_unix_ns();
  }
  keyring.next_agent_number = message.next_agent_number();
  absl::Status rules = Check(keyring);
  if (!rules.ok()) return broken(StdView(rules.message()));
  return keyring;
}

}  // namespace holdfast
