#include "server/repository/live_index.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/status_testing.h"
#include "server/repository/test_engine.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const auto kUnavailable = StatusIs(absl::StatusCode::kUnavailable);

class LiveIndexTest : public testing::Test {
 protected:
  // Another run of the server, on the same disk.
  void Restart() {
    index_.reset();
    index_ = std::make_unique<LiveIndex>(
        engine_.io(), engine_.KvFactory(), engine_.key.repository, engine_.reconciler,
        [this](ChunkIndex& index, PageWalk walk) {
          walks_.push_back(walk);
          during_walk_();
          RETURN_IF_ERROR(mark_failure_);
          return MarkPages(index, engine_.reader, engine_.roots, walk, engine_.warnings);
        },
        engine_.warnings, CrashPoint());
  }
  absl::Status OpenWhole() {
    Restart();
    RETURN_IF_ERROR(index_->Open());
    return index_->Complete();
  }
  PackSummary Add(const std::vector<TestChunk>& chunks) {
    PackSummary pack = engine_.Store(chunks);
    EXPECT_OK(index_->AddPack(pack));
    return pack;
  }
  std::optional<ChunkLocation> Find(const TestChunk& chunk) {
    auto open = index_->Get();
    EXPECT_OK(open);
    if (!open.ok()) return std::nullopt;
    auto found = (*open)->Lookup({{chunk.id()}});
    EXPECT_OK(found);
    return found.ok() ? found->at(0) : std::nullopt;
  }
  bool Knows(const TestChunk& chunk) { return Find(chunk).has_value(); }
  bool IsMarked(const TestChunk& page) {
    auto found = Find(page);
    return found && found->committed;
  }
  void FillDiskWithGarbage() {
    for (const std::string& key : std::vector<std::string>(engine_.kv.written)) {
      KvBatch garbage;
      garbage.Put(key, "garbage");
      ASSERT_OK(engine_.kv.content->Write(garbage));
    }
  }

  // A snapshot: root over low over data.
  const TestChunk data_ = TestData(1), low_ = TestPage(1, {data_}), root_ = TestPage(2, {low_});
  TestEngine engine_;
  std::vector<PageWalk> walks_;
  std::function<void()> during_walk_ = [] {};
  absl::Status mark_failure_;
  std::unique_ptr<LiveIndex> index_;
};

TEST_F(LiveIndexTest, IsGivenToNobodyBeforeItIsComplete) {
  Restart();
  EXPECT_THAT(index_->Get(), kUnavailable);
  EXPECT_FALSE(index_->IsMissing()) << "it is being opened";
  EXPECT_THAT(index_->AddPack(engine_.Store({TestData(9)})), kUnavailable);
  ASSERT_OK(index_->Open());
  EXPECT_THAT(index_->Get(), StatusIs(absl::StatusCode::kUnavailable, "being made anew"));
  EXPECT_OK(index_->AddPack(engine_.Store({data_}))) << "what is stored meanwhile belongs in it";
  ASSERT_OK(index_->Complete());
  EXPECT_TRUE(Knows(data_));
  EXPECT_TRUE(Knows(TestData(9)));
  EXPECT_FALSE(index_->IsMissing());
}

TEST_F(LiveIndexTest, IsNotCompleteWhenThePagesCannotBeMarked) {
  Restart();
  ASSERT_OK(index_->Open());
  mark_failure_ = absl::UnavailableError("outage");
  EXPECT_THAT(index_->Complete(), StatusIs(absl::StatusCode::kUnavailable, "outage"));
  EXPECT_THAT(index_->Get(), kUnavailable);
  mark_failure_ = absl::OkStatus();
  EXPECT_OK(index_->Complete());
  EXPECT_OK(index_->Get());
}

TEST_F(LiveIndexTest, KeepsWhatIsOnDiskAndMakesMarksThatWereLostAnew) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  Add({low_, root_});
  engine_.roots = {root_.id()};
  ASSERT_OK(OpenWhole());
  EXPECT_TRUE(IsMarked(low_));
  EXPECT_TRUE(IsMarked(root_));
  engine_.kv.written.clear();
  ASSERT_OK(OpenWhole());
  EXPECT_THAT(engine_.kv.written, IsEmpty()) << "nothing was to be done";
  EXPECT_EQ(engine_.kv.destroyed, 0);
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

// --- Rebuilding -----------------------------------------------------------------------------------------------------

TEST_F(LiveIndexTest, IsRebuiltFromThePacksWhenItsDiskCannotBeUsed) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  Add({low_, root_});
  engine_.roots = {root_.id()};
  index_.reset();
  FillDiskWithGarbage();
  ASSERT_OK(OpenWhole());
  EXPECT_EQ(engine_.kv.destroyed, 1);
  EXPECT_TRUE(Knows(data_));
  EXPECT_TRUE(IsMarked(root_));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("has been rebuilt")));
  index_.reset();
  engine_.kv.open_failure = absl::DataLossError("no database");
  ASSERT_OK(OpenWhole());
  EXPECT_EQ(engine_.kv.destroyed, 2);
  EXPECT_TRUE(IsMarked(root_));
}

