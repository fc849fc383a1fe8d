#include "client/restore/metadata.h"

#include <grp.h>
#include <pwd.h>

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

// An owner that every machine knows by name and number.
class MetadataTest : public ::testing::Test {
 protected:
  MetadataTest() {
    const passwd* user = ::getpwuid(0);
    const group* group = ::getgrgid(0);
    entry_.uid = 4444;
    entry_.gid = 5555;
    entry_.owner_name = user != nullptr ? user->pw_name : "";
    entry_.group_name = group != nullptr ? group->gr_name : "";
    options_.owner = true;
  }
  void SetUp() override {
    if (entry_.owner_name.empty() || entry_.group_name.empty()) GTEST_SKIP() << "this machine knows no names";
  }
  Metadata Make() const { return MetadataMaker(options_).For(entry_); }
  RestoreOptions options_;
  Entry entry_;
};

TEST_F(MetadataTest, OwnersAreThoseThatThisMachineKnowsByName) {
  const Metadata m = Make();
  EXPECT_EQ(m.uid, 0u);
  EXPECT_EQ(m.gid, 0u);
}

TEST_F(MetadataTest, ANameThatIsUnknownOrEmptyLeavesTheNumber) {
  entry_.owner_name = "nobody has this name, surely";
  entry_.group_name = "";
  EXPECT_EQ(Make().uid, 4444u);
  EXPECT_EQ(Make().gid, 5555u);
  std::swap(entry_.owner_name, entry_.group_name);
  EXPECT_EQ(Make().uid, 4444u);
  EXPECT_EQ(Make().gid, 5555u);
}

TEST_F(MetadataTest, NumbersStayWhenTheyAreWantedOrOwnersAreNotRestored) {
  options_.numeric_owner = true;
  EXPECT_EQ(Make().uid, 4444u);
  EXPECT_EQ(Make().gid, 5555u);
  options_.numeric_owner = false;
  options_.owner = false;
  EXPECT_EQ(Make().uid, 4444u);
  EXPECT_EQ(Make().gid, 5555u);
}

TEST_F(MetadataTest, TakesTwelveBitsOfTheModeTheTimeAndTheAttributes) {
  entry_.mode = 0107755;
  entry_.mtime = {12, 34};
  EXPECT_EQ(Make().mode, 07755u);
  EXPECT_EQ(Make().mtime.seconds, 12);
  EXPECT_EQ(Make().mtime.nanos, 34u);
  EXPECT_EQ(Make().xattrs, nullptr) << "none";
  entry_.xattrs = {{"user.a", "b"}};
  const Metadata m = Make();
  ASSERT_NE(m.xattrs, nullptr);
  ASSERT_EQ(m.xattrs->size(), 1u);
  EXPECT_EQ(m.xattrs->at(0).value, "b");
  options_.xattrs = false;
  EXPECT_EQ(Make().xattrs, nullptr) << "not wanted";
}

TEST_F(MetadataTest, AttributesTakeTheMemoryOfTheirNamesAndValues) {
  EXPECT_EQ(AttributeBytes(entry_), 0u);
  entry_.xattrs = {{"user.a", "bcd"}, {"x", ""}};
  EXPECT_EQ(AttributeBytes(entry_), 10u);
}

TEST_F(MetadataTest, SetuidSetgidAndCapabilitiesGiveRights) {
  for (uint32_t mode : {04755u, 02755u, 06000u}) {
    entry_.mode = mode;
    EXPECT_TRUE(GivesRights(Make())) << mode;
  }
  entry_.mode = 01777;
  EXPECT_FALSE(GivesRights(Make())) << "sticky";
  entry_.xattrs = {{"user.capability", ""}, {"security.selinux", ""}};
  EXPECT_FALSE(GivesRights(Make()));
  entry_.xattrs.push_back({"security.capability", ""});
  EXPECT_TRUE(GivesRights(Make()));
}

TEST_F(MetadataTest, SetuidAndSetgidAreOnlyForWhomTheyWereMeant) {
  Metadata m;
  m.mode = 07755;
  m.uid = 1;
  m.gid = 2;
  EXPECT_EQ(ModeFor(m, 1, 2), 07755u);
  EXPECT_EQ(ModeFor(m, 3, 2), 03755u);
  EXPECT_EQ(ModeFor(m, 1, 3), 05755u);
  EXPECT_EQ(ModeFor(m, 2, 1), 01755u);
}

}  // namespace
}  // namespace holdfast
