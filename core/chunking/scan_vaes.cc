#include "core/chunking/scan_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

namespace holdfast::chunking_internal {

// __builtin_cpu_supports answers no when the system does not save the wide registers.
bool CpuHasVaes256() {
  return CpuHasAesNi() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vaes");
}
bool CpuHasVaes512() {
  return CpuHasVaes256() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#define HF_TARGET256 __attribute__((target("aes,avx2,vaes")))
#define HF_TARGET512 __attribute__((target("aes,avx2,vaes,avx512f,avx512bw,avx512dq,avx512vl")))
#define HF_AESENC256 _mm256_aesenc_epi128
#define HF_AESENC512 _mm512_aesenc_epi128
#define HF_SCAN256 ScanVaes256
#define HF_SCAN512 ScanVaes512
#include "core/chunking/scan_vaes.inc"

}  // namespace holdfast::chunking_internal

#endif  // __x86_64__
