#include "core/chunking/chunker.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/chunking/scan_kernels.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace holdfast::chunking_internal {

// The VAES kernels with their one special instruction taken apart, for processors that lack it.
#define HF_TARGET256 __attribute__((target("aes,avx2")))
#define HF_TARGET512 __attribute__((HF_NO_ASAN, target("aes,avx2,avx512f,avx512bw,avx512dq,avx512vl")))
HF_TARGET256 inline __m256i AesEnc256(__m256i s, __m256i k) {
  const __m128i low = _mm_aesenc_si128(_mm256_castsi256_si128(s), _mm256_castsi256_si128(k));
  const __m128i high = _mm_aesenc_si128(_mm256_extracti128_si256(s, 1), _mm256_extracti128_si256(k, 1));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
HF_TARGET512 inline __m512i AesEnc512(__m512i s, __m512i k) {
  __m128i state[4], key[4];
  _mm512_storeu_si512(state, s);
  _mm512_storeu_si512(key, k);
  for (int i = 0; i < 4; ++i) state[i] = _mm_aesenc_si128(state[i], key[i]);
  return _mm512_loadu_si512(state);
}
#define HF_AESENC256 AesEnc256
#define HF_AESENC512 AesEnc512
#define HF_SCAN256 ScanVaes256Emulated
#define HF_SCAN512 ScanVaes512Emulated
#include "core/chunking/scan_vaes.inc"

}  // namespace holdfast::chunking_internal
#endif  // __x86_64__

