#include "server/repository/spool_recovery.h"

#include <string>
#include <vector>

#include "core/base/status_testing.h"
#include "server/repository/test_engine.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SpoolRecoveryTest : public testing::Test {
 protected:
  absl::Status Recover() { return RecoverSpool(engine_.io(), engine_.store, engine_.key, "/spool", engine_.warnings); }
  std::vector<std::string> Files() {
    auto names = engine_.io().files.List("/spool");
    EXPECT_OK(names);
    return *names;
  }
  bool IsStored(const PackSummary& pack) { return engine_.blobs.Stat(PackBlobName(pack.kind, pack.id)).ok(); }

  TestEngine engine_;
};

TEST_F(SpoolRecoveryTest, StoresWhatTheLastServerLeft) {
  const PackSummary data = engine_.Spool({TestData(1), TestData(2)}), tree = engine_.Spool({TestPage(1, {})});
  ASSERT_OK(Recover());
  EXPECT_TRUE(IsStored(data));
  EXPECT_TRUE(IsStored(tree));
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
  engine_.OpenIndex();
  EXPECT_TRUE(engine_.Find(TestData(2).id()).has_value());
}

TEST_F(SpoolRecoveryTest, RemovesAFileThatHoldsNothing) {
  auto writer = PackWriter::Create(engine_.io(), "/spool", PackKind::kData, engine_.key);
  ASSERT_OK(writer);
  writer->reset();
  ASSERT_OK(Recover());
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_EQ(engine_.Count("packs/"), 0u);
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(SpoolRecoveryTest, LeavesOtherFilesAlone) {
  ASSERT_OK(WriteFileAtomically(engine_.io(), "/spool/notes.txt", "mine"));
  ASSERT_OK(Recover());
  EXPECT_THAT(Files(), ElementsAre("notes.txt"));
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(SpoolRecoveryTest, NamesAFileThatItCannotOpenKeepsItAndGoesOn) {
  std::vector<PackSummary> packs;
  for (int i = 0; i < 3; ++i) packs.push_back(engine_.Spool({TestData(i)}));
  CatalogKey foreign = engine_.key;
  foreign.key.MutableBytes()[0] = 1;
  auto writer = PackWriter::Create(engine_.io(), "/spool", PackKind::kData, foreign);
  ASSERT_OK(writer);
  const TestChunk a = TestData(9);
  const std::string_view body = a.body;
  ASSERT_OK((*writer)->Append(a.header, a.header_bytes, {&body, 1}));
  ASSERT_OK_AND_ASSIGN(PackSummary unusable, (*writer)->Finish());
  ASSERT_OK(Recover());
  for (const PackSummary& pack : packs) EXPECT_TRUE(IsStored(pack));
  const std::string name = SpoolFileName(unusable.kind, unusable.id);
  EXPECT_THAT(Files(), ElementsAre(name));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("spool file " + name + " cannot be used")));
}

TEST_F(SpoolRecoveryTest, KeepsAFileThatTheStorageDoesNotTakeNow) {
  const PackSummary pack = engine_.Spool({TestData(1)});
  engine_.Outage(BlobOperation::kPut, "packs/");
  ASSERT_OK(Recover());
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("cannot be used")));
  EXPECT_THAT(Files(), ElementsAre(SpoolFileName(pack.kind, pack.id)));
  engine_.store.ClearFaults();
  ASSERT_OK(Recover());
  EXPECT_TRUE(IsStored(pack));
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(SpoolRecoveryTest, GivesTheRoomOfAFileUpThatADiskIsTooFullFor) {
  const PackSummary lost = engine_.Spool({TestData(1)});
  engine_.store.AddFault({.operation = BlobOperation::kPut, .fault = BlobFault::kNoSpace, .prefix = "packs/"});
  ASSERT_OK(Recover());
  EXPECT_FALSE(IsStored(lost));
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr(SpoolFileName(lost.kind, lost.id))));
}

TEST_F(SpoolRecoveryTest, SaysWhenThereIsNoDirectory) {
  EXPECT_THAT(RecoverSpool(engine_.io(), engine_.store, engine_.key, "/nowhere", engine_.warnings),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace holdfast
