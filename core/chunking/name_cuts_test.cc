#include "core/chunking/name_cuts.h"

#include <fstream>
#include <sstream>
#include <string>

#include "core/base/ids.h"
#include "core/base/limits.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

Key256 TestKey() {
  Key256 key;
  for (int i = 0; i < 32; ++i) key.MutableBytes()[i] = static_cast<uint8_t>(i);
  return key;
}

// A name in `parent` whose bundle hash does (not) end a bundle.
std::string Name(bool cuts) {
  for (int i = 0;; ++i) {
    std::string name = "n" + std::to_string(i);
    if (((NameCutHash(TestKey(), 0, "parent", name) & kBundleCutMask) == 0) == cuts) return name;
  }
}

TEST(NameCutHash, IsAsTheGoldenVectorsSay) {
  std::ifstream in("core/chunking/testdata/golden.txt");
  ASSERT_TRUE(in) << "run from the workspace root";
  int vectors = 0;
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string kind, key_hex, parent, name;
    int domain = 0;
    uint64_t expected = 0;
    fields >> kind;
    if (kind != "name") continue;
    fields >> key_hex >> domain >> parent >> name >> expected;
    ASSERT_TRUE(fields) << line;
    ++vectors;
    auto decode = [](const std::string& hex) { return hex == "-" ? std::string() : HexDecode(hex).value(); };
    const Key256 key(reinterpret_cast<const uint8_t*>(decode(key_hex).data()));
    EXPECT_EQ(NameCutHash(key, static_cast<uint8_t>(domain), decode(parent), decode(name)), expected) << line;
  }
  EXPECT_GE(vectors, 28);
}

TEST(BundleCutter, EndsAtACuttingNameOnlyFrom64KiBOn) {
  BundleCutter cutter(TestKey());
  cutter.Add("parent", Name(true), 0, kBundleCutBytesMin - 1);
  EXPECT_FALSE(cutter.CutAfter());
  cutter.Add("parent", Name(false), 0, 1);
  EXPECT_FALSE(cutter.CutAfter());
  cutter.Add("parent", Name(true), 0, 0);
  EXPECT_TRUE(cutter.CutAfter());
  EXPECT_EQ(cutter.file_count(), 3u);
  EXPECT_EQ(cutter.size_bytes(), kBundleCutBytesMin);
  cutter.Reset();
  EXPECT_FALSE(cutter.CutAfter());
  EXPECT_EQ(cutter.file_count(), 0u);
  EXPECT_EQ(cutter.size_bytes(), 0u);
}

TEST(BundleCutter, EndsAt256KiBWhateverTheName) {
  BundleCutter cutter(TestKey());
  cutter.Add("parent", Name(false), 0, kBundleTargetBytes - 1);
  EXPECT_FALSE(cutter.CutAfter());
  cutter.Add("parent", Name(false), 0, 1);
  EXPECT_TRUE(cutter.CutAfter());
}

TEST(BundleCutter, EndsAt4096Files) {
  BundleCutter cutter(TestKey());
  for (uint32_t i = 1; i < kBundleFilesMax; ++i) {
    cutter.Add("parent", "n", 0, 1);
    ASSERT_FALSE(cutter.CutAfter()) << i;
  }
  cutter.Add("parent", "n", 0, 1);
  EXPECT_TRUE(cutter.CutAfter());
}

TEST(BundleCutter, EndsBeforeAnotherOwner) {
  BundleCutter cutter(TestKey());
  EXPECT_FALSE(cutter.CutBefore(5, 1));
  cutter.Add("parent", Name(false), 5, 1);
  EXPECT_FALSE(cutter.CutBefore(5, 1));
  EXPECT_TRUE(cutter.CutBefore(6, 1));
  EXPECT_TRUE(cutter.CutBefore(0, 0));
}

TEST(BundleCutter, EndsBeforeAFileThatWouldPass1MiB) {
  BundleCutter cutter(TestKey());
  EXPECT_FALSE(cutter.CutBefore(0, UINT64_MAX)) << "an empty bundle is never cut";
  cutter.Add("parent", Name(false), 0, 1000);
  EXPECT_FALSE(cutter.CutBefore(0, kBundleBytesMax - 1000));
  EXPECT_TRUE(cutter.CutBefore(0, kBundleBytesMax - 999));
  EXPECT_TRUE(cutter.CutBefore(0, UINT64_MAX));
}

}  // namespace
}  // namespace holdfast
