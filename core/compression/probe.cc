#include "core/compression/probe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace holdfast {
namespace {

constexpr size_t kSampleBytes = 4096;
constexpr size_t kSamples = 4;
// Random bytes measure about 7.955 on a sample of this size, never 8.
constexpr double kEntropyBitsPerByte = 7.9;

// c * log2(c). Entropy of a sample of n = 4096: log2(n) - sum / n.
const std::array<float, kSampleBytes + 1>& CountTimesLog() {
  static const auto* const table = [] {
    auto* t = new std::array<float, kSampleBytes + 1>();
    for (size_t c = 2; c <= kSampleBytes; ++c) {
      (*t)[c] = static_cast<float>(static_cast<double>(c) * std::log2(static_cast<double>(c)));
    }
    return t;
  }();
  return *table;
}

bool SampleLooksRandom(const char* p, const std::array<float, kSampleBytes + 1>& table) {
  // Four tables, so that equal neighbours do not wait for each other's increment.
  uint16_t counts[4][256] = {};
  for (size_t i = 0; i < kSampleBytes; i += 8) {
    uint64_t v;
    std::memcpy(&v, p + i, sizeof(v));
    ++counts[0][v & 0xff];
    ++counts[1][(v >> 8) & 0xff];
    ++counts[2][(v >> 16) & 0xff];
    ++counts[3][(v >> 24) & 0xff];
    ++counts[0][(v >> 32) & 0xff];
    ++counts[1][(v >> 40) & 0xff];
    ++counts[2][(v >> 48) & 0xff];
    ++counts[3][v >> 56];
  }
  float sum[4] = {};
  for (size_t i = 0; i < 256; i += 4) {
    for (size_t j = 0; j < 4; ++j) {
      sum[j] += table[static_cast<size_t>(counts[0][i + j]) + counts[1][i + j] + counts[2][i + j] + counts[3][i + j]];
    }
  }
  constexpr double kSumMax = (12 - kEntropyBitsPerByte) * kSampleBytes;  // 12 = log2(4096)
  return static_cast<double>(sum[0]) + sum[1] + sum[2] + sum[3] <= kSumMax;
}

}  // namespace

bool LooksIncompressible(std::string_view chunk) {
  if (chunk.size() < kSampleBytes) return false;
  const auto& table = CountTimesLog();
  const size_t samples = std::min(kSamples, chunk.size() / kSampleBytes);
  // The middle of each of `samples` equal parts: file headers at the very start say little.
  const size_t part = chunk.size() / samples;
  for (size_t i = 0; i < samples; ++i) {
    if (!SampleLooksRandom(chunk.data() + i * part + (part - kSampleBytes) / 2, table)) return false;
  }
  return true;
}

}  // namespace holdfast