namespace holdfast {
namespace {

using ::testing::ElementsAre;

struct Kernel {
  const char* name;
  chunking_internal::ScanFunction scan;
};

std::vector<Kernel> SupportedKernels() {
  std::vector<Kernel> kernels;
#if defined(__x86_64__)
  namespace internal = chunking_internal;
  if (internal::CpuHasAesNi()) kernels.push_back({"aesni", internal::ScanAesNi});
  if (internal::CpuHasVaes256()) kernels.push_back({"vaes256", internal::ScanVaes256});
  if (internal::CpuHasVaes512()) kernels.push_back({"vaes512", internal::ScanVaes512});
  if (internal::CpuHasAesNi() && __builtin_cpu_supports("avx2")) {
    kernels.push_back({"vaes256 emulated", internal::ScanVaes256Emulated});
  }
  if (internal::CpuHasAesNi() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    kernels.push_back({"vaes512 emulated", internal::ScanVaes512Emulated});
  }
#endif
  return kernels;
}

std::vector<ChunkerIsa> SupportedIsas() {
  std::vector<ChunkerIsa> isas;
  for (ChunkerIsa isa : {ChunkerIsa::kPortable, ChunkerIsa::kAesNi, ChunkerIsa::kVaes}) {
    if (IsSupported(isa)) isas.push_back(isa);
  }
  return isas;
}

std::string SplitMix(uint64_t seed, size_t n) {
  std::string out;
  for (uint64_t x = seed; out.size() < n;) {
    x += 0x9e3779b97f4a7c15;
    uint64_t z = x;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    out.append(reinterpret_cast<const char*>(&z), sizeof(z));
  }
  out.resize(n);
  return out;
}

Key128 RandomKey(std::mt19937_64& rng) {
  Key128 key;
  for (int i = 0; i < 16; ++i) key.MutableBytes()[i] = static_cast<uint8_t>(rng());
  return key;
}

// Chunk ends, each chunk found in one call.
std::vector<uint64_t> Cuts(const Chunker& chunker, std::string_view data) {
  std::vector<uint64_t> ends;
  for (size_t at = 0; at < data.size();) {
    at += chunker.FindCut(data.substr(at), 0).value_or(data.size() - at);
    ends.push_back(at);
  }
  return ends;
}

// The same as a reader sees it: the data arrives in pieces, possibly empty ones.
std::vector<uint64_t> CutsInPieces(const Chunker& chunker, std::string_view data, std::mt19937_64& rng,
                                   size_t piece_max) {
  std::vector<uint64_t> ends;
  for (size_t at = 0; at < data.size();) {
    size_t have = 0, scanned = 0;
    std::optional<size_t> cut;
    do {
      have = std::min(data.size() - at, have + rng() % piece_max);
      // A buffer of its own, so that a sanitizer sees reads past the end.
      const std::string buffer(data.substr(at, have));
      cut = chunker.FindCut(buffer, scanned);
      scanned = have;
    } while (!cut && at + have < data.size());
    at += cut.value_or(have);
    ends.push_back(at);
  }
  return ends;
}

TEST(Chunker, CutsAsTheGoldenVectorsSayOnEveryInstructionSet) {
  std::ifstream in("core/chunking/testdata/golden.txt");
  ASSERT_TRUE(in) << "run from the workspace root";
  int vectors = 0;
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string kind, key_hex, ends_text;
    uint64_t seed = 0, size = 0;
    ChunkerParams params;
    fields >> kind;
    if (kind != "chunks" && kind != "zeros") continue;
    fields >> key_hex >> seed >> size >> params.min_bytes >> params.max_bytes >> params.mask_bits >> ends_text;
    ASSERT_TRUE(fields) << line;
    ++vectors;
    std::vector<uint64_t> ends;
    std::istringstream list(ends_text);
    for (std::string end; std::getline(list, end, ',');) ends.push_back(std::stoull(end));
    const std::string key = HexDecode(key_hex).value();
    const std::string data = kind == "zeros" ? std::string(size, '\0') : SplitMix(seed, size);
    for (ChunkerIsa isa : SupportedIsas()) {
      Chunker chunker(Key128(reinterpret_cast<const uint8_t*>(key.data())), params, isa);
      EXPECT_EQ(Cuts(chunker, data), ends) << "isa " << static_cast<int>(isa) << " on: " << line;
    }
  }
  EXPECT_GE(vectors, 15);
}

TEST(Chunker, CutsTheSameWhetherDataComesAtOnceOrInPieces) {
  std::mt19937_64 rng(20240601);
  for (int round = 0; round < 30; ++round) {
    const ChunkerParams params{.min_bytes = static_cast<uint32_t>(64 + rng() % 300),
                               .max_bytes = static_cast<uint32_t>(400 + rng() % 3000),
                               .mask_bits = static_cast<uint32_t>(1 + rng() % 18)};
    const Key128 key = RandomKey(rng);
    const std::string data = SplitMix(rng(), 1 + rng() % 40000);
    const std::vector<uint64_t> expected = Cuts(Chunker(key, params, ChunkerIsa::kPortable), data);
    for (ChunkerIsa isa : SupportedIsas()) {
      SCOPED_TRACE(testing::Message() << "round " << round << " isa " << static_cast<int>(isa));
      Chunker chunker(key, params, isa);
      EXPECT_EQ(Cuts(chunker, data), expected);
      EXPECT_EQ(CutsInPieces(chunker, data, rng, 700), expected);
      EXPECT_EQ(CutsInPieces(chunker, data, rng, 3), expected);
    }
  }
}

TEST(Chunker, FindsTheFirstCutWhereverItLies) {
  // Against the definition, for every width of mask and every length around the kernels' steps.
  std::mt19937_64 rng(7);
  const std::vector<Kernel> kernels = SupportedKernels();
  for (int bits = 1; bits <= 48; ++bits) {
    const Key128 key = RandomKey(rng);
    const Aes128 aes(key);
    chunking_internal::ScanKeys keys{};
#if defined(__x86_64__)
    if (!kernels.empty()) chunking_internal::PrepareKeys(key.ExposeBytes(), bits, &keys);
#endif
    for (int round = 0; round < 150; ++round) {
      const size_t n = 16 + rng() % 400;
      const std::string owned = SplitMix(rng(), n);
      const std::vector<uint8_t> data(owned.begin(), owned.end());
      const size_t from = 16 + rng() % (n - 15), to = std::min(n, from + rng() % 300);
      size_t expected = 0;
      for (size_t p = from; p <= to && expected == 0; ++p) {
        uint8_t out[16];
        aes.EncryptBlock(data.data() + p - 16, out);
        uint64_t low;
        std::memcpy(&low, out, 8);
        if ((low & ((uint64_t{1} << bits) - 1)) == 0) expected = p;
      }
      for (const Kernel& kernel : kernels) {
        ASSERT_EQ(kernel.scan(data.data(), from, to, keys), expected)
            << kernel.name << " bits " << bits << " from " << from << " to " << to << " of " << n;
      }
    }
  }
}

TEST(Chunker, FindsRareCutsAtEveryPlaceOfAVector) {
  // With 16 bits and more, random data has too few cuts: plant a window that is one.
  std::mt19937_64 rng(8);
  const Key128 key = RandomKey(rng);
  const Aes128 aes(key);
  for (int bits : {8, 15, 16, 17, 19, 20}) {
    const uint64_t mask = (uint64_t{1} << bits) - 1;
    uint8_t window[16] = {};
    for (uint64_t i = 0;; ++i) {
      std::memcpy(window, &i, 8);
      uint8_t out[16];
      aes.EncryptBlock(window, out);
      uint64_t low;
      std::memcpy(&low, out, 8);
      if ((low & mask) == 0) break;
    }
    for (const Kernel& kernel : SupportedKernels()) {
      chunking_internal::ScanKeys keys{};
#if defined(__x86_64__)
      chunking_internal::PrepareKeys(key.ExposeBytes(), bits, &keys);
#endif
      for (size_t p = 16; p <= 300; ++p) {
        std::vector<uint8_t> data(300, 0xa5);
        std::copy(window, window + 16, data.begin() + static_cast<ptrdiff_t>(p) - 16);
        // A second one behind must not win.
        if (p + 16 <= 300) std::copy(window, window + 16, data.begin() + static_cast<ptrdiff_t>(p));
        ASSERT_EQ(kernel.scan(data.data(), 16, 300, keys), p) << kernel.name << " bits " << bits;
        ASSERT_EQ(kernel.scan(data.data(), p, p, keys), p) << kernel.name << " bits " << bits;
      }
    }
  }
}

TEST(Chunker, CutsAtMinimumAndMaximum) {
  std::mt19937_64 rng(9);
  const Key128 key = RandomKey(rng);
  for (ChunkerIsa isa : SupportedIsas()) {
    Chunker equal(key, {.min_bytes = 64, .max_bytes = 64, .mask_bits = 48}, isa);
    EXPECT_THAT(Cuts(equal, std::string(130, 'x')), ElementsAre(64, 128, 130));
    EXPECT_EQ(equal.FindCut(std::string(63, 'x'), 0), std::nullopt);
    EXPECT_EQ(equal.FindCut("", 0), std::nullopt);
    EXPECT_EQ(equal.FindCut(std::string(1000, 'x'), 63), 64u);
    Chunker large(key, {.min_bytes = 8u << 20, .max_bytes = 8u << 20, .mask_bits = 1}, isa);
    EXPECT_THAT(Cuts(large, std::string((8u << 20) + 1, 'x')), ElementsAre(8u << 20, (8u << 20) + 1));
  }
}

TEST(Chunker, RefusesParametersOutsideTheLimits) {
  EXPECT_TRUE(IsValid({}));
  EXPECT_TRUE(IsValid({.min_bytes = 64, .max_bytes = 64, .mask_bits = 1}));
  EXPECT_TRUE(IsValid({.min_bytes = 64, .max_bytes = 8u << 20, .mask_bits = 48}));
  EXPECT_FALSE(IsValid({.min_bytes = 63, .max_bytes = 100, .mask_bits = 8}));
  EXPECT_FALSE(IsValid({.min_bytes = 101, .max_bytes = 100, .mask_bits = 8}));
  EXPECT_FALSE(IsValid({.min_bytes = 100, .max_bytes = (8u << 20) + 1, .mask_bits = 8}));
  EXPECT_FALSE(IsValid({.min_bytes = 100, .max_bytes = 200, .mask_bits = 0}));
  EXPECT_FALSE(IsValid({.min_bytes = 100, .max_bytes = 200, .mask_bits = 49}));
}

TEST(Chunker, ChoosesTheBestSupportedInstructionSet) {
  EXPECT_TRUE(IsSupported(ChunkerIsa::kPortable));
  EXPECT_EQ(BestIsa(), SupportedIsas().back());
}

}  // namespace
}  // namespace holdfast
