#include "client/snapshots/snapshot_list.h"

#include <string>
#include <utility>
#include <vector>

#include "client/snapshots/fake_snapshot_server.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

class SnapshotListTest : public testing::Test {
 protected:
  SnapshotListTest() { server_.repositories["r"] = {std::string(16, 'r'), "", {{1, ""}}, {{1, ""}}}; }

  absl::StatusOr<std::string> Find(const std::string& text, const std::string& source = "") {
    ASSIGN_OR_RETURN(ListedSnapshot found, FindSnapshot(server_, "r", text, source));
    return found.core.source() + " " + std::to_string(found.core.sequence());
  }

  FakeSnapshotServer server_;
};

TEST_F(SnapshotListTest, IsBySourceAndSequenceOverAllPages) {
  server_.List("01", "me@host:/b", 1);
  server_.List("02", "me@host:/a", 2);
  server_.List("03", "me@host:/b", 2);
  server_.List("04", "me@host:/a", 10);
  server_.List("05", "me@host:/a", 9);
  ASSERT_OK_AND_ASSIGN(std::vector<ListedSnapshot> all, ListSnapshots(server_, "r", ""));
  std::vector<std::pair<std::string, uint64_t>> order;
  for (const ListedSnapshot& s : all) order.emplace_back(s.core.source(), s.core.sequence());
  EXPECT_THAT(order, ElementsAre(Pair("me@host:/a", 2), Pair("me@host:/a", 9), Pair("me@host:/a", 10),
                                 Pair("me@host:/b", 1), Pair("me@host:/b", 2)));
  ASSERT_OK_AND_ASSIGN(std::vector<ListedSnapshot> of_b, ListSnapshots(server_, "r", "/b"));
  EXPECT_EQ(of_b.size(), 2u);
}

TEST_F(SnapshotListTest, OfARepositoryThatIsNotThereSaysHowToCreateIt) {
  EXPECT_THAT(ListSnapshots(server_, "other", "").status(),
              StatusIs(absl::StatusCode::kNotFound, "repository create other"));
}

TEST_F(SnapshotListTest, WhatIsNoManifestIsDamage) {
  server_.List("01", "s", 1);
  server_.listed[0].core = "nonsense";
  EXPECT_THAT(ListSnapshots(server_, "r", ""), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(SourceMatches, ByLabelOrByPath) {
  EXPECT_TRUE(SourceMatches("me@host:/home/me", "me@host:/home/me"));
  EXPECT_TRUE(SourceMatches("me@host:/home/me", "/home/me"));
  EXPECT_TRUE(SourceMatches("me@host:/home/me", "/home/me//"));
  EXPECT_TRUE(SourceMatches("me@host:/", "/"));
  EXPECT_TRUE(SourceMatches("database", "database"));
  EXPECT_FALSE(SourceMatches("me@host:/home/me", "/me"));
  EXPECT_FALSE(SourceMatches("me@host:/home/me", "/home"));
  EXPECT_FALSE(SourceMatches("me@host:/home/me", "home/me"));
  EXPECT_FALSE(SourceMatches("database", "base"));
  EXPECT_FALSE(SourceMatches("database", ""));
}

TEST(SnapshotName, IsAnIdOrItsBeginningOrLatest) {
  EXPECT_OK(CheckSnapshotName("latest"));
  EXPECT_OK(CheckSnapshotName("LATEST"));
  EXPECT_OK(CheckSnapshotName("0"));
  EXPECT_OK(CheckSnapshotName("3fA9"));
  EXPECT_OK(CheckSnapshotName(std::string(64, 'f')));
  for (const std::string& text : {std::string(), std::string("last"), std::string("3g"), std::string(65, 'f')}) {
    EXPECT_THAT(CheckSnapshotName(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
}

TEST_F(SnapshotListTest, FindsByTheBeginningOfAnIdInAnyCase) {
  server_.List("3fa9", "s", 1);
  server_.List("3fb0", "s", 2);
  EXPECT_THAT(Find("3fa"), IsOkAndHolds("s 1"));
  EXPECT_THAT(Find("3FB"), IsOkAndHolds("s 2"));
  EXPECT_THAT(Find("40"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Find("last"), StatusIs(absl::StatusCode::kInvalidArgument, "is not a snapshot"));
}

TEST_F(SnapshotListTest, ABeginningOfSeveralIdsIsRefused) {
  server_.List("3fa9", "s", 1);
  server_.List("3fb0", "t", 1);
  EXPECT_THAT(Find("3f"), StatusIs(absl::StatusCode::kInvalidArgument, "2 snapshots"));
  EXPECT_THAT(Find("3f", "t"), IsOkAndHolds("t 1"));
}

TEST_F(SnapshotListTest, AnotherSnapshotThanWasAskedForIsNotTaken) {
  server_.filters = false;
  server_.List("3fa9", "s", 1);
  EXPECT_THAT(Find("4"), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SnapshotListTest, LatestIsTheHighestNumberOfTheOnlySource) {
  EXPECT_THAT(Find("latest"), StatusIs(absl::StatusCode::kNotFound, "there are no snapshots yet"));
  server_.List("01", "me@host:/a", 2);
  server_.List("02", "me@host:/a", 11);
  server_.List("03", "me@host:/a", 10);
  EXPECT_THAT(Find("Latest"), IsOkAndHolds("me@host:/a 11"));
  EXPECT_THAT(Find("latest", "/b"), StatusIs(absl::StatusCode::kNotFound, "no snapshot of source \"/b\""));
}

TEST_F(SnapshotListTest, LatestOfSeveralSourcesNamesThem) {
  for (int i = 0; i < 12; ++i) server_.List("0" + std::to_string(i), "source" + std::to_string(10 + i), 1);
  const absl::Status status = Find("latest").status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, "of which source?"));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("source10"), HasSubstr("source19"), HasSubstr("and 2 more"), Not(HasSubstr("source20"))));
  EXPECT_THAT(Find("latest", "source20"), IsOkAndHolds("source20 1"));
}

}  // namespace
}  // namespace holdfast
