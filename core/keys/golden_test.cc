// Golden vectors of docs/format.md, sections 2 to 4. The file is never rewritten by this test: a difference means that
// repositories written before could not be read, or that another implementation of the format would disagree.
#include <fstream>
#include <map>

#include "core/base/status_testing.h"
#include "core/keys/catalog_key.h"
#include "core/keys/derive.h"
#include "core/keys/key_slots.h"
#include "core/keys/keyring.h"
#include "core/keys/keys_testing.h"
#include "core/keys/recovery_key.h"
#include "core/keys/settings.h"

namespace holdfast {
namespace {

std::map<std::string, std::string> ReadGolden() {
  std::map<std::string, std::string> lines;
  std::ifstream file("core/keys/testdata/golden.txt");
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    size_t space = line.find(' ');
    EXPECT_TRUE(lines.emplace(line.substr(0, space), line.substr(space + 1)).second) << "twice: " << line;
  }
  return lines;
}

TEST(Golden, KeysAndBlobsAreWhatTheFileSays) {
  const RepositoryId repository = CountingId<RepositoryId>();
  const auto master = RepeatedKey<MasterSecret>(0x22);
  const Key256 dedup_secret = RepeatedKey(0x11), catalog_key = RepeatedKey(0x33), owner_reader_key = RepeatedKey(0x44);
  const std::string salt(32, 0x55);
  const PackId pack = CountingId<PackId>(0xa0);
  std::map<std::string, std::string> computed;
  auto put = [&](const std::string& name, std::string_view bytes) { computed[name] = HexEncode(bytes); };

  put("input.repository_id", repository.view());
  put("input.master", master.ExposeView());
  put("input.dedup_secret", dedup_secret.ExposeView());
  put("input.catalog_key", catalog_key.ExposeView());
  put("input.owner_reader_key", owner_reader_key.ExposeView());
  put("input.catalog_salt", salt);
  put("input.pack_id", pack.view());

  MasterKeys keys(master, repository);
  put("master.keyring_key", keys.keyring_key().ExposeView());
  put("master.admin_key", keys.admin_key().ExposeView());
  put("master.slot_mac_key", keys.slot_mac_key().ExposeView());
  put("master.agent_mac_key.agent_1", keys.AgentMacKey(1).ExposeView());
  put("owner.agent_reader_key.agent_1", AgentReaderKey(owner_reader_key, repository, 1).ExposeView());
  EpochKeys epoch(dedup_secret, repository, 1);
  put("epoch_1.chunk_key.data", epoch.data_chunk_key().ExposeView());
  put("epoch_1.chunk_key.tree.agent_1", epoch.TreeTypeKey(1).ExposeView());
  put("epoch_1.nonce_key", epoch.nonce_key().ExposeView());
  put("epoch_1.cut_key", epoch.cut_key().ExposeView());
  put("epoch_1.name_cut_key", epoch.name_cut_key().ExposeView());
  put("catalog.pack_key.data", DerivePackKey(catalog_key, salt, repository, pack, 1).ExposeView());
  put("catalog.index_segment_key.sequence_7", DeriveIndexSegmentKey(catalog_key, salt, repository, 7).ExposeView());
  put("catalog.log_key.slot_9", DeriveLogKey(catalog_key, salt, repository, 9).ExposeView());

  CountingRandom random;  // every random value is 00 01 02 ... from its own start: it can be read in the outputs
  SecretString recovery = GenerateRecoveryKey(random);
  computed["recovery_key.of_00_to_13.as_text"] = std::string(FormatRecoveryKey(recovery).ExposeView());

  random = CountingRandom();
  KeySlots slots;
  slots.repository = repository;
  ASSERT_OK(AddKeySlot(slots, master, {KeySlotKind::kPassword, "laptop", kCheapArgon2, 1700000000000000000},
                       SecretString("correct horse battery staple"), random));
  ASSERT_OK(AddKeySlot(slots, master, {KeySlotKind::kRecovery, "printed", kCheapArgon2, 1700000000000000001},
                       FormatRecoveryKey(recovery), random));
  ASSERT_OK_AND_ASSIGN(std::string slots_blob, EncodeKeySlots(slots, keys.slot_mac_key()));
  put("slots.password_is_correct_horse_battery_staple", slots_blob);

  random = CountingRandom();
  Keyring keyring;
  keyring.repository = repository;
  keyring.epochs.push_back({1, dedup_secret, catalog_key});
  keyring.owner_reader_key = owner_reader_key;
  ASSERT_OK(AddAgent(keyring, CountingId<AgentIdentity>(0xc0), "web-1", 1700000000000000002));
  ASSERT_OK_AND_ASSIGN(std::string keyring_blob, SealKeyring(keyring, keys.keyring_key(), random));
  put("keyring.aead_1", keyring_blob);
  random = CountingRandom();
  keyring.aead = AeadAlgorithm::kChaCha20Poly1305;
  ASSERT_OK_AND_ASSIGN(std::string chacha_blob, SealKeyring(keyring, keys.keyring_key(), random));
  put("keyring.aead_2", chacha_blob);

  RepositorySettings settings;
  settings.repository = repository;
  ASSERT_OK_AND_ASSIGN(std::string settings_blob, EncodeSettings(settings, keys.admin_key()));
  put("settings.defaults", settings_blob);

  std::map<std::string, std::string> golden = ReadGolden();
  for (const auto& [name, value] : computed) {
    EXPECT_EQ(golden[name], value) << "computed now:\n" << name << " " << value;
    golden.erase(name);
  }
  for (const auto& [name, value] : golden) ADD_FAILURE() << "nothing computes " << name;
}

TEST(Golden, TheStoredBlobsOpen) {
  std::map<std::string, std::string> golden = ReadGolden();
  auto blob = [&](const char* name) { return *HexDecode(golden[name]); };
  const RepositoryId repository = CountingId<RepositoryId>();
  std::string slots = blob("slots.password_is_correct_horse_battery_staple");
  ASSERT_OK_AND_ASSIGN(MasterSecret master,
                       OpenMaster(slots, repository, SecretString("correct horse battery staple")));
  EXPECT_EQ(master, RepeatedKey<MasterSecret>(0x22));
  EXPECT_THAT(OpenMaster(slots, repository, SecretString(golden["recovery_key.of_00_to_13.as_text"])),
              IsOkAndHolds(master));
  MasterKeys keys(master, repository);
  for (const char* name : {"keyring.aead_1", "keyring.aead_2"}) {
    ASSERT_OK_AND_ASSIGN(Keyring keyring, OpenKeyring(blob(name), keys.keyring_key(), repository));
    EXPECT_EQ(keyring.current_epoch().dedup_secret, RepeatedKey(0x11));
    EXPECT_EQ(keyring.agents[0].label, "web-1");
  }
  EXPECT_OK(VerifySettings(blob("settings.defaults"), repository, keys.admin_key()));
}

}  // namespace
}  // namespace holdfast
