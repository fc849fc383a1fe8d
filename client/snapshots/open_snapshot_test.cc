#include "client/snapshots/open_snapshot.h"

#include <stdlib.h>

#include <memory>
#include <string>

#include "client/keys/repository_keys.h"
#include "client/snapshots/fake_snapshot_server.h"
#include "core/base/secret.h"
#include "core/base/status_testing.h"
#include "core/io/posix.h"
#include "core/keys/keys_testing.h"

namespace holdfast {
namespace {

class OpenSnapshotTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/open.XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    ASSERT_OK_AND_ASSIGN(v1::CreateRepositoryRequest request,
                         CreateRepositoryKeys({"r", kCheapArgon2}, SecretString("secret"), {}, io_));
    FakeKeyServer::Repository& r = server_.repositories["r"];
    r.id = request.repository_id();
    r.settings = request.settings();
    r.slots[1] = request.key_slots();
    r.keyring[1] = request.keyring();
  }

  std::unique_ptr<RepositoryAccess> Owner(const std::string& machine) {
    auto access =
        RepositoryAccess::AsOwner(server_, {"r", directory_ + "/" + machine, machine}, SecretString("secret"), io_);
    EXPECT_OK(access.status());
    return *std::move(access);
  }
  std::unique_ptr<RepositoryAccess> Agent(const std::string& machine) {
    EXPECT_OK(Owner(machine)->Unlock().status());
    auto access = RepositoryAccess::AsAgent(server_, {"r", directory_ + "/" + machine, machine}, io_);
    EXPECT_OK(access.status());
    return *std::move(access);
  }
  // A snapshot of `access`' machine, at the server, and as the server should list it.
  ListedSnapshot Commit(RepositoryAccess& access, const std::string& root_path = "/home/me") {
    absl::StatusOr<BackupKeys> keys = access.MakeBackupKeys();
    EXPECT_OK(keys.status());
    ListedSnapshot out;
    out.core.set_repository_id(std::string(keys->sealing.repository.view()));
    out.core.set_source("s");
    out.core.set_agent(keys->manifest.agent);
    out.core.set_sequence(1);
    out.core.set_root_id(std::string(32, 'i'));
    out.core.set_key_epoch(keys->sealing.epoch);
    pb::ManifestSealed sealed;
    sealed.set_root_path(root_path);
    absl::StatusOr<std::string> bytes =
        SealManifest(out.core, sealed, ChunkRef{{}, RepeatedKey(7), {}}, keys->manifest, io_.random);
    EXPECT_OK(bytes.status());
    out.id = ManifestIdOf(*bytes);
    server_.manifests[HexEncode(out.id.view())] = *bytes;
    return out;
  }

  std::string directory_;
  Io io_ = PosixIo();
  FakeSnapshotServer server_;
};

TEST_F(OpenSnapshotTest, GivesTheKeysOfItsReader) {
  auto agent = Agent("a");
  const ListedSnapshot listed = Commit(*agent);
  ASSERT_OK_AND_ASSIGN(auto opened, OpenListedSnapshot(server_, "r", *agent, listed, nullptr));
  EXPECT_EQ(opened->id, listed.id);
  EXPECT_EQ(opened->opened.manifest.root.key, RepeatedKey(7));
  EXPECT_EQ(opened->reader->root().key, RepeatedKey(7));
  EXPECT_EQ(SourceName(*opened), "me");
}

TEST_F(OpenSnapshotTest, ARootWithoutANameIsCalledFile) {
  auto agent = Agent("a");
  const ListedSnapshot listed = Commit(*agent, "/");
  ASSERT_OK_AND_ASSIGN(auto opened, OpenListedSnapshot(server_, "r", *agent, listed, nullptr));
  EXPECT_EQ(SourceName(*opened), "file");
}

TEST_F(OpenSnapshotTest, OneThatIsGoneIsNotFound) {
  auto agent = Agent("a");
  const ListedSnapshot listed = Commit(*agent);
  server_.manifests.clear();
  EXPECT_THAT(OpenListedSnapshot(server_, "r", *agent, listed, nullptr).status(),
              StatusIs(absl::StatusCode::kNotFound, "snapshot " + ShortId(listed.id)));
}

TEST_F(OpenSnapshotTest, AnotherSnapshotInItsPlaceIsDamage) {
  auto agent = Agent("a");
  const ListedSnapshot listed = Commit(*agent);
  const ListedSnapshot other = Commit(*agent);
  server_.manifests[HexEncode(listed.id.view())] = server_.manifests[HexEncode(other.id.view())];
  EXPECT_THAT(OpenListedSnapshot(server_, "r", *agent, listed, nullptr).status(),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(OpenSnapshotTest, AListThatLiedAboutItIsDamage) {
  auto agent = Agent("a");
  ListedSnapshot listed = Commit(*agent);
  listed.core.set_sequence(2);
  EXPECT_THAT(OpenListedSnapshot(server_, "r", *agent, listed, nullptr).status(),
              StatusIs(absl::StatusCode::kDataLoss, "is not what the server's list says of it"));
}

TEST_F(OpenSnapshotTest, OfAnotherAgentIsOpenedByTheOwnerOnly) {
  const ListedSnapshot listed = Commit(*Agent("a"));
  auto other = Agent("b");
  EXPECT_THAT(OpenListedSnapshot(server_, "r", *other, listed, nullptr).status(),
              StatusIs(absl::StatusCode::kPermissionDenied));
  auto owner = Owner("b");
  EXPECT_OK(OpenListedSnapshot(server_, "r", *other, listed, [&] { return owner.get(); }).status());
  EXPECT_OK(OpenListedSnapshot(server_, "r", *owner, listed, nullptr).status());
  // Who cannot become the owner is told why.
  auto refuse = [] { return absl::StatusOr<RepositoryAccess*>(absl::UnauthenticatedError("wrong password")); };
  EXPECT_THAT(OpenListedSnapshot(server_, "r", *other, listed, refuse).status(),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(OpenSnapshotTest, TheOwnerIsNotAskedForAnAgentsOwnSnapshot) {
  auto agent = Agent("a");
  const ListedSnapshot listed = Commit(*agent);
  bool asked = false;
  auto as_owner = [&]() -> absl::StatusOr<RepositoryAccess*> {
    asked = true;
    return absl::UnauthenticatedError("");
  };
  EXPECT_OK(OpenListedSnapshot(server_, "r", *agent, listed, as_owner).status());
  EXPECT_FALSE(asked);
}

}  // namespace
}  // namespace holdfast
