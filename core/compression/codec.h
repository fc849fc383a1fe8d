// zstd (RFC 8878) on whole chunks. One Compressor and one Decompressor per thread: they keep their working memory
// (about 1 MB at level 1) between chunks. zstd's own headers stay in the .cc file.
#ifndef HOLDFAST_CORE_COMPRESSION_CODEC_H_
#define HOLDFAST_CORE_COMPRESSION_CODEC_H_

#include <cstddef>
#include <memory>
#include <string_view>

#include "core/base/status.h"

namespace holdfast {

inline constexpr int kCompressionLevelMin = -7;  // negative: zstd's "fast" levels, -1 = fast=1
inline constexpr int kCompressionLevelMax = 19;

// Room that makes Compress() succeed on any input of this size that shrinks at all, and at full speed.
size_t CompressBound(size_t plaintext_bytes);

class Compressor {
 public:
  Compressor();
  ~Compressor();
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  // One frame with the content size, without a checksum (the AEAD and the id are better ones). Returns its size, or 0
  // when it would not fit into `capacity` or not be smaller than `in`. Level 0 is not a level.
  size_t Compress(int level, std::string_view in, char* out, size_t capacity);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Decompressor {
 public:
  Decompressor();
  ~Decompressor();
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;
  // Decodes `in`, which must be exactly one frame, with a window of at most 8 MiB, that gives exactly `length` bytes.
  // DATA_LOSS otherwise; `out` then holds nothing useful. Never writes past out + length, nor reserves more than that.
  absl::Status Decompress(std::string_view in, char* out, size_t length);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_COMPRESSION_CODEC_H_
