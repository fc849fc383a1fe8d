#include "storage/conformance/blob_store_conformance.h"

#include <atomic>
#include <limits>

#include "core/base/status_testing.h"
#include "core/io/posix.h"

namespace holdfast {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

BlobStoreConformance::BlobStoreConformance() : under_test_(GetParam()()) {
  if (under_test_.threads == nullptr) under_test_.threads = &PosixIo().threads;
}
BlobStoreConformance::~BlobStoreConformance() { under_test_.store.reset(); }

absl::Status BlobStoreConformance::Put(std::string_view name, std::string_view bytes, PutMode mode) {
  return PutBytes(store(), BlobName::FromTrusted(std::string(name)), bytes, mode);
}

absl::StatusOr<std::string> BlobStoreConformance::Get(std::string_view name) {
  return GetWholeBlob(store(), BlobName::FromTrusted(std::string(name)), 64u << 20);
}

std::vector<std::string> BlobStoreConformance::Names(std::string_view prefix, std::string_view after, int limit) {
  auto page = store().List(prefix, after, limit);
  if (!page.ok()) return {page.status().ToString()};
  std::vector<std::string> names;
  for (const BlobInfo& info : *page) names.push_back(info.name);
  return names;
}

namespace {

BlobName Name(std::string_view name) { return BlobName::FromTrusted(std::string(name)); }

std::string Pattern(size_t n, uint32_t seed) {
  std::string out(n, '\0');
  uint64_t x = seed * 0x9e3779b97f4a7c15 + 1;
  for (char& c : out) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    c = static_cast<char>(x);
  }
  return out;
}

// Fails after it has given some bytes.
class FailingSource : public BlobSource {
 public:
  explicit FailingSource(uint64_t good_bytes) : good_bytes_(good_bytes) {}
  uint64_t size() const override { return 3u << 20; }
  absl::Status ReadAt(uint64_t offset, absl::Span<char> out) override {
    if (offset + out.size() > good_bytes_) return absl::UnavailableError("source failed");
    std::fill(out.begin(), out.end(), 'x');
    return absl::OkStatus();
  }

