#include "server/repository/page_marks.h"

#include <string>
#include <vector>

#include "core/base/status_testing.h"
#include "server/repository/test_engine.h"

namespace holdfast {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two roots over a common page:
//   left: middle, b     right: middle     middle: low     low: a
class PageMarksTest : public testing::Test {
 protected:
  PageMarksTest() {
    engine_.OpenIndex();
    data_pack_ = engine_.StoreAndIndex({a_, b_});
  }
  void StorePages(const std::vector<TestChunk>& pages) {
    for (const TestChunk& page : pages) packs_.push_back(engine_.StoreAndIndex({page}));
  }
  absl::Status Mark(PageWalk walk, const std::vector<TestChunk>& roots) {
    auto index = engine_.index.Get();
    RETURN_IF_ERROR(index.status());
    engine_.kv.written.clear();
    return MarkPages(**index, engine_.reader, IdsOf(roots), walk, engine_.warnings);
  }
  void SetMarks(const std::vector<TestChunk>& pages) { ASSERT_OK((*engine_.index.Get())->MarkCommitted(IdsOf(pages))); }
  // So that no read opens it.
  void DamageHeader(const PackSummary& pack, const TestChunk& page) {
    const std::string blob = engine_.Blob(PackBlobName(pack.kind, pack.id));
    const size_t body = blob.find(page.body);
    ASSERT_NE(body, std::string::npos);
    engine_.Damage(pack, std::string_view(blob).substr(body - 30, 30));
  }
  bool IsNotedAsDamaged(const TestChunk& page) { return engine_.Find(page.id())->damaged; }
  uint64_t StaleMarks() { return (*engine_.index.Get())->StaleMarks().value_or(99); }
  std::vector<bool> Marks(const std::vector<TestChunk>& pages) {
    std::vector<bool> marks;
    for (const TestChunk& page : pages) marks.push_back(engine_.IsMarked(page));
    return marks;
  }

