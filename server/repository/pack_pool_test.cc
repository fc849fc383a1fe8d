#include "server/repository/pack_pool.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/status_testing.h"
#include "server/repository/test_engine.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class PackPoolTest : public testing::Test {
 protected:
  PackPoolTest() { Open(); }

  void Open() {
    PackPool::Callbacks callbacks;
    callbacks.stored = [this](const PackSummary& pack) {
      // W1: before it is indexed.
      EXPECT_OK(engine_.blobs.Stat(PackBlobName(pack.kind, pack.id)));
      RETURN_IF_ERROR(index_failure_);
      for (const PackEntry& e : pack.entries) {
        stored_.push_back(e.header.id);
        EXPECT_TRUE(e.header.type == ChunkType::kTree || pool_->PendingUploader(e.header.id)) << "no longer pending";
      }
      return absl::OkStatus();
    };
    callbacks.lost = [this](const absl::Status& why) {
      lost_.push_back(std::string(why.message()));
      if (on_lost_) on_lost_();
    };
    pool_ = std::make_unique<PackPool>(engine_.io(), engine_.store, engine_.key, "/spool", PackPoolOptions(),
                                       std::move(callbacks));
  }
  absl::Status Append(const std::vector<TestChunk>& chunks) {
    std::vector<std::string_view> bodies;
    for (const TestChunk& c : chunks) bodies.push_back(c.body);
    std::vector<PoolRecord> records;
    for (size_t i = 0; i < chunks.size(); ++i) {
      records.push_back({&chunks[i].header, chunks[i].header_bytes, {&bodies[i], 1}});
    }
    return pool_->Append(chunks.front().header.type == ChunkType::kTree ? PackKind::kTree : PackKind::kData, records);
  }
  std::vector<std::string> Files() {
    auto names = engine_.io().files.List("/spool");
    EXPECT_OK(names);
    return *names;
  }

  const TestChunk a_ = TestData(1, /*agent=*/3), b_ = TestData(2, 3), page_ = TestPage(1, {a_}, 3);
  TestEngine engine_;
  std::vector<ChunkId> stored_;
  std::vector<std::string> lost_;
  std::function<void()> on_lost_;
  absl::Status index_failure_;
  std::unique_ptr<PackPool> pool_;
};

TEST_F(PackPoolTest, StoresWhatWasAppendedByKind) {
  ASSERT_OK(Append({a_, b_}));
  ASSERT_OK(Append({page_}));
  EXPECT_EQ(engine_.Count("packs/"), 0u);
  ASSERT_OK(pool_->StoreAll());
  EXPECT_THAT(stored_, UnorderedElementsAre(a_.id(), b_.id(), page_.id()));
  EXPECT_EQ(engine_.Count("packs/d/"), 1u);
  EXPECT_EQ(engine_.Count("packs/t/"), 1u);
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_THAT(lost_, IsEmpty());
  ASSERT_OK(pool_->StoreAll());
  EXPECT_THAT(stored_, SizeIs(3)) << "nothing was left";
}

TEST_F(PackPoolTest, TellsWhoseDataIsPendingUntilItIsIndexed) {
  EXPECT_EQ(pool_->PendingUploader(a_.id()), std::nullopt);
  ASSERT_OK(Append({a_}));
  ASSERT_OK(Append({page_}));
  EXPECT_EQ(pool_->PendingUploader(a_.id()), 3u);
  EXPECT_EQ(pool_->PendingUploader(page_.id()), std::nullopt) << "a page is promised only when it is committed";
  ASSERT_OK(pool_->StoreAll());
  EXPECT_EQ(pool_->PendingUploader(a_.id()), std::nullopt);
}

