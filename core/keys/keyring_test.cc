#include "core/keys/keyring.h"

#include <sys/stat.h>

#include "core/base/status_testing.h"
#include "core/io/posix.h"
#include "core/keys/credentials.h"
#include "core/keys/damage_testing.h"
#include "core/keys/key_slots.h"
#include "core/keys/keys_testing.h"
#include "core/keys/settings.h"

namespace holdfast {
namespace {

using absl::StatusCode;

class KeyringTest : public ::testing::TestWithParam<AeadAlgorithm> {
 protected:
  std::string Seal() {
    auto blob = SealKeyring(keyring_, key_, random_);
    EXPECT_OK(blob);
    return blob.value_or("");
  }
  void AddTwoAgents() {
    ASSERT_THAT(AddAgent(keyring_, CountingId<AgentIdentity>(10), "web-1", 5), IsOkAndHolds(1u));
    ASSERT_THAT(AddAgent(keyring_, CountingId<AgentIdentity>(20), "web-2", 6), IsOkAndHolds(2u));
  }

  CountingRandom random_;
  RepositoryId repository_ = CountingId<RepositoryId>();
  Key256 key_ = RepeatedKey(0x55);
  Keyring keyring_ = NewKeyring(repository_, GetParam(), random_);
};
INSTANTIATE_TEST_SUITE_P(, KeyringTest, ::testing::Values(AeadAlgorithm::kAes256Gcm, AeadAlgorithm::kChaCha20Poly1305));

TEST_P(KeyringTest, SurvivesSealing) {
  AddTwoAgents();
  keyring_.generation = 7;
  keyring_.epochs.push_back({9, RepeatedKey(1), RepeatedKey(2)});
  ASSERT_OK_AND_ASSIGN(Keyring back, OpenKeyring(Seal(), key_, repository_));
  EXPECT_EQ(back.repository, repository_);
  EXPECT_EQ(back.generation, 7u);
  EXPECT_EQ(back.aead, GetParam());
  ASSERT_EQ(back.epochs.size(), 2u);
  EXPECT_EQ(back.epochs[0].dedup_secret, keyring_.epochs[0].dedup_secret);
  EXPECT_EQ(back.current_epoch().number, 9u);
  EXPECT_EQ(back.current_epoch().catalog_key, RepeatedKey(2));
  EXPECT_EQ(back.owner_reader_key, keyring_.owner_reader_key);
  ASSERT_EQ(back.agents.size(), 2u);
  EXPECT_EQ(back.agents[1].label, "web-2");
  EXPECT_EQ(back.agents[1].created_unix_ns, 6);
  EXPECT_EQ(back.next_agent_number, 3u);
  EXPECT_EQ(back.FindEpoch(1)->number, 1u);
  EXPECT_EQ(back.FindEpoch(2), nullptr);
  EXPECT_EQ(back.FindAgent(2)->identity, CountingId<AgentIdentity>(20));
  EXPECT_EQ(back.FindAgent(3), nullptr);
}

TEST_P(KeyringTest, HasDifferentSecretsInEveryPlace) {
  const KeyringEpoch& epoch = keyring_.current_epoch();
  EXPECT_FALSE(epoch.dedup_secret == epoch.catalog_key);
  EXPECT_FALSE(epoch.dedup_secret == keyring_.owner_reader_key);
  EXPECT_FALSE(epoch.catalog_key == keyring_.owner_reader_key);
}

TEST_P(KeyringTest, AKnownAgentKeepsItsNumber) {
  AddTwoAgents();
  EXPECT_THAT(AddAgent(keyring_, CountingId<AgentIdentity>(10), "renamed", 9), IsOkAndHolds(1u));
  EXPECT_EQ(keyring_.agents.size(), 2u);
  EXPECT_EQ(keyring_.agents[0].label, "web-1");
  EXPECT_THAT(AddAgent(keyring_, AgentIdentity{}, "", 0), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(AddAgent(keyring_, CountingId<AgentIdentity>(30), "\x1b[2J", 0), StatusIs(StatusCode::kInvalidArgument));
}

TEST_P(KeyringTest, HoldsTheGreatestNumberOfAgents) {
  for (uint32_t n = 1; n <= kAgentNumberMax; ++n) {
    KeyringAgent agent;
    agent.number = n;
    std::memcpy(agent.identity.bytes.data(), &n, sizeof(n));
    agent.label = std::string(kKeyLabelBytesMax, 'x');
    keyring_.agents.push_back(agent);
  }
  keyring_.next_agent_number = kAgentNumberMax + 1;
  EXPECT_THAT(AddAgent(keyring_, CountingId<AgentIdentity>(99), "", 0), StatusIs(StatusCode::kResourceExhausted));
  ASSERT_OK_AND_ASSIGN(Keyring back, OpenKeyring(Seal(), key_, repository_));
  EXPECT_EQ(back.agents.size(), kAgentNumberMax);
}

TEST_P(KeyringTest, RefusesEveryTruncationFlippedAndForgedBit) {
  AddTwoAgents();
  std::string blob = Seal();
  auto refused = [&](const std::string& damaged, const std::string& what) {
    EXPECT_THAT(OpenKeyring(damaged, key_, repository_), StatusIs(StatusCode::kDataLoss)) << what;
  };
  ForEveryTruncation(blob, refused);
  ForEveryFlippedBit(blob, refused);
  ForEveryForgedBit(blob, [&](const std::string& damaged, const std::string& what) {
    EXPECT_FALSE(OpenKeyring(damaged, key_, repository_).ok()) << what;
  });
}

TEST_P(KeyringTest, OpensWithItsKeyInItsRepositoryOnly) {
  std::string blob = Seal();
  EXPECT_THAT(OpenKeyring(blob, RepeatedKey(0x56), repository_), StatusIs(StatusCode::kDataLoss));
  EXPECT_THAT(OpenKeyring(blob, key_, CountingId<RepositoryId>(1)), StatusIs(StatusCode::kDataLoss));
}

TEST_P(KeyringTest, IsNotSealedWhenItBreaksARule) {
  auto refuse = [&](const char* what, const std::function<void(Keyring&)>& change) {
    Keyring bad = keyring_;
    change(bad);
    EXPECT_THAT(SealKeyring(bad, key_, random_), StatusIs(StatusCode::kInvalidArgument)) << what;
  };
  AddTwoAgents();
  refuse("no epoch", [](Keyring& k) { k.epochs.clear(); });
  refuse("epoch twice", [](Keyring& k) { k.epochs.push_back(k.epochs[0]); });
  refuse("no secret", [](Keyring& k) { k.epochs[0].dedup_secret = Key256(); });
  refuse("no owner", [](Keyring& k) { k.owner_reader_key = Key256(); });
  refuse("generation 0", [](Keyring& k) { k.generation = 0; });
  refuse("generation 2^32", [](Keyring& k) { k.generation = 1ull << 32; });
  refuse("agent 0", [](Keyring& k) { k.agents[0].number = 0; });
  refuse("identity twice", [](Keyring& k) { k.agents[1].identity = k.agents[0].identity; });
  refuse("number taken", [](Keyring& k) { k.next_agent_number = 2; });
  refuse("too many", [](Keyring& k) { k.next_agent_number = kAgentNumberMax + 2; });
}

class SettingsTest : public ::testing::Test {
 protected:
  SettingsTest() {
    settings_.repository = repository_;
    settings_.aead = AeadAlgorithm::kChaCha20Poly1305;
    settings_.chunker = {100, 1000, 7};
    settings_.generation = 3;
    auto blob = EncodeSettings(settings_, admin_key_);
    EXPECT_OK(blob);
    blob_ = *blob;
  }
  RepositoryId repository_ = CountingId<RepositoryId>();
  Key256 admin_key_ = RepeatedKey(0x77);
  RepositorySettings settings_;
  std::string blob_;
};

TEST_F(SettingsTest, SurviveEncoding) {
  EXPECT_THAT(DecodeSettings(blob_), IsOkAndHolds(settings_));
  EXPECT_THAT(VerifySettings(blob_, repository_, admin_key_), IsOkAndHolds(settings_));
  EXPECT_THAT(VerifySettings(blob_, repository_, SettingsDigest(blob_)), IsOkAndHolds(settings_));
}

TEST_F(SettingsTest, RefuseEveryTruncationFlippedAndForgedBit) {
  auto refused = [&](const std::string& damaged, const std::string& what) {
    EXPECT_THAT(DecodeSettings(damaged), StatusIs(StatusCode::kDataLoss)) << what;
  };
  ForEveryTruncation(blob_, refused);
  ForEveryFlippedBit(blob_, refused);
  ForEveryForgedBit(blob_, [&](const std::string& damaged, const std::string& what) {
    EXPECT_FALSE(VerifySettings(damaged, repository_, admin_key_).ok()) << what;
    EXPECT_FALSE(VerifySettings(damaged, repository_, SettingsDigest(blob_)).ok()) << what;
  });
}

TEST_F(SettingsTest, AreBoundToRepositoryAndKey) {
  EXPECT_THAT(VerifySettings(blob_, CountingId<RepositoryId>(1), admin_key_), StatusIs(StatusCode::kDataLoss));
  EXPECT_THAT(VerifySettings(blob_, repository_, RepeatedKey(0x78)), StatusIs(StatusCode::kDataLoss, "MAC"));
}

TEST_F(SettingsTest, ChangedOnesAskForUnlockingAgain) {
  RepositorySettings changed = settings_;
  ++changed.generation;
  ASSERT_OK_AND_ASSIGN(std::string blob, EncodeSettings(changed, admin_key_));
  EXPECT_THAT(VerifySettings(blob, repository_, SettingsDigest(blob_)),
              StatusIs(StatusCode::kFailedPrecondition, "unlock"));
}

TEST_F(SettingsTest, ARepositoryOfAnotherFormatIsRefusedWithWhatToDo) {
  constexpr size_t kVersionAt = 8 + 4 + 2 + 16 + 1;  // magic, length, repository id with tag and length, tag
  ASSERT_EQ(blob_[kVersionAt], static_cast<char>(kFormatVersion));
  std::string other = blob_;
  other[kVersionAt] = kFormatVersion - 1;
  EXPECT_THAT(DecodeSettings(WithFreshChecksum(other)),
              StatusIs(StatusCode::kFailedPrecondition, "Back up into a new repository"));
  other[kVersionAt] = kFormatVersion + 1;
  EXPECT_THAT(DecodeSettings(WithFreshChecksum(other)),
              StatusIs(StatusCode::kFailedPrecondition, "this program knows"));
}

TEST_F(SettingsTest, OutOfRangeValuesAreRefused) {
  for (ChunkerSettings chunker :
       {ChunkerSettings{63, 1000, 7}, ChunkerSettings{2000, 1000, 7}, ChunkerSettings{100, (8u << 20) + 1, 7},
        ChunkerSettings{100, 1000, 0}, ChunkerSettings{100, 1000, 49}}) {
    RepositorySettings bad = settings_;
    bad.chunker = chunker;
    EXPECT_THAT(EncodeSettings(bad, admin_key_), StatusIs(StatusCode::kInvalidArgument));
  }
}

class CredentialsTest : public ::testing::Test {
 protected:
  CredentialsTest() {
    EXPECT_OK(io_.files.MakeDirectories(directory_));
    EXPECT_OK(AddAgent(keyring_, CountingId<AgentIdentity>(10), "web-1", 5));
    auto credentials = MakeCredentials(keyring_, master_keys_, 1);
    EXPECT_OK(credentials);
    credentials_ = *credentials;
    credentials_.repository_name = "main";
    credentials_.settings_generation = 4;
    credentials_.settings_digest = CountingId<Digest>(9);
  }
  CountingRandom random_;
  Io io_ = PosixIo();
  const std::string directory_ =
      ::testing::TempDir() + "/" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
  const std::string path_ = directory_ + "/main";
  RepositoryId repository_ = CountingId<RepositoryId>();
  MasterKeys master_keys_{RepeatedKey<MasterSecret>(0x22), repository_};
  Keyring keyring_ = NewKeyring(repository_, AeadAlgorithm::kAes256Gcm, random_);
  AgentCredentials credentials_;
};

TEST_F(CredentialsTest, HoldWhatTheAgentNeedsAndNoMore) {
  EXPECT_EQ(credentials_.dedup_secret, keyring_.current_epoch().dedup_secret);
  EXPECT_EQ(credentials_.reader_key, AgentReaderKey(keyring_.owner_reader_key, repository_, 1));
  EXPECT_EQ(credentials_.mac_key, master_keys_.AgentMacKey(1));
  ASSERT_OK_AND_ASSIGN(SecretString bytes, EncodeCredentials(credentials_));
  auto holds = [&](const Key256& key) { return bytes.ExposeView().find(key.ExposeView()) != std::string_view::npos; };
  EXPECT_TRUE(holds(credentials_.reader_key));
  EXPECT_FALSE(holds(keyring_.owner_reader_key));
  EXPECT_FALSE(holds(keyring_.current_epoch().catalog_key));
  EXPECT_FALSE(holds(RepeatedKey(0x22)));
  EXPECT_THAT(MakeCredentials(keyring_, master_keys_, 2), StatusIs(StatusCode::kNotFound));
}

TEST_F(CredentialsTest, AreSavedLoadedAndForgotten) {
  EXPECT_THAT(LoadCredentials(io_.files, path_), StatusIs(StatusCode::kNotFound));
  ASSERT_OK(SaveCredentials(io_, path_, credentials_));
  EXPECT_THAT(io_.files.List(directory_), IsOkAndHolds(std::vector<std::string>{"main"}))
      << "no temporary file is left";
  struct stat info;
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  ASSERT_OK_AND_ASSIGN(AgentCredentials back, LoadCredentials(io_.files, path_));
  EXPECT_EQ(back.repository, repository_);
  EXPECT_EQ(back.repository_name, "main");
  EXPECT_EQ(back.aead, AeadAlgorithm::kAes256Gcm);
  EXPECT_EQ(back.settings_generation, 4u);
  EXPECT_EQ(back.settings_digest, CountingId<Digest>(9));
  EXPECT_EQ(back.keyring_generation, 1u);
  EXPECT_EQ(back.epoch, 1u);
  EXPECT_EQ(back.dedup_secret, credentials_.dedup_secret);
  EXPECT_EQ(back.agent_number, 1u);
  EXPECT_EQ(back.identity, CountingId<AgentIdentity>(10));
  EXPECT_EQ(back.label, "web-1");
  EXPECT_EQ(back.reader_key, credentials_.reader_key);
  EXPECT_EQ(back.mac_key, credentials_.mac_key);

  ASSERT_OK(ForgetCredentials(io_.files, path_));
  EXPECT_THAT(io_.files.List(directory_), IsOkAndHolds(std::vector<std::string>{}));
  EXPECT_THAT(ForgetCredentials(io_.files, path_), StatusIs(StatusCode::kNotFound));
}

TEST_F(CredentialsTest, RefuseEveryTruncationAndFlippedBit) {
  ASSERT_OK_AND_ASSIGN(SecretString bytes, EncodeCredentials(credentials_));
  auto refused = [&](const std::string& damaged, const std::string& what) {
    EXPECT_THAT(DecodeCredentials(damaged), StatusIs(StatusCode::kDataLoss)) << what;
  };
  ForEveryTruncation(std::string(bytes.ExposeView()), refused);
  ForEveryFlippedBit(std::string(bytes.ExposeView()), refused);
}

TEST_F(CredentialsTest, WithoutAKeyAreNotSaved) {
  credentials_.mac_key = Key256();
  EXPECT_THAT(SaveCredentials(io_, path_, credentials_), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(LoadCredentials(io_.files, path_), StatusIs(StatusCode::kNotFound));
}

}  // namespace
}  // namespace holdfast
