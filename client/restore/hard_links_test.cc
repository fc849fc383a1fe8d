#include "client/restore/hard_links.h"

#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Entry Name(const std::string& name, uint32_t members, char content = 'x') {
  Entry e;
  e.name = name;
  e.inode = 7;
  e.device = 1;
  e.link_count = members;
  e.digest.emplace().fill(content);
  return e;
}

class HardLinksTest : public TargetTest {
 protected:
  void SetUp() override {
    Open();
    links_.emplace(*run_, *directories_, *files_, 1 << 20);
  }
  void TearDown() override {
    pinned_.Release();
    links_->Close();
    links_.reset();
  }
  LinkPlacement Place(const Entry& e, bool replace = false) { return links_->Place({root_, e, replace}, pinned_); }
  void Done(const Entry& e, bool is_there = true) {
    links_->FirstDone({e.device, e.inode}, root_, e.name, is_there, pinned_);
  }
  std::optional<HardLinks> links_;
  PinnedDir pinned_;
};

TEST_F(HardLinksTest, TheFirstNameIsRestoredAndTheOthersAreLinkedToIt) {
  const Entry a = Name("a", 4), b = Name("b", 4), c = Name("c", 4), d = Name("d", 4);
  EXPECT_EQ(links_->RoleOf(a), LinkRole::kFirst);
  EXPECT_EQ(links_->RoleOf(b), LinkRole::kFurther);
  EXPECT_EQ(Place(b), LinkPlacement::kDone);
  EXPECT_EQ(links_->waiting(), 1u) << "a is not there yet";
  EXPECT_FALSE(Exists("b"));
  Write("a", "content");
  Done(a);
  EXPECT_EQ(links_->waiting(), 0u);
  EXPECT_EQ(Stat("b").st_ino, Stat("a").st_ino);
  EXPECT_EQ(links_->RoleOf(c), LinkRole::kFurther);
  EXPECT_EQ(Place(c), LinkPlacement::kDone);
  EXPECT_EQ(links_->RoleOf(d), LinkRole::kFurther) << "not the last one yet";
  EXPECT_EQ(Place(d), LinkPlacement::kDone);
  EXPECT_EQ(Stat("a").st_nlink, 4u);
  EXPECT_EQ(run_->stats().hard_links, 3u);
}

TEST_F(HardLinksTest, ANameWithOtherContentIsRestoredApart) {
  EXPECT_EQ(links_->RoleOf(Name("a", 3, 'x')), LinkRole::kFirst);
  EXPECT_EQ(links_->RoleOf(Name("b", 3, 'y')), LinkRole::kApart);
  EXPECT_EQ(links_->RoleOf(Name("c", 3, 'x')), LinkRole::kFurther);
  Entry other_device = Name("d", 3);
  other_device.device = 2;
  EXPECT_EQ(links_->RoleOf(other_device), LinkRole::kFirst);
}

TEST_F(HardLinksTest, WhenTheFirstNameFailsANameThatWaitedTakesItsPlace) {
  const Entry a = Name("a", 3), b = Name("b", 3), c = Name("c", 3);
  links_->RoleOf(a);
  links_->RoleOf(b);
  links_->RoleOf(c);
  Place(b);
  Place(c);
  EXPECT_THAT(links_->TakeRetries(), IsEmpty());
  Done(a, false);
  std::vector<FurtherName> retries = links_->TakeRetries();
  ASSERT_THAT(retries, SizeIs(2));
  EXPECT_FALSE(links_->has_retries());
  EXPECT_EQ(Place(retries[0].entry), LinkPlacement::kFirst);
  EXPECT_EQ(Place(retries[1].entry), LinkPlacement::kDone) << "waits for the new first one";
  Write("b", "content");
  Done(b);
  EXPECT_EQ(Stat("c").st_ino, Stat("b").st_ino);
}

TEST_F(HardLinksTest, ANameSeenAfterTheFirstOneFailedIsTheFirst) {
  links_->RoleOf(Name("a", 3));
  Done(Name("a", 3), false);
  EXPECT_EQ(links_->RoleOf(Name("b", 3, 'y')), LinkRole::kFirst);
  EXPECT_EQ(links_->RoleOf(Name("c", 3, 'y')), LinkRole::kFurther);
}

TEST_F(HardLinksTest, ANameThatCannotBeLinkedIsRestoredApart) {
  const Entry a = Name("a", 3), b = Name("b", 3);
  links_->RoleOf(a);
  links_->RoleOf(b);
  Done(a);  // but somebody removed it
  EXPECT_EQ(Place(b), LinkPlacement::kApart);
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kNote), ElementsAre("/in/b: link"));
  // One that waited comes back first.
  Entry c = Name("c", 2), d = Name("d", 2);
  c.inode = d.inode = 8;
  links_->RoleOf(c);
  links_->RoleOf(d);
  Place(d);
  Done(c);
  std::vector<FurtherName> retries = links_->TakeRetries();
  ASSERT_THAT(retries, SizeIs(1));
  EXPECT_EQ(Place(retries[0].entry), LinkPlacement::kApart);
}

TEST_F(HardLinksTest, ReplacesOnlyWhereItMay) {
  links_->RoleOf(Name("a", 3));
  Write("a", "new");
  Write("b", "old");
  Write("c", "old");
  Done(Name("a", 3));
  EXPECT_EQ(Place(Name("b", 3), true), LinkPlacement::kDone);
  EXPECT_EQ(Read("b"), "new");
  EXPECT_EQ(Place(Name("c", 3), false), LinkPlacement::kApart);
  EXPECT_EQ(Read("c"), "old");
}

TEST_F(HardLinksTest, CountsTheAttributesOfNamesThatWait) {
  Entry b = Name("b", 2);
  b.xattrs = {{"user.x", std::string(3 * HardLinks::kBytesPerWaitingName, 'x')}};
  links_->RoleOf(Name("a", 2));
  links_->RoleOf(b);
  Place(b);
  EXPECT_EQ(links_->waiting(), 4u);
}

TEST(LinkIdentity, DependsOnEverythingThatNamesOfOneObjectShare) {
  Entry base;
  base.type = EntryType::kFile;
  base.content.kind = Content::Kind::kSlice;
  std::vector<Entry> entries(10, base);
  entries[1].type = EntryType::kFifo;
  entries[2].size = 1;
  entries[3].symlink_target = "x";
  entries[4].device_major = 1;
  entries[5].device_minor = 1;
  entries[6].holes = {{0, 1}};
  entries[7].digest.emplace();
  entries[8].content.offset = 1;
  entries[9].content.chunks.emplace_back();
  for (size_t i = 0; i < entries.size(); ++i) {
    for (size_t k = 0; k < i; ++k) EXPECT_NE(LinkIdentity(entries[i]), LinkIdentity(entries[k])) << i << " " << k;
  }
  Entry named = base;
  named.name = "x";
  named.mtime = {1, 1};
  EXPECT_EQ(LinkIdentity(named), LinkIdentity(base));
}

}  // namespace
}  // namespace holdfast
