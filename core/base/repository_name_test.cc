#include "core/base/repository_name.h"

#include <string>

#include "core/base/status_testing.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(RepositoryName, IsSafeInAFileName) {
  for (const char* good : {"default", "a", "0", "a-b_c", "photos2026"}) EXPECT_OK(CheckRepositoryName(good)) << good;
  for (const char* bad : {"", "A", "-a", "_a", "a/b", "..", "a.b", "a b"}) {
    EXPECT_FALSE(CheckRepositoryName(bad).ok()) << bad;
  }
  EXPECT_OK(CheckRepositoryName(std::string(64, 'a')));
  EXPECT_FALSE(CheckRepositoryName(std::string(65, 'a')).ok());
}

}  // namespace
}  // namespace holdfast
