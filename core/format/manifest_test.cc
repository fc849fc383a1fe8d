#include "core/format/manifest.h"

#include <functional>

#include "core/base/limits.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

constexpr absl::StatusCode kDamaged = absl::StatusCode::kDataLoss;

// 00 01 02 ...
class CountingRandom : public Random {
 public:
  void Fill(absl::Span<uint8_t> out) override {
    for (uint8_t& b : out) b = next_++;
  }

 private:
  uint8_t next_ = 0;
};

ContentDigest DigestOf(uint8_t byte) {
  ContentDigest digest;
  digest.bytes.fill(byte);
  return digest;
}

Key256 KeyOf(uint8_t fill) {
  Key256 key;
  for (int i = 0; i < 32; ++i) key.MutableBytes()[i] = fill;
  return key;
}

class ManifestTest : public testing::Test {
 protected:
  ManifestTest() {
    keys_.repository.bytes.fill(0x10);
    keys_.agent = 3;
    keys_.agent_mac_key = KeyOf(0x20);
    keys_.agent_reader_key = KeyOf(0x30);
    core_.set_repository_id(std::string(16, 0x10));
    core_.set_source("me@host:/home");
    core_.set_agent(3);
    core_.set_sequence(5);
    core_.set_previous_manifest(std::string(32, 'p'));
    core_.set_root_id(std::string(32, 'r'));
    core_.set_root_level(2);
    core_.set_key_epoch(1);
    core_.set_started_unix_ns(-1);
    core_.set_complete(true);
    core_.set_files(1000);
    sealed_.add_failures()->set_path("etc/\xff");
    sealed_.set_description("before the upgrade");
    sealed_.add_sparse_bundles(std::string(32, 's'));
  }

  absl::StatusOr<std::string> Seal() { return SealManifest(core_, sealed_, root_, keys_, random_); }
  std::string Sealed() {
    absl::StatusOr<std::string> bytes = Seal();
    EXPECT_OK(bytes);
    return bytes.value_or("");
  }
  std::optional<Key256> OwnKey(uint32_t agent) const {
    if (agent != keys_.agent) return std::nullopt;
    return keys_.agent_reader_key;
  }
  absl::StatusOr<OpenedManifest> Open(std::string_view bytes) const {
    return OpenManifest(
        bytes, keys_.repository, keys_.aead, [&](uint32_t agent) { return OwnKey(agent); }, keys_.agent_mac_key);
  }
  // What an attacker without keys can do: change the message and encode it again.
  absl::StatusOr<OpenedManifest> OpenChanged(const std::function<void(pb::Manifest&)>& change) {
    pb::Manifest manifest;
    EXPECT_TRUE(manifest.ParseFromString(Sealed()));
    change(manifest);
    return Open(manifest.SerializeAsString());
  }
  absl::StatusOr<OpenedManifest> OpenWithCore(const std::function<void(pb::ManifestCore&)>& change) {
    return OpenChanged([&](pb::Manifest& m) {
      pb::ManifestCore core;
      EXPECT_TRUE(core.ParseFromString(m.core()));
      change(core);
      m.set_core(core.SerializeAsString());
    });
  }

  ManifestKeys keys_;
  pb::ManifestCore core_;
  pb::ManifestSealed sealed_;
  const ChunkRef root_ = {ChunkId{}, KeyOf(0x40), DigestOf(0x41)};
  CountingRandom random_;
};

TEST_F(ManifestTest, GivesBackWhatWasSealed) {
  for (AeadAlgorithm aead : {AeadAlgorithm::kAes256Gcm, AeadAlgorithm::kChaCha20Poly1305}) {
    keys_.aead = aead;
    std::string bytes = Sealed();
    ASSERT_OK_AND_ASSIGN(OpenedManifest opened, Open(bytes));
    EXPECT_EQ(opened.id, ManifestIdOf(bytes));
    EXPECT_EQ(opened.core.SerializeAsString(), core_.SerializeAsString());
    EXPECT_EQ(opened.sealed.SerializeAsString(), sealed_.SerializeAsString());
    EXPECT_EQ(opened.root.id.view(), core_.root_id());
    EXPECT_TRUE(opened.root.key == root_.key);
    EXPECT_EQ(opened.root.digest, root_.digest);
    ASSERT_OK_AND_ASSIGN(ParsedManifest parsed, ParseManifest(bytes));
    EXPECT_EQ(parsed.id, opened.id);
    EXPECT_EQ(parsed.core.source(), "me@host:/home");
  }
}

