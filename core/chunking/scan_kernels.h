// The inner loops of the chunker, one per instruction set. Internal to core/chunking.
//
// All of them look for the first p with AES-128(key, data[p-16..p)) & mask == 0. Two observations make that cheap:
// - Output byte 0 (and 1) of the last AES round is zero if and only if byte 0 (5) of the state before it has one known
//   value: the last round is SubBytes, ShiftRows and one xor. So nine rounds and a comparison decide 8 (16) bits of the
//   mask, exactly; only positions that pass, one in 65,536, get the tenth round and the whole mask. `key9_filter` is
//   round key 9 xored with the wanted state, so that the comparison is with zero.
// - A 64-byte load at p-16 holds the windows of p, p+16, p+32 and p+48, so 16 unaligned loads give the windows of 64
//   consecutive positions with no shuffling.
#ifndef HOLDFAST_CORE_CHUNKING_SCAN_KERNELS_H_
#define HOLDFAST_CORE_CHUNKING_SCAN_KERNELS_H_

#include <cstddef>
#include <cstdint>

namespace holdfast::chunking_internal {

struct ScanKeys {
  alignas(16) unsigned char round[11][16];
  unsigned char key9_filter[16];
  unsigned char filter[16];  // 0xff in the bytes that nine rounds must make zero, 0 elsewhere; at least one is set
  uint64_t mask;
  int filter_bytes;  // 0..2; with 0 (mask_bits < 8) the nine-round filter cannot be used
};

// First cutting p in [from, to], or 0. Reads data[from-16 .. to). from >= 16.
using ScanFunction = size_t (*)(const uint8_t* data, size_t from, size_t to, const ScanKeys& keys);

#if defined(__x86_64__)
// AddressSanitizer's fake stack aligns frames to 32 bytes at most with gcc 12; functions that keep 64-byte vectors in
// theirs must do without it.
#define HF_NO_ASAN no_sanitize_address

bool CpuHasAesNi();
bool CpuHasVaes256();
bool CpuHasVaes512();
void PrepareKeys(const uint8_t key[16], int mask_bits, ScanKeys* keys);  // needs AES-NI
size_t ScanAesNi(const uint8_t* data, size_t from, size_t to, const ScanKeys& keys);
size_t ScanVaes256(const uint8_t* data, size_t from, size_t to, const ScanKeys& keys);
size_t ScanVaes512(const uint8_t* data, size_t from, size_t to, const ScanKeys& keys);
// Whether one of the n <= 8 positions from p on cuts: the first that does, or 0. All ten rounds.
size_t ScanExact8(const uint8_t* data, size_t p, size_t n, const ScanKeys& keys);
#endif

}  // namespace holdfast::chunking_internal

#endif  // HOLDFAST_CORE_CHUNKING_SCAN_KERNELS_H_
