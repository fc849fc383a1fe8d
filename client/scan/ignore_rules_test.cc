#include "client/scan/ignore_rules.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

bool Excluded(std::string_view patterns, std::string_view path, bool is_directory = false) {
  size_t slash = path.rfind('/');
  return IgnoreList::Parse(patterns).Match(path, slash == std::string_view::npos ? 0 : slash + 1, is_directory) ==
         IgnoreVerdict::kExclude;
}

TEST(IgnoreRules, NameWithoutSlashMatchesAtAnyDepth) {
  EXPECT_TRUE(Excluded("core", "core"));
  EXPECT_TRUE(Excluded("core", "a/b/core"));
  EXPECT_FALSE(Excluded("core", "a/core.c"));
  EXPECT_FALSE(Excluded("core", "core/x"));
}

TEST(IgnoreRules, SlashAnchorsToTheDirectoryOfTheFile) {
  EXPECT_TRUE(Excluded("/core", "core"));
  EXPECT_FALSE(Excluded("/core", "a/core"));
  EXPECT_TRUE(Excluded("a/core", "a/core"));
  EXPECT_FALSE(Excluded("a/core", "b/a/core"));
}

TEST(IgnoreRules, TrailingSlashMatchesDirectoriesOnly) {
  EXPECT_TRUE(Excluded("build/", "x/build", true));
  EXPECT_FALSE(Excluded("build/", "x/build", false));
}

TEST(IgnoreRules, LastMatchingLineDecides) {
  EXPECT_FALSE(Excluded("*.o\n!keep.o", "keep.o"));
  EXPECT_TRUE(Excluded("!keep.o\n*.o", "keep.o"));
}

TEST(IgnoreRules, StarStaysInsideAComponentAndDoubleStarDoesNot) {
  EXPECT_TRUE(Excluded("a/*/b", "a/x/b"));
  EXPECT_FALSE(Excluded("a/*/b", "a/x/y/b"));
  EXPECT_TRUE(Excluded("a/**/b", "a/b"));
  EXPECT_TRUE(Excluded("a/**/b", "a/x/y/b"));
  EXPECT_TRUE(Excluded("**/b", "b"));
  EXPECT_TRUE(Excluded("**/b/c", "x/y/b/c"));
  EXPECT_TRUE(Excluded("a/**", "a/x/y"));
  EXPECT_FALSE(Excluded("a/**", "a", true));
}

TEST(IgnoreRules, EscapesCommentsAndBlanks) {
  EXPECT_TRUE(Excluded("\\#x", "#x"));
  EXPECT_FALSE(Excluded("#x", "#x"));
  EXPECT_TRUE(Excluded("\\!x", "!x"));
  EXPECT_TRUE(Excluded("x   ", "x"));
  EXPECT_TRUE(Excluded("x\\ ", "x "));
  EXPECT_TRUE(Excluded("a\\*", "a*"));
  EXPECT_FALSE(Excluded("a\\*", "ab"));
  EXPECT_TRUE(Excluded("x\r\ny\r\n", "x"));
  EXPECT_TRUE(Excluded("\xef\xbb\xbfx\n", "x"));
  EXPECT_FALSE(Excluded("x\\", "x"));
}

TEST(IgnoreRules, CharacterClasses) {
  EXPECT_TRUE(Excluded("[a-c]x", "bx"));
  EXPECT_FALSE(Excluded("[!a-c]x", "bx"));
  EXPECT_TRUE(Excluded("[^a-c]x", "dx"));
  EXPECT_TRUE(Excluded("[]]x", "]x"));
  EXPECT_TRUE(Excluded("[[:digit:]]x", "7x"));
  EXPECT_FALSE(Excluded("[[:nope:]]x", "nx"));
  EXPECT_FALSE(Excluded("[a", "[a"));
  EXPECT_TRUE(Excluded("[\xff]", "\xff"));
  EXPECT_FALSE(Excluded("a[/]b/", "a/b", true));
}

TEST(IgnoreRules, ManyStarsCostNoMoreThanTheirProduct) {
  std::string pattern = "x/";
  for (int i = 0; i < 60; ++i) pattern += "*a**";
  EXPECT_FALSE(Excluded(pattern + "b", "x/" + std::string(4000, 'a')));
}

TEST(IgnoreRules, NearerFileOutranksTheOneAbove) {
  auto above = std::make_shared<IgnoreChain>(nullptr, "", IgnoreList::Parse("*.log\n/d/b"), 10);
  IgnoreChain chain(above, "d", IgnoreList::Parse("!keep.log\n/a"), 12);
  EXPECT_EQ(chain.Match("d/keep.log", 2, false), IgnoreVerdict::kInclude);
  EXPECT_EQ(chain.Match("d/other.log", 2, false), IgnoreVerdict::kExclude);
  EXPECT_EQ(chain.Match("d/a", 2, false), IgnoreVerdict::kExclude);
  EXPECT_EQ(chain.Match("d/b", 2, false), IgnoreVerdict::kExclude);
  EXPECT_EQ(chain.Match("d/c", 2, false), IgnoreVerdict::kNone);
}

