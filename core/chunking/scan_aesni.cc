#include "core/chunking/scan_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#define HF_AESNI __attribute__((target("aes,sse4.1")))
#define HF_AESNI_INLINE __attribute__((target("aes,sse4.1"), always_inline)) inline

namespace holdfast::chunking_internal {
namespace {

template <int kRcon>
HF_AESNI_INLINE __m128i NextRoundKey(__m128i k) {
  __m128i t = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(k, kRcon), 0xff);
  k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
  k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
  k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
  return _mm_xor_si128(k, t);
}

HF_AESNI_INLINE __m128i Load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
HF_AESNI_INLINE __m128i Key(const ScanKeys& keys, int round) {
  return _mm_load_si128(reinterpret_cast<const __m128i*>(keys.round[round]));
}

// Nine rounds, the ninth with `key9`, of the windows that end at p .. p+7.
HF_AESNI_INLINE void NineRounds(const uint8_t* window, const ScanKeys& keys, __m128i key9, __m128i s[8]) {
  const __m128i k0 = Key(keys, 0);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) s[i] = _mm_xor_si128(Load(window + i), k0);
#pragma GCC unroll 8
  for (int r = 1; r < 9; ++r) {
    const __m128i k = Key(keys, r);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) s[i] = _mm_aesenc_si128(s[i], k);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) s[i] = _mm_aesenc_si128(s[i], key9);
}

}  // namespace

bool CpuHasAesNi() { return __builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1"); }

HF_AESNI void PrepareKeys(const uint8_t key[16], int mask_bits, ScanKeys* keys) {
  __m128i k[11];
  k[0] = Load(key);
  k[1] = NextRoundKey<0x01>(k[0]);
  k[2] = NextRoundKey<0x02>(k[1]);
  k[3] = NextRoundKey<0x04>(k[2]);
  k[4] = NextRoundKey<0x08>(k[3]);
  k[5] = NextRoundKey<0x10>(k[4]);
  k[6] = NextRoundKey<0x20>(k[5]);
  k[7] = NextRoundKey<0x40>(k[6]);
  k[8] = NextRoundKey<0x80>(k[7]);
  k[9] = NextRoundKey<0x1b>(k[8]);
  k[10] = NextRoundKey<0x36>(k[9]);
  for (int r = 0; r < 11; ++r) _mm_store_si128(reinterpret_cast<__m128i*>(keys->round[r]), k[r]);
  // The state that the last round turns into zeros: InvSubBytes(InvShiftRows(k10)).
  const __m128i wanted = _mm_aesdeclast_si128(k[10], _mm_setzero_si128());
  _mm_storeu_si128(reinterpret_cast<__m128i*>(keys->key9_filter), _mm_xor_si128(k[9], wanted));
  std::memset(keys->filter, 0, sizeof(keys->filter));
  keys->filter_bytes = mask_bits >= 16 ? 2 : mask_bits >= 8 ? 1 : 0;
  // ShiftRows moves state bytes 0 and 5 to output bytes 0 and 1.
  if (keys->filter_bytes >= 1) keys->filter[0] = 0xff;
  if (keys->filter_bytes >= 2) keys->filter[5] = 0xff;
  keys->mask = (uint64_t{1} << mask_bits) - 1;
}

HF_AESNI size_t ScanExact8(const uint8_t* data, size_t p, size_t n, const ScanKeys& keys) {
  __m128i s[8];
  if (n < 8) {
    uint8_t windows[16 + 8] = {};
    std::memcpy(windows, data + p - 16, 16 + n - 1);
    NineRounds(windows, keys, Key(keys, 9), s);
  } else {
    NineRounds(data + p - 16, keys, Key(keys, 9), s);
  }
  const __m128i k10 = Key(keys, 10);
  for (size_t i = 0; i < n; ++i) {
    const uint64_t low = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_aesenclast_si128(s[i], k10)));
    if ((low & keys.mask) == 0) return p + i;
  }
  return 0;
}

HF_AESNI size_t ScanAesNi(const uint8_t* data, size_t from, size_t to, const ScanKeys& keys) {
  size_t p = from;
  if (keys.filter_bytes > 0) {
    const __m128i key9 = Load(keys.key9_filter);
    // Per byte, the minimum over eight states is zero in both filter bytes for one group in 1,024 (32 with one byte).
    const int want = keys.filter_bytes == 2 ? 0x21 : 0x01;
    for (; p + 7 <= to; p += 8) {
      __m128i s[8];
      NineRounds(data + p - 16, keys, key9, s);
      const __m128i min01 = _mm_min_epu8(_mm_min_epu8(s[0], s[1]), _mm_min_epu8(s[2], s[3]));
      const __m128i min23 = _mm_min_epu8(_mm_min_epu8(s[4], s[5]), _mm_min_epu8(s[6], s[7]));
      const __m128i zero = _mm_cmpeq_epi8(_mm_min_epu8(min01, min23), _mm_setzero_si128());
      if (__builtin_expect((_mm_movemask_epi8(zero) & want) == want, 0)) {
        if (size_t cut = ScanExact8(data, p, 8, keys)) return cut;
      }
    }
  }
  while (p <= to) {
    const size_t n = to - p + 1 < 8 ? to - p + 1 : 8;
    if (size_t cut = ScanExact8(data, p, n, keys)) return cut;
    p += n;
  }
  return 0;
}

}  // namespace holdfast::chunking_internal

#endif  // __x86_64__
