#include "client/restore/directory_stack.h"

#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;

class DirectoryStackTest : public TargetTest, public ::testing::WithParamInterface<uint64_t> {
 protected:
  void Begin() {
    Open();
    stack_.emplace(*run_, *directories_, pinned_, std::move(root_), GetParam());
  }
  void End() {
    stack_->FinishAll();
    pinned_.Release();
    stack_->Clear();
  }
  void TearDown() override {
    pinned_.Release();
    stack_.reset();
  }
  PinnedDir pinned_;
  std::optional<DirectoryStack> stack_;
};

TEST_P(DirectoryStackTest, MakesWhatIsListedWithItsMetadata) {
  Begin();
  stack_->List("a", FilterResult::kRestore, Mine(0711));
  Metadata with_attributes = Mine(0550, 4321);
  with_attributes.xattrs = std::make_unique<std::vector<Xattr>>(std::vector<Xattr>{{"user.x", "1"}, {"user.y", ""}});
  stack_->List("b", FilterResult::kRestore, with_attributes);
  stack_->List("c", FilterResult::kRestore, Mine(0701));
  stack_->MoveTo({"b"}, 0);
  EXPECT_TRUE(Exists("a")) << "passed: nothing comes in it any more";
  EXPECT_FALSE(Exists("c"));
  stack_->List("below", FilterResult::kRestore, Mine(0755));
  stack_->MoveTo({"c"}, 0);
  EXPECT_TRUE(Exists("b/below"));
  End();
  EXPECT_EQ(Stat("a").st_mode & 07777, 0711u);
  EXPECT_EQ(Stat("b").st_mode & 07777, 0550u);
  EXPECT_EQ(Stat("b").st_mtim.tv_sec, 4321);
  EXPECT_EQ(Stat("c").st_mode & 07777, 0701u);
}

TEST_P(DirectoryStackTest, TheFirstComponentsAreThoseOfTheTarget) {
  Begin();
  stack_->MoveTo({"x", "y", "a", "b"}, 2);
  ASSERT_NE(stack_->Made(), nullptr);
  EXPECT_EQ(directories_->RelativePath(*stack_->Made()), "a/b");
  stack_->MoveTo({"x", "y"}, 2);
  EXPECT_EQ(directories_->RelativePath(*stack_->Made()), "");
}

TEST_P(DirectoryStackTest, WhatTheFilterSaysDecidesWhatIsMade) {
  Begin();
  stack_->List("descend", FilterResult::kDescend, Mine(0755));
  stack_->List("descend2", FilterResult::kDescend, Mine(0755));
  stack_->List("left", FilterResult::kLeaveOut, Metadata());
  stack_->MoveTo({"descend"}, 0);
  EXPECT_FALSE(Exists("descend"));
  EXPECT_NE(stack_->Made(), nullptr);
  EXPECT_TRUE(Exists("descend"));
  stack_->MoveTo({"left", "below"}, 0);
  EXPECT_TRUE(stack_->is_left_out());
  EXPECT_EQ(stack_->Made(), nullptr);
  End();
  EXPECT_FALSE(Exists("descend2"));
  EXPECT_FALSE(Exists("left"));
}

TEST_P(DirectoryStackTest, BelowADirectoryThatCannotBeMadeNothingIs) {
  Write("f", "a file");
  Begin();
  stack_->List("f", FilterResult::kRestore, Mine(0755));
  stack_->MoveTo({"f", "below"}, 0);
  EXPECT_TRUE(stack_->has_failed());
  EXPECT_EQ(stack_->Made(), nullptr);
  End();
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget), ElementsAre("/in/f: make directory"));
}

TEST_P(DirectoryStackTest, ManyDirectoriesInManyAreEachMadeOnce) {
  Begin();
  for (int i = 0; i < 30; ++i) stack_->List(absl::StrCat("d", 10 + i), FilterResult::kRestore, Mine(0755, 10 + i));
  for (int i = 0; i < 30; i += 2) {
    stack_->MoveTo({absl::StrCat("d", 10 + i)}, 0);
    for (int k = 0; k < 5; ++k) stack_->List(absl::StrCat("e", k), FilterResult::kRestore, Mine(0750, 100 + k));
    stack_->MoveTo({absl::StrCat("d", 10 + i), "e3"}, 0);
  }
  End();
  EXPECT_EQ(run_->stats().directories, 30u + 15 * 5);
  EXPECT_EQ(Stat("d14/e4").st_mtim.tv_sec, 104);
  EXPECT_EQ(Stat("d39").st_mtim.tv_sec, 39);
}

INSTANTIATE_TEST_SUITE_P(Memory, DirectoryStackTest, ::testing::Values(0, 1 << 20));

}  // namespace
}  // namespace holdfast
