#include "client/scan/sorted_names.h"

#include <errno.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

struct Input {
  std::map<std::string, uint8_t> expected;
  std::vector<std::string> order;
};

Input RandomNames(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  Input in;
  while (in.order.size() < count) {
    std::string s(1 + random() % 40, '\0');
    // Few distinct bytes, so that prefixes repeat; 0xff and 0x01 check that bytes are unsigned.
    for (char& c : s) c = "\x01/aab\xff"[random() % 6];
    if (in.expected.emplace(s, static_cast<uint8_t>(random() % 16)).second) in.order.push_back(s);
  }
  return in;
}

std::vector<std::pair<std::string, uint8_t>> Drain(SortedNames* names) {
  std::vector<std::pair<std::string, uint8_t>> out;
  std::string_view name;
  uint8_t type;
  while (names->Next(&name, &type)) out.emplace_back(name, type);
  return out;
}

std::vector<std::pair<std::string, uint8_t>> Expected(const Input& in) {
  return {in.expected.begin(), in.expected.end()};  // std::string compares bytes as unsigned
}

TEST(SortedNames, AreInByteOrderFromMemory) {
  Input in = RandomNames(5000, 1);
  SortedNames names(32 << 20, ::testing::TempDir());
  for (const std::string& s : in.order) names.Add(s, in.expected[s]);
  names.Sort();
  EXPECT_EQ(Drain(&names), Expected(in));
}

TEST(SortedNames, AreInByteOrderThroughManySpilledRuns) {
  Input in = RandomNames(50000, 2);
  SortedNames names(256 << 10, ::testing::TempDir());
  for (const std::string& s : in.order) {
    names.Add(s, in.expected[s]);
    ASSERT_LE(names.bytes(), 512u << 10);
  }
  names.Sort();
  EXPECT_EQ(Drain(&names), Expected(in));
  EXPECT_EQ(names.error(), 0);
}

TEST(SortedNames, DropARepeatedName) {
  SortedNames names(1, ::testing::TempDir());  // every name is a run of its own
  for (int i = 0; i < 3; ++i) {
    names.Add("b", 4);
    names.Add("a", 8);
  }
  names.Sort();
  EXPECT_EQ(Drain(&names), (std::vector<std::pair<std::string, uint8_t>>{{"a", 8}, {"b", 4}}));
}

TEST(SortedNames, StayInMemoryWhenTheSpillFileCannotBeMade) {
  Input in = RandomNames(20000, 3);
  SortedNames names(64 << 10, "/nonexistent");
  for (const std::string& s : in.order) names.Add(s, in.expected[s]);
  names.Sort();
  EXPECT_EQ(Drain(&names), Expected(in));
  EXPECT_EQ(names.error(), ENOENT);
}

TEST(RecordQueue, KeepsOrderThroughTheSpillFile) {
  for (const std::string& directory : {::testing::TempDir(), std::string("/nonexistent")}) {
    RecordQueue queue(1000, directory);
    std::mt19937 random(4);
    int pushed = 0, popped = 0;
    std::string record;
    while (popped < 20000) {
      if (pushed < 20000 && random() % 5 != 0) {
        queue.Push(std::to_string(pushed++) + std::string(random() % 50, 'x'));
      } else if (queue.Pop(&record)) {
        ASSERT_EQ(std::stoi(record), popped++);
      } else {
        ASSERT_EQ(pushed, popped);
      }
    }
    EXPECT_TRUE(queue.empty());
    EXPECT_FALSE(queue.Pop(&record));
  }
}

}  // namespace
}  // namespace holdfast
