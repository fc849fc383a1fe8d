#include "server/repository/key_blobs.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/wrappers/faulty_blob_store.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr KeyBlobKind kKinds[] = {KeyBlobKind::kSettings, KeyBlobKind::kSlots, KeyBlobKind::kKeyring};

struct Rules {
  std::string prefix, magic;
  int copies;
};
// docs/format.md, sections 1, 3 and 4.
Rules RulesOf(KeyBlobKind kind) {
  switch (kind) {
    case KeyBlobKind::kSettings:
      return {"format/", "HFREPO1", 2};
    case KeyBlobKind::kSlots:
      return {"keys/slots-", "HFSLOT1", 3};
    case KeyBlobKind::kKeyring:
      return {"keys/ring-", "HFRING1", 2};
  }
  return {};
}
std::string Name(KeyBlobKind kind, uint64_t generation, int copy) {
  return absl::StrFormat("%s%08x-%d", RulesOf(kind).prefix, generation, copy);
}
std::string Bytes(KeyBlobKind kind, const std::string& content) {
  std::string bytes = RulesOf(kind).magic + std::string(1, '\0') + std::string(64, 'k') + content;
  return bytes + std::string(Blake3Digest(bytes).view());
}

class KeyBlobsTest : public testing::TestWithParam<KeyBlobKind> {
 protected:
  KeyBlobKind kind() const { return GetParam(); }
  absl::Status Put(uint64_t generation, const std::string& content) {
    return PutKeyBlob(faulty_, kind(), generation, Bytes(kind(), content));
  }
  absl::StatusOr<KeyBlob> Newest() {
    warnings_.clear();
    return ReadNewestKeyBlob(faulty_, kind(), &warnings_);
  }
  void ExpectNewest(uint64_t generation, const std::string& content) {
    auto newest = Newest();
    ASSERT_OK(newest);
    EXPECT_EQ(newest->generation, generation);
    EXPECT_EQ(newest->bytes, Bytes(kind(), content));
  }
  std::string Blob(uint64_t generation, int copy) {
    return GetWholeBlob(store_, BlobName::FromTrusted(Name(kind(), generation, copy)), 1u << 20).value_or("");
  }
  void Replace(uint64_t generation, int copy, std::string_view bytes) {
    BlobName name = BlobName::FromTrusted(Name(kind(), generation, copy));
    EXPECT_OK(store_.Delete(name));
    EXPECT_OK(PutBytes(store_, name, bytes, PutMode::kIfAbsent));
  }
  std::vector<std::string> Names() {
    std::vector<std::string> out;
    auto blobs = ListAll(store_, "");
    EXPECT_OK(blobs);
    for (const BlobInfo& b : *blobs) out.push_back(b.name);
    return out;
  }

  MemoryBlobStore store_;
  FaultyBlobStore faulty_{store_, 1};
  std::vector<std::string> warnings_;
};
INSTANTIATE_TEST_SUITE_P(Kinds, KeyBlobsTest, testing::ValuesIn(kKinds));

