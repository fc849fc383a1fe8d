// How fast chunks are probed, compressed and decompressed, per core.
//   bazel run -c opt //tests/bench/micro:compression_bench
// The data: the file named by HOLDFAST_BENCH_FILE, or else the first 64 MiB of what lies in /usr/lib, in chunks of 256
// KiB (a bundle) and 1.5 MiB (a large file's chunk).

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/compression/codec.h"
#include "core/compression/probe.h"

namespace holdfast {
namespace {

namespace fs = std::filesystem;

constexpr size_t kDataBytesMax = 64u << 20;

std::string LoadData() {
  std::string data;
  auto append = [&](const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::string buffer(1 << 20, '\0');
    while (data.size() < kDataBytesMax) {
      in.read(buffer.data(), static_cast<std::streamsize>(std::min(buffer.size(), kDataBytesMax - data.size())));
      if (in.gcount() <= 0) break;
      data.append(buffer.data(), static_cast<size_t>(in.gcount()));
    }
  };
  if (const char* file = std::getenv("HOLDFAST_BENCH_FILE")) {
    append(file);
    return data;
  }
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator it("/usr/lib", fs::directory_options::skip_permission_denied, error), end;
       !error && it != end; it.increment(error)) {
    if (it->is_regular_file(error) && !it->is_symlink(error)) paths.push_back(it->path());
  }
  std::sort(paths.begin(), paths.end());  // the same on every run
  for (const fs::path& path : paths) append(path);
  return data;
}

const std::string& Data() {
  static const std::string* const data = new std::string(LoadData());
  return *data;
}

void SetRates(benchmark::State& state, uint64_t bytes) {
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
  // Seconds per 10^9 bytes: the same number as nanoseconds per byte.
  state.counters["per_GB"] =
      benchmark::Counter(static_cast<double>(bytes) * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void Compress(benchmark::State& state) {
  const int level = static_cast<int>(state.range(0));
  const size_t chunk = static_cast<size_t>(state.range(1)) << 10;
  const std::string_view data = Data();
  Compressor compressor;
  std::string out(CompressBound(chunk), '\0');
  uint64_t in_bytes = 0, out_bytes = 0;
  for (auto _ : state) {
    for (size_t at = 0; at < data.size(); at += chunk) {
      const std::string_view in = data.substr(at, chunk);
      const size_t n = compressor.Compress(level, in, out.data(), out.size());
      in_bytes += in.size();
      out_bytes += n != 0 ? n : in.size();
    }
  }
  SetRates(state, in_bytes);
  state.counters["percent"] =
      100.0 * static_cast<double>(out_bytes) / static_cast<double>(std::max<uint64_t>(1, in_bytes));
}
BENCHMARK(Compress)
    ->ArgNames({"level", "KiB"})
    ->ArgsProduct({{-1, 1, 2, 3}, {256, 1536}})
    ->Unit(benchmark::kMillisecond);

void Decompress(benchmark::State& state) {
  const size_t chunk = static_cast<size_t>(state.range(1)) << 10;
  const std::string_view data = Data();
  Compressor compressor;
  std::vector<std::pair<std::string, size_t>> frames;
  for (size_t at = 0; at < data.size(); at += chunk) {
    const std::string_view in = data.substr(at, chunk);
    std::string frame(CompressBound(in.size()), '\0');
    frame.resize(compressor.Compress(static_cast<int>(state.range(0)), in, frame.data(), frame.size()));
    if (!frame.empty()) frames.emplace_back(std::move(frame), in.size());
  }
  Decompressor decompressor;
  std::string out(chunk, '\0');
  uint64_t bytes = 0;
  for (auto _ : state) {
    for (const auto& [frame, length] : frames) {
      if (!decompressor.Decompress(frame, out.data(), length).ok()) return state.SkipWithError("damaged");
      bytes += length;
    }
  }
  SetRates(state, bytes);
}
BENCHMARK(Decompress)->ArgNames({"level", "KiB"})->ArgsProduct({{1, 3}, {256, 1536}})->Unit(benchmark::kMillisecond);

// The worst case: all four samples are looked at. Time is per chunk.
void Probe(benchmark::State& state) {
  std::mt19937_64 rng(1);
  std::string data(1536 << 10, '\0');
  for (char& c : data) c = static_cast<char>(rng());
  for (auto _ : state) benchmark::DoNotOptimize(LooksIncompressible(data));
  SetRates(state, state.iterations() * data.size());
}
BENCHMARK(Probe);

}  // namespace
}  // namespace holdfast

BENCHMARK_MAIN();