// Random pattern files in a fixed random tree, against git itself.
class AgainstGit : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("git --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no git here";
    std::string name = ::testing::TempDir() + "/ignore-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    base_ = name;
    setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
    setenv("GIT_CONFIG_SYSTEM", "/dev/null", 1);
    setenv("HOME", base_.c_str(), 1);
    ASSERT_EQ(std::system(("cd '" + base_ + "' && git init -q --template= .").c_str()), 0);
  }
  void TearDown() override {
    if (base_.empty()) return;
    ASSERT_EQ(std::system(("rm -rf '" + base_ + "'").c_str()), 0);
  }
  int Pick(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }
  template <typename T>
  T OneOf(std::initializer_list<T> list) {
    return *(list.begin() + Pick(static_cast<int>(list.size())));
  }

  std::string RandomName() {
    std::string s;
    int n = 1 + Pick(3);
    for (int i = 0; i < n; ++i)
      s += OneOf({"a", "b", "c", ".", "-", "]", " ", "*", "A", "7", "\\", "!", "#", "[", "\xc3"});
    return s == "." || s == ".." ? "a" : s;
  }
  void MakeTree(const std::string& path, int depth) {
    directories_.push_back(path);
    for (int i = 0; i < 6; ++i) {
      std::string name = RandomName();
      std::string child = path.empty() ? name : path + "/" + name;
      if (is_directory_.count(child)) continue;
      bool directory = depth < 3 && Pick(2) == 0;
      is_directory_[child] = directory;
      if (directory) {
        ASSERT_EQ(mkdir((base_ + "/" + child).c_str(), 0755), 0);
        MakeTree(child, depth + 1);
      } else {
        std::ofstream(base_ + "/" + child) << "x";
      }
    }
  }
  std::string RandomPattern() {
    std::string s;
    if (Pick(5) == 0) s += "!";
    if (Pick(8) == 0) {  // something that surely exists, so that matches are not rare
      auto it = is_directory_.begin();
      std::advance(it, Pick(static_cast<int>(is_directory_.size())));
      s += it->first;
      if (Pick(2) == 0) s[Pick(static_cast<int>(s.size()))] = OneOf({'*', '?'});
    } else {
      int n = 1 + Pick(5);
      for (int i = 0; i < n; ++i) {
        s += OneOf({"a",       "b",      "c",       "*",           "**",
                    "?",       "/",      "/",       "/**/",        "**/",
                    "/*",      "[a-c]",  "[!a]",    "[^b-]",       "[]a]",
                    "\\*",     "\\",     ".",       "-",           "[",
                    "]",       " ",      "\\ ",     "[[:alpha:]]", "[[:upper:][:digit:]]",
                    "[[:x:]]", "[a\\]]", "[c-a]",   "!",           "#",
                    "[[a]",    "[[:a]",  "[a-\\c]", "7",           "A",
                    "\xc3",    "***",    "\\/",     "[.-/]",       "\t"});
      }
    }
    if (Pick(6) == 0) s += "/";
    return s;
  }

  std::string base_;
  std::mt19937 random_{20240607};
  std::map<std::string, bool> is_directory_;
  std::vector<std::string> directories_;
};

TEST_F(AgainstGit, AgreesOnRandomPatterns) {
  MakeTree("", 0);
  std::string all;
  for (const auto& [path, unused] : is_directory_) all.append(path).push_back('\0');
  std::ofstream(base_ + "/.git/paths") << all;
  int excluded_total = 0;
  for (int round = 0; round < 400; ++round) {
    std::map<std::string, std::string> files;  // directory -> text
    for (const std::string& d : directories_) {
      std::string file = base_ + "/" + (d.empty() ? "" : d + "/") + ".gitignore";
      unlink(file.c_str());
      if (!d.empty() && Pick(4) != 0) continue;
      std::string text;
      int lines = 1 + Pick(d.empty() ? 6 : 3);
      for (int i = 0; i < lines; ++i) text += RandomPattern() + OneOf({"\n", "\n", "\n", "\r\n", "  \n"});
      if (Pick(5) == 0) text.pop_back();
      std::ofstream(file) << text;
      files[d] = text;
    }
    ASSERT_LE(
        std::system(("cd '" + base_ + "' && git check-ignore --no-index -z --stdin < .git/paths > .git/out").c_str()),
        256);
    std::stringstream out;
    out << std::ifstream(base_ + "/.git/out").rdbuf();
    std::set<std::string> expected;
    for (std::string path; std::getline(out, path, '\0');) expected.insert(path);

    std::map<std::string, std::shared_ptr<IgnoreChain>> chains;
    std::set<std::string> actual;
    // The map's order has every directory before what is in it.
    auto chain_of = [&](const std::string& d, std::shared_ptr<IgnoreChain> above) {
      auto it = files.find(d);
      return it == files.end()
                 ? above
                 : std::make_shared<IgnoreChain>(above, d, IgnoreList::Parse(it->second), it->second.size());
    };
    chains[""] = chain_of("", nullptr);
    for (const auto& [path, directory] : is_directory_) {
      size_t slash = path.rfind('/');
      std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
      size_t name = slash == std::string::npos ? 0 : slash + 1;
      std::shared_ptr<IgnoreChain> chain = chains[parent];
      bool excluded =
          actual.count(parent) || (chain != nullptr && chain->Match(path, name, directory) == IgnoreVerdict::kExclude);
      if (excluded) actual.insert(path);
      if (directory && !excluded) chains[path] = chain_of(path, chain);
    }
    excluded_total += static_cast<int>(expected.size());
    std::string shown;
    for (const auto& [d, text] : files) shown += "--- " + d + "\n" + text + "\n";
    std::string differs;
    for (const std::string& p : expected)
      if (!actual.count(p)) differs += "git excludes: " + p + "\n";
    for (const std::string& p : actual)
      if (!expected.count(p)) differs += "git keeps: " + p + "\n";
    ASSERT_EQ(differs, "") << "round " << round << "\n" << shown;
  }
  EXPECT_GT(excluded_total, 1000);  // the comparison is not empty
}

}  // namespace
}  // namespace holdfast
