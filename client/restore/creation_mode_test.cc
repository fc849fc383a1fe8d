#include "client/restore/creation_mode.h"

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(CreationMode, IsTheFinalOneWhereThatIsSafe) {
  for (uint32_t mode = 0; mode <= 0777; ++mode) {
    EXPECT_EQ(FileCreationMode({.mode = mode | 06000, .owner_may_stay = true, .in_own_directory = true}), mode);
  }
}

// Whoever is of the group for a moment is of the others in the end, as far as the snapshot knows.
TEST(CreationMode, GivesTheFirstGroupNoMoreThanOthersGet) {
  for (uint32_t mode = 0; mode <= 0777; ++mode) {
    const uint32_t made = FileCreationMode({.mode = mode, .owner_may_stay = false, .in_own_directory = true});
    EXPECT_EQ(made & ~mode, 0u);
    EXPECT_EQ((made >> 3) & 7 & ~(mode & 7), 0u) << std::oct << mode;
    EXPECT_EQ(made & 0707, mode & 0707) << std::oct << mode;
    EXPECT_EQ(ClosedToFirstGroup(mode), made);
  }
  EXPECT_EQ(ClosedToFirstGroup(0644), 0644u);
  EXPECT_EQ(ClosedToFirstGroup(0640), 0600u);
}

TEST(CreationMode, IsClosedToStrangersInTheirDirectories) {
  for (uint32_t mode = 0; mode <= 0777; ++mode) {
    EXPECT_EQ(FileCreationMode({.mode = mode, .owner_may_stay = true}), mode & 0700);
    EXPECT_EQ(FileCreationMode({.mode = mode, .xattrs_by_rights = true}), (mode & 0700) | 0600);
  }
}

}  // namespace
}  // namespace holdfast
