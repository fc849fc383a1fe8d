#include "core/tree/file_content.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/base/codec.h"

namespace holdfast {
namespace {

FileDigest FinishDigest(const Blake3& hash) {
  FileDigest out;
  hash.Finish(out.data(), out.size());
  return out;
}

}  // namespace

std::vector<Hole> LargeHolesOf(const std::vector<Hole>& holes) {
  std::vector<Hole> out;
  for (const Hole& hole : holes) {
    if (IsLargeHole(hole.length)) out.push_back(hole);
  }
  return out;
}

absl::StatusOr<uint64_t> StoredLength(const Entry& entry) {
  ASSIGN_OR_RETURN(ContentMap map, ContentMap::Make(entry.size, entry.holes));
  return map.content_length();
}

bool IsZero(std::string_view bytes) {
  return bytes.empty() || (bytes[0] == 0 && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

absl::StatusOr<ContentMap> ContentMap::Make(uint64_t file_size, const std::vector<Hole>& holes) {
  ContentMap map;
  uint64_t end = 0;
  uint64_t large = 0;
  map.holes_.reserve(holes.size());
  for (const Hole& hole : holes) {
    if (hole.offset < end || hole.offset > file_size || hole.length > file_size - hole.offset) {
      return absl::DataLossError("the holes of the entry contradict its size");
    }
    end = hole.offset + hole.length;
    const bool is_large = IsLargeHole(hole.length);
    map.holes_.push_back({hole.offset - large, is_large ? 0 : hole.length, is_large ? hole.length : 0, large});
    if (is_large) large += hole.length;
  }
  map.content_length_ = file_size - large;
  return map;
}

// The first hole of which something is behind `content_offset`. A large hole is at one offset, and not behind that.
std::vector<ContentMap::MappedHole>::const_iterator ContentMap::FirstHoleBehind(uint64_t content_offset) const {
  return std::partition_point(holes_.begin(), holes_.end(), [&](const MappedHole& h) {
    return h.content_begin + h.content_length <= content_offset;
  });
}

// By how much the large holes before `hole` shift the content in the file.
uint64_t ContentMap::ShiftBefore(std::vector<MappedHole>::const_iterator hole) const {
  if (hole != holes_.end()) return hole->shift_before;
  return holes_.empty() ? 0 : holes_.back().shift_before + holes_.back().removed;
}

uint64_t ContentMap::FileOffset(uint64_t content_offset) const {
  return content_offset + ShiftBefore(FirstHoleBehind(content_offset));
}

absl::Status ContentMap::ForEachRange(uint64_t content_offset, std::string_view bytes, bool keep_small_holes,
                                      WriteRange write) const {
  auto hole = FirstHoleBehind(content_offset);
  uint64_t shift = ShiftBefore(hole);
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

FileDigest SliceDigest(std::string_view content) { return FinishDigest(Blake3().Update({"\0", 1}).Update(content)); }

ChunkedFileDigest::ChunkedFileDigest() { hash_.Update("\1"); }

void ChunkedFileDigest::Add(const ChunkPiece& piece) {
  std::string bytes(piece.ref.digest.view());
  ByteWriter(&bytes).U64(piece.length);
  hash_.Update(bytes);
  ++pieces_;
}

FileDigest ChunkedFileDigest::Finish(uint64_t file_size, const std::vector<Hole>& holes) const {
  std::string bytes;
  ByteWriter w(&bytes);
  for (const Hole& hole : holes) {
    if (!IsLargeHole(hole.length)) continue;
    w.U64(hole.offset);
    w.U64(hole.length);
  }
  w.U64(pieces_);
  w.U64(file_size);
  return FinishDigest(Blake3(hash_).Update(bytes));
}

}  // namespace holdfast
