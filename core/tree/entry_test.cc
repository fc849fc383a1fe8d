#include "core/tree/entry.h"

#include <algorithm>
#include <map>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

using std::string_literals::operator""s;

// A directory of a random tree; std::map orders names as memcmp does.
struct Node {
  std::map<std::string, Node> directories;
  std::vector<std::string> files;
};

// Bytes that a wrong separator or a signed comparison would trip over.
std::string NastyName(std::mt19937_64& rng) {
  static const std::vector<std::string> kPieces = {"a", "b",  "\x01", "\x02", " ",    "!",       ".",
                                                   "-", "\n", "\x7f", "\x80", "\xff", "\xc3\xa4"};
  std::string name;
  do {
    name.clear();
    for (size_t n = 1 + rng() % 4; n > 0; --n) name += kPieces[rng() % kPieces.size()];
  } while (name == "." || name == "..");
  return name;
}

void Grow(Node& node, int depth, std::mt19937_64& rng) {
  for (size_t n = rng() % 8; n > 0; --n) {
    std::string name = NastyName(rng);
    if (node.directories.contains(name)) continue;
    if (depth > 0 && rng() % 2 == 0) {
      Grow(node.directories[name], depth - 1, rng);
    } else {
      node.files.push_back(name);
    }
  }
}

struct Place {
  Components directory;
  std::string name;
  bool operator==(const Place&) const = default;
};

// Lists a directory before it descends, both in the order of bytes: what the key order promises.
void Walk(const Node& node, const Components& path, std::vector<Place>* out) {
  std::vector<std::string> names = node.files;
  for (const auto& [name, child] : node.directories) names.push_back(name);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (const std::string& name : names) out->push_back({path, name});
  for (const auto& [name, child] : node.directories) {
    Components below = path;
    below.push_back(name);
    Walk(child, below, out);
  }
}

TEST(EntryKey, HasTheLayoutOfTheSpecification) {
  EXPECT_EQ(EntryKey({}, ""), "\0\0"s);
  EXPECT_EQ(EntryKey({}, "etc"), "\0\0etc"s);
  EXPECT_EQ(EntryKey({"etc"}, "passwd"), "etc\0\0passwd"s);
  EXPECT_EQ(EntryKey({"a", "b"}, "c"), "a\0b\0\0c"s);
  EXPECT_EQ(DirectoryKeyPrefix({"a", "b"}), "a\0b\0\0"s);
}

TEST(EntryKey, OrdersAsAWalkThatListsEachDirectoryBeforeItDescends) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 rng(seed);
    Node root;
    while (root.directories.empty()) Grow(root, 5, rng);
    std::vector<Place> walk = {{{}, ""}};
    Walk(root, {}, &walk);
    for (size_t i = 1; i < walk.size(); ++i) {
      ASSERT_LT(EntryKey(walk[i - 1].directory, walk[i - 1].name), EntryKey(walk[i].directory, walk[i].name)) << i;
    }
  }
}

TEST(EntryKey, ParsesBackToWhatItWasMadeOf) {
  std::mt19937_64 rng(7);
  for (int i = 0; i < 20000; ++i) {
    Components directory(rng() % 5);
    for (std::string& c : directory) c = NastyName(rng);
    std::string name = rng() % 10 == 0 ? "" : NastyName(rng);
    Components parsed_directory = {"left over"};
    std::string parsed_name = "left over";
    ASSERT_TRUE(ParseEntryKey(EntryKey(directory, name), &parsed_directory, &parsed_name));
    ASSERT_EQ(parsed_directory, directory);
    ASSERT_EQ(parsed_name, name);
  }
}

TEST(EntryKey, IsRefusedWhenItIsNone) {
  Components directory;
  std::string name;
  for (const std::string& key : {""s, "a"s, "\0"s, "\0a"s, "a\0b"s, "\0a\0\0b"s, "\0\0a\0b"s, "\0\0\0"s, "\0\0a\0"s}) {
    EXPECT_FALSE(ParseEntryKey(key, &directory, &name)) << testing::PrintToString(key);
  }
}

TEST(EntryKey, ThatParsesIsTheOnlySpellingOfItsParts) {
  std::mt19937_64 rng(11);
  int parsed = 0;
  for (int i = 0; i < 200000; ++i) {
    std::string key;
    for (size_t n = rng() % 9; n > 0; --n) key.push_back("\0\0\0ab"[rng() % 5]);
    Components directory;
    std::string name;
    if (!ParseEntryKey(key, &directory, &name)) continue;
    ++parsed;
    ASSERT_EQ(EntryKey(directory, name), key) << testing::PrintToString(key);
  }
  EXPECT_GT(parsed, 1000);
}

}  // namespace
}  // namespace holdfast
