#include "client/backup/link_groups.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

SourceStat Stat(uint64_t inode, uint32_t links, int64_t time = 1000) {
  SourceStat stat;
  stat.identity = {1, inode};
  stat.link_count = links;
  stat.size = 10;
  stat.mtime = stat.ctime = {time, 0};
  return stat;
}

TEST(LinkGroupsTest, AFileOfOneNameIsInNone) {
  LinkGroups groups;
  EXPECT_EQ(groups.Join(Stat(1, 1)).content, nullptr);
  EXPECT_EQ(groups.size(), 0u);
}

TEST(LinkGroupsTest, TheFirstNameReadsForAll) {
  LinkGroups groups;
  auto first = groups.Join(Stat(1, 3));
  EXPECT_TRUE(first.reads);
  EXPECT_FALSE(first.MustReadItself());
  auto second = groups.Join(Stat(1, 3)), third = groups.Join(Stat(1, 3));
  EXPECT_EQ(second.content, first.content);
  EXPECT_EQ(third.content, first.content);
  EXPECT_FALSE(second.reads);
  EXPECT_TRUE(second.MustReadItself()) << "as long as nothing was read";
  first.content->Set(Entry());
  EXPECT_FALSE(second.MustReadItself());
}

TEST(LinkGroupsTest, AGroupIsForgottenWithItsLastName) {
  LinkGroups groups;
  auto first = groups.Join(Stat(1, 2));
  EXPECT_EQ(groups.size(), 1u);
  groups.Join(Stat(1, 2));
  EXPECT_EQ(groups.size(), 0u);
  auto fresh = groups.Join(Stat(1, 2));
  EXPECT_TRUE(fresh.reads);
  EXPECT_NE(fresh.content, first.content);
}

TEST(LinkGroupsTest, OtherObjectsAreOtherGroups) {
  LinkGroups groups;
  auto first = groups.Join(Stat(1, 2));
  SourceStat elsewhere = Stat(1, 2);
  elsewhere.identity.device = 2;
  EXPECT_NE(groups.Join(Stat(2, 2)).content, first.content);
  EXPECT_NE(groups.Join(elsewhere).content, first.content);
}

TEST(LinkGroupsTest, AnInodeThatWasGivenToAnotherFileBeginsAGroup) {
  LinkGroups groups;
  auto first = groups.Join(Stat(1, 2));
  auto other = groups.Join(Stat(1, 2, /*time=*/2000));
  EXPECT_TRUE(other.reads);
  EXPECT_NE(other.content, first.content);
  EXPECT_EQ(groups.Join(Stat(1, 2, 2000)).content, other.content);
}

TEST(LinkGroupsTest, BeyondTheLimitNamesAreReadOneByOne) {
  LinkGroups groups(/*groups_max=*/2);
  EXPECT_NE(groups.Join(Stat(1, 2)).content, nullptr);
  EXPECT_NE(groups.Join(Stat(2, 2)).content, nullptr);
  EXPECT_EQ(groups.Join(Stat(3, 2)).content, nullptr);
  EXPECT_NE(groups.Join(Stat(1, 2)).content, nullptr) << "a group that is there goes on";
  EXPECT_NE(groups.Join(Stat(3, 2)).content, nullptr) << "and makes room with its last name";
}

TEST(SharedContentTest, CopiesWhatAllNamesShareAndNothingElse) {
  Entry read;
  read.name = "first";
  read.mode = 0600;
  read.content.kind = Content::Kind::kInline;
  read.content.inline_bytes = "bytes";
  read.holes = {{1, 2}};
  read.hole_chunk.emplace();
  read.xattrs = {{"user.a", "v"}};
  read.xattr_chunk.emplace();
  read.digest.emplace();
  read.digest->fill(9);
  read.size = 5;
  read.flags = kEntryChangedWhileRead | kEntryRacy;
  SharedContent shared{SourceStat()};
  EXPECT_FALSE(shared.usable());
  shared.Set(read);
  EXPECT_TRUE(shared.usable());
  Entry other;
  other.name = "second";
  other.mode = 0644;
  shared.CopyTo(other);
  Entry expected = read;
  expected.name = "second";
  expected.mode = 0644;
  expected.flags = kEntryChangedWhileRead;
  EXPECT_EQ(other, expected);
}

}  // namespace
}  // namespace holdfast
