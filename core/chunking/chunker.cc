#include "core/chunking/chunker.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "core/base/limits.h"
#include "core/base/secret.h"

namespace holdfast {

namespace internal = chunking_internal;

bool IsSupported(ChunkerIsa isa) {
  switch (isa) {
    case ChunkerIsa::kPortable:
      return true;
#if defined(__x86_64__)
    case ChunkerIsa::kAesNi:
      return internal::CpuHasAesNi();
    case ChunkerIsa::kVaes:
      return internal::CpuHasVaes256();
#else
    default:
      return false;
#endif
  }
  return false;
}

ChunkerIsa BestIsa() {
  for (ChunkerIsa isa : {ChunkerIsa::kVaes, ChunkerIsa::kAesNi}) {
    if (IsSupported(isa)) return isa;
  }
  return ChunkerIsa::kPortable;
}

bool IsValid(const ChunkerParams& params) {
  return params.min_bytes >= 64 && params.min_bytes <= params.max_bytes &&
         params.max_bytes <= kChunkPlaintextBytesMax && params.mask_bits >= 1 && params.mask_bits <= 48;
}

Chunker::Chunker(const Key128& cut_key, const ChunkerParams& params, ChunkerIsa isa)
    : params_(params), isa_(isa), portable_(cut_key) {
  assert(IsValid(params));
  assert(IsSupported(isa));
  std::memset(&keys_, 0, sizeof(keys_));
  keys_.mask = (uint64_t{1} << params.mask_bits) - 1;
#if defined(__x86_64__)
  if (isa_ == ChunkerIsa::kPortable) return;
  internal::PrepareKeys(cut_key.ExposeBytes(), static_cast<int>(params.mask_bits), &keys_);
  scan_ = isa_ == ChunkerIsa::kAesNi  ? internal::ScanAesNi
          : internal::CpuHasVaes512() ? internal::ScanVaes512
                                      : internal::ScanVaes256;
#endif
}

Chunker::~Chunker() { WipeMemory(&keys_, sizeof(keys_)); }

std::optional<size_t> Chunker::FindCut(std::string_view data, size_t scanned) const {
  const size_t from = std::max<size_t>(params_.min_bytes, scanned + 1);
  const size_t to = std::min<size_t>(data.size(), params_.max_bytes - 1);
  if (from <= to) {
    if (size_t cut = Scan(reinterpret_cast<const uint8_t*>(data.data()), from, to)) return cut;
  }
  if (data.size() >= params_.max_bytes) return params_.max_bytes;
  return std::nullopt;
}

size_t Chunker::Scan(const uint8_t* data, size_t from, size_t to) const {
  if (scan_ != nullptr) return scan_(data, from, to, keys_);
  for (size_t p = from; p <= to; ++p) {
    uint8_t out[16];
    portable_.EncryptBlock(data + p - 16, out);
    uint64_t low;
    std::memcpy(&low, out, sizeof(low));
    if ((low & keys_.mask) == 0) return p;
  }
  return 0;
}

}  // namespace holdfast
