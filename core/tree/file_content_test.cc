#include "core/tree/file_content.h"

#include <cstring>
#include <string>
#include <vector>

#include "core/base/codec.h"
#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "core/crypto/types.h"
#include "core/tree/entry.h"

namespace holdfast {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// Content of a file: without its large holes.
std::string ContentOf(const std::string& file, const std::vector<Hole>& holes) {
  std::string content;
  uint64_t at = 0;
  for (const Hole& hole : holes) {
    if (hole.length < kLargeHoleBytes) continue;
    content += file.substr(at, hole.offset - at);
    at = hole.offset + hole.length;
  }
  return content + file.substr(at);
}

TEST(ContentMap, PutsEveryByteInItsPlaceForAnyCut) {
  const std::vector<std::vector<Hole>> cases = {
      {},
      {{0, kMiB}},
      {{4096, 4096}, {16384, kMiB}, {16384 + kMiB, 4096}, {16384 + 3 * kMiB, 2 * kMiB}},
      {{0, 4096}, {4096, kMiB}, {4096 + kMiB, kMiB}, {8192 + 2 * kMiB, 100}},
  };
  const uint64_t size = 6 * kMiB + 12345;
  for (const auto& holes : cases) {
    std::string file(size, '\0');
    for (size_t i = 0; i < size; ++i) file[i] = static_cast<char>(1 + i % 251);
    for (const Hole& hole : holes) file.replace(hole.offset, hole.length, hole.length, '\0');
    const std::string content = ContentOf(file, holes);
    ASSERT_OK_AND_ASSIGN(ContentMap map, ContentMap::Make(size, holes));
    ASSERT_EQ(map.content_length(), content.size());
    for (uint64_t step : {uint64_t{100}, uint64_t{4096}, uint64_t{70001}, kMiB, 10 * kMiB}) {
      for (bool keep : {false, true}) {
        std::string out(size, '\0');
        uint64_t written = 0;
        for (uint64_t at = 0; at < content.size(); at += step) {
          ASSERT_OK(map.ForEachRange(at, std::string_view(content).substr(at, step), keep,
                                     [&](uint64_t offset, std::string_view bytes) {
                                       EXPECT_LE(offset + bytes.size(), size);
                                       out.replace(offset, bytes.size(), bytes);
                                       written += bytes.size();
                                       return absl::OkStatus();
                                     }));
        }
        ASSERT_TRUE(out == file) << "step " << step;
        uint64_t small = 0;
        for (const Hole& hole : holes) small += hole.length < kLargeHoleBytes ? hole.length : 0;
        EXPECT_EQ(written, content.size() - (keep ? small : 0));
      }
    }
  }
}

TEST(ContentMap, RefusesHolesThatContradictTheSize) {
  const uint64_t max = ~0ull;
  for (const std::vector<Hole>& holes : std::vector<std::vector<Hole>>{
           {{0, 101}}, {{101, 0}}, {{50, 10}, {55, 5}}, {{10, max}}, {{max, 1}}, {{20, 5}, {10, 5}}}) {
    EXPECT_THAT(ContentMap::Make(100, holes), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(ContentMap, WritesBytesThatAreNotZeroEvenInAHole) {
  ASSERT_OK_AND_ASSIGN(ContentMap map, ContentMap::Make(10, {{2, 4}}));
  std::string out(10, '\0');
  ASSERT_OK(map.ForEachRange(0, "0123456789", true, [&](uint64_t offset, std::string_view bytes) {
    out.replace(offset, bytes.size(), bytes);
    return absl::OkStatus();
  }));
  EXPECT_EQ(out, "0123456789");
}

TEST(ContentMap, TellsWhereAByteOfTheContentIsInTheFile) {
  const std::vector<Hole> holes = {{0, kMiB}, {kMiB + 10, 5}, {kMiB + 20, 2 * kMiB}, {3 * kMiB + 20, kMiB}};
  ASSERT_OK_AND_ASSIGN(ContentMap map, ContentMap::Make(4 * kMiB + 25, holes));
  ASSERT_EQ(map.content_length(), 25u);
  EXPECT_EQ(map.FileOffset(0), kMiB);
  EXPECT_EQ(map.FileOffset(12), kMiB + 12);  // a small hole is in the content
  EXPECT_EQ(map.FileOffset(19), kMiB + 19);
  EXPECT_EQ(map.FileOffset(20), 4 * kMiB + 20);
  EXPECT_EQ(map.FileOffset(25), 4 * kMiB + 25);
  ASSERT_OK_AND_ASSIGN(ContentMap ends_in_a_hole, ContentMap::Make(kMiB + 7, {{7, kMiB}}));
  EXPECT_EQ(ends_in_a_hole.FileOffset(6), 6u);
  EXPECT_EQ(ends_in_a_hole.FileOffset(7), kMiB + 7);
  ASSERT_OK_AND_ASSIGN(ContentMap without_holes, ContentMap::Make(9, {}));
  EXPECT_EQ(without_holes.FileOffset(9), 9u);
}

TEST(LargeHoles, AreThoseFromOneMebibyteOn) {
  EXPECT_FALSE(IsLargeHole(kMiB - 1));
  EXPECT_TRUE(IsLargeHole(kMiB));
  EXPECT_EQ(LargeHolesOf({{0, kMiB - 1}, {2 * kMiB, kMiB}, {4 * kMiB, 1}}), (std::vector<Hole>{{2 * kMiB, kMiB}}));
}

TEST(LargeHoles, AreNotInTheStoredLength) {
  Entry entry;
  entry.size = 5 * kMiB;
  EXPECT_THAT(StoredLength(entry), IsOkAndHolds(5 * kMiB));
  entry.holes = {{0, kMiB - 1}, {kMiB, kMiB}, {3 * kMiB, 2 * kMiB}};
  EXPECT_THAT(StoredLength(entry), IsOkAndHolds(2 * kMiB));
  entry.size -= 1;
  EXPECT_THAT(StoredLength(entry), StatusIs(absl::StatusCode::kDataLoss));
}

ChunkPiece Piece(uint8_t name, uint64_t length) {
  ChunkPiece piece;
  piece.ref.digest.bytes.fill(name);
  piece.length = length;
  return piece;
}

TEST(FileDigest, OfASliceIsTheHashOfAZeroAndItsBytes) {
  FileDigest expected;
  Blake3().Update({"\0content", 8}).Finish(expected.data(), expected.size());
  EXPECT_EQ(SliceDigest("content"), expected);
  EXPECT_NE(SliceDigest("contents"), expected);
}

// docs/format.md, section 7: a one, digest and length of each piece, large holes, number of pieces, size.
TEST(FileDigest, OfChunksIsOverTheirDigestsAndWhereTheyAre) {
  std::string message = "\1" + std::string(32, 7);
  ByteWriter w(&message);
  w.U64(70000);
  message += std::string(32, 8);
  for (const uint64_t n : {uint64_t{5}, uint64_t{100}, kLargeHoleBytes, uint64_t{2}, kLargeHoleBytes + 70010}) w.U64(n);
  ChunkedFileDigest digest;
  digest.Add(Piece(7, 70000));
  digest.Add(Piece(8, 5));
  FileDigest expected;
  Blake3().Update(message).Finish(expected.data(), expected.size());
  EXPECT_EQ(digest.Finish(kLargeHoleBytes + 70010, {{10, 5}, {100, kLargeHoleBytes}}), expected);
}

TEST(FileDigest, OfChunksDependsOnOrderLengthsHolesAndSize) {
  auto digest = [](const std::vector<ChunkPiece>& pieces, const std::vector<Hole>& holes = {}, uint64_t size = 3) {
    ChunkedFileDigest out;
    for (const ChunkPiece& piece : pieces) out.Add(piece);
    return out.Finish(size, holes);
  };
  const FileDigest one = digest({Piece(7, 1), Piece(8, 2)});
  EXPECT_NE(one, digest({Piece(8, 2), Piece(7, 1)}));
  EXPECT_NE(one, digest({Piece(7, 2), Piece(8, 1)}));
  EXPECT_NE(one, digest({Piece(7, 1)}));
  EXPECT_NE(one, digest({Piece(7, 1), Piece(8, 2)}, {}, 4));
  EXPECT_NE(one, digest({Piece(7, 1), Piece(8, 2)}, {{0, kLargeHoleBytes}}));
  EXPECT_NE(digest({Piece(7, 1)}, {{0, kLargeHoleBytes}}), digest({Piece(7, 1)}, {{1, kLargeHoleBytes}}));
  EXPECT_EQ(one, digest({Piece(7, 1), Piece(8, 2)}, {{0, 1}})) << "a small hole is zeros of the content";
}

}  // namespace
}  // namespace holdfast
