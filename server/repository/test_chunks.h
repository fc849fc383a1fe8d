// Chunks for the tests of the engine's parts. The same number is the same chunk, whoever uploads it.
#ifndef HOLDFAST_SERVER_REPOSITORY_TEST_CHUNKS_H_
#define HOLDFAST_SERVER_REPOSITORY_TEST_CHUNKS_H_

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/ids.h"
#include "core/crypto/blake3.h"
#include "core/format/record.h"

namespace holdfast {

struct TestChunk {
  RecordHeader header;
  std::string header_bytes, body;
  const ChunkId& id() const { return header.id; }
};

inline TestChunk MakeTestChunk(ChunkType type, int number, uint32_t agent, std::vector<ChunkId> children) {
  TestChunk c;
  c.header.type = type;
  c.header.aead = 1;
  c.header.epoch = 1;
  c.header.uploader = agent;
  c.header.sealed_length = 80;
  c.header.id.bytes = Blake3Digest(absl::StrCat(static_cast<int>(type), "/", number)).bytes;
  std::sort(children.begin(), children.end());
  c.header.children = std::move(children);
  c.header_bytes = EncodeRecordHeader(c.header);
  // What another agent seals of the same chunk are other bytes.
  std::mt19937_64 random(static_cast<uint64_t>(number) * 64 + agent * 2 + (type == ChunkType::kTree));
  for (uint32_t i = 0; i < c.header.sealed_length; ++i) c.body.push_back(static_cast<char>(random()));
  return c;
}
inline TestChunk TestData(int number, uint32_t agent = 1) { return MakeTestChunk(ChunkType::kData, number, agent, {}); }
inline TestChunk TestPage(int number, const std::vector<TestChunk>& children, uint32_t agent = 1) {
  std::vector<ChunkId> ids;
  for (const TestChunk& c : children) ids.push_back(c.id());
  return MakeTestChunk(ChunkType::kTree, number, agent, std::move(ids));
}

// A root over pages over `leaves` pages over the data; numbered from `number` on, lower ones first.
inline std::vector<TestChunk> TestTree(int number, int leaves, const TestChunk& data) {
  constexpr size_t kBelowOne = 500;
  std::vector<TestChunk> pages, middles, below;
  for (int i = 0; i < leaves; ++i) {
    below.push_back(TestPage(number++, {data}));
    pages.push_back(below.back());
    if (below.size() < kBelowOne && i + 1 < leaves) continue;
    middles.push_back(TestPage(number++, below));
    pages.push_back(middles.back());
    below.clear();
  }
  pages.push_back(TestPage(number, middles));
  return pages;
}

inline std::vector<ChunkId> IdsOf(const std::vector<TestChunk>& chunks) {
  std::vector<ChunkId> ids;
  for (const TestChunk& c : chunks) ids.push_back(c.id());
  return ids;
}

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_TEST_CHUNKS_H_
