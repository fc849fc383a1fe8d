// Reads the frames of a pack one after the other, from a spool file or a blob. One thread.
#ifndef HOLDFAST_STORAGE_PACK_FRAME_READER_H_
#define HOLDFAST_STORAGE_PACK_FRAME_READER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "storage/pack/byte_range.h"
#include "storage/pack/pack_layout.h"

namespace holdfast {

struct ScannedFrame {
  PackEntry entry;
  uint64_t end = 0;        // where the next frame begins
  bool body_good = false;  // all of it is there and has its digest
};

class FrameReader {
 public:
  // Both borrowed things outlive the reader. `bytes` is the size of the file or blob.
  FrameReader(ReadRange read, uint64_t bytes, const PackSealer& sealer, PackKind kind)
      : read_(std::move(read)), bytes_(bytes), sealer_(sealer), kind_(kind) {}

  // The frame of that number at `offset`; nullopt when none opens there. Fails only if reading does; what a bad sector
  // (EIO) holds counts as damaged.
  absl::StatusOr<std::optional<ScannedFrame>> Read(uint64_t offset, uint64_t frame);
  // Looks behind a damaged place for a frame that opens, numbered `*frame` or up to kFramesSkippedMax more; sets *frame
  // and *offset to it. False when there is none.
  absl::StatusOr<bool> FindNext(uint64_t* offset, uint64_t* frame);

 private:
  static constexpr uint64_t kFramesSkippedMax = 256;
  // n bytes at the offset (both inside the file); valid until the next call.
  absl::StatusOr<std::string_view> View(uint64_t offset, size_t n);

  const ReadRange read_;
  const uint64_t bytes_;
  const PackSealer& sealer_;
  const PackKind kind_;
  std::string window_;
  uint64_t window_start_ = 0;
  uint64_t bad_begin_ = 0, bad_end_ = 0;  // the last window that could not be read as a whole
};

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_FRAME_READER_H_
