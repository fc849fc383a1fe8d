#include "core/keys/derive.h"

#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/crypto/kdf.h"
#include "core/crypto/types.h"
#include "core/keys/keys_testing.h"
#include "core/keys/manifest_key.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(Derive, EveryKeyIsDifferent) {
  RepositoryId repository = CountingId<RepositoryId>();
  MasterKeys master(RepeatedKey<MasterSecret>(0x22), repository);
  EpochKeys one(RepeatedKey(0x11), repository, 1), two(RepeatedKey(0x11), repository, 2);
  EpochKeys elsewhere(RepeatedKey(0x11), CountingId<RepositoryId>(1), 1);
  std::vector<Key256> keys = {master.keyring_key(),
                              master.admin_key(),
                              master.slot_mac_key(),
                              master.AgentMacKey(1),
                              master.AgentMacKey(2),
                              AgentReaderKey(RepeatedKey(0x44), repository, 1),
                              AgentReaderKey(RepeatedKey(0x44), repository, 2),
                              one.data_chunk_key(),
                              one.TreeTypeKey(1),
                              one.TreeTypeKey(2),
                              one.TreeChunkKey(RepeatedKey(0x55), 1),
                              one.nonce_key(),
                              one.name_cut_key(),
                              two.data_chunk_key(),
                              two.TreeTypeKey(1),
                              two.TreeChunkKey(RepeatedKey(0x55), 1),
                              two.nonce_key(),
                              elsewhere.data_chunk_key(),
                              elsewhere.nonce_key(),
                              elsewhere.name_cut_key()};
  for (size_t i = 0; i < keys.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(keys[i] == keys[j]) << i << " " << j;
  }
}

TEST(Derive, TheKeyOfTreePagesIsWhatTheFormatSays) {
  const auto repository = CountingId<RepositoryId>();
  const EpochKeys epoch(RepeatedKey(0x11), repository, 1);
  const Key256 reader = RepeatedKey(0x22);
  const std::string number("\7\0\0\0", 4);
  const Key256 tree = Hkdf256(reader.ExposeView(), repository.view(), "holdfast/1/agent-tree" + number);
  const std::string ikm = std::string(epoch.TreeTypeKey(7).ExposeView()) + std::string(tree.ExposeView());
  EXPECT_EQ(epoch.TreeChunkKey(reader, 7), Hkdf256(ikm, repository.view(), "holdfast/1/chunk-tree"));
}

TEST(Derive, TheKeyOfTreePagesDependsOnTheAgentAndOnItsReaderKey) {
  const EpochKeys epoch(RepeatedKey(0x11), CountingId<RepositoryId>(), 1);
  EXPECT_FALSE(epoch.TreeChunkKey(RepeatedKey(1), 1) == epoch.TreeChunkKey(RepeatedKey(1), 2));
  EXPECT_FALSE(epoch.TreeChunkKey(RepeatedKey(1), 1) == epoch.TreeChunkKey(RepeatedKey(2), 1));
}

TEST(Derive, TheKeysOfAManifestAreWhatTheFormatSays) {
  const auto repository = CountingId<RepositoryId>();
  const std::string salt(32, 0x55), number("\7\0\0\0", 4);
  EXPECT_EQ(DeriveStanzaKey(RepeatedKey(1), salt, 7),
            Hkdf256(RepeatedKey(1).ExposeView(), salt, "holdfast/1/stanza" + number));
  EXPECT_EQ(DeriveManifestSealedKey(RepeatedKey(1), salt, repository),
            Hkdf256(RepeatedKey(1).ExposeView(), salt, "holdfast/1/manifest-sealed" + std::string(repository.view())));
}

}  // namespace
}  // namespace holdfast
