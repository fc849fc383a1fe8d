#include "server/repository/stored_keys.h"

#include <atomic>
#include <thread>

#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/wrappers/faulty_blob_store.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// An intact blob (docs/format.md, sections 1, 3 and 4).
std::string Blob(std::string_view magic, std::string_view content) {
  std::string bytes = absl::StrCat(AbslView(magic), std::string(1, '\0'), std::string(64, 'k'), AbslView(content));
  return bytes + std::string(Blake3Digest(bytes).view());
}
std::string Settings(std::string_view content = "") { return Blob("HFREPO1", content); }
std::string Slots(std::string_view content) { return Blob("HFSLOT1", content); }
std::string Ring(std::string_view content) { return Blob("HFRING1", content); }

class StoredKeysTest : public testing::Test {
 protected:
  absl::Status Create() { return keys_.Create(Settings(), Slots("1"), Ring("1")); }
  std::vector<std::string> Names(std::string_view prefix) {
    std::vector<std::string> out;
    auto blobs = ListAll(store_, prefix);
    EXPECT_OK(blobs);
    for (const BlobInfo& b : *blobs) out.push_back(b.name);
    return out;
  }
  void Remove(std::string name) { EXPECT_OK(store_.Delete(BlobName::FromTrusted(std::move(name)))); }

  MemoryBlobStore store_;
  FaultyBlobStore faulty_{store_, 1};
  StoredKeys keys_{faulty_};
};

TEST_F(StoredKeysTest, GivesWhatItWasCreatedWith) {
  ASSERT_OK(Create());
  auto keys = keys_.Get();
  ASSERT_OK(keys);
  EXPECT_EQ(keys->settings, Settings());
  EXPECT_EQ(keys->key_slots.bytes, Slots("1"));
  EXPECT_EQ(keys->key_slots.generation, 1u);
  EXPECT_EQ(keys->keyring.bytes, Ring("1"));
  EXPECT_EQ(keys->keyring.generation, 1u);
}