TEST_P(KeyBlobsTest, AreNotFoundWhereNoneWereWritten) {
  EXPECT_THAT(Newest(), StatusIs(absl::StatusCode::kNotFound));
  for (KeyBlobKind other : kKinds) {
    if (other == kind()) continue;
    ASSERT_OK(PutKeyBlob(store_, other, 1, Bytes(other, "x")));
  }
  EXPECT_THAT(Newest(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(KeyBlobsTest, GiveTheNewestGenerationAndKeepTheOneBefore) {
  for (uint64_t g = 1; g <= 20; ++g) {
    ASSERT_OK(Put(g, absl::StrCat("content ", g)));
    ExpectNewest(g, absl::StrCat("content ", g));
    EXPECT_THAT(warnings_, IsEmpty());
    EXPECT_EQ(Names().size(), static_cast<size_t>(RulesOf(kind()).copies) * std::min<uint64_t>(g, 2));
  }
  for (int copy = 0; copy < RulesOf(kind()).copies; ++copy) {
    EXPECT_EQ(Blob(20, copy), Bytes(kind(), "content 20"));
    EXPECT_EQ(Blob(19, copy), Bytes(kind(), "content 19"));
  }
}

TEST_P(KeyBlobsTest, RefuseAGenerationThatIsNotNext) {
  EXPECT_THAT(Put(2, "x"), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(Put(0, "x"), StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK(Put(1, "x"));
  EXPECT_THAT(Put(1, "y"), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(Put(3, "y"), StatusIs(absl::StatusCode::kAborted));
  ExpectNewest(1, "x");
}

TEST_P(KeyBlobsTest, RefuseBytesThatAreNotIntact) {
  std::string good = Bytes(kind(), "content");
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] ^= 1;
    EXPECT_THAT(PutKeyBlob(store_, kind(), 1, bad), StatusIs(absl::StatusCode::kInvalidArgument)) << at;
    EXPECT_THAT(PutKeyBlob(store_, kind(), 1, good.substr(0, at)), StatusIs(absl::StatusCode::kInvalidArgument)) << at;
  }
  for (KeyBlobKind other : kKinds) {
    if (other == kind()) continue;
    EXPECT_THAT(PutKeyBlob(store_, kind(), 1, Bytes(other, "x")), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_P(KeyBlobsTest, AreReadFromAnyIntactCopy) {
  ASSERT_OK(Put(1, "old"));
  ASSERT_OK(Put(2, "new"));
  const int copies = RulesOf(kind()).copies;
  const std::string good = Bytes(kind(), "new");
  // Every set of copies that leaves one, each damaged at every byte in turn, cut or missing.
  for (int bits = 1; bits < (1 << copies) - 1; ++bits) {
    for (size_t at = 0; at < good.size() + 2; ++at) {
      for (int copy = 0; copy < copies; ++copy) {
        std::string bytes = good;
        if ((bits & 1 << copy) != 0) {
          if (at < good.size()) {
            bytes[at] ^= 0x10;
          } else {
            bytes.resize(at == good.size() ? good.size() / 2 : 0);
          }
        }
        Replace(2, copy, bytes);
      }
      ExpectNewest(2, "new");
      for (int copy = 0; copy < copies && (bits & 1 << copy) != 0; ++copy) {
        EXPECT_THAT(warnings_, testing::Contains(HasSubstr(Name(kind(), 2, copy))));
      }
    }
  }
  for (int copy = 0; copy + 1 < copies; ++copy) {
    ASSERT_OK(store_.Delete(BlobName::FromTrusted(Name(kind(), 2, copy))));
  }
  Replace(2, copies - 1, good);
  ExpectNewest(2, "new");
}

TEST_P(KeyBlobsTest, FallBackToTheGenerationBeforeAndGoOnBehindTheDamagedOne) {
  ASSERT_OK(Put(1, "old"));
  ASSERT_OK(Put(2, "new"));
  for (int copy = 0; copy < RulesOf(kind()).copies; ++copy) Replace(2, copy, "nonsense");
  ExpectNewest(2, "old");
  EXPECT_EQ(warnings_.size(), static_cast<size_t>(RulesOf(kind()).copies));
  EXPECT_THAT(Put(2, "again"), StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK(Put(3, "third"));
  ExpectNewest(3, "third");
}

TEST_P(KeyBlobsTest, AreLostWhenNoCopyIsIntact) {
  ASSERT_OK(Put(1, "only"));
  for (int copy = 0; copy < RulesOf(kind()).copies; ++copy) Replace(1, copy, "nonsense");
  EXPECT_THAT(Newest(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(ReadNewestKeyBlob(store_, kind(), nullptr), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_P(KeyBlobsTest, AreNotTakenForLostWhenTheStorageIsAway) {
  ASSERT_OK(Put(1, "old"));
  ASSERT_OK(Put(2, "new"));
  for (BlobOperation operation : {BlobOperation::kGet, BlobOperation::kStat, BlobOperation::kList}) {
    faulty_.AddFault({operation, BlobFault::kFailBefore, "", 0, 1});
    auto newest = Newest();
    if (newest.ok()) {
      EXPECT_EQ(newest->bytes, Bytes(kind(), "new"));
    } else {
      EXPECT_THAT(newest, StatusIs(absl::StatusCode::kUnavailable));
    }
    faulty_.ClearFaults();
  }
}

TEST_P(KeyBlobsTest, AreWrittenWithAllTheirCopiesOrNone) {
  ASSERT_OK(Put(1, "old"));
  for (int copy = 0; copy < RulesOf(kind()).copies; ++copy) {
    for (BlobFault fault : {BlobFault::kFailBefore, BlobFault::kFailAfter}) {
      faulty_.AddFault({BlobOperation::kPut, fault, Name(kind(), 2, copy), 0, 1});
      EXPECT_FALSE(Put(2, "new").ok());
      faulty_.ClearFaults();
      ExpectNewest(1, "old");
      EXPECT_EQ(Names().size(), static_cast<size_t>(RulesOf(kind()).copies));
    }
  }
  ASSERT_OK(Put(2, "new"));
  ExpectNewest(2, "new");
}

TEST_P(KeyBlobsTest, GetTheirMissingCopiesBack) {
  ASSERT_OK(Put(1, "old"));
  ASSERT_OK(Put(2, "new"));
  for (int copy = 0; copy < RulesOf(kind()).copies; ++copy) {
    ASSERT_OK(store_.Delete(BlobName::FromTrusted(Name(kind(), 2, copy))));
    ASSERT_OK(RestoreKeyBlobCopies(store_, kind()));
    EXPECT_EQ(Blob(2, copy), Bytes(kind(), "new"));
  }
  // Never from an older generation.
  for (int copy = 0; copy < RulesOf(kind()).copies; ++copy) Replace(2, copy, "nonsense");
  ASSERT_OK(store_.Delete(BlobName::FromTrusted(Name(kind(), 2, 0))));
  ASSERT_OK(RestoreKeyBlobCopies(store_, kind()));
  EXPECT_EQ(Blob(2, 0), "");
}

TEST_P(KeyBlobsTest, OneOfSeveralWritersOfAGenerationWins) {
  for (uint64_t g = 1; g <= 20; ++g) {
    std::vector<absl::Status> results(4);
    std::vector<std::thread> writers;
    for (size_t w = 0; w < results.size(); ++w) {
      writers.emplace_back([&, w] { results[w] = Put(g, absl::StrCat("writer ", w)); });
    }
    for (std::thread& t : writers) t.join();
    int winners = 0;
    for (size_t w = 0; w < results.size(); ++w) {
      if (!results[w].ok()) {
        EXPECT_THAT(results[w], StatusIs(absl::StatusCode::kAborted));
        continue;
      }
      ++winners;
      ExpectNewest(g, absl::StrCat("writer ", w));
      EXPECT_THAT(warnings_, IsEmpty());
    }
    EXPECT_EQ(winners, 1);
  }
}

TEST_P(KeyBlobsTest, AreWholeInOneGenerationOrTheOtherWhereverAPutFails) {
  for (BlobOperation operation :
       {BlobOperation::kPut, BlobOperation::kGet, BlobOperation::kList, BlobOperation::kStat, BlobOperation::kDelete}) {
    for (BlobFault fault : {BlobFault::kFailBefore, BlobFault::kFailAfter, BlobFault::kNoSpace}) {
      for (int skip = 0; skip < 4; ++skip) {
        SCOPED_TRACE(absl::StrCat(static_cast<int>(operation), " ", static_cast<int>(fault), " ", skip));
        for (const std::string& name : Names()) ASSERT_OK(store_.Delete(BlobName::FromTrusted(name)));
        for (uint64_t g = 1; g <= 3; ++g) ASSERT_OK(Put(g, absl::StrCat(g)));
        faulty_.AddFault({operation, fault, "", skip, 1});
        absl::Status status = Put(4, "4");
        faulty_.ClearFaults();
        auto newest = Newest();
        ASSERT_OK(newest);
        if (status.ok()) {
          EXPECT_EQ(newest->generation, 4u);
        }
        EXPECT_EQ(newest->bytes, Bytes(kind(), absl::StrCat(newest->generation)));
        ASSERT_OK(Put(newest->generation + 1, "next"));
        ExpectNewest(newest->generation + 1, "next");
        // Whatever a failed put has left is gone with the next good one.
        EXPECT_LE(Names().size(), 2u * static_cast<size_t>(RulesOf(kind()).copies));
      }
    }
  }
}

TEST_P(KeyBlobsTest, NoticeAStorageThatStoresSomethingElse) {
  for (BlobFault fault : {BlobFault::kCorruptByte, BlobFault::kShort, BlobFault::kLost}) {
    for (int copy = 0; copy < RulesOf(kind()).copies; ++copy) {
      for (const std::string& name : Names()) ASSERT_OK(store_.Delete(BlobName::FromTrusted(name)));
      ASSERT_OK(Put(1, "1"));
      ASSERT_OK(Put(2, "2"));
      faulty_.AddFault({BlobOperation::kPut, fault, "", copy, 1});
      EXPECT_FALSE(Put(3, "3").ok());
      faulty_.ClearFaults();
      // Nothing was removed for it.
      EXPECT_EQ(Blob(1, 0), Bytes(kind(), "1"));
      EXPECT_OK(Newest());
    }
  }
}

TEST_P(KeyBlobsTest, IgnoreForeignNames) {
  ASSERT_OK(Put(1, "x"));
  for (std::string name : {"0000000g-0", "00000002", "00000009-", "0000000a-00", "x"}) {
    ASSERT_OK(
        PutBytes(store_, BlobName::FromTrusted(absl::StrCat(RulesOf(kind()).prefix, name)), "y", PutMode::kIfAbsent));
  }
  ExpectNewest(1, "x");
  EXPECT_THAT(warnings_, IsEmpty());
  ASSERT_OK(Put(2, "z"));
  ExpectNewest(2, "z");
}

TEST_P(KeyBlobsTest, AreKnownByTheirNames) {
  ASSERT_OK(Put(1, "x"));
  for (const std::string& name : Names()) EXPECT_TRUE(IsKeyBlob(name)) << name;
  for (const char* name : {"", "format", "keys", "keysmith", "keys/other-00000001-0", "log/00000001", "x/format/"}) {
    EXPECT_FALSE(IsKeyBlob(name)) << name;
  }
}

}  // namespace
}  // namespace holdfast
