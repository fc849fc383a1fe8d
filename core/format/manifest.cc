#include "core/format/manifest.h"

#include <cstring>

#include "core/base/limits.h"
#include "core/crypto/aead.h"
#include "core/crypto/blake3.h"
#include "core/crypto/kdf.h"
#include "core/keys/manifest_key.h"

namespace holdfast {
namespace {

constexpr uint32_t kMacKeyedBlake3 = 1;
constexpr uint32_t kStanzaReaderKey = 1;
constexpr int kStanzasMax = 64;
constexpr size_t kSaltBytes = 32;
constexpr size_t kSourceBytesMax = 4096;

Digest ManifestMac(const Key256& key, std::string_view core) {
  Blake3 mac(key);
  mac.Update("holdfast/1/manifest");
  mac.Update(core);
  return mac.Finish();
}

// The secret part of a reference as stanzas wrap it: content key, content digest.
class Reference {
 public:
  static constexpr size_t kSizeInBytes = Key256::kSizeInBytes + ContentDigest::kSizeInBytes;
  explicit Reference(const ChunkRef& ref) {
    std::memcpy(bytes_.MutableBytes(), ref.key.ExposeBytes(), Key256::kSizeInBytes);
    std::memcpy(bytes_.MutableBytes() + Key256::kSizeInBytes, ref.digest.bytes.data(), ContentDigest::kSizeInBytes);
  }
  std::string_view view() const { return bytes_.ExposeView(); }
  // `bytes` are kSizeInBytes. The id is left open.
  static ChunkRef Decode(std::string_view bytes) {
    ChunkRef ref;
    ref.key = Key256(reinterpret_cast<const uint8_t*>(bytes.data()));
    std::memcpy(ref.digest.bytes.data(), bytes.data() + Key256::kSizeInBytes, ContentDigest::kSizeInBytes);
    return ref;
  }

