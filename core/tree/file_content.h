// Where the bytes of a file's content belong in the file: large holes are not in the content, small ones are zeros in
// it.
#ifndef HOLDFAST_CORE_TREE_FILE_CONTENT_H_
#define HOLDFAST_CORE_TREE_FILE_CONTENT_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/tree/entry.h"

namespace holdfast {

inline bool IsZero(std::string_view bytes) {
  return bytes.empty() || (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// Immutable after construction.
class ContentMap {
 public:
  // DATA_LOSS when the holes contradict the size.
  static absl::StatusOr<ContentMap> Make(uint64_t file_size, const std::vector<Hole>& holes) {
    ContentMap map;
    uint64_t end = 0;
    uint64_t large = 0;
    map.holes_.reserve(holes.size());
    for (const Hole& hole : holes) {
      if (hole.offset < end || hole.offset > file_size || hole.length > file_size - hole.offset) {
        return absl::DataLossError("the holes of the entry contradict its size");
      }
      end = hole.offset + hole.length;
      const bool is_large = hole.length >= kLargeHoleBytes;
      map.holes_.push_back({hole.offset - large, is_large ? 0 : hole.length, is_large ? hole.length : 0, large});
      if (is_large) large += hole.length;
    }
    map.content_length_ = file_size - large;
    return map;
  }

  uint64_t content_length() const { return content_length_; }
  bool has_holes() const { return !holes_.empty(); }

  // Calls write(file_offset, bytes) -> absl::Status for each range of data in the content range; with
  // `keep_small_holes`, not for small holes. Zeros are left out only where the bytes are zeros indeed.
  template <typename Write>
  absl::Status ForEachRange(uint64_t content_offset, std::string_view bytes, bool keep_small_holes,
                            const Write& write) const {
    auto hole = std::partition_point(holes_.begin(), holes_.end(), [&](const MappedHole& h) {
      return h.content_begin + h.content_length <= content_offset;
    });
    uint64_t shift = hole != holes_.end() ? hole->shift_before
                     : holes_.empty()     ? 0
                                          : holes_.back().shift_before + holes_.back().removed;
    while (!bytes.empty()) {
      if (hole != holes_.end() && content_offset >= hole->content_begin) {
        const uint64_t hole_end = hole->content_begin + hole->content_length;
        const uint64_t n = std::min<uint64_t>(bytes.size(), hole_end - content_offset);
        if (n != 0) {
          std::string_view zeros = bytes.substr(0, n);
          if (!keep_small_holes || !IsZero(zeros)) {
            RETURN_IF_ERROR(write(content_offset + shift, zeros));
          }
          content_offset += n;
          bytes.remove_prefix(n);
        }
        if (content_offset >= hole_end) {
          shift += hole->removed;
          ++hole;
        }
        continue;
      }
      uint64_t n = bytes.size();
      if (hole != holes_.end()) n = std::min(n, hole->content_begin - content_offset);
      RETURN_IF_ERROR(write(content_offset + shift, bytes.substr(0, n)));
      content_offset += n;
      bytes.remove_prefix(n);
    }
    return absl::OkStatus();
  }

 private:
  struct MappedHole {
    uint64_t content_begin, content_length, removed, shift_before;
  };
  std::vector<MappedHole> holes_;
  uint64_t content_length_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_TREE_FILE_CONTENT_H_