TEST_F(LiveIndexTest, IsRebuiltWhenAPackCannotBeAddedToADamagedOne) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  index_.reset();
  for (const std::string& key : std::vector<std::string>(engine_.kv.written)) {
    if (key.find(data_.id().view()) == std::string::npos) continue;
    KvBatch garbage;
    garbage.Put(key, "garbage");
    ASSERT_OK(engine_.kv.content->Write(garbage));
  }
  engine_.Store({TestData(1, /*agent=*/2)});  // another copy of it
  ASSERT_OK(OpenWhole());
  EXPECT_EQ(engine_.kv.destroyed, 1);
  EXPECT_TRUE(Knows(data_));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre("the index was damaged and has been rebuilt from the packs"));
}

TEST_F(LiveIndexTest, IsRebuiltWhenItsDiskIsThatOfAnotherRepository) {
  RepositoryId other;
  other.bytes.fill(1);
  TestKv kv(engine_.kv);
  ASSERT_OK(ChunkIndex::Open(kv, other));
  engine_.Store({data_});
  ASSERT_OK(OpenWhole());
  EXPECT_EQ(engine_.kv.destroyed, 1);
  EXPECT_TRUE(Knows(data_));
}

TEST_F(LiveIndexTest, IsNotRebuiltWhenItsDiskIsOutOfReach) {
  engine_.kv.open_failure = absl::UnavailableError("outage");
  EXPECT_THAT(OpenWhole(), StatusIs(absl::StatusCode::kUnavailable, "outage"));
  EXPECT_EQ(engine_.kv.destroyed, 0);
}

TEST_F(LiveIndexTest, IsRebuiltWithItsMarksWhenAPackIsLost) {
  ASSERT_OK(OpenWhole());
  const PackSummary data_pack = Add({data_});
  const TestChunk other = TestPage(3, {});
  Add({low_, root_, other});
  engine_.roots = {root_.id(), other.id()};
  ASSERT_OK(OpenWhole());
  ASSERT_TRUE(IsMarked(root_));
  ASSERT_OK(engine_.blobs.Delete(PackBlobName(data_pack.kind, data_pack.id)));
  ASSERT_OK(OpenWhole());
  EXPECT_EQ(engine_.kv.destroyed, 1);
  EXPECT_FALSE(Knows(data_));
  EXPECT_TRUE(Knows(root_));
  EXPECT_FALSE(IsMarked(low_));
  EXPECT_FALSE(IsMarked(root_));
  EXPECT_TRUE(IsMarked(other));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("is missing from the storage")));
}

TEST_F(LiveIndexTest, IsRebuiltWhenDamageIsNoted) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<ChunkIndex> before, index_->Get());
  EXPECT_THAT(index_->Note(absl::UnavailableError("outage")), kUnavailable);
  ASSERT_OK(index_->RenewIfBroken());
  EXPECT_THAT(index_->Get(), IsOkAndHolds(before)) << "an outage is no damage";
  before.reset();
  EXPECT_THAT(index_->Note(absl::DataLossError("garbage")), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_OK(index_->Get()) << "it is made anew before the next session";
  ASSERT_OK(index_->RenewIfBroken());
  EXPECT_EQ(engine_.kv.destroyed, 1);
  EXPECT_TRUE(Knows(data_));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre("the index was damaged and has been rebuilt from the packs"));
  ASSERT_OK(index_->RenewIfBroken());
  EXPECT_EQ(engine_.kv.destroyed, 1) << "once";
}

TEST_F(LiveIndexTest, IsRebuiltWhenMarkingMeetsDamage) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  Restart();
  ASSERT_OK(index_->Open());
  mark_failure_ = absl::DataLossError("garbage");
  EXPECT_THAT(index_->Complete(), StatusIs(absl::StatusCode::kDataLoss)) << "still";
  EXPECT_EQ(engine_.kv.destroyed, 1);
  mark_failure_ = absl::OkStatus();
  ASSERT_OK(index_->RenewIfBroken());
  EXPECT_TRUE(Knows(data_));
}

