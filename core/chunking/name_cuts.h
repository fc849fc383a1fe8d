// Cut points between small files (bundles), and the hash that also ends the pages of the tree (core/tree):
// docs/format.md, section 6. They follow names, not positions or contents, so that an insertion or a metadata change
// moves no cut. Rules only: the callers hold the bytes. Not thread-safe; a few hundred nanoseconds per file or entry.
#ifndef HOLDFAST_CORE_CHUNKING_NAME_CUTS_H_
#define HOLDFAST_CORE_CHUNKING_NAME_CUTS_H_

#include <cstdint>
#include <string_view>

#include "core/crypto/types.h"

namespace holdfast {

inline constexpr uint64_t kBundleCutMask = 15;
inline constexpr uint64_t kBundleCutBytesMin = 64u << 10;   // a name ends a bundle from here on
inline constexpr uint64_t kBundleTargetBytes = 256u << 10;  // any file ends it from here on

// The first 8 bytes of the keyed hash over domain, the length-prefixed parent directory name and the name. Domain: 0
// for bundles, level + 1 for pages.
uint64_t NameCutHash(const Key256& name_cut_key, uint8_t domain, std::string_view parent_name, std::string_view name);

// Which files share a bundle. For each file in walk order: if CutBefore() says so, end the bundle and Reset(); Add()
// the file; if CutAfter() says so, end the bundle and Reset(). An empty bundle is never cut.
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

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CHUNKING_NAME_CUTS_H_
