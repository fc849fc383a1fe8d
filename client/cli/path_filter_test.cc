#include "client/cli/path_filter.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(PathFilterTest, WithoutPatternsTakesEverything) {
  EXPECT_EQ(PathFilter({}, {}).Match({"a", "b"}, false), FilterResult::kRestore);
}

TEST(PathFilterTest, LooksInsideOfDirectoriesForWhatIsIncluded) {
  const PathFilter filter({"*.jpg", "/docs/"}, {});
  EXPECT_EQ(filter.Match({"photos"}, true), FilterResult::kDescend);
  EXPECT_EQ(filter.Match({"photos", "a.jpg"}, false), FilterResult::kRestore);
  EXPECT_EQ(filter.Match({"photos", "a.png"}, false), FilterResult::kLeaveOut);
  EXPECT_EQ(filter.Match({"docs"}, true), FilterResult::kRestore);
  EXPECT_EQ(filter.Match({"docs", "x", "y"}, false), FilterResult::kRestore);
  EXPECT_EQ(filter.Match({"docs"}, false), FilterResult::kLeaveOut);  // the pattern wants a directory
}

TEST(PathFilterTest, ExcludingWinsOverIncluding) {
  const PathFilter filter({"*.jpg"}, {"trash", "!trash/keep.jpg"});
  EXPECT_EQ(filter.Match({"trash"}, true), FilterResult::kLeaveOut);
  EXPECT_EQ(filter.Match({"a.jpg"}, false), FilterResult::kRestore);
}

TEST(PathFilterTest, WhatIsInsideOfSomethingExcludedIsNotAskedFor) {
  const PathFilter filter({}, {"/cache/"});
  EXPECT_EQ(filter.Match({"cache"}, true), FilterResult::kLeaveOut);
  EXPECT_EQ(filter.Match({"cache"}, false), FilterResult::kRestore);  // the pattern wants a directory
  EXPECT_EQ(filter.Match({"home", "cache"}, true), FilterResult::kRestore);
  EXPECT_EQ(filter.Match({}, true), FilterResult::kRestore);
}

}  // namespace
}  // namespace holdfast
