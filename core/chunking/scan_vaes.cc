#include "core/chunking/scan_kernels.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

namespace holdfast::chunking_internal {

// __builtin_cpu_supports answers no when the system does not save the wide registers. Clang 16 does not know "vaes"
// there.
bool CpuHasVaes256() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  const bool vaes = (ecx & (1u << 9)) != 0;
  return vaes && CpuHasAesNi() && __builtin_cpu_supports("avx2");
}
bool CpuHasVaes512() {
  return CpuHasVaes256() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#define HF_TARGET256 __attribute__((target("aes,avx2,vaes")))
#define HF_TARGET512 __attribute__((HF_NO_ASAN, target("aes,avx2,vaes,avx512f,avx512bw,avx512dq,avx512vl")))
#define HF_AESENC256 _mm256_aesenc_epi128
#define HF_AESENC512 _mm512_aesenc_epi128
#define HF_SCAN256 ScanVaes256
#define HF_SCAN512 ScanVaes512
#include "core/chunking/scan_vaes.inc"

}  // namespace holdfast::chunking_internal

#endif  // __x86_64__
