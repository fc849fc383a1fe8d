#include "core/keys/credentials.h"

#include <cstring>
#include <utility>

#include "core/base/codec.h"
#include "core/crypto/aead.h"
#include "core/crypto/blake3.h"
#include "core/keys/key_slots.h"

namespace holdfast {
namespace {

constexpr std::string_view kMagic("HFCRED1\0", 8);
constexpr size_t kBytesMax = 4096;  // of a file: the fields need less than 1 KiB

struct WipedString {
  std::string value;
  ~WipedString() {
    if (!value.empty()) WipeMemory(value.data(), value.size());
  }
};

absl::Status Check(const AgentCredentials& c) {
  auto broken = [](std::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("credentials: ", AbslView(why)));
  };
  if (c.repository.IsZero()) return broken("no repository id");
  if (c.repository_name.size() > kRepositoryNameBytesMax) return broken("repository name too long");
  if (!IsKnownAead(static_cast<uint8_t>(c.aead))) return broken("unknown AEAD");
  if (c.keyring_generation == 0) return broken("no keyring generation");
  if (c.epoch == 0 || c.dedup_secret.IsZero()) return broken("no epoch");
  if (c.agent_number == 0 || c.agent_number > kAgentNumberMax) return broken("agent number out of range");
  if (c.identity.IsZero()) return broken("no identity");
  if (c.label.size() > kKeyLabelBytesMax) return broken("label too long");
  if (c.reader_key.IsZero() || c.mac_key.IsZero()) return broken("a key is missing");
  return absl::OkStatus();
}

template <typename T>
void ReadFixed(ByteReader& r, T& out) {
  std::string_view bytes = r.Bytes(T::kSizeInBytes);
  if (bytes.size() != T::kSizeInBytes) return;
  if constexpr (requires { out.MutableBytes(); }) {
    std::memcpy(out.MutableBytes(), bytes.data(), bytes.size());
  } else {
    std::memcpy(out.bytes.data(), bytes.data(), bytes.size());
  }
}

}  // namespace

absl::StatusOr<AgentCredentials> MakeCredentials(const Keyring& keyring, const MasterKeys& master_keys,
                                                 uint32_t agent_number) {
  const KeyringAgent* agent = keyring.FindAgent(agent_number);
  if (agent == nullptr) return absl::NotFoundError(absl::StrCat("the keyring has no agent ", agent_number));
  AgentCredentials c;
  c.repository = keyring.repository;
  c.aead = keyring.aead;
  c.keyring_generation = keyring.generation;
  c.epoch = keyring.current_epoch().number;
  c.dedup_secret = keyring.current_epoch().dedup_secret;
  c.agent_number = agent_number;
  c.identity = agent->identity;
  c.label = agent->label;
  c.reader_key = AgentReaderKey(keyring.owner_reader_key, keyring.repository, agent_number);
  c.mac_key = master_keys.AgentMacKey(agent_number);
  return c;
}

absl::StatusOr<SecretString> EncodeCredentials(const AgentCredentials& c) {
  RETURN_IF_ERROR(Check(c));
  WipedString out;
  out.value.reserve(kBytesMax);  // never grows: no unwiped copy is left behind
  ByteWriter w(&out.value);
  w.Bytes(kMagic);
  w.Bytes(c.repository.view());
  w.LengthPrefixed(c.repository_name);
  w.U8(static_cast<uint8_t>(c.aead));
  w.U64(c.settings_generation);
  w.Bytes(c.settings_digest.view());
  w.U64(c.keyring_generation);
  w.U32(c.epoch);
  w.Bytes(c.dedup_secret.ExposeView());
  w.U32(c.agent_number);
  w.Bytes(c.identity.view());
  w.LengthPrefixed(c.label);
  w.Bytes(c.reader_key.ExposeView());
  w.Bytes(c.mac_key.ExposeView());
  w.Bytes(Blake3Digest(out.value).view());
  return SecretString(out.value);
}

absl::StatusOr<AgentCredentials> DecodeCredentials(std::string_view bytes) {
  absl::Status damaged = absl::DataLossError("credentials: damaged; unlock this machine again");
  if (bytes.size() < kMagic.size() + 32 || bytes.size() > kBytesMax) return damaged;
  std::string_view body = bytes.substr(0, bytes.size() - 32);
  if (Blake3Digest(body).view() != bytes.substr(body.size())) return damaged;
  ByteReader r(body);
  std::string_view magic = r.Bytes(kMagic.size());
  if (magic != kMagic) {
    if (magic.substr(0, 6) != kMagic.substr(0, 6)) return damaged;
    return absl::FailedPreconditionError("credentials: written by a newer version of Holdfast");
  }
  AgentCredentials c;
  ReadFixed(r, c.repository);
  c.repository_name = std::string(r.LengthPrefixed(kRepositoryNameBytesMax));
  c.aead = static_cast<AeadAlgorithm>(r.U8());
  c.settings_generation = r.U64();
  ReadFixed(r, c.settings_digest);
  c.keyring_generation = r.U64();
  c.epoch = r.U32();
  ReadFixed(r, c.dedup_secret);
  c.agent_number = r.U32();
  ReadFixed(r, c.identity);
  c.label = std::string(r.LengthPrefixed(kKeyLabelBytesMax));
  ReadFixed(r, c.reader_key);
  ReadFixed(r, c.mac_key);
  if (!r.ok() || !r.AtEnd() || !Check(c).ok()) return damaged;
  return c;
}

absl::Status SaveCredentials(Io& io, std::string_view path, const AgentCredentials& credentials) {
  ASSIGN_OR_RETURN(SecretString bytes, EncodeCredentials(credentials));
  return Annotate(WriteFileAtomically(io, path, bytes.ExposeView()), "saving credentials");
}

absl::StatusOr<AgentCredentials> LoadCredentials(Files& files, std::string_view path) {
  WipedString bytes;
  ASSIGN_OR_RETURN(bytes.value, ReadWholeFile(files, path, kBytesMax));
  absl::StatusOr<AgentCredentials> credentials = DecodeCredentials(bytes.value);
  if (!credentials.ok()) return Annotate(credentials.status(), path);
  return credentials;
}

absl::Status ForgetCredentials(Files& files, std::string_view path) {
  RETURN_IF_ERROR(files.Unlink(path));
  size_t slash = path.rfind('/');
  std::string_view directory = slash == std::string_view::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  return files.SyncDirectory(directory);
}

}  // namespace holdfast
