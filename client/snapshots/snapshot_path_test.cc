#include "client/snapshots/snapshot_path.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(SnapshotPath, SplitsAtTheFirstColon) {
  EXPECT_EQ(ParseSnapshotPath("latest").snapshot, "latest");
  EXPECT_TRUE(ParseSnapshotPath("latest").path.empty());
  EXPECT_TRUE(ParseSnapshotPath("latest:").path.empty());
  EXPECT_TRUE(ParseSnapshotPath("latest:/").path.empty());
  EXPECT_EQ(ParseSnapshotPath("3f:a/b").snapshot, "3f");
  EXPECT_EQ(ParseSnapshotPath("3f:a/b").path, (Components{"a", "b"}));
  EXPECT_EQ(ParseSnapshotPath("3f:/a//./b/").path, (Components{"a", "b"}));
  EXPECT_EQ(ParseSnapshotPath("3f:a:b/c").path, (Components{"a:b", "c"}));
}

TEST(SnapshotPath, IsJoinedWithoutASlashInFront) {
  EXPECT_EQ(JoinComponents({}), "");
  EXPECT_EQ(JoinComponents({"a"}), "a");
  EXPECT_EQ(JoinComponents({"a", "b"}), "a/b");
}

}  // namespace
}  // namespace holdfast
