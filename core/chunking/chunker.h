// Content-defined cut points by a pseudo-random function: position p is a cut if AES-128 under a secret key of the 16
// bytes before p has its low bits all zero (docs/format.md, section 6). One block is the whole window, so there is no
// rolling state whose cuts leak the key through chunk sizes (the attacks of eprint 2025/532 and 2025/558).
// VAES, AES-NI and portable versions cut identically. Immutable after creation, thread-safe, no allocation.
// Cost per core: nothing below the minimum size, so only a third of the bytes is looked at with the default parameters.
// AES-NI is bound by its AES unit at 9 cycles per byte looked at: 0.34 GB/s at 3.1 GHz, 1.0 with the skipping; VAES by
// 2.3 cycles on Ice Lake or Zen 3 (llvm-mca, not measured); portable 0.1 GB/s. tests/bench/micro/chunker_bench.cc.
#ifndef HOLDFAST_CORE_CHUNKING_CHUNKER_H_
#define HOLDFAST_CORE_CHUNKING_CHUNKER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/chunking/name_cuts.h"  // NameCutHash
#include "core/chunking/scan_kernels.h"
#include "core/crypto/aes128.h"
#include "core/crypto/types.h"

namespace holdfast {

enum class ChunkerIsa { kPortable, kAesNi, kVaes };
// What this processor can run, best last.
bool IsSupported(ChunkerIsa isa);
ChunkerIsa BestIsa();

struct ChunkerParams {
  uint32_t min_bytes = 1u << 20;  // 64 .. max_bytes
  uint32_t max_bytes = 4u << 20;  // <= kChunkPlaintextBytesMax
  uint32_t mask_bits = 19;        // a candidate is a cut with probability 2^-mask_bits; 1..48
};

class Chunker {
 public:
  // `isa` must be supported here and `params` within their limits (our bug otherwise: crashes).
  Chunker(const Key128& cut_key, const ChunkerParams& params, ChunkerIsa isa = BestIsa());
  ~Chunker();  // wipes
  Chunker(const Chunker&) = delete;
  Chunker& operator=(const Chunker&) = delete;
  // `data` starts at the chunk's first byte and holds what has been read so far. Candidates <= `scanned` were looked at
  // by earlier calls (0 for the first). Returns the length of the chunk when a cut lies within `data` (max_bytes always
  // cuts), or nothing: then read more and call again with scanned = the old data.size().
  std::optional<size_t> FindCut(std::string_view data, size_t scanned) const;
  const ChunkerParams& params() const { return params_; }

 private:
  size_t Scan(const uint8_t* data, size_t from, size_t to) const;  // first p in [from, to] that cuts, or 0

  const ChunkerParams params_;
  const ChunkerIsa isa_;
  const Aes128 portable_;
  chunking_internal::ScanFunction scan_ = nullptr;  // null: portable
  chunking_internal::ScanKeys keys_;
};

// True if `params` are within the limits that stand beside them.
bool IsValid(const ChunkerParams& params);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CHUNKING_CHUNKER_H_