 private:
  const uint64_t good_bytes_;
};

TEST_P(BlobStoreConformance, GivesBackWhatWasPut) {
  ASSERT_OK(Put("packs/d/00/aa", "content"));
  EXPECT_THAT(Get("packs/d/00/aa"), IsOkAndHolds(std::string("content")));
  ASSERT_OK_AND_ASSIGN(BlobInfo info, store().Stat(Name("packs/d/00/aa")));
  EXPECT_EQ(info.name, "packs/d/00/aa");
  EXPECT_EQ(info.size, 7u);
}

TEST_P(BlobStoreConformance, KeepsAnEmptyBlob) {
  ASSERT_OK(Put("empty", ""));
  EXPECT_THAT(Get("empty"), IsOkAndHolds(std::string()));
  char c;
  EXPECT_OK(store().Get(Name("empty"), 0, absl::Span<char>()));
  EXPECT_THAT(store().Get(Name("empty"), 0, absl::MakeSpan(&c, 1)), StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_P(BlobStoreConformance, KeepsABigBlob) {
  if (store().capabilities().max_blob_bytes < (20u << 20)) GTEST_SKIP();
  std::string bytes = Pattern((20u << 20) + 17, 1);
  ASSERT_OK(Put("big", bytes));
  ASSERT_OK_AND_ASSIGN(std::string back, Get("big"));
  EXPECT_TRUE(back == bytes);
  std::string part(100'000, '\0');
  ASSERT_OK(store().Get(Name("big"), bytes.size() - part.size(), absl::MakeSpan(part)));
  EXPECT_TRUE(part == bytes.substr(bytes.size() - part.size()));
}

TEST_P(BlobStoreConformance, AnswersNotFoundForWhatIsNotThere) {
  ASSERT_OK(Put("a/b/c", "x"));
  char c;
  for (std::string_view name : {"b", "a", "a/b", "a/b/d", "a/b/c/d", "a/b/c/d/e", "a/bb/c"}) {
    EXPECT_THAT(store().Stat(Name(name)), StatusIs(absl::StatusCode::kNotFound)) << name;
    EXPECT_THAT(store().Get(Name(name), 0, absl::MakeSpan(&c, 1)), StatusIs(absl::StatusCode::kNotFound)) << name;
    EXPECT_THAT(store().Get(Name(name), 0, absl::Span<char>()), StatusIs(absl::StatusCode::kNotFound)) << name;
  }
}

TEST_P(BlobStoreConformance, ReadsEveryRangeInsideAndNoneOutside) {
  const std::string bytes = "0123456789";
  ASSERT_OK(Put("r", bytes));
  for (uint64_t offset = 0; offset <= 11; ++offset) {
    for (uint64_t n = 0; n <= 12; ++n) {
      std::string out(n, '?');
      absl::Status status = store().Get(Name("r"), offset, absl::MakeSpan(out));
      if (offset + n <= bytes.size()) {
        EXPECT_OK(status) << offset << "+" << n;
        EXPECT_EQ(out, bytes.substr(offset, n));
      } else {
        EXPECT_THAT(status, StatusIs(absl::StatusCode::kOutOfRange)) << offset << "+" << n;
      }
    }
  }
  char buffer[4];
  for (uint64_t offset : {uint64_t{1} << 32, uint64_t{1} << 63, std::numeric_limits<uint64_t>::max() - 1,
                          std::numeric_limits<uint64_t>::max()}) {
    EXPECT_THAT(store().Get(Name("r"), offset, absl::MakeSpan(buffer)), StatusIs(absl::StatusCode::kOutOfRange))
        << offset;
  }
}

TEST_P(BlobStoreConformance, DoesNotReplaceWithPutIfAbsent) {
  if (!store().capabilities().put_if_absent) GTEST_SKIP();
  ASSERT_OK(Put("x/y", "first"));
  EXPECT_THAT(Put("x/y", "second"), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(Get("x/y"), IsOkAndHolds(std::string("first")));
}

TEST_P(BlobStoreConformance, TakesAnOverwriteOfTheSameContent) {
  ASSERT_OK(Put("x/y", "same", PutMode::kOverwrite));
  ASSERT_OK(Put("x/y", "same", PutMode::kOverwrite));
  EXPECT_THAT(Get("x/y"), IsOkAndHolds(std::string("same")));
}

TEST_P(BlobStoreConformance, LetsExactlyOneOfConcurrentPutsWin) {
  if (!store().capabilities().put_if_absent) GTEST_SKIP();
  constexpr int kThreads = 8;
  for (int round = 0; round < 5; ++round) {
    std::string name = absl::StrCat("race/", round, "/slot");
    std::atomic<int> winners{0}, losers{0}, winner{-1};
    {
      std::vector<std::unique_ptr<Thread>> threads;
      for (int i = 0; i < kThreads; ++i) {
        threads.push_back(under_test_.threads->Spawn("put", [&, i] {
          absl::Status status = Put(name, Pattern(10'000 + i, i));
          if (status.ok()) {
            ++winners;
            winner = i;
          } else if (absl::IsAlreadyExists(status)) {
            ++losers;
          } else {
            ADD_FAILURE() << status;
          }
        }));
      }
    }
    EXPECT_EQ(winners, 1);
    EXPECT_EQ(losers, kThreads - 1);
    EXPECT_THAT(Get(name), IsOkAndHolds(Pattern(10'000 + winner, winner)));
  }
}

TEST_P(BlobStoreConformance, NeverShowsPartOfABlob) {
  const std::string bytes = Pattern(3u << 20, 9);
  std::atomic<bool> done{false};
  std::atomic<int> seen{0};
  auto writer = under_test_.threads->Spawn("writer", [&] {
    for (int i = 0; i < 8; ++i) EXPECT_OK(Put(absl::StrCat("w/", i), bytes));
    done = true;
  });
  // Bounded, because a simulated scheduler may well let the reader run for long.
  for (int i = 0; i < 100'000 && !done; ++i) {
    auto page = store().List("w/", "", 100);
    ASSERT_OK(page);
    for (const BlobInfo& info : *page) {
      EXPECT_EQ(info.size, bytes.size());
      char tail[8];
      EXPECT_OK(store().Get(Name(info.name), bytes.size() - sizeof(tail), absl::MakeSpan(tail)));
      EXPECT_EQ(std::string_view(tail, sizeof(tail)), bytes.substr(bytes.size() - sizeof(tail)));
      ++seen;
    }
  }
  writer.reset();
  EXPECT_EQ(Names("w/").size(), 8u);
}

TEST_P(BlobStoreConformance, LeavesNothingOfAPutWhoseSourceFailed) {
  for (uint64_t good_bytes : {uint64_t{0}, uint64_t{2} << 20}) {
    FailingSource source(good_bytes);
    EXPECT_THAT(store().Put(Name("part"), source, PutMode::kIfAbsent), StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_THAT(store().Stat(Name("part")), StatusIs(absl::StatusCode::kNotFound));
    EXPECT_THAT(Names(""), IsEmpty());
  }
  EXPECT_OK(Put("part", "whole"));
}

TEST_P(BlobStoreConformance, DeletesAndDoesNotMindTwice) {
  ASSERT_OK(Put("d/e", "x"));
  EXPECT_OK(store().Delete(Name("d/e")));
  EXPECT_THAT(store().Stat(Name("d/e")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Names(""), IsEmpty());
  EXPECT_OK(store().Delete(Name("d/e")));
  EXPECT_OK(store().Delete(Name("d")));
  EXPECT_OK(store().Delete(Name("never/was")));
}

TEST_P(BlobStoreConformance, DoesNotDeleteWhatIsBelowAName) {
  ASSERT_OK(Put("d/e", "x"));
  EXPECT_OK(store().Delete(Name("d")));
  EXPECT_OK(store().Delete(Name("d/e/f")));
  EXPECT_THAT(Names(""), ElementsAre("d/e"));
}

TEST_P(BlobStoreConformance, ListsInByteOrderOfWholeNames) {
  // '-' and '.' are less than '/', digits and letters are greater.
  const std::vector<std::string> sorted = {"a-b", "a.b",   "a/c", "a/c-1", "a/d.x", "a/d/e", "a/d0",
                                           "a0",  "a_b/c", "aa",  "b-/x",  "b/x",   "b0/x",  "z"};
  for (size_t i = 0; i < sorted.size(); ++i) ASSERT_OK(Put(sorted[(i * 5) % sorted.size()], "x"));
  EXPECT_EQ(Names(""), sorted);
  ASSERT_OK_AND_ASSIGN(auto all, ListAll(store(), ""));
  EXPECT_EQ(all.size(), sorted.size());
  // Every page size, and every place to go on from.
  for (int limit = 1; limit <= static_cast<int>(sorted.size()) + 1; ++limit) {
    std::vector<std::string> got;
    while (true) {
      auto page = Names("", got.empty() ? "" : got.back(), limit);
      got.insert(got.end(), page.begin(), page.end());
      if (page.size() < static_cast<size_t>(limit)) break;
    }
    EXPECT_EQ(got, sorted) << limit;
  }
}

TEST_P(BlobStoreConformance, GoesOnBehindANameThatIsNotThere) {
  for (std::string_view name : {"a/b", "a/d", "b", "c/a"}) ASSERT_OK(Put(name, "x"));
  EXPECT_THAT(Names("", "a"), ElementsAre("a/b", "a/d", "b", "c/a"));
  EXPECT_THAT(Names("", "a/"), ElementsAre("a/b", "a/d", "b", "c/a"));
  EXPECT_THAT(Names("", "a/c"), ElementsAre("a/d", "b", "c/a"));
  EXPECT_THAT(Names("", "a/b/c"), ElementsAre("a/d", "b", "c/a"));
  EXPECT_THAT(Names("", "a0"), ElementsAre("b", "c/a"));
  EXPECT_THAT(Names("a/", "b"), IsEmpty());
  EXPECT_THAT(Names("b", "a"), ElementsAre("b"));
  EXPECT_THAT(Names("", "zzz"), IsEmpty());
}

TEST_P(BlobStoreConformance, ListsUnderAPrefixThatIsNoDirectory) {
  for (std::string_view name :
       {"packs/d/00/aa", "packs/d/01/bb", "packs/d/0a/cc", "packs/t/00/dd", "pack", "packs-x/y"}) {
    ASSERT_OK(Put(name, "x"));
  }
  EXPECT_THAT(Names("packs/d/0"), ElementsAre("packs/d/00/aa", "packs/d/01/bb", "packs/d/0a/cc"));
  EXPECT_THAT(Names("packs/d/00"), ElementsAre("packs/d/00/aa"));
  EXPECT_THAT(Names("packs/d/00/"), ElementsAre("packs/d/00/aa"));
  EXPECT_THAT(Names("packs/d/00/a"), ElementsAre("packs/d/00/aa"));
  EXPECT_THAT(Names("packs/d/00/aa"), ElementsAre("packs/d/00/aa"));
  EXPECT_THAT(Names("packs/d/00/aab"), IsEmpty());
  EXPECT_THAT(Names("packs/d/00/aa/"), IsEmpty());
  EXPECT_THAT(Names("pack"),
              ElementsAre("pack", "packs-x/y", "packs/d/00/aa", "packs/d/01/bb", "packs/d/0a/cc", "packs/t/00/dd"));
  EXPECT_THAT(Names("packs/x/"), IsEmpty());
  EXPECT_THAT(Names("nothing/here"), IsEmpty());
  EXPECT_THAT(Names("pa", "packs/d/00/aa", 2), ElementsAre("packs/d/01/bb", "packs/d/0a/cc"));
}

TEST_P(BlobStoreConformance, RefusesListsThatMakeNoSense) {
  for (int limit : {-1, 0, kListLimitMax + 1}) {
    EXPECT_THAT(store().List("", "", limit), StatusIs(absl::StatusCode::kInvalidArgument)) << limit;
  }
  EXPECT_OK(store().List("", "", kListLimitMax));
  for (std::string_view prefix : {"/", "a//", "../", "a/../b", "./a", "A", "a b"}) {
    EXPECT_THAT(store().List(prefix, "", 10), StatusIs(absl::StatusCode::kInvalidArgument)) << prefix;
  }
}

TEST_P(BlobStoreConformance, TakesEveryNameThatIsAllowed) {
  std::string long_component(255, 'a');
  std::string deep = "d";
  while (deep.size() + 2 <= 255) deep += "/e";
  for (const std::string& name : {long_component, deep, std::string("0"), std::string("a..b/...c"),
                                  std::string("-/_/x."), std::string("abcdefghijklmnopqrstuvwxyz0123456789._-")}) {
    ASSERT_OK(Put(name, name));
    EXPECT_THAT(Get(name), IsOkAndHolds(name));
    EXPECT_THAT(Names(name), ElementsAre(name));
  }
}

TEST_P(BlobStoreConformance, SurvivesThreadsThatDoEverythingAtOnce) {
  std::vector<std::unique_ptr<Thread>> threads;
  for (int t = 0; t < 4; ++t) {
    threads.push_back(under_test_.threads->Spawn("mixed", [&, t] {
      for (int i = 0; i < 20; ++i) {
        std::string name = absl::StrCat("m/", i % 7, "/", t, "-", i);
        EXPECT_OK(Put(name, Pattern(1000 + i, i)));
        EXPECT_THAT(Get(name), IsOkAndHolds(Pattern(1000 + i, i)));
        EXPECT_OK(store().List("m/", "", 1000));
        if (i % 2 == 0) {
          EXPECT_OK(store().Delete(Name(name)));
        }
      }
    }));
  }
  threads.clear();
  EXPECT_EQ(Names("m/").size(), 40u);
}

}  // namespace
}  // namespace holdfast
