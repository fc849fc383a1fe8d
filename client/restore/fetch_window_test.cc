#include "client/restore/fetch_window.h"

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

ChunkRef Ref(int i) {
  ChunkRef ref;
  ref.id.bytes[0] = static_cast<uint8_t>(i);
  ref.id.bytes[1] = static_cast<uint8_t>(i >> 8);
  return ref;
}

SliceTask Slice(uint64_t offset, uint64_t length) {
  SliceTask task;
  task.offset = offset;
  task.length = length;
  return task;
}

class FetchWindowTest : public ::testing::Test {
 protected:
  // What has been sent off so far.
  std::vector<std::unique_ptr<FetchBatch>> Sent() {
    queue_.Close();
    std::vector<std::unique_ptr<FetchBatch>> out;
    while (std::unique_ptr<FetchBatch> batch = queue_.Pop()) out.push_back(std::move(batch));
    return out;
  }
  static size_t Chunks(const std::vector<std::unique_ptr<FetchBatch>>& batches) {
    size_t n = 0;
    for (const auto& batch : batches) n += batch->chunks.size();
    return n;
  }
  size_t elsewhere_ = 0;
  FetchQueue queue_{100'000};
  FetchWindow window_{64 << 20, queue_, [this] { return elsewhere_; }};
};

TEST_F(FetchWindowTest, FilesOfOneBundleWaitForOneFetch) {
  for (int i = 0; i < 300; ++i) window_.AddSlice(Ref(i % 3), Slice(i, 1), 0);
  window_.DispatchAll();
  const auto sent = Sent();
  ASSERT_EQ(sent.size(), 1u);
  ASSERT_EQ(sent[0]->chunks.size(), 3u);
  EXPECT_EQ(sent[0]->chunks[1]->slices.size(), 100u);
  EXPECT_EQ(sent[0]->chunks[1]->ref, Ref(1));
}

TEST_F(FetchWindowTest, ChunksOfOneNameAndOtherKeysAreNotOne) {
  ChunkRef other = Ref(1);
  other.key = Key256(std::array<uint8_t, 32>{9});
  window_.AddSlice(Ref(1), Slice(0, 1), 0);
  window_.AddSlice(other, Slice(0, 1), 0);
  window_.DispatchAll();
  EXPECT_EQ(Chunks(Sent()), 2u);
}

TEST_F(FetchWindowTest, ABatchIsOfLimitedSize) {
  auto file = std::make_shared<ChunkedFile>();
  for (int i = 0; i < 8; ++i) window_.AddPiece(Ref(i), {file, uint64_t(i) << 20, 2 << 20}, 0);
  window_.DispatchAll();
  for (const auto& batch : Sent()) EXPECT_LE(batch->chunks.size(), 3u);
}

TEST_F(FetchWindowTest, LooksAheadOnlySoManyBytes) {
  auto file = std::make_shared<ChunkedFile>();
  const int fit = FetchWindow::kBytesMax >> 20;
  for (int i = 0; i < fit + 1; ++i) window_.AddPiece(Ref(i), {file, uint64_t(i) << 20, 1 << 20}, 0);
  EXPECT_EQ(Chunks(Sent()), 6u) << "one batch, when there was one more";
}

TEST_F(FetchWindowTest, AttributesCount) {
  window_.AddSlice(Ref(1), Slice(0, 1), FetchWindow::kBytesMax - 1);
  window_.AddSlice(Ref(2), Slice(0, 1), 1);
  EXPECT_EQ(Chunks(Sent()), 1u);
}

TEST_F(FetchWindowTest, HoldsOnlySoManyChunks) {
  for (size_t i = 0; i <= FetchWindow::kChunksMax; ++i) window_.AddSlice(Ref(i), Slice(0, 1), 0);
  EXPECT_GT(Chunks(Sent()), 0u);
}

TEST_F(FetchWindowTest, HoldsOnlySoManyFilesInPieces) {
  for (size_t i = 0; i < FetchWindow::kChunkedFilesMax; ++i) {
    window_.AddPiece(Ref(i), {std::make_shared<ChunkedFile>(), 0, 1}, 0);
    window_.EndChunkedFile();
  }
  window_.EndChunkedFile();
  EXPECT_EQ(Chunks(Sent()), FetchWindow::kChunkedFilesMax);
}

TEST_F(FetchWindowTest, HoldsOnlySoManyFilesWithThoseHeldElsewhere) {
  window_.AddSlice(Ref(1), Slice(0, 1), 0);
  elsewhere_ = FetchWindow::kFilesMax - 1;
  window_.AddSlice(Ref(2), Slice(0, 1), 0);
  EXPECT_EQ(Chunks(Sent()), 2u);
}

TEST_F(FetchWindowTest, FilesWithoutChunksGoInBatchesOfTheirOwn) {
  for (size_t i = 0; i < FetchWindow::kWithoutChunkMax; ++i) window_.AddWithoutChunk(Slice(0, 0), 0);
  window_.AddWithoutChunk(Slice(0, 0), FetchWindow::kBatchBytes + 1);
  window_.AddWithoutChunk(Slice(0, 0), 0);
  const auto sent = Sent();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0]->without_chunk.size(), FetchWindow::kWithoutChunkMax);
  EXPECT_EQ(sent[1]->without_chunk.size(), 1u);
}

TEST(FetchQueue, HoldsSoManyBatchesAndKnowsWhenAllAreDone) {
  FetchQueue queue(2);
  std::atomic<int> done{0};
  std::thread worker([&] {
    while (std::unique_ptr<FetchBatch> batch = queue.Pop()) {
      ++done;
      queue.Done();
    }
  });
  for (int i = 0; i < 50; ++i) queue.Push(std::make_unique<FetchBatch>());
  queue.WaitUntilIdle();
  EXPECT_EQ(done, 50);
  queue.Close();
  worker.join();
  EXPECT_EQ(queue.Pop(), nullptr);
}

}  // namespace
}  // namespace holdfast
