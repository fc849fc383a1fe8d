#include "storage/wrappers/faulty_blob_store.h"

#include <algorithm>

#include "core/base/status_testing.h"
#include "storage/conformance/blob_store_conformance.h"
#include "storage/memory/memory_blob_store.h"

namespace holdfast {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

INSTANTIATE_TEST_SUITE_P(FaultyWithoutFaults, BlobStoreConformance, testing::Values(BlobStoreFactory([] {
                           auto inner = std::make_shared<MemoryBlobStore>();
                           BlobStoreUnderTest t;
                           t.store = std::make_unique<FaultyBlobStore>(*inner, 1);
                           t.keep = inner;
                           return t;
                         })));

class FaultyBlobStoreTest : public testing::Test {
 protected:
  absl::Status Put(std::string_view name) { return PutBytes(store_, Name(name), "0123456789", PutMode::kIfAbsent); }
  static BlobName Name(std::string_view name) { return BlobName::FromTrusted(std::string(name)); }
  MemoryBlobStore inner_;
  FaultyBlobStore store_{inner_, 1};
};

TEST_F(FaultyBlobStoreTest, FollowsItsScript) {
  store_.AddFault(
      {.operation = BlobOperation::kPut, .fault = BlobFault::kFailBefore, .prefix = "log/", .skip = 1, .count = 2});
  EXPECT_OK(Put("log/1"));
  EXPECT_OK(Put("packs/1"));
  EXPECT_THAT(Put("log/2"), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Put("log/2"), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_OK(Put("log/2"));
  EXPECT_EQ(store_.faults_injected(), 2u);
  EXPECT_EQ(store_.operations(BlobOperation::kPut), 5u);
}

TEST_F(FaultyBlobStoreTest, MayHaveDoneWhatItSaysFailed) {
  store_.AddFault({.operation = BlobOperation::kPut, .fault = BlobFault::kFailAfter});
  EXPECT_THAT(Put("a"), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_OK(store_.Stat(Name("a")));
  store_.AddFault({.operation = BlobOperation::kDelete, .fault = BlobFault::kFailAfter});
  EXPECT_THAT(store_.Delete(Name("a")), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(store_.Stat(Name("a")), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(FaultyBlobStoreTest, RunsFull) {
  store_.AddFault({.operation = BlobOperation::kPut, .fault = BlobFault::kNoSpace});
  EXPECT_THAT(Put("a"), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(store_.Stat(Name("a")), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(FaultyBlobStoreTest, LiesAboutPuts) {
  store_.AddFault({.operation = BlobOperation::kPut, .fault = BlobFault::kShort, .prefix = "short"});
  store_.AddFault({.operation = BlobOperation::kPut, .fault = BlobFault::kCorruptByte, .prefix = "corrupt"});
  store_.AddFault({.operation = BlobOperation::kPut, .fault = BlobFault::kLost, .prefix = "lost"});
  EXPECT_OK(Put("short"));
  EXPECT_OK(Put("corrupt"));
  EXPECT_OK(Put("lost"));
  ASSERT_OK_AND_ASSIGN(std::string s, GetWholeBlob(store_, Name("short"), 100));
  EXPECT_LT(s.size(), 10u);
  ASSERT_OK_AND_ASSIGN(std::string c, GetWholeBlob(store_, Name("corrupt"), 100));
  EXPECT_EQ(c.size(), 10u);
  EXPECT_NE(c, "0123456789");
  EXPECT_THAT(store_.Stat(Name("lost")), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(FaultyBlobStoreTest, LiesAboutReads) {
  ASSERT_OK(Put("a"));
  char out[10];
  store_.AddFault({.operation = BlobOperation::kGet, .fault = BlobFault::kCorruptByte});
  ASSERT_OK(store_.Get(Name("a"), 0, absl::MakeSpan(out)));
  EXPECT_NE(std::string_view(out, 10), "0123456789");
  store_.AddFault({.operation = BlobOperation::kGet, .fault = BlobFault::kShort});
  ASSERT_OK(store_.Get(Name("a"), 0, absl::MakeSpan(out)));
  EXPECT_EQ(out[9], '\0');
  store_.AddFault({.operation = BlobOperation::kGet, .fault = BlobFault::kLost});
  EXPECT_THAT(store_.Get(Name("a"), 0, absl::MakeSpan(out)), StatusIs(absl::StatusCode::kNotFound));
  store_.AddFault({.operation = BlobOperation::kList, .fault = BlobFault::kShort});
  EXPECT_THAT(store_.List("", "", 10), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(store_.List("", "", 10), IsOkAndHolds(SizeIs(1)));
  ASSERT_OK(store_.Get(Name("a"), 0, absl::MakeSpan(out)));
  EXPECT_EQ(std::string_view(out, 10), "0123456789");
}

TEST_F(FaultyBlobStoreTest, FailsAtRandomTheSameWayForASeed) {
  auto run = [](uint64_t seed) {
    MemoryBlobStore inner;
    FaultyBlobStore store(inner, seed);
    store.SetRate(BlobFault::kFailBefore, 300);
    std::string outcome;
    for (int i = 0; i < 200; ++i) {
      outcome += PutBytes(store, Name(absl::StrCat("a/", i)), "x", PutMode::kIfAbsent).ok() ? '.' : 'F';
    }
    return outcome;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
  std::string outcome = run(3);
  EXPECT_GT(std::count(outcome.begin(), outcome.end(), 'F'), 30);
  EXPECT_LT(std::count(outcome.begin(), outcome.end(), 'F'), 90);
}

}  // namespace
}  // namespace holdfast
