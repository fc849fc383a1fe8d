#include "core/tree/file_content.h"

#include <string>

#include "core/base/status_testing.h"

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

}  // namespace
}  // namespace holdfast
