#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/keys/fake_key_server.h"
#include "client/keys/repository_access.h"
#include "client/keys/repository_keys.h"
#include "core/base/status_testing.h"
#include "core/io/posix.h"
#include "core/keys/keys_testing.h"
#include "core/keys/recovery_key.h"
#include "core/keys/settings.h"
#include "proto/holdfast/v1/service.pb.h"

namespace holdfast {
namespace {

class KeysTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/keys.XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    Create("r", "secret");
  }

  void Create(const std::string& name, const std::string& password, const SecretString& recovery_key = {}) {
    auto request = CreateRepositoryKeys({name, kCheapArgon2}, SecretString(password), recovery_key, io_);
    ASSERT_OK(request.status());
    FakeKeyServer::Repository r;
    r.id = request->repository_id();
    r.settings = request->settings();
    r.slots[1] = request->key_slots();
    r.keyring[1] = request->keyring();
    fake_.repositories[name] = r;
  }

  RepositoryAccess::Place Machine(const std::string& machine) {
    return {"r", directory_ + "/" + machine, "user@" + machine};
  }
  absl::StatusOr<std::unique_ptr<RepositoryAccess>> Owner(const std::string& machine,
                                                          const std::string& password = "secret") {
    return RepositoryAccess::AsOwner(fake_, Machine(machine), SecretString(password), io_);
  }
  absl::StatusOr<std::unique_ptr<RepositoryAccess>> Agent(const std::string& machine) {
    return RepositoryAccess::AsAgent(fake_, Machine(machine), io_);
  }
  uint32_t Unlock(const std::string& machine) {
    auto owner = Owner(machine);
    EXPECT_OK(owner.status());
    auto credentials = (*owner)->Unlock();
    EXPECT_OK(credentials.status());
    return credentials->agent_number;
  }
  // A manifest as this agent would commit it.
  std::string Manifest(const BackupKeys& keys) {
    pb::ManifestCore core;
    core.set_repository_id(std::string(keys.sealing.repository.view()));
    core.set_source("s");
    core.set_agent(keys.manifest.agent);
    core.set_sequence(1);
    core.set_root_id(std::string(32, 'i'));
    core.set_key_epoch(keys.sealing.epoch);
    auto bytes = SealManifest(core, {}, ChunkRef{{}, RepeatedKey(7), {}}, keys.manifest, io_.random);
    EXPECT_OK(bytes.status());
    return *bytes;
  }

  std::string directory_;
  Io io_ = PosixIo();
  FakeKeyServer fake_;
};

TEST_F(KeysTest, RequestHoldsTheCatalogKeyAndNoOtherSecret) {
  auto request = CreateRepositoryKeys({"x", kCheapArgon2}, SecretString("secret"), {}, io_);
  ASSERT_OK(request.status());
  EXPECT_EQ(request->catalog_key().size(), 32u);
  v1::GetKeysReply keys;
  keys.set_repository_id(request->repository_id());
  keys.set_settings(request->settings());
  keys.set_key_slots(request->key_slots());
  keys.set_keyring(request->keyring());
  auto owner = OpenOwnerKeys(keys, SecretString("secret"));
  ASSERT_OK(owner.status());
  const std::string sent = request->SerializeAsString();
  for (std::string_view secret :
       {owner->opened.master.ExposeView(), owner->keyring.current_epoch().dedup_secret.ExposeView(),
        owner->keyring.owner_reader_key.ExposeView(), std::string_view("secret")}) {
    EXPECT_EQ(sent.find(std::string(secret)), std::string::npos);
  }
  EXPECT_EQ(request->catalog_key(), owner->keyring.current_epoch().catalog_key.ExposeView());
}

TEST_F(KeysTest, ANewRepositoryHasTheCipherAndThePaddingThatWereAskedFor) {
  auto request = CreateRepositoryKeys({"x", kCheapArgon2, AeadAlgorithm::kChaCha20Poly1305, true},
                                      SecretString("secret"), {}, io_);
  ASSERT_OK(request.status());
  EXPECT_EQ(request->aead(), 2u);
  auto settings = DecodeSettings(request->settings());
  ASSERT_OK(settings.status());
  EXPECT_EQ(settings->aead, AeadAlgorithm::kChaCha20Poly1305);
  EXPECT_TRUE(settings->padding);
}

