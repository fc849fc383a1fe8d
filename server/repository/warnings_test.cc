#include "server/repository/warnings.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Warnings, KeepsEachMessageOnceInTheOrderOfTheFirst) {
  Warnings warnings;
  EXPECT_THAT(warnings.All(), IsEmpty());
  for (const char* message : {"b", "a", "b", "c", "a"}) warnings.Add(message);
  EXPECT_THAT(warnings.All(), ElementsAre("b", "a", "c"));
}

TEST(Warnings, DropsWhatIsTooMuch) {
  Warnings warnings;
  for (size_t i = 0; i < kWarningsMax + 3; ++i) warnings.Add(absl::StrCat(i));
  ASSERT_EQ(warnings.All().size(), kWarningsMax);
  EXPECT_EQ(warnings.All().front(), "0");
  EXPECT_EQ(warnings.All().back(), absl::StrCat(kWarningsMax - 1));
}

TEST(Warnings, TakesThemFromManyThreads) {
  Warnings warnings;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&warnings, t] {
      for (int i = 0; i < 100; ++i) warnings.Add(absl::StrCat(i % 2 == 0 ? "same " : absl::StrCat(t, " "), i));
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(warnings.All().size(), 50u + 4 * 50u);
}

}  // namespace
}  // namespace holdfast