TEST_F(ManifestTest, OpensWithoutTheMacKey) {
  EXPECT_OK(OpenManifest(
      Sealed(), keys_.repository, keys_.aead, [&](uint32_t a) { return OwnKey(a); }, std::nullopt));
}

TEST_F(ManifestTest, HidesTheSealedPartAndTheRootKey) {
  std::string bytes = Sealed();
  EXPECT_EQ(bytes.find("upgrade"), std::string::npos);
  EXPECT_EQ(bytes.find("etc/"), std::string::npos);
  EXPECT_EQ(bytes.find(std::string(root_.key.ExposeView())), std::string::npos);
}

TEST_F(ManifestTest, UsesFreshSaltsEachTime) {
  pb::Manifest a, b;
  ASSERT_TRUE(a.ParseFromString(Sealed()) && b.ParseFromString(Sealed()));
  EXPECT_NE(a.stanzas(0).salt(), b.stanzas(0).salt());
  EXPECT_NE(a.stanzas(0).salt(), a.sealed().substr(0, 32));
  EXPECT_NE(a.sealed(), b.sealed());
  EXPECT_EQ(a.stanzas(0).salt().size(), 32u);
  EXPECT_EQ(a.stanzas(0).wrapped_key().size(), 80u);
}

TEST_F(ManifestTest, IsNotForAnAgentWithoutItsReaderKey) {
  auto other_agent = [](uint32_t agent) -> std::optional<Key256> {
    if (agent != 4) return std::nullopt;
    return KeyOf(0x31);
  };
  EXPECT_THAT(OpenManifest(Sealed(), keys_.repository, keys_.aead, other_agent, std::nullopt),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(ManifestTest, IsDamageWhenTheReaderKeyThatShouldOpenItDoesNot) {
  auto wrong = [](uint32_t) { return std::optional<Key256>(KeyOf(0x31)); };
  EXPECT_THAT(OpenManifest(Sealed(), keys_.repository, keys_.aead, wrong, std::nullopt), StatusIs(kDamaged));
}

TEST_F(ManifestTest, IsRefusedWithAnotherMacKey) {
  keys_.agent_mac_key = KeyOf(0x21);
  std::string bytes = Sealed();
  keys_.agent_mac_key = KeyOf(0x20);
  EXPECT_THAT(Open(bytes), StatusIs(kDamaged, "MAC"));
}

TEST_F(ManifestTest, IsRefusedWithAnyBitFlippedAndAtAnyTruncation) {
  const std::string good = Sealed();
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    absl::StatusOr<OpenedManifest> opened = Open(bytes);
    ASSERT_FALSE(opened.ok()) << "bit " << bit % 8 << " of byte " << bit / 8;
    // A stanza of another kind, and nothing but that, looks like a manifest for others.
    if (!absl::IsPermissionDenied(opened.status())) {
      ASSERT_THAT(opened, StatusIs(kDamaged)) << bit;
    }
  }
  for (size_t n = 0; n < good.size(); ++n) ASSERT_THAT(Open(good.substr(0, n)), StatusIs(kDamaged)) << n;
  EXPECT_OK(Open(good));
}

TEST_F(ManifestTest, IsRefusedInAnotherRepository) {
  std::string bytes = Sealed();
  RepositoryId other = keys_.repository;
  other.bytes[15] ^= 1;
  EXPECT_THAT(OpenManifest(
                  bytes, other, keys_.aead, [&](uint32_t a) { return OwnKey(a); }, keys_.agent_mac_key),
              StatusIs(kDamaged, "another repository"));
  EXPECT_THAT(OpenWithCore([](pb::ManifestCore& c) {
                std::string id = c.repository_id();
                id[15] ^= 1;
                c.set_repository_id(id);
              }),
              StatusIs(kDamaged));
}

TEST_F(ManifestTest, IsRefusedWhenItsAgentNumbersDiffer) {
  EXPECT_THAT(OpenChanged([](pb::Manifest& m) { m.mutable_mac()->set_agent(4); }), StatusIs(kDamaged, "MAC names"));
  EXPECT_THAT(OpenChanged([](pb::Manifest& m) { m.mutable_stanzas(0)->set_key_id(4); }),
              StatusIs(kDamaged, "stanza names"));
  EXPECT_THAT(OpenWithCore([](pb::ManifestCore& c) { c.set_agent(4); }), StatusIs(kDamaged));
}

TEST_F(ManifestTest, IsRefusedWhenItsCoreWasChanged) {
  EXPECT_OK(OpenWithCore([](pb::ManifestCore&) {}));
  EXPECT_THAT(OpenWithCore([](pb::ManifestCore& c) { c.set_source("you@host:/home"); }), StatusIs(kDamaged));
  EXPECT_THAT(OpenWithCore([](pb::ManifestCore& c) { c.set_sequence(6); }), StatusIs(kDamaged));
  EXPECT_THAT(OpenWithCore([](pb::ManifestCore& c) { c.set_root_id(std::string(32, 'R')); }), StatusIs(kDamaged));
  EXPECT_THAT(OpenWithCore([](pb::ManifestCore& c) { c.set_complete(false); }), StatusIs(kDamaged));
  // Bytes that a parser ignores are covered as well.
  EXPECT_THAT(OpenChanged([](pb::Manifest& m) { *m.mutable_core() += "\xf8\x07\x01"; }), StatusIs(kDamaged));
}

TEST_F(ManifestTest, IsRefusedWhenItsPartsComeFromTwoSnapshots) {
  pb::Manifest one, two;
  ASSERT_TRUE(one.ParseFromString(Sealed()));
  core_.set_sequence(6);
  ASSERT_TRUE(two.ParseFromString(Sealed()));
  pb::Manifest mixed = one;
  *mixed.mutable_stanzas() = two.stanzas();
  EXPECT_THAT(Open(mixed.SerializeAsString()), StatusIs(kDamaged));
  mixed = one;
  mixed.set_sealed(two.sealed());
  EXPECT_THAT(Open(mixed.SerializeAsString()), StatusIs(kDamaged));
  mixed = one;
  *mixed.mutable_mac() = two.mac();
  EXPECT_THAT(Open(mixed.SerializeAsString()), StatusIs(kDamaged));
}

TEST_F(ManifestTest, SkipsStanzasOfOtherKinds) {
  auto opened = OpenChanged([](pb::Manifest& m) {
    pb::Stanza own = m.stanzas(0);
    m.mutable_stanzas(0)->set_algorithm(77);
    m.mutable_stanzas(0)->set_key_id(999);
    *m.add_stanzas() = own;
  });
  EXPECT_OK(opened);
}

TEST_F(ManifestTest, IsRefusedWithAnUnknownMacAlgorithm) {
  EXPECT_THAT(OpenChanged([](pb::Manifest& m) { m.mutable_mac()->set_algorithm(2); }), StatusIs(kDamaged));
  EXPECT_THAT(OpenChanged([](pb::Manifest& m) { m.mutable_mac()->mutable_mac()->pop_back(); }), StatusIs(kDamaged));
  EXPECT_THAT(OpenChanged([](pb::Manifest& m) { m.clear_mac(); }), StatusIs(kDamaged));
}

TEST_F(ManifestTest, HasLimits) {
  auto parse = [&](const std::function<void(pb::Manifest&)>& change) {
    pb::Manifest m;
    EXPECT_TRUE(m.ParseFromString(Sealed()));
    change(m);
    return ParseManifest(m.SerializeAsString()).status();
  };
  EXPECT_THAT(parse([](pb::Manifest& m) { m.clear_stanzas(); }), StatusIs(kDamaged));
  auto stanzas = [](pb::Manifest& m, int n) {
    while (m.stanzas_size() < n) *m.add_stanzas() = pb::Stanza(m.stanzas(0));
  };
  EXPECT_OK(parse([&](pb::Manifest& m) { stanzas(m, 64); }));
  EXPECT_THAT(parse([&](pb::Manifest& m) { stanzas(m, 65); }), StatusIs(kDamaged));
  EXPECT_THAT(ParseManifest(std::string(kManifestBytesMax + 1, '\0')), StatusIs(kDamaged));
  EXPECT_THAT(ParseManifest(""), StatusIs(kDamaged));
  EXPECT_THAT(ParseManifestCore(""), StatusIs(kDamaged));
}

struct CoreCase {
  const char* what;
  std::function<void(pb::ManifestCore&)> change;
  bool good;
};

std::vector<CoreCase> CoreCases() {
  return {
      {"unchanged", [](pb::ManifestCore&) {}, true},
      {"short repository", [](pb::ManifestCore& c) { c.set_repository_id(std::string(15, 'x')); }, false},
      {"long root id", [](pb::ManifestCore& c) { c.set_root_id(std::string(33, 'x')); }, false},
      {"no root id", [](pb::ManifestCore& c) { c.clear_root_id(); }, false},
      {"first of its source", [](pb::ManifestCore& c) { c.clear_previous_manifest(); }, true},
      {"short previous", [](pb::ManifestCore& c) { c.set_previous_manifest("x"); }, false},
      {"no source", [](pb::ManifestCore& c) { c.clear_source(); }, false},
      {"longest source", [](pb::ManifestCore& c) { c.set_source(std::string(4096, 's')); }, true},
      {"longer source", [](pb::ManifestCore& c) { c.set_source(std::string(4097, 's')); }, false},
      {"sequence 0", [](pb::ManifestCore& c) { c.set_sequence(0); }, false},
      {"agent 0", [](pb::ManifestCore& c) { c.set_agent(0); }, false},
      {"deepest tree", [](pb::ManifestCore& c) { c.set_root_level(kTreeLevelsMax); }, true},
      {"deeper tree", [](pb::ManifestCore& c) { c.set_root_level(kTreeLevelsMax + 1); }, false},
  };
}

TEST_F(ManifestTest, HasACoreWhoseFieldsAreInRange) {
  for (const CoreCase& c : CoreCases()) {
    pb::ManifestCore core = core_;
    c.change(core);
    absl::StatusOr<pb::ManifestCore> parsed = ParseManifestCore(core.SerializeAsString());
    if (c.good) {
      EXPECT_OK(parsed) << c.what;
    } else {
      EXPECT_THAT(parsed, StatusIs(kDamaged)) << c.what;
    }
  }
}

TEST_F(ManifestTest, IsNeverSealedInAWayThatCannotBeOpened) {
  for (const CoreCase& c : CoreCases()) {
    pb::ManifestCore good = core_;
    c.change(core_);
    absl::StatusOr<std::string> bytes = Seal();
    if (c.good) {
      ASSERT_OK(bytes) << c.what;
      EXPECT_OK(Open(*bytes)) << c.what;
    } else {
      EXPECT_THAT(bytes, StatusIs(absl::StatusCode::kInvalidArgument)) << c.what;
    }
    core_ = good;
  }
  core_.set_agent(4);  // the keys are agent 3's
  EXPECT_THAT(Seal(), StatusIs(absl::StatusCode::kInvalidArgument));
  core_.set_agent(3);
  core_.set_repository_id(std::string(16, 0x11));
  EXPECT_THAT(Seal(), StatusIs(absl::StatusCode::kInvalidArgument));
  core_.set_repository_id(std::string(16, 0x10));
  // Bytes that are not UTF-8 in a string field: protobuf writes them and then does not read them.
  core_.set_source("me@host:/\xff");
  EXPECT_THAT(Seal(), StatusIs(absl::StatusCode::kInvalidArgument));
  core_.set_source("me@host:/");
  sealed_.add_excludes("*.\xff");
  EXPECT_THAT(Seal(), StatusIs(absl::StatusCode::kInvalidArgument));
  sealed_.clear_excludes();
  sealed_.set_description("\xff");
  EXPECT_THAT(Seal(), StatusIs(absl::StatusCode::kInvalidArgument));
  sealed_.set_description(std::string(kManifestBytesMax, 'd'));
  EXPECT_THAT(Seal(), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace holdfast
