#include "core/compression/codec.h"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/codec.h"

namespace holdfast {
namespace {

constexpr uint64_t kWindowBytesMax = uint64_t{8} << 20;  // docs/format.md, section 5

// The one place where zstd's errors become ours.
absl::Status ZstdError(size_t code) {
  if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation) {
    return absl::ResourceExhaustedError("no memory to decompress");
  }
  return absl::DataLossError(absl::StrCat("damaged zstd frame: ", ZSTD_getErrorName(code)));
}

// zstd checks the window only when it streams, and accepts several frames in a row, skippable and old ones too. So we
// read the frame header (RFC 8878, 3.1.1.1) ourselves.
absl::Status CheckFrameHeader(std::string_view in, size_t length) {
  ByteReader reader(in);
  if (reader.U32() != ZSTD_MAGICNUMBER) return absl::DataLossError("not a zstd frame");
  const uint8_t descriptor = reader.U8();
  const bool single_segment = (descriptor & 0x20) != 0;
  const int size_code = descriptor >> 6;
  if ((descriptor & 0x08) != 0) return absl::DataLossError("zstd frame with the reserved bit set");
  uint64_t window = 0;
  if (!single_segment) {
    const uint8_t w = reader.U8();
    const uint64_t base = uint64_t{1} << (10 + (w >> 3));
    window = base + base / 8 * (w & 7);
  }
  reader.Bytes(descriptor & 3 ? size_t{1} << ((descriptor & 3) - 1) : 0);  // dictionary id: zstd refuses any but 0
  std::optional<uint64_t> content;
  if (size_code == 0 && single_segment) content = reader.U8();
  if (size_code == 1) content = uint64_t{reader.U16()} + 256;
  if (size_code == 2) content = reader.U32();
  if (size_code == 3) content = reader.U64();
  if (!reader.ok()) return absl::DataLossError("zstd frame header is cut short");
  if (content.has_value() && *content != length) {
    return absl::DataLossError(absl::StrCat("zstd frame of ", *content, " bytes where ", length, " are expected"));
  }
  if (single_segment) window = *content;
  if (window > kWindowBytesMax) {
    return absl::DataLossError(absl::StrCat("zstd frame asks for a window of ", window, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

size_t CompressBound(size_t plaintext_bytes) { return ZSTD_compressBound(plaintext_bytes); }

struct Compressor::Impl {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  int level = 0;  // as set in the context; 0 = not yet
  ~Impl() { ZSTD_freeCCtx(context); }
};

Compressor::Compressor() : impl_(std::make_unique<Impl>()) {
  if (impl_->context == nullptr) throw std::bad_alloc();
}
Compressor::~Compressor() = default;

size_t Compressor::Compress(int level, std::string_view in, char* out, size_t capacity) {
  assert(level != 0 && level >= kCompressionLevelMin && level <= kCompressionLevelMax);
  if (in.empty()) return 0;
  if (impl_->level != level) {
    const size_t set = ZSTD_CCtx_setParameter(impl_->context, ZSTD_c_compressionLevel, level);
    assert(!ZSTD_isError(set));
    // For inputs of up to 256 KiB zstd's table turns level 2 into another strategy: half as fast on text of many short
    // matches, and hardly smaller. The level keeps what it is on larger inputs.
    const bool pin = level == 2;
    for (const auto& [parameter, value] :
         {std::pair{ZSTD_c_strategy, int{ZSTD_fast}}, std::pair{ZSTD_c_hashLog, 16}, std::pair{ZSTD_c_minMatch, 6}}) {
      const size_t pinned = ZSTD_CCtx_setParameter(impl_->context, parameter, pin ? value : 0);  // 0: by the level
      assert(!ZSTD_isError(pinned));
    }
    impl_->level = level;
  }
  const size_t n = ZSTD_compress2(impl_->context, out, capacity, in.data(), in.size());
  // The error that happens is "does not fit". Storing uncompressed is right for any other one too (no memory).
  if (ZSTD_isError(n) || n >= in.size()) return 0;
  return n;
}

struct Decompressor::Impl {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  ~Impl() { ZSTD_freeDCtx(context); }
};

Decompressor::Decompressor() : impl_(std::make_unique<Impl>()) {
  if (impl_->context == nullptr) throw std::bad_alloc();
  const size_t set = ZSTD_DCtx_setParameter(impl_->context, ZSTD_d_windowLogMax, 23);
  assert(!ZSTD_isError(set));
}
Decompressor::~Decompressor() = default;

absl::Status Decompressor::Decompress(std::string_view in, char* out, size_t length) {
  RETURN_IF_ERROR(CheckFrameHeader(in, length));
  const size_t frame = ZSTD_findFrameCompressedSize(in.data(), in.size());
  if (ZSTD_isError(frame)) return ZstdError(frame);
  if (frame != in.size()) return absl::DataLossError(absl::StrCat(in.size() - frame, " bytes after the zstd frame"));
  const size_t n = ZSTD_decompressDCtx(impl_->context, out, length, in.data(), in.size());
  if (ZSTD_isError(n)) return ZstdError(n);
  if (n != length) {
    return absl::DataLossError(absl::StrCat("zstd frame gave ", n, " bytes where ", length, " are expected"));
  }
  return absl::OkStatus();
}

}  // namespace holdfast