 private:
  FixedSecret<struct ReferenceTag, kSizeInBytes> bytes_;
};

std::string RandomSalt(Random& random) {
  std::string salt(kSaltBytes, '\0');
  random.Fill({reinterpret_cast<uint8_t*>(salt.data()), salt.size()});
  return salt;
}

absl::Status Damaged(std::string_view what) { return absl::DataLossError(absl::StrCat("manifest: ", AbslView(what))); }

}  // namespace

ManifestId ManifestIdOf(std::string_view bytes) {
  Digest digest = Blake3Digest(bytes);
  ManifestId id;
  id.bytes = digest.bytes;
  return id;
}

absl::StatusOr<pb::ManifestCore> ParseManifestCore(std::string_view bytes) {
  pb::ManifestCore core;
  if (bytes.size() > kManifestBytesMax || !core.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Damaged("its core does not parse");
  }
  if (core.repository_id().size() != RepositoryId::kSizeInBytes || core.root_id().size() != 32 ||
      (!core.previous_manifest().empty() && core.previous_manifest().size() != 32) || core.source().empty() ||
      core.source().size() > kSourceBytesMax || core.sequence() == 0 || core.agent() == 0 ||
      core.root_level() > kTreeLevelsMax) {
    return Damaged("a field of its core is out of range");
  }
  return core;
}

absl::StatusOr<ParsedManifest> ParseManifest(std::string_view bytes) {
  ParsedManifest out;
  if (bytes.size() > kManifestBytesMax || !out.manifest.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Damaged("does not parse");
  }
  out.id = ManifestIdOf(bytes);
  ASSIGN_OR_RETURN(out.core, ParseManifestCore(out.manifest.core()));
  if (out.manifest.stanzas_size() < 1 || out.manifest.stanzas_size() > kStanzasMax) return Damaged("its stanzas");
  if (out.manifest.mac().algorithm() != kMacKeyedBlake3 || out.manifest.mac().mac().size() != 32) {
    return Damaged("its MAC is of a kind that this version does not know");
  }
  // One agent throughout: otherwise whoever picks keys by one of the numbers would trust the others.
  if (out.manifest.mac().agent() != out.core.agent()) return Damaged("its MAC names another agent than its core");
  for (const pb::Stanza& stanza : out.manifest.stanzas()) {
    if (stanza.algorithm() == kStanzaReaderKey && stanza.key_id() != out.core.agent()) {
      return Damaged("a stanza names another agent than its core");
    }
  }
  return out;
}

absl::StatusOr<std::string> SealManifest(const pb::ManifestCore& core, const pb::ManifestSealed& sealed,
                                         const ChunkRef& root, const ManifestKeys& keys, Random& random) {
  pb::Manifest manifest;
  manifest.set_core(core.SerializeAsString());
  manifest.mutable_mac()->set_algorithm(kMacKeyedBlake3);
  manifest.mutable_mac()->set_agent(keys.agent);
  manifest.mutable_mac()->set_mac(std::string(ManifestMac(keys.agent_mac_key, manifest.core()).view()));
  const AeadNonce zero_nonce{};

  pb::Stanza* stanza = manifest.add_stanzas();
  stanza->set_algorithm(kStanzaReaderKey);
  stanza->set_key_id(keys.agent);
  stanza->set_salt(RandomSalt(random));
  Digest core_digest = Blake3Digest(manifest.core());
  const Reference reference(root);
  stanza->set_wrapped_key(Aead(keys.aead, DeriveStanzaKey(keys.agent_reader_key, stanza->salt(), keys.agent))
                              .Seal(zero_nonce, core_digest.view(), reference.view()));

  std::string salt = RandomSalt(random);
  std::string plain = sealed.SerializeAsString();
  manifest.set_sealed(salt + Aead(keys.aead, DeriveManifestSealedKey(root.key, salt, keys.repository))
                                 .Seal(zero_nonce, manifest.core(), plain));
  std::string bytes = manifest.SerializeAsString();
  if (bytes.size() > kManifestBytesMax) return absl::ResourceExhaustedError("the manifest is too large");
  // What is committed must open. Protobuf, for one, writes strings that are not UTF-8 and then refuses to read them.
  absl::StatusOr<ParsedManifest> parsed = ParseManifest(bytes);
  if (!parsed.ok()) return absl::InvalidArgumentError(parsed.status().message());
  if (core.repository_id() != keys.repository.view() || !pb::ManifestSealed().ParseFromString(plain)) {
    return absl::InvalidArgumentError("manifest: another repository, or text that is not UTF-8");
  }
  return bytes;
}

absl::StatusOr<OpenedManifest> OpenManifest(std::string_view bytes, const RepositoryId& repository, AeadAlgorithm aead,
                                            const std::function<std::optional<Key256>(uint32_t agent)>& reader_key,
                                            const std::optional<Key256>& mac_key) {
  ASSIGN_OR_RETURN(ParsedManifest parsed, ParseManifest(bytes));
  if (parsed.core.repository_id() != repository.view()) return Damaged("it belongs to another repository");
  const AeadNonce zero_nonce{};
  Digest core_digest = Blake3Digest(parsed.manifest.core());
  std::optional<ChunkRef> root;
  bool had_key = false;
  for (const pb::Stanza& stanza : parsed.manifest.stanzas()) {
    if (stanza.algorithm() != kStanzaReaderKey) continue;
    std::optional<Key256> reader = reader_key(stanza.key_id());
    if (!reader) continue;
    had_key = true;
    auto opened = Aead(aead, DeriveStanzaKey(*reader, stanza.salt(), stanza.key_id()))
                      .Open(zero_nonce, core_digest.view(), stanza.wrapped_key());
    if (!opened.ok() || opened->size() != Reference::kSizeInBytes) continue;
    root = Reference::Decode(*opened);
    WipeMemory(opened->data(), opened->size());
    break;
  }
  if (!root) {
    if (had_key) return Damaged("its key does not open: damaged, or not written by who it says");
    return absl::PermissionDeniedError(
        "the unlocked keys do not open this snapshot: it belongs to another agent; "
        "the repository's password does");
  }
  if (mac_key &&
      !EqualInConstantTime(ManifestMac(*mac_key, parsed.manifest.core()).view(), parsed.manifest.mac().mac())) {
    return Damaged("its MAC is wrong");
  }
  std::string_view sealed = parsed.manifest.sealed();
  if (sealed.size() < kSaltBytes) return Damaged("truncated");
  absl::StatusOr<std::string> plain =
      Aead(aead, DeriveManifestSealedKey(root->key, sealed.substr(0, kSaltBytes), repository))
          .Open(zero_nonce, parsed.manifest.core(), sealed.substr(kSaltBytes));
  if (!plain.ok()) return Damaged("its sealed part does not authenticate");
  OpenedManifest out;
  out.id = parsed.id;
  if (!out.sealed.ParseFromString(*plain)) return Damaged("its sealed part does not parse");
  out.core = std::move(parsed.core);
  out.root = *root;
  std::memcpy(out.root.id.bytes.data(), out.core.root_id().data(), 32);
  return out;
}

}  // namespace holdfast
