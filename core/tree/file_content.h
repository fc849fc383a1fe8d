// What the content of a file is (docs/format.md, section 7): which holes it leaves out, where its bytes belong in the
// file, and its digests. Backup, restore, verify and the commands that show files ask here. Pure.
#ifndef HOLDFAST_CORE_TREE_FILE_CONTENT_H_
#define HOLDFAST_CORE_TREE_FILE_CONTENT_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/base/status.h"
#include "core/crypto/blake3.h"
#include "core/crypto/types.h"
#include "core/tree/entry.h"

namespace holdfast {

// Holes at least this long are not in the content (a constant of the format); shorter ones are zeros in it.
inline constexpr uint64_t kLargeHoleBytes = 1u << 20;
inline bool IsLargeHole(uint64_t length) { return length >= kLargeHoleBytes; }
std::vector<Hole> LargeHolesOf(const std::vector<Hole>& holes);

// The bytes that the content of a file must have: its size without the large holes. `entry.holes` is resolved.
// DATA_LOSS when the holes contradict the size.
absl::StatusOr<uint64_t> StoredLength(const Entry& entry);

bool IsZero(std::string_view bytes);

// Where the bytes of a file's content belong in the file. Immutable after construction; memory and the time of a
// construction in proportion to the holes.
class ContentMap {
 public:
  // DATA_LOSS when the holes contradict the size.
  static absl::StatusOr<ContentMap> Make(uint64_t file_size, const std::vector<Hole>& holes);

  uint64_t content_length() const { return content_length_; }
  bool has_holes() const { return !holes_.empty(); }

  // Where a byte of the content is in the file. At the end of the content: the end of the file.
  uint64_t FileOffset(uint64_t content_offset) const;

  // Calls write(file_offset, bytes) for each range of data in the content range; with `keep_small_holes`, not for small
  // holes. Zeros are left out only where the bytes are zeros indeed. Errors of `write`.
  using WriteRange = absl::FunctionRef<absl::Status(uint64_t file_offset, std::string_view bytes)>;
  absl::Status ForEachRange(uint64_t content_offset, std::string_view bytes, bool keep_small_holes,
                            WriteRange write) const;

 private:
  struct MappedHole {
    uint64_t content_begin, content_length, removed, shift_before;
  };
  std::vector<MappedHole>::const_iterator FirstHoleBehind(uint64_t content_offset) const;
  uint64_t ShiftBefore(std::vector<MappedHole>::const_iterator hole) const;

  std::vector<MappedHole> holes_;
  uint64_t content_length_ = 0;
};

// The digest of a file that is a slice of a bundle. Without a key: it stands beside the keys of the content.
FileDigest SliceDigest(std::string_view content);

// The digest of a file that is chunks, or a list of them: over their content digests and lengths, in file order, its
// large holes and its size.
class ChunkedFileDigest {
 public:
  ChunkedFileDigest();
  void Add(const ChunkPiece& piece);
  FileDigest Finish(uint64_t file_size, const std::vector<Hole>& holes) const;

 private:
  Blake3 hash_;
  uint64_t pieces_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_TREE_FILE_CONTENT_H_
