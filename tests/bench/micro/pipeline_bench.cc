// Stages of a backup behind the chunker and zstd: hash, AEAD, sealing a record (the upload path without the network),
// index lookups, tree merge. Reports ns/byte or ns/item.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/crypto/aead.h"
#include "core/crypto/blake3.h"
#include "core/format/record_sealer.h"
#include "core/tree/tree_builder.h"
#include "server/index/chunk_index.h"
#include "server/index/rocks_kv_store.h"

namespace holdfast {
namespace {

std::string RandomBytes(size_t n, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::string out(n, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

// Compresses to about a third.
std::string TextLike(size_t n) {
  std::mt19937 random(7);
  std::string out;
  while (out.size() < n) out += "entry_" + std::to_string(random() % 5000) + ((random() % 7) ? " " : "\n");
  out.resize(n);
  return out;
}

void PerByte(benchmark::State& state, size_t bytes) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
  state.counters["ns/byte"] = benchmark::Counter(static_cast<double>(state.iterations() * bytes) / 1e9,
                                                 benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void BM_Blake3Keyed(benchmark::State& state) {
  const std::string data = RandomBytes(static_cast<size_t>(state.range(0)), 1);
  for (auto _ : state) {
    uint8_t out[64];
    Blake3(Key256()).Update(data).Finish(out, sizeof(out));
    benchmark::DoNotOptimize(out);
  }
  PerByte(state, data.size());
}
BENCHMARK(BM_Blake3Keyed)->Arg(4096)->Arg(256 << 10)->Arg(1536 << 10);

void BM_AeadSeal(benchmark::State& state) {
  const std::string data = RandomBytes(1536 << 10, 1);
  std::string out(data.size() + 16, '\0');
  const Aead aead(static_cast<AeadAlgorithm>(state.range(0)), Key256());
  for (auto _ : state) aead.Seal(AeadNonce{}, "", data, out.data());
  PerByte(state, data.size());
}
BENCHMARK(BM_AeadSeal)->Arg(1)->Arg(2);

void BM_SealRecord(benchmark::State& state, bool compressible) {
  const std::string data = compressible ? TextLike(1536 << 10) : RandomBytes(1536 << 10, 2);
  SealingKeys keys;
  RecordSealer sealer(keys);
  std::string out(RecordBytesMax(data.size(), 0), '\0');
  for (auto _ : state) {
    const ChunkRef ref = ComputeChunkRef(keys, ChunkType::kData, {}, data);
    benchmark::DoNotOptimize(sealer.Seal(ChunkType::kData, ref, {}, data, 2, /*headroom=*/false, out.data()));
  }
  PerByte(state, data.size());
}
BENCHMARK_CAPTURE(BM_SealRecord, compressible, true);
BENCHMARK_CAPTURE(BM_SealRecord, incompressible, false);

void BM_OpenRecord(benchmark::State& state) {
  const std::string data = TextLike(1536 << 10);
  SealingKeys keys;
  RecordSealer sealer(keys);
  RecordOpener opener(keys.repository);
  std::string out(RecordBytesMax(data.size(), 0), '\0');
  const ChunkRef ref = ComputeChunkRef(keys, ChunkType::kData, {}, data);
  out.resize(sealer.Seal(ChunkType::kData, ref, {}, data, 2, /*headroom=*/false, out.data()));
  for (auto _ : state) benchmark::DoNotOptimize(opener.Open(ref, out).ok());
  PerByte(state, data.size());
}
BENCHMARK(BM_OpenRecord);

void BM_IndexLookup(benchmark::State& state) {
  const std::string path = "/tmp/holdfast_index_bench";
  (void)DestroyRocksKvStore(path);
  auto kv = OpenRocksKvStore(path);
  auto index = ChunkIndex::Open(**kv, RepositoryId());
  std::mt19937_64 random(3);
  std::vector<ChunkId> ids;
  for (int pack = 0; pack < 100; ++pack) {
    PackSummary summary;
    for (uint8_t& b : summary.id.bytes) b = static_cast<uint8_t>(random());
    summary.bytes = 1 << 20;
    for (int i = 0; i < 10000; ++i) {
      PackEntry entry;
      entry.frame_number = static_cast<uint32_t>(i);
      for (uint8_t& b : entry.header.id.bytes) b = static_cast<uint8_t>(random());
      entry.header.sealed_length = 100;
      entry.body_offset = 200 + 200 * static_cast<uint64_t>(i);
      ids.push_back(entry.header.id);
      summary.entries.push_back(std::move(entry));
    }
    if (!(*index)->AddPack(summary).ok()) state.SkipWithError("AddPack");
  }
  (void)(*index)->Flush();
  std::shuffle(ids.begin(), ids.end(), random);
  size_t position = 0;
  constexpr size_t kBatch = 1024;
  for (auto _ : state) {
    benchmark::DoNotOptimize((*index)->Lookup({ids.data() + position, kBatch}).ok());
    position = (position + kBatch) % (ids.size() - kBatch);
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * kBatch));
  index->reset();
  kv->reset();
  (void)DestroyRocksKvStore(path);
}
BENCHMARK(BM_IndexLookup)->Unit(benchmark::kMicrosecond);

class CountingSink : public PageSink {
 public:
  explicit CountingSink(const SealingKeys& keys) : keys_(keys) {}
  absl::StatusOr<ChunkRef> StorePage(EncodedPage page) override {
    return ComputeChunkRef(keys_, ChunkType::kTree, page.children, page.plaintext);
  }

 private:
  const SealingKeys& keys_;
};

void BM_TreeBuild(benchmark::State& state) {
  SealingKeys keys;
  const int64_t directories = state.range(0) / 100;
  for (auto _ : state) {
    CountingSink sink(keys);
    TreeBuilder builder(sink, Key256());
    (void)builder.Add({}, Entry());
    for (int64_t d = 0; d < directories; ++d) {
      char name[32];
      std::snprintf(name, sizeof(name), "directory%08lld", static_cast<long long>(d));
      const Components directory = {name};
      for (int f = 0; f < 100; ++f) {
        Entry e;
        std::snprintf(name, sizeof(name), "file%04d.txt", f);
        e.name = name;
        e.owner_name = "root";
        e.size = static_cast<uint64_t>(f);
        e.mtime.seconds = 1700000000 + f;
        e.content.kind = Content::Kind::kSlice;
        e.content.ref.id.bytes[0] = static_cast<uint8_t>(d);
        e.content.offset = static_cast<uint64_t>(f) * 100;
        e.content.length = 100;
        (void)builder.Add(directory, std::move(e));
      }
    }
    if (!builder.Finish().ok()) state.SkipWithError("Finish");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_TreeBuild)->Arg(100000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace holdfast

BENCHMARK_MAIN();