TEST_F(StoredKeysTest, IsCreatedOnce) {
  ASSERT_OK(Create());
  EXPECT_THAT(keys_.Create(Settings("new"), Slots("new"), Ring("new")), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(keys_.Get()->settings, Settings());
}

TEST_F(StoredKeysTest, RemovesKeysAndNothingElse) {
  ASSERT_OK(Create());
  ASSERT_OK(PutBytes(store_, BlobName::FromTrusted("log/00000001"), "slot", PutMode::kIfAbsent));
  ASSERT_OK(PutBytes(store_, BlobName::FromTrusted("keysmith"), "?", PutMode::kIfAbsent));
  ASSERT_OK(keys_.Remove());
  EXPECT_THAT(Names(""), ElementsAre("keysmith", "log/00000001"));
  EXPECT_OK(Create());
}

TEST_F(StoredKeysTest, RefusesToCreateWhatIsNotIntact) {
  EXPECT_THAT(keys_.Create("nonsense", Slots("1"), Ring("1")), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Names(""), IsEmpty());
  EXPECT_THAT(keys_.Create(Settings(), Ring("1"), Slots("1")), StatusIs(absl::StatusCode::kInvalidArgument))
      << "mixed up";
  EXPECT_THAT(keys_.Get(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(StoredKeysTest, ChangesKeySlotsAndKeyringEachOnItsOwn) {
  ASSERT_OK(Create());
  ASSERT_OK(keys_.Put({Slots("2"), "", 2}));
  ASSERT_OK(keys_.Put({Slots("3"), "", 3}));
  ASSERT_OK(keys_.Put({"", Ring("2"), 2}));
  auto keys = keys_.Get();
  ASSERT_OK(keys);
  EXPECT_EQ(keys->key_slots.bytes, Slots("3"));
  EXPECT_EQ(keys->key_slots.generation, 3u);
  EXPECT_EQ(keys->keyring.bytes, Ring("2"));
  EXPECT_EQ(keys->keyring.generation, 2u);
  EXPECT_EQ(keys->settings, Settings());
}

TEST_F(StoredKeysTest, AChangeIsOfExactlyOneOfTheTwo) {
  ASSERT_OK(Create());
  EXPECT_THAT(keys_.Put({"", "", 2}), StatusIs(absl::StatusCode::kInvalidArgument, "exactly one"));
  EXPECT_THAT(keys_.Put({Slots("2"), Ring("2"), 2}), StatusIs(absl::StatusCode::kInvalidArgument, "exactly one"));
  EXPECT_THAT(keys_.Put({Ring("2"), "", 2}), StatusIs(absl::StatusCode::kInvalidArgument, "intact"));
  EXPECT_EQ(keys_.Get()->key_slots.generation, 1u);
  EXPECT_EQ(keys_.Get()->keyring.generation, 1u);
}

TEST_F(StoredKeysTest, AChangeThatKnowsAnOlderGenerationIsTurnedAway) {
  ASSERT_OK(Create());
  ASSERT_OK(keys_.Put({Slots("2"), "", 2}));
  EXPECT_THAT(keys_.Put({Slots("other"), "", 2}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(keys_.Put({Slots("other"), "", 4}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_EQ(keys_.Get()->key_slots.bytes, Slots("2"));
}

TEST_F(StoredKeysTest, CheckRestoresCopiesThatAreMissing) {
  ASSERT_OK(Create());
  const std::vector<std::string> all = Names("");
  std::vector<std::string> warnings;
  ASSERT_OK(keys_.Check(&warnings));
  EXPECT_THAT(warnings, IsEmpty());
  Remove("format/00000001-0");
  Remove("keys/slots-00000001-2");
  Remove("keys/ring-00000001-0");
  ASSERT_OK(keys_.Check(&warnings));
  EXPECT_EQ(Names(""), all);
  EXPECT_THAT(warnings, ElementsAre("format/00000001-0 is missing or unreadable",
                                    "keys/ring-00000001-0 is missing or unreadable"));
}

TEST_F(StoredKeysTest, CheckSaysWhichKeysAreGoneAndLooksAtTheOthersAllTheSame) {
  ASSERT_OK(Create());
  for (int copy = 0; copy < 3; ++copy) Remove(absl::StrCat("keys/slots-00000001-", copy));
  Remove("keys/ring-00000001-1");
  std::vector<std::string> warnings;
  EXPECT_THAT(keys_.Check(&warnings), StatusIs(absl::StatusCode::kNotFound, "key slots"));
  EXPECT_THAT(Names("keys/ring-"), ElementsAre("keys/ring-00000001-0", "keys/ring-00000001-1"));
  EXPECT_THAT(keys_.Get(), StatusIs(absl::StatusCode::kNotFound, "key slots"));
}

TEST_F(StoredKeysTest, AnUnreachableStorageIsNoLostKey) {
  ASSERT_OK(Create());
  faulty_.SetRate(BlobFault::kFailBefore, 1000);
  std::vector<std::string> warnings;
  EXPECT_THAT(keys_.Get(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(keys_.Check(&warnings), StatusIs(absl::StatusCode::kUnavailable));
  faulty_.ClearFaults();
  EXPECT_OK(keys_.Get());
}

TEST_F(StoredKeysTest, OfManyWritersOfAGenerationOneWinsAndReadersSeeWholeGenerations) {
  ASSERT_OK(Create());
  constexpr int kWriters = 4, kGenerations = 20;
  std::atomic<int> won{0};
  std::atomic<bool> done{false};
  std::thread reader([&] {
    uint64_t last = 1;
    do {
      auto keys = keys_.Get();
      ASSERT_OK(keys);
      EXPECT_GE(keys->key_slots.generation, last);
      last = keys->key_slots.generation;
    } while (!done);
  });
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      for (uint64_t generation = 2; generation <= kGenerations;) {
        absl::Status s = keys_.Put({Slots(absl::StrCat(w)), "", generation});
        if (s.ok()) ++won;
        if (s.ok() || absl::IsAborted(s)) ++generation;
        EXPECT_TRUE(s.ok() || absl::IsAborted(s)) << s;
      }
    });
  }
  for (std::thread& t : writers) t.join();
  done = true;
  reader.join();
  EXPECT_EQ(won, kGenerations - 1);
  EXPECT_EQ(keys_.Get()->key_slots.generation, uint64_t{kGenerations});
}

}  // namespace
}  // namespace holdfast