TEST_F(KeysTest, WrongPasswordIsUnauthenticated) {
  EXPECT_EQ(Owner("a", "wrong").status().code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(KeysTest, UnknownRepositoryIsNotFoundAndSaysHowToCreateIt) {
  auto status = FetchKeys(fake_, "other").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("repository create other"), std::string::npos);
}

TEST_F(KeysTest, ANumberThatALostGenerationGaveOutIsNotGivenAgain) {
  EXPECT_EQ(Unlock("a"), 1u);
  const std::string older = fake_.repositories["r"].keyring.rbegin()->second;
  EXPECT_EQ(Unlock("b"), 2u);
  // No copy of the newest generation is intact: the server gives the one before, under the newest number.
  fake_.repositories["r"].keyring.rbegin()->second = older;
  EXPECT_EQ(Unlock("c"), 3u);
}

TEST_F(KeysTest, EveryConfigurationDirectoryIsAnAgentOfItsOwn) {
  EXPECT_EQ(Unlock("a"), 1u);
  EXPECT_EQ(Unlock("b"), 2u);
  EXPECT_EQ(Unlock("a"), 1u);
}

TEST_F(KeysTest, IdentitySurvivesLocking) {
  EXPECT_EQ(Unlock("a"), 1u);
  EXPECT_OK(ForgetCredentials(io_.files, RepositoryAccess::CredentialsPath(Machine("a"))));
  EXPECT_EQ(Agent("a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Unlock("a"), 1u);
}

TEST_F(KeysTest, FilesAreForTheUserAlone) {
  Unlock("a");
  for (const std::string& path :
       {RepositoryAccess::CredentialsPath(Machine("a")), RepositoryAccess::IdentityPath(Machine("a"))}) {
    struct stat st {};
    ASSERT_EQ(stat(path.c_str(), &st), 0) << path;
    EXPECT_EQ(st.st_mode & 07777, 0600u) << path;
  }
}

TEST_F(KeysTest, OwnerWithoutUnlockingEnrolsTheMachineOnce) {
  for (int i = 0; i < 2; ++i) {
    auto owner = Owner("a");
    ASSERT_OK(owner.status());
    auto keys = (*owner)->MakeBackupKeys();
    ASSERT_OK(keys.status());
    EXPECT_EQ(keys->manifest.agent, 1u);
  }
  EXPECT_EQ(fake_.puts, 1);
}

TEST_F(KeysTest, EnrollingTriesAgainWhenSomebodyElseIsFaster) {
  auto owner = Owner("a");
  ASSERT_OK(owner.status());
  // Between reading and writing, another machine gets the next generation.
  auto other = OpenOwnerKeys(*FetchKeys(fake_, "r"), SecretString("secret"));
  ASSERT_OK(other.status());
  fake_.before_put = [&] {
    Keyring changed = other->keyring;
    ASSERT_OK(AddAgent(changed, CountingId<AgentIdentity>(9), "other", 0).status());
    changed.generation = 2;
    auto blob = SealKeyring(changed, MasterKeys(other->opened.master, other->repository).keyring_key(), io_.random);
    ASSERT_OK(blob.status());
    fake_.repositories["r"].keyring[2] = *blob;
  };
  auto keys = (*owner)->MakeBackupKeys();
  ASSERT_OK(keys.status());
  EXPECT_EQ(keys->manifest.agent, 2u);
}

TEST_F(KeysTest, AgentAndOwnerMakeTheSameKeysForTheSameMachine) {
  Unlock("a");
  auto agent = Agent("a");
  auto owner = Owner("a");
  ASSERT_OK(agent.status());
  ASSERT_OK(owner.status());
  auto a = (*agent)->MakeBackupKeys();
  auto b = (*owner)->MakeBackupKeys();
  ASSERT_OK(a.status());
  ASSERT_OK(b.status());
  EXPECT_EQ(a->sealing.data_key, b->sealing.data_key);
  EXPECT_EQ(a->sealing.tree_key, b->sealing.tree_key);
  EXPECT_EQ(a->sealing.nonce_key, b->sealing.nonce_key);
  EXPECT_EQ(a->manifest.agent_mac_key, b->manifest.agent_mac_key);
  EXPECT_EQ(a->manifest.agent_reader_key, b->manifest.agent_reader_key);
  EXPECT_EQ(a->cut_key, b->cut_key);
  EXPECT_EQ(a->name_cut_key, b->name_cut_key);
}

TEST_F(KeysTest, AgentsShareDataKeysAndNotTreeKeys) {
  Unlock("a");
  Unlock("b");
  auto a = (*Agent("a"))->MakeBackupKeys();
  auto b = (*Agent("b"))->MakeBackupKeys();
  ASSERT_OK(a.status());
  ASSERT_OK(b.status());
  EXPECT_EQ(a->sealing.data_key, b->sealing.data_key);
  EXPECT_EQ(a->cut_key, b->cut_key);
  EXPECT_FALSE(a->sealing.tree_key == b->sealing.tree_key);
  EXPECT_FALSE(a->manifest.agent_reader_key == b->manifest.agent_reader_key);
  EXPECT_FALSE(a->manifest.agent_mac_key == b->manifest.agent_mac_key);
}

TEST_F(KeysTest, AgentOpensItsOwnSnapshotsOnlyAndTheOwnerAll) {
  Unlock("a");
  Unlock("b");
  auto keys = (*Agent("a"))->MakeBackupKeys();
  ASSERT_OK(keys.status());
  const std::string manifest = Manifest(*keys);
  const ManifestId id = ManifestIdOf(manifest);
  auto own = (*Agent("a"))->OpenSnapshot(manifest, id);
  ASSERT_OK(own.status());
  EXPECT_EQ(own->manifest.root.key, RepeatedKey(7));
  EXPECT_EQ((*Agent("b"))->OpenSnapshot(manifest, id).status().code(), absl::StatusCode::kPermissionDenied);
  auto owner = (*Owner("c"))->OpenSnapshot(manifest, id);
  ASSERT_OK(owner.status());
  EXPECT_EQ(owner->manifest.root.key, RepeatedKey(7));
}

TEST_F(KeysTest, ManifestOfAnotherSnapshotIsRefused) {
  Unlock("a");
  auto keys = (*Agent("a"))->MakeBackupKeys();
  ASSERT_OK(keys.status());
  const std::string manifest = Manifest(*keys);
  ManifestId id = ManifestIdOf(manifest);
  id.bytes[0] ^= 1;
  EXPECT_EQ((*Agent("a"))->OpenSnapshot(manifest, id).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(KeysTest, AgentRefusesAnOlderKeyring) {
  const std::map<uint64_t, std::string> old = fake_.repositories["r"].keyring;
  Unlock("a");  // generation 2
  fake_.repositories["r"].keyring = old;
  EXPECT_EQ(Agent("a").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Owner("a").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_OK(Owner("b").status());  // has seen nothing yet
}

TEST_F(KeysTest, AgentRefusesOtherSettingsAndAnotherRepositoryOfTheSameName) {
  Unlock("a");
  auto owner = OpenOwnerKeys(*FetchKeys(fake_, "r"), SecretString("secret"));
  ASSERT_OK(owner.status());
  RepositorySettings settings;
  settings.repository = owner->repository;
  settings.generation = 2;
  auto other = EncodeSettings(settings, MasterKeys(owner->opened.master, owner->repository).admin_key());
  ASSERT_OK(other.status());
  fake_.repositories["r"].settings = *other;
  EXPECT_EQ(Agent("a").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_OK(Owner("a").status());  // they are authentic
  Create("r", "secret");
  EXPECT_EQ(Agent("a").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Owner("a").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(KeysTest, OwnerRefusesForgedSettings) {
  auto owner = OpenOwnerKeys(*FetchKeys(fake_, "r"), SecretString("secret"));
  RepositorySettings settings;
  settings.repository = owner->repository;
  auto forged = EncodeSettings(settings, RepeatedKey(1));
  ASSERT_OK(forged.status());
  fake_.repositories["r"].settings = *forged;
  EXPECT_EQ(Owner("a").status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(KeysTest, NothingStoredOpensWithAReplacedPassword) {
  NewKeySlot request;
  request.argon2 = kCheapArgon2;
  request.label = "password";
  ASSERT_OK(ReplaceKeySlots(
      fake_, "r", SecretString("secret"), request, SecretString("new"),
      [](const KeySlot& s, uint32_t) { return s.kind == KeySlotKind::kPassword; }, io_));
  const auto& r = fake_.repositories["r"];
  ASSERT_EQ(r.slots.size(), 2u);
  for (const auto& [generation, blob] : r.slots) {
    EXPECT_EQ(generation >= 2, true);
    const auto id = *RepositoryId::FromBytes(r.id);
    EXPECT_EQ(OpenKeySlots(blob, id, SecretString("secret")).status().code(), absl::StatusCode::kUnauthenticated);
    EXPECT_OK(OpenKeySlots(blob, id, SecretString("new")).status());
  }
}

TEST_F(KeysTest, ReplacedRecoveryKeyStopsWorkingAndThePasswordStays) {
  NewKeySlot request;
  request.argon2 = kCheapArgon2;
  request.kind = KeySlotKind::kRecovery;
  auto is_recovery = [](const KeySlot& s, uint32_t) { return s.kind == KeySlotKind::kRecovery; };
  const SecretString first = GenerateRecoveryKey(io_.random), second = GenerateRecoveryKey(io_.random);
  ASSERT_OK(ReplaceKeySlots(fake_, "r", SecretString("secret"), request, first, is_recovery, io_));
  EXPECT_OK(Owner("a", std::string(first.ExposeView())).status());
  ASSERT_OK(ReplaceKeySlots(fake_, "r", SecretString("secret"), request, second, is_recovery, io_));
  EXPECT_EQ(Owner("a", std::string(first.ExposeView())).status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_OK(Owner("a", std::string(second.ExposeView())).status());
  EXPECT_OK(Owner("a").status());
}

TEST_F(KeysTest, DamagedIdentityIsSaidAndNotReplaced) {
  Unlock("a");
  ASSERT_OK(WriteFileAtomically(io_, RepositoryAccess::IdentityPath(Machine("a")), "nonsense\n"));
  auto owner = Owner("a");
  ASSERT_OK(owner.status());
  EXPECT_EQ((*owner)->Unlock().status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace holdfast
