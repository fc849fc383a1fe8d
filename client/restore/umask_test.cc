#include "client/restore/umask.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::testing::Optional;

TEST(Umask, IsReadAndNotChanged) {
  const mode_t before = ::umask(0);
  for (mode_t mask : {0, 022, 077, 0777, 0135}) {
    ::umask(mask);
    EXPECT_EQ(ReadUmask(), mask);
    EXPECT_EQ(::umask(mask), mask);
  }
  ::umask(before);
}

TEST(Umask, IsUnknownWhereTheTextDoesNotSayIt) {
  EXPECT_THAT(ParseUmask("Name:\tx\nUmask:\t0027\nState:\tR\n"), Optional(027u));
  EXPECT_THAT(ParseUmask("Name:\tx\nUmask:\t0000\n"), Optional(0u));
  for (const char* text : {"", "Name:\tUmask:\t0022\n", "Name:\tx\nUmask:\t\n", "Name:\tx\nUmask:\t0089\n",
                           "Name:\tx\nUmask:\t7777\n", "Name:\tx\nUmask:\t022 \n"}) {
    EXPECT_EQ(ParseUmask(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace holdfast
