#include "client/verify/content_reader.h"

#include <memory>
#include <string>
#include <vector>

#include "client/verify/memory_snapshot.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class ContentReaderTest : public testing::Test {
 protected:
  absl::StatusOr<std::string> Read(const Entry& entry) {
    std::string out;
    RETURN_IF_ERROR(ReadContent(*reader_, entry, [&](std::string_view bytes) {
      out += bytes;
      return absl::OkStatus();
    }));
    return out;
  }

  MemorySnapshot snapshot_;
  std::unique_ptr<SnapshotReader> reader_ = snapshot_.Build();
};

TEST_F(ContentReaderTest, GivesTheBytesOfEveryKindOfContent) {
  EXPECT_THAT(Read(snapshot_.File("f", 0)), IsOkAndHolds(""));
  EXPECT_THAT(Read(snapshot_.Inline("f", "abc")), IsOkAndHolds("abc"));
  EXPECT_THAT(Read(snapshot_.Slice("f", snapshot_.AddChunk("onetwo"), 3, "two")), IsOkAndHolds("two"));
  EXPECT_THAT(Read(snapshot_.Chunked("f", {"first ", "second ", "first "})), IsOkAndHolds("first second first "));
}

TEST_F(ContentReaderTest, KeepsTheOrderOfAListBeyondItsWindow) {
  std::vector<std::string> pieces;
  std::string expected;
  for (int i = 0; i < 100; ++i) expected += pieces.emplace_back(300'000, static_cast<char>('!' + i % 90));
  const Entry file = snapshot_.Chunked("f", pieces);
  ASSERT_EQ(file.content.kind, Content::Kind::kList);
  absl::StatusOr<std::string> read = Read(file);
  ASSERT_OK(read.status());
  EXPECT_TRUE(*read == expected);
}

TEST_F(ContentReaderTest, PutsLargeHolesBackWhereverTheyAre) {
  Entry file = snapshot_.Chunked("f", {"head", "tail"});
  file.size = 8 + 3 * kMiB;
  file.holes = {{0, kMiB}, {kMiB + 1, 2}, {kMiB + 4, kMiB}, {2 * kMiB + 8, kMiB}};
  const std::string zeros(kMiB, '\0');
  absl::StatusOr<std::string> read = Read(file);
  ASSERT_OK(read.status());
  EXPECT_TRUE(*read == zeros + "head" + zeros + "tail" + zeros);
  Entry only_a_hole = snapshot_.File("f", kMiB);
  only_a_hole.holes = {{0, kMiB}};
  read = Read(only_a_hole);
  ASSERT_OK(read.status());
  EXPECT_TRUE(*read == zeros);
}

TEST_F(ContentReaderTest, ContentThatContradictsTheSizeIsDamage) {
  Entry file = snapshot_.Inline("f", "abc");
  file.size = 2;
  EXPECT_THAT(Read(file), StatusIs(absl::StatusCode::kDataLoss, "longer"));
  file.size = 4;
  EXPECT_THAT(Read(file), StatusIs(absl::StatusCode::kDataLoss, "shorter"));
  file.size = 3;
  file.holes = {{3, kMiB}};
  EXPECT_THAT(Read(file), StatusIs(absl::StatusCode::kDataLoss, "holes"));
  file.holes = {{3, 1}};
  EXPECT_THAT(Read(file), StatusIs(absl::StatusCode::kDataLoss, "holes")) << "a small one, too";
  Entry only_holes = snapshot_.File("f", 2 * kMiB);
  only_holes.holes = {{0, 2 * kMiB}, {kMiB, kMiB}};
  EXPECT_THAT(Read(only_holes), StatusIs(absl::StatusCode::kDataLoss, "holes")) << "one within the other";
}

TEST_F(ContentReaderTest, WhatIsNotInItsChunkIsDamage) {
  const ChunkRef bundle = snapshot_.AddChunk("onetwo");
  EXPECT_THAT(Read(snapshot_.Slice("f", bundle, 4, "two")), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Read(snapshot_.Slice("f", bundle, 7, "two")), StatusIs(absl::StatusCode::kDataLoss));
  Entry file = snapshot_.Chunked("f", {"aaaa", "bb"});
  file.content.chunks[0].length = 3;
  EXPECT_THAT(Read(file), StatusIs(absl::StatusCode::kDataLoss, "another length"));
}

TEST_F(ContentReaderTest, AChunkThatIsNoDataIsDamage) {
  const Entry chunked = snapshot_.Chunked("f", {"aaaa"});
  const Entry slice = snapshot_.Slice("f", snapshot_.AddChunk("one"), 0, "one");
  for (auto& [id, chunk] : snapshot_.chunks) chunk.type = ChunkType::kTree;
  EXPECT_THAT(Read(chunked), StatusIs(absl::StatusCode::kDataLoss, "another type"));
  EXPECT_THAT(Read(slice), StatusIs(absl::StatusCode::kDataLoss, "another type"));
}

TEST_F(ContentReaderTest, ErrorsOfTheChunkAndOfTheReaderEndIt) {
  const Entry file = snapshot_.Chunked("f", {"aaaa"});
  EXPECT_THAT(ReadContent(*reader_, file, [](std::string_view) { return absl::CancelledError("nobody reads"); }),
              StatusIs(absl::StatusCode::kCancelled));
  snapshot_.damaged.insert(file.content.chunks[0].ref.id);
  EXPECT_THAT(Read(file), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace holdfast