  const TestChunk a_ = TestData(1), b_ = TestData(2);
  const TestChunk low_ = TestPage(1, {a_}), middle_ = TestPage(2, {low_});
  const TestChunk left_ = TestPage(3, {middle_, b_}), right_ = TestPage(4, {middle_});
  const std::vector<TestChunk> all_ = {low_, middle_, left_, right_};
  TestEngine engine_;
  PackSummary data_pack_;
  std::vector<PackSummary> packs_;  // of the pages
};

TEST_F(PageMarksTest, MarksWhatTheRootsReachAndNothingElse) {
  const TestChunk unreached = TestPage(5, {low_});
  StorePages(all_);
  StorePages({unreached});
  ASSERT_OK(Mark(PageWalk::kUnmarkedOnly, {left_}));
  EXPECT_THAT(Marks(all_), ElementsAre(true, true, true, false));
  ASSERT_OK(Mark(PageWalk::kUnmarkedOnly, {left_, right_}));
  EXPECT_THAT(Marks(all_), Each(true));
  EXPECT_FALSE(engine_.IsMarked(unreached));
  EXPECT_FALSE(engine_.IsMarked(a_)) << "data has no mark";
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(PageMarksTest, LeavesNoMarkAboveAnUnmarkedPageWhereverItsWritesEnd) {
  // A tree of several batches, beside a mark that is wrong and so has to go before any other comes.
  const TestChunk under = TestPage(10'001, {a_}), wrong = TestPage(10'002, {under});
  const std::vector<TestChunk> tree = TestTree(10'003, 2500, b_);
  std::vector<TestChunk> all = tree;
  all.insert(all.end(), {under, wrong});
  engine_.StoreAndIndex(all);
  ASSERT_OK((*engine_.index.Get())->MarkDamaged({{a_.id()}}));
  absl::Status status = absl::UnknownError("not yet");
  int writes = 0;
  while (!status.ok() && !HasFailure()) {
    SCOPED_TRACE(++writes);
    ASSERT_OK((*engine_.index.Get())->UnmarkCommitted(IdsOf(all)));
    SetMarks({wrong});
    engine_.kv.writes_left = writes;
    status = Mark(PageWalk::kAll, {wrong, tree.back()});
    engine_.kv.writes_left = -1;
    EXPECT_THAT(engine_.UnmarkedBelowMarked(all), IsEmpty());
  }
  EXPECT_GE(writes, 4) << "one for the wrong mark and at least three for the others";
  EXPECT_THAT(Marks(tree), Each(true));
}

TEST_F(PageMarksTest, LeavesWhatIsAboveAMissingChunkUnmarked) {
  StorePages({low_, left_, right_});  // without middle
  ASSERT_OK(Mark(PageWalk::kAll, {left_, right_, low_}));
  EXPECT_THAT(Marks({low_, left_, right_}), ElementsAre(true, false, false));
}

TEST_F(PageMarksTest, TakesTheMarksAboveDamageBack) {
  StorePages(all_);
  const TestChunk apart = TestPage(5, {b_});
  StorePages({apart});
  SetMarks({low_, middle_, left_, right_, apart});
  ASSERT_OK((*engine_.index.Get())->MarkDamaged({{a_.id()}}));
  ASSERT_OK(Mark(PageWalk::kAll, {left_, right_, apart}));
  EXPECT_THAT(Marks(all_), Each(false)) << "right, too, whose page was looked at under left";
  EXPECT_TRUE(engine_.IsMarked(apart));
}

TEST_F(PageMarksTest, TakesTheMarkOfADamagedPageBack) {
  StorePages(all_);
  SetMarks(all_);
  ASSERT_OK((*engine_.index.Get())->MarkDamaged({{middle_.id()}}));
  ASSERT_OK(Mark(PageWalk::kAll, {left_, right_}));
  EXPECT_THAT(Marks(all_), ElementsAre(true, false, false, false));
}

TEST_F(PageMarksTest, DoesNotLookBelowWhatIsMarkedUnlessAllAreWalked) {
  StorePages(all_);
  SetMarks({middle_});  // wrongly: low is not
  ASSERT_OK(Mark(PageWalk::kUnmarkedOnly, {left_}));
  EXPECT_THAT(Marks(all_), ElementsAre(false, true, true, false));
  ASSERT_OK(Mark(PageWalk::kUnmarkedOnly, {left_}));
  EXPECT_FALSE(engine_.IsMarked(low_));
  ASSERT_OK(Mark(PageWalk::kAll, {left_}));
  EXPECT_TRUE(engine_.IsMarked(low_));
}

TEST_F(PageMarksTest, NamesAPageThatCannotBeReadUnmarksItAndNotesIt) {
  StorePages(all_);
  SetMarks(all_);
  const PackSummary& pack = packs_[1];  // of middle
  DamageHeader(pack, middle_);
  ASSERT_OK(Mark(PageWalk::kAll, {left_, right_}));
  EXPECT_THAT(Marks({middle_, left_, right_}), Each(false));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr(HexEncode(pack.id.view()))));
  EXPECT_TRUE(IsNotedAsDamaged(middle_)) << "what is sent again would be dropped";
  EXPECT_FALSE(IsNotedAsDamaged(left_));
  // A page that is noted already makes no mark stale again: the walks come to an end.
  const uint64_t stale = StaleMarks();
  EXPECT_NE(stale, 0u);
  ASSERT_OK(Mark(PageWalk::kAll, {left_, right_}));
  EXPECT_EQ(StaleMarks(), stale);
  EXPECT_THAT(engine_.kv.written, IsEmpty());
}

TEST_F(PageMarksTest, ReadsAnotherCopyOfAPageWhoseFirstCannotBeRead) {
  StorePages(all_);
  engine_.StoreAndIndex({TestPage(2, {low_}, /*agent=*/2)});
  DamageHeader(packs_[1], middle_);
  ASSERT_OK(Mark(PageWalk::kAll, {left_, right_}));
  EXPECT_THAT(Marks(all_), Each(true));
  EXPECT_FALSE(IsNotedAsDamaged(middle_));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr(HexEncode(packs_[1].id.view()))));
}

TEST_F(PageMarksTest, TakesADamagedCopyBesideAnOutageForNoLoss) {
  StorePages(all_);
  const PackSummary second = engine_.StoreAndIndex({TestPage(2, {low_}, /*agent=*/2)});
  DamageHeader(packs_[1], middle_);
  engine_.Outage(BlobOperation::kGet, PackBlobName(second.kind, second.id).str());
  EXPECT_THAT(Mark(PageWalk::kAll, {left_}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_FALSE(IsNotedAsDamaged(middle_));
  EXPECT_FALSE(engine_.IsMarked(left_));
}

TEST_F(PageMarksTest, TakesAnOutageForNoDamage) {
  StorePages(all_);
  SetMarks(all_);
  engine_.Outage(BlobOperation::kGet, PackBlobName(packs_[0].kind, packs_[0].id).str());
  EXPECT_THAT(Mark(PageWalk::kAll, {left_}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Marks(all_), Each(true));
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(PageMarksTest, SkipsRootsThatAreNotHereOrNoPages) {
  ASSERT_OK(Mark(PageWalk::kAll, {left_, a_}));
  EXPECT_FALSE(engine_.IsMarked(a_));
  EXPECT_THAT(engine_.kv.written, IsEmpty());
}

}  // namespace
}  // namespace holdfast