TEST_F(PackPoolTest, MakesWhatWasSyncedSurviveTheLossOfPower) {
  ASSERT_OK(Append({a_}));
  ASSERT_OK(pool_->Sync());
  EXPECT_EQ(engine_.Count("packs/"), 0u);
  pool_.reset();
  engine_.world.Crash(1, CrashMode::kDrop);
  ASSERT_THAT(Files(), SizeIs(1));
  ASSERT_OK_AND_ASSIGN(auto recovered, RecoverSpoolFile(engine_.io(), "/spool/" + Files().at(0), engine_.key));
  ASSERT_TRUE(recovered.has_value());
  ASSERT_THAT(recovered->entries, SizeIs(1));
  EXPECT_EQ(recovered->entries[0].header.id, a_.id());
}

TEST_F(PackPoolTest, LeavesWhatIsNotStoredInTheSpoolWhenItEnds) {
  ASSERT_OK(Append({a_}));
  pool_.reset();
  EXPECT_EQ(engine_.Count("packs/"), 0u);
  EXPECT_THAT(Files(), SizeIs(1));
  EXPECT_THAT(lost_, IsEmpty());
}

TEST_F(PackPoolTest, SaysThatChunksAreLostBeforeAnybodyIsToldOfTheFailure) {
  ASSERT_OK(Append({a_}));
  on_lost_ = [this] {
    EXPECT_EQ(pool_->PendingUploader(a_.id()), std::nullopt) << "it could still be promised";
    EXPECT_THAT(Files(), SizeIs(1)) << "the space was given back first";
  };
  engine_.Outage(BlobOperation::kPut, "packs/", 1);
  EXPECT_THAT(pool_->StoreAll(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(lost_, SizeIs(1));
  EXPECT_THAT(stored_, IsEmpty());
  on_lost_ = nullptr;
  ASSERT_OK(Append({a_})) << "sent again";
  EXPECT_OK(pool_->StoreAll());
  EXPECT_THAT(stored_, ElementsAre(a_.id()));
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(PackPoolTest, LosesAPackThatTheDiskIsTooFullFor) {
  ASSERT_OK(Append({a_}));
  engine_.world.LimitSpace(10);
  EXPECT_THAT(Append({b_}), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(lost_, SizeIs(1));
  EXPECT_EQ(pool_->PendingUploader(a_.id()), std::nullopt) << "it was in the same pack";
  EXPECT_THAT(Files(), IsEmpty());
  engine_.world.ClearFaults();
  EXPECT_OK(pool_->StoreAll()) << "it was told already";
  ASSERT_OK(Append({b_}));
  EXPECT_OK(pool_->StoreAll());
  EXPECT_THAT(stored_, ElementsAre(b_.id()));
}

TEST_F(PackPoolTest, LosesAPackThatCannotBeSyncedAndSaysSoToTheBarrier) {
  ASSERT_OK(Append({a_}));
  engine_.world.FailSyncs(1);
  EXPECT_THAT(pool_->Sync(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(lost_, SizeIs(1));
  EXPECT_EQ(pool_->PendingUploader(a_.id()), std::nullopt);
  EXPECT_OK(pool_->Sync());
}

TEST_F(PackPoolTest, TakesAPackThatCannotBeIndexedForLost) {
  ASSERT_OK(Append({a_}));
  index_failure_ = absl::ResourceExhaustedError("index full");
  EXPECT_THAT(pool_->StoreAll(), StatusIs(absl::StatusCode::kResourceExhausted, "index full"));
  EXPECT_THAT(lost_, ElementsAre(HasSubstr("index full")));
}

TEST_F(PackPoolTest, RefusesARecordThatDoesNotFitItsHeaderAndLosesNothing) {
  ASSERT_OK(Append({a_}));
  TestChunk wrong = b_;
  wrong.body.pop_back();
  EXPECT_THAT(Append({wrong}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(lost_, IsEmpty());
  EXPECT_EQ(pool_->PendingUploader(b_.id()), std::nullopt);
  EXPECT_OK(pool_->StoreAll());
  EXPECT_THAT(stored_, ElementsAre(a_.id()));
}

}  // namespace
}  // namespace holdfast