TEST_F(LiveIndexTest, IsMadeAnewAfterAPackCouldNotBeAdded) {
  ASSERT_OK(OpenWhole());
  Add({TestData(9)});
  engine_.kv.content->FailWrites(absl::ResourceExhaustedError("disk full"));
  EXPECT_THAT(index_->AddPack(engine_.Store({data_})),
              StatusIs(absl::StatusCode::kResourceExhausted, "writing the index: disk full"));
  engine_.kv.content->FailWrites(absl::OkStatus());
  EXPECT_FALSE(Knows(data_));
  ASSERT_OK(index_->RenewIfBroken());
  EXPECT_TRUE(Knows(data_));
  EXPECT_TRUE(Knows(TestData(9)));
  EXPECT_EQ(engine_.kv.destroyed, 0) << "what was there is good";
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(LiveIndexTest, IsNotCompleteWhenAPackCouldNotBeAddedWhileItWasMadeAnew) {
  ASSERT_OK(OpenWhole());
  index_->Note(absl::DataLossError("garbage")).IgnoreError();
  during_walk_ = [&] {  // behind the look at the packs
    engine_.kv.content->FailWrites(absl::ResourceExhaustedError("disk full"));
    EXPECT_THAT(index_->AddPack(engine_.Store({data_})), StatusIs(absl::StatusCode::kResourceExhausted));
    engine_.kv.content->FailWrites(absl::OkStatus());
  };
  EXPECT_THAT(index_->RenewIfBroken(), StatusIs(absl::StatusCode::kResourceExhausted, "disk full"));
  EXPECT_THAT(index_->Get(), kUnavailable) << "it would say that the chunk is not here";
  EXPECT_TRUE(index_->IsMissing());
  during_walk_ = [] {};
  ASSERT_OK(index_->RenewIfBroken());
  EXPECT_TRUE(Knows(data_));
}

TEST_F(LiveIndexTest, IsMissingWhenItCouldNotBeMadeAnewUntilItIs) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  index_->Note(absl::DataLossError("garbage")).IgnoreError();
  EXPECT_FALSE(index_->IsMissing());
  engine_.Outage(BlobOperation::kList, "packs/");
  EXPECT_THAT(index_->RenewIfBroken(), kUnavailable);
  EXPECT_TRUE(index_->IsMissing());
  EXPECT_THAT(index_->Get(), StatusIs(absl::StatusCode::kUnavailable, "the index: "));
  engine_.store.ClearFaults();
  ASSERT_OK(index_->RenewIfBroken());
  EXPECT_FALSE(index_->IsMissing());
  EXPECT_TRUE(Knows(data_));
}

TEST_F(LiveIndexTest, IsNotMadeAnewWhileItsPredecessorIsInUse) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<ChunkIndex> held, index_->Get());
  index_->Note(absl::DataLossError("garbage")).IgnoreError();
  EXPECT_THAT(index_->RenewIfBroken(), StatusIs(absl::StatusCode::kUnavailable, "still in use"));
  EXPECT_EQ(engine_.kv.destroyed, 0);
  EXPECT_OK(held->Lookup({{data_.id()}}));
  held.reset();
  ASSERT_OK(index_->RenewIfBroken());
  EXPECT_TRUE(Knows(data_));
}

TEST_F(LiveIndexTest, IsMadeAnewByOneThreadWhileOthersWait) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  index_->Note(absl::DataLossError("garbage")).IgnoreError();
  int done = 0;
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<ChunkIndex> held, index_->Get());  // so that the first has to wait
  std::vector<std::unique_ptr<Thread>> threads;
  for (int t = 0; t < 4; ++t) {
    threads.push_back(engine_.io().threads.Spawn("renew", [&] {
      EXPECT_OK(index_->RenewIfBroken());
      EXPECT_TRUE(Knows(data_));
      ++done;
    }));
  }
  engine_.io().threads.NewEvent()->WaitUntil(engine_.io().clock.Monotonic() + absl::Seconds(1));
  EXPECT_EQ(done, 0);
  held.reset();
  threads.clear();
  EXPECT_EQ(done, 4);
  EXPECT_EQ(engine_.kv.destroyed, 1);
}

// --- Damaged chunks -------------------------------------------------------------------------------------------------

TEST_F(LiveIndexTest, TakesTheMarksAboveDamagedChunksBack) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  Add({low_, root_});
  engine_.roots = {root_.id()};
  ASSERT_OK(OpenWhole());
  walks_.clear();
  ASSERT_OK(index_->RenewStaleMarks());
  EXPECT_THAT(walks_, IsEmpty()) << "there are none";
  index_->NoteDamage({});
  index_->NoteDamage({{data_.id()}});
  EXPECT_TRUE(Find(data_)->damaged);
  EXPECT_TRUE(IsMarked(root_));
  mark_failure_ = absl::UnavailableError("outage");
  EXPECT_THAT(index_->RenewStaleMarks(), StatusIs(absl::StatusCode::kUnavailable, "above damaged chunks"));
  mark_failure_ = absl::OkStatus();
  ASSERT_OK(index_->RenewStaleMarks()) << "they are still stale";
  EXPECT_FALSE(IsMarked(low_));
  EXPECT_FALSE(IsMarked(root_));
  EXPECT_THAT(walks_, ElementsAre(PageWalk::kAll, PageWalk::kAll));
  ASSERT_OK(index_->RenewStaleMarks());
  EXPECT_EQ(walks_.size(), 2u);
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(LiveIndexTest, TakesStaleMarksBackAtTheStart) {
  ASSERT_OK(OpenWhole());
  Add({data_});
  Add({low_, root_});
  engine_.roots = {root_.id()};
  ASSERT_OK(OpenWhole());
  index_->NoteDamage({{data_.id()}});
  ASSERT_OK(OpenWhole());
  EXPECT_FALSE(IsMarked(root_));
}

TEST_F(LiveIndexTest, NamesDamageThatItCannotNote) {
  Restart();
  ASSERT_OK(index_->Open());
  index_->NoteDamage({{data_.id()}});
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("a damaged chunk could not be noted")));
}

}  // namespace
}  // namespace holdfast
