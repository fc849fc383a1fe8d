// Cut points between small files (bundles) and between tree entries (pages): docs/format.md, section 6. They follow
// names, not positions or contents, so that an insertion or a metadata change moves no cut. Rules only: the callers hold
// the bytes. Not thread-safe; a few hundred nanoseconds per file or entry.
#ifndef HOLDFAST_CORE_CHUNKING_NAME_CUTS_H_
#define HOLDFAST_CORE_CHUNKING_NAME_CUTS_H_

#include <cstdint>
#include <string_view>

#include "core/crypto/types.h"

namespace holdfast {

inline constexpr uint64_t kBundleCutMask = 15;
inline constexpr uint64_t kBundleCutBytesMin = 64u << 10;   // a name ends a bundle from here on
inline constexpr uint64_t kBundleTargetBytes = 256u << 10;  // any file ends it from here on
inline constexpr uint64_t kLeafCutMask = 511;
inline constexpr uint64_t kIndexCutMask = 127;
inline constexpr uint64_t kPageEntriesMax = 4096;
inline constexpr uint64_t kPageChildrenCut = 8192;
inline constexpr uint64_t kPageEncodedBytesCut = 512u << 10;

// The first 8 bytes of the keyed hash over domain, the length-prefixed parent directory name and the name. Domain: 0 for
// bundles, level + 1 for pages.
uint64_t NameCutHash(const Key256& name_cut_key, uint8_t domain, std::string_view parent_name, std::string_view name);

// Which files share a bundle. For each file in walk order: if CutBefore() says so, end the bundle and Reset(); Add() the
// file; if CutAfter() says so, end the bundle and Reset(). An empty bundle is never cut.
class BundleCutter {
 public:
  explicit BundleCutter(const Key256& name_cut_key) : key_(name_cut_key) {}

  // True if the next file, of the size that the walk saw, must not join the bundle: another owner, or more than 1 MiB.
  bool CutBefore(uint32_t next_uid, uint64_t next_size) const;
  // `size` is again the size that the walk saw, even if fewer or more bytes were read.
  void Add(std::string_view parent_name, std::string_view name, uint32_t uid, uint64_t size);
  // True if the bundle ends with the file added last.
  bool CutAfter() const { return cut_after_; }
  void Reset();

  uint32_t file_count() const { return files_; }
  uint64_t size_bytes() const { return bytes_; }

 private:
  const Key256 key_;
  uint32_t files_ = 0;
  uint32_t uid_ = 0;
  uint64_t bytes_ = 0;
  bool cut_after_ = false;
};

// Where pages of the tree end.
class PageCutter {
 public:
  // What the page holds, the entry just added included.
  struct Totals {
    uint64_t entries = 0;
    uint64_t children = 0;       // distinct child ids
    uint64_t encoded_bytes = 0;  // of the encoded entries
  };
  // Level 0: leaves.
  PageCutter(const Key256& name_cut_key, uint32_t level);

  // True if this name ends a page of this level, whatever the page holds. For an index page the names are those of the
  // last entry of the child page.
  bool IsCutName(std::string_view parent_name, std::string_view name) const;
  // True if a page that holds `totals` is full.
  static bool IsFull(const Totals& totals);
  bool CutAfter(std::string_view parent_name, std::string_view name, const Totals& totals) const {
    return IsFull(totals) || IsCutName(parent_name, name);
  }

 private:
  const Key256 key_;
  const uint8_t domain_;
  const uint64_t mask_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CHUNKING_NAME_CUTS_H_
