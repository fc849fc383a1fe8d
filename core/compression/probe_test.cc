#include "core/compression/probe.h"

#include <random>
#include <string>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

std::string RandomBytes(std::mt19937_64& rng, size_t n) {
  std::string s(n, '\0');
  for (char& c : s) c = static_cast<char>(rng());
  return s;
}

TEST(Probe, KnowsRandomBytes) {
  std::mt19937_64 rng(1);
  for (int i = 0; i < 500; ++i) EXPECT_TRUE(LooksIncompressible(RandomBytes(rng, 4096 + rng() % 200000))) << i;
  EXPECT_TRUE(LooksIncompressible(RandomBytes(rng, 8 << 20)));
}

TEST(Probe, LetsCompressibleBytesPass) {
  std::mt19937_64 rng(2);
  EXPECT_FALSE(LooksIncompressible(std::string(1 << 20, '\0')));
  EXPECT_FALSE(LooksIncompressible(std::string(1 << 20, 'x')));
  std::string base64 = RandomBytes(rng, 1 << 20);
  for (char& c : base64) c &= 63;
  EXPECT_FALSE(LooksIncompressible(base64));
  std::string skewed = RandomBytes(rng, 1 << 20);
  for (char& c : skewed) c = rng() % 5 == 0 ? 'e' : c;
  EXPECT_FALSE(LooksIncompressible(skewed));
}

TEST(Probe, LooksAtEveryQuarter) {
  std::mt19937_64 rng(3);
  const size_t n = 1 << 20;
  for (size_t quarter = 0; quarter < 4; ++quarter) {
    std::string mixed = RandomBytes(rng, n);
    mixed.replace(quarter * n / 4, n / 4, n / 4, 'a');
    EXPECT_FALSE(LooksIncompressible(mixed)) << quarter;
  }
}

TEST(Probe, TakesInputsOfAnySize) {
  std::mt19937_64 rng(4);
  for (size_t n = 0; n < 20000; n += n < 20 || (n % 4096) > 4090 || (n % 4096) < 4 ? 1 : 97) {
    // A heap block of exactly this size, for the sanitizers.
    const std::string bytes = RandomBytes(rng, n);
    EXPECT_EQ(LooksIncompressible(bytes), n >= 4096) << n;
    EXPECT_FALSE(LooksIncompressible(std::string(n, 'q'))) << n;
  }
}

}  // namespace
}  // namespace holdfast
