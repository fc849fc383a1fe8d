#include "client/upload/page_uploader.h"

#include <algorithm>
#include <random>

#include "client/upload/fake_upload_transport.h"
#include "core/base/limits.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class PageUploaderTest : public testing::Test {
 protected:
  PageUploaderTest() { keys_.tree_key.MutableBytes()[0] = 2; }
  ChunkRef Store(std::string plaintext, std::vector<ChunkId> children = {}) {
    EncodedPage page;
    page.plaintext = std::move(plaintext);
    std::sort(children.begin(), children.end());
    page.children = std::move(children);
    auto ref = pages_.StorePage(std::move(page));
    EXPECT_OK(ref);
    return ref.ok() ? *ref : ChunkRef();
  }
  ChunkId Data(std::string_view bytes) { return ComputeChunkRef(keys_, ChunkType::kData, {}, bytes).id; }
  std::vector<ChunkId> SentIds() const {
    std::vector<ChunkId> out;
    for (const RecordHeader& h : transport_.sent) out.push_back(h.id);
    return out;
  }

  SealingKeys keys_;
  FakeUploadTransport transport_;
  UploadCounters counters_;
  int flushes_ = 0;
  absl::Status flush_status_;
  PageUploader pages_{transport_, keys_, counters_, [this] {
                        ++flushes_;
                        return flush_status_;
                      }};
};

TEST_F(PageUploaderTest, SendsPagesChildrenBeforeParents) {
  const ChunkRef leaf = Store("leaf");
  const ChunkRef parent = Store("parent", {leaf.id});
  EXPECT_THAT(transport_.questions, IsEmpty()) << "held until their children are there";
  ASSERT_OK(pages_.Flush());
  EXPECT_EQ(flushes_, 1);
  EXPECT_THAT(SentIds(), ElementsAre(leaf.id, parent.id));
  EXPECT_THAT(transport_.sent[1].children, ElementsAre(leaf.id));
  EXPECT_EQ(transport_.sent[1].type, ChunkType::kTree);
  EXPECT_THAT(transport_.questions, SizeIs(1)) << "a child that goes along is not asked for";
  EXPECT_EQ(counters_.chunks_new, 2u);
  RecordOpener opener(keys_.repository);
  auto opened = opener.Open(parent, transport_.records[1]);
  ASSERT_OK(opened);
  EXPECT_EQ(opened->plaintext, "parent");
  ASSERT_OK(pages_.Flush());
  EXPECT_EQ(flushes_, 1) << "nothing was left";
}

TEST_F(PageUploaderTest, SendsOnlyWhatIsMissing) {
  transport_.stored.insert(ComputeChunkRef(keys_, ChunkType::kTree, {}, "known").id);
  Store("known");
  const ChunkRef fresh = Store("new");
  ASSERT_OK(pages_.Flush());
  EXPECT_THAT(SentIds(), ElementsAre(fresh.id));
  EXPECT_EQ(counters_.chunks_known, 1u);
}

TEST_F(PageUploaderTest, AsksForTheChildrenOfNewPagesOnce) {
  transport_.stored.insert(Data("old"));
  Store("page", {Data("old")});
  ASSERT_OK(pages_.Flush());
  ASSERT_EQ(transport_.questions.size(), 2u);
  EXPECT_THAT(transport_.questions[1], ElementsAre(Data("old")));
  Store("another page", {Data("old")});
  ASSERT_OK(pages_.Flush());
  EXPECT_EQ(transport_.questions.size(), 3u) << "the page; its child is confirmed";
}

TEST_F(PageUploaderTest, TheChildrenOfAKnownPageAreNotAskedFor) {
  EncodedPage page;
  page.plaintext = "known";
  page.children = {Data("child")};
  transport_.stored.insert(ComputeChunkRef(keys_, ChunkType::kTree, page.children, page.plaintext).id);
  ASSERT_OK(pages_.StorePage(page));
  ASSERT_OK(pages_.Flush());
  EXPECT_THAT(transport_.questions, SizeIs(1));
}

TEST_F(PageUploaderTest, AChildThatIsLostIsSaidBeforeAnythingIsSent) {
  Store("page", {Data("lost")});
  EXPECT_THAT(pages_.Flush(), StatusIs(absl::StatusCode::kNotFound, "no longer in the repository"));
  EXPECT_THAT(transport_.sent, IsEmpty());
}

TEST_F(PageUploaderTest, SideChunksAreDataThatGoesWithThePages) {
  auto ref = pages_.StoreSideChunk("attributes");
  ASSERT_OK(ref);
  EXPECT_EQ(ref->id, Data("attributes"));
  Store("page", {ref->id});
  ASSERT_OK(pages_.Flush());
  ASSERT_EQ(transport_.sent.size(), 2u);
  EXPECT_EQ(transport_.sent[0].type, ChunkType::kData);
  EXPECT_EQ(transport_.questions.size(), 1u);
}

TEST_F(PageUploaderTest, HoldsNoMoreThanItsLimit) {
  for (int i = 0; i < 10; ++i) Store(std::string(1u << 20, static_cast<char>('a' + i)));
  EXPECT_GE(flushes_, 2);
  for (int i = 0; i < 10; ++i) ASSERT_OK(pages_.StoreSideChunk(std::string(1u << 20, static_cast<char>('A' + i))));
  EXPECT_GE(flushes_, 4);
  ASSERT_OK(pages_.Flush());
  EXPECT_THAT(transport_.sent, SizeIs(20));
}

TEST_F(PageUploaderTest, AMessageEndsWhereTheNextRecordDoesNotFit) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 3; ++i) {
    std::string page;
    while (page.size() < 700'000) page += static_cast<char>(random());
    Store(page);
  }
  ASSERT_OK(pages_.Flush());
  EXPECT_EQ(transport_.messages, 3);
}

TEST_F(PageUploaderTest, WhatNoReaderWouldOpenIsNotStored) {
  EncodedPage page;
  page.plaintext = std::string(kChunkPlaintextBytesMax + 1, 'x');
  EXPECT_THAT(pages_.StorePage(page), StatusIs(absl::StatusCode::kInternal, "too large"));
  EXPECT_THAT(pages_.StoreSideChunk(page.plaintext), StatusIs(absl::StatusCode::kInternal, "too large"));
}

TEST_F(PageUploaderTest, FailsWithItsChunksAndItsStream) {
  Store("page");
  flush_status_ = absl::UnavailableError("a worker's stream broke");
  EXPECT_THAT(pages_.Flush(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(transport_.questions, IsEmpty());
  flush_status_ = absl::OkStatus();
  transport_.short_answers = true;
  EXPECT_THAT(pages_.Flush(), StatusIs(absl::StatusCode::kInternal, "another number of chunks"));
}

}  // namespace
}  // namespace holdfast
