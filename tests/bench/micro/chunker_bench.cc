// How fast the chunker looks for cuts, per instruction set and core.
//   bazel run -c opt //tests/bench/micro:chunker_bench
// Scan: every position is a candidate and none cuts. Chunks: default parameters, so two thirds are skipped.

#include <cstdint>
#include <random>
#include <string>

#include "benchmark/benchmark.h"
#include "core/chunking/chunker.h"

namespace holdfast {
namespace {

std::string RandomBytes(size_t n) {
  std::mt19937_64 rng(1);
  std::string s(n, '\0');
  for (size_t i = 0; i + 8 <= n; i += 8) {
    const uint64_t v = rng();
    s.replace(i, 8, reinterpret_cast<const char*>(&v), 8);
  }
  return s;
}

Key128 BenchKey() {
  Key128 key;
  for (int i = 0; i < 16; ++i) key.MutableBytes()[i] = static_cast<uint8_t>(i * 7 + 1);
  return key;
}

void SetRates(benchmark::State& state, uint64_t bytes) {
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
  // Seconds per 10^9 bytes: the same number as nanoseconds per byte.
  state.counters["per_GB"] =
      benchmark::Counter(static_cast<double>(bytes) * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void Scan(benchmark::State& state, ChunkerIsa isa, size_t size) {
  if (!IsSupported(isa)) return state.SkipWithError("not supported by this processor");
  const std::string data = RandomBytes(size);
  const Chunker chunker(BenchKey(), {.min_bytes = 64, .max_bytes = 8u << 20, .mask_bits = 48}, isa);
  for (auto _ : state) benchmark::DoNotOptimize(chunker.FindCut(data, 0));
  SetRates(state, state.iterations() * data.size());
}

void Chunks(benchmark::State& state, ChunkerIsa isa, size_t size) {
  if (!IsSupported(isa)) return state.SkipWithError("not supported by this processor");
  const std::string data = RandomBytes(size);
  const std::string_view all = data;
  const Chunker chunker(BenchKey(), {}, isa);
  uint64_t chunks = 0;
  for (auto _ : state) {
    for (size_t at = 0; at < all.size(); ++chunks) {
      at += chunker.FindCut(all.substr(at), 0).value_or(all.size() - at);
    }
  }
  SetRates(state, state.iterations() * data.size());
  state.counters["mean_chunk"] = static_cast<double>(state.iterations() * data.size()) / static_cast<double>(chunks);
}

BENCHMARK_CAPTURE(Scan, portable, ChunkerIsa::kPortable, 1 << 20);
BENCHMARK_CAPTURE(Scan, aesni, ChunkerIsa::kAesNi, 1 << 20);
BENCHMARK_CAPTURE(Scan, vaes, ChunkerIsa::kVaes, 1 << 20);
BENCHMARK_CAPTURE(Chunks, portable, ChunkerIsa::kPortable, 64 << 20)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Chunks, aesni, ChunkerIsa::kAesNi, 256 << 20)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Chunks, vaes, ChunkerIsa::kVaes, 256 << 20)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace holdfast

BENCHMARK_MAIN();
