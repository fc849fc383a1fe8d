#include "client/owners/owner_names.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::testing::Optional;

constexpr uint32_t kNobodysId = 3999999999;

TEST(OwnerNamesTest, KnowsTheUsersOfThisMachine) {
  OwnerNames names;
  EXPECT_EQ(names.User(0), "root");
  EXPECT_THAT(names.UserId("root"), Optional(0u));
  const passwd* daemon = getpwnam("daemon");
  if (daemon == nullptr) GTEST_SKIP() << "no user daemon";
  EXPECT_EQ(names.User(daemon->pw_uid), "daemon");
  EXPECT_THAT(names.UserId("daemon"), Optional(daemon->pw_uid));
}

TEST(OwnerNamesTest, KnowsItsGroups) {
  OwnerNames names;
  EXPECT_EQ(names.Group(0), "root");
  EXPECT_THAT(names.GroupId("root"), Optional(0u));
  // A number that is a user and a group, of different names.
  const passwd* user = getpwnam("mail");
  const group* same_number = user == nullptr ? nullptr : getgrgid(user->pw_uid);
  if (same_number == nullptr) GTEST_SKIP() << "no such number";
  EXPECT_EQ(names.Group(user->pw_uid), same_number->gr_name);
}

TEST(OwnerNamesTest, AnUnknownNumberHasNoName) {
  OwnerNames names;
  EXPECT_EQ(names.User(kNobodysId), "");
  EXPECT_EQ(names.Group(kNobodysId), "");
}

TEST(OwnerNamesTest, AnUnknownNameHasNoNumber) {
  OwnerNames names;
  for (const char* name : {"no such name", "", "0"}) {
    EXPECT_EQ(names.UserId(name), std::nullopt) << name;
    EXPECT_EQ(names.GroupId(name), std::nullopt) << name;
  }
}

TEST(OwnerNamesTest, ANameStaysWhereItIs) {
  OwnerNames names;
  const std::string* root = &names.User(0);
  for (uint32_t uid = 1; uid < 1000; ++uid) names.User(uid);
  EXPECT_EQ(&names.User(0), root);
}

}  // namespace
}  // namespace holdfast
