// One file-system object of a snapshot, as pages store it (docs/format.md, section 7), and its sort key.
#ifndef HOLDFAST_CORE_TREE_ENTRY_H_
#define HOLDFAST_CORE_TREE_ENTRY_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/format/chunk.h"

namespace holdfast {

enum class EntryType : uint8_t {
  kFile = 1,
  kDirectory = 2,
  kSymlink = 3,
  kFifo = 4,
  kSocket = 5,
  kCharDevice = 6,
  kBlockDevice = 7,
};

inline constexpr uint32_t kEntryRacy = 1;  // changed within time-stamp granularity of the scan
inline constexpr uint32_t kEntryChangedWhileRead = 2;
inline constexpr uint32_t kEntryReadFailed = 4;    // content is missing
inline constexpr uint32_t kEntryNotDescended = 8;  // foreign mount point or pseudo file system

struct Timestamp {
  int64_t seconds = 0;
  uint32_t nanos = 0;
  auto operator<=>(const Timestamp&) const = default;
};

struct ChunkPiece {
  ChunkRef ref;
  uint64_t length = 0;  // plaintext bytes
  bool operator==(const ChunkPiece&) const = default;
};

struct Content {
  enum class Kind : uint8_t { kNone, kInline, kSlice, kChunks, kList };
  Kind kind = Kind::kNone;          // kNone: empty file, or not a file
  std::string inline_bytes;         // kInline
  ChunkRef ref;                     // kSlice: the bundle; kList: the list
  uint64_t offset = 0, length = 0;  // kSlice
  std::vector<ChunkPiece> chunks;   // kChunks, in file order; large holes are not stored
  uint32_t list_levels = 0;         // kList
  bool operator==(const Content&) const = default;
};

struct Hole {
  uint64_t offset = 0, length = 0;
  bool operator==(const Hole&) const = default;
};

struct Xattr {
  std::string name, value;
  bool operator==(const Xattr&) const = default;
};

using FileDigest = std::array<uint8_t, 32>;

struct Entry {
  std::string name;  // raw bytes; empty for the root
  EntryType type = EntryType::kFile;
  uint32_t flags = 0;
  uint32_t mode = 0;  // 12 bits
  uint32_t uid = 0, gid = 0;
  std::string owner_name, group_name;  // empty = unknown
  Timestamp mtime, ctime;
  std::optional<Timestamp> birth_time;
  uint64_t inode = 0;
  uint32_t device = 0;  // per-snapshot ordinal of st_dev
  uint32_t link_count = 1;
  uint64_t size = 0;
  Content content;
  std::vector<Hole> holes;
  std::optional<ChunkRef> hole_chunk;  // in place of `holes` when there are too many for the page
  std::string symlink_target;
  uint32_t device_major = 0, device_minor = 0;
  std::vector<Xattr> xattrs;            // sorted by name
  std::optional<ChunkRef> xattr_chunk;  // in place of `xattrs` when they are large
  std::optional<FileDigest> digest;
  std::optional<uint64_t> inode_flags;
  bool operator==(const Entry&) const = default;
};

// What lies below a page, or in a whole tree: counted in the pages as in the snapshot's core. Every name of a hard link
// counts. Sums stop at 2^64 - 1.
struct TreeSums {
  uint64_t entries = 0, files = 0, directories = 0;
  uint64_t bytes = 0;  // sizes of the files
  bool operator==(const TreeSums&) const = default;
  void Add(const Entry& entry);
  void Add(const TreeSums& sums);
};

// Names of the directories from the root down.
using Components = std::vector<std::string>;

// Sort key: components joined by 0x00, then 0x00 0x00, then the name.
std::string EntryKey(const Components& directory, std::string_view name);
std::string DirectoryKeyPrefix(const Components& directory);  // directory, then 0x00 0x00
// The keys of a sequence of entries: builds only the name anew while the directory stays the same. One thread.
class EntryKeyCursor {
 public:
  // Valid until the next call.
  const std::string& Key(const Components& directory, std::string_view name);

 private:
  Components directory_;
  std::string key_ = std::string(2, '\0');
  size_t prefix_bytes_ = 2;
};
// False when it is not a key.
bool ParseEntryKey(std::string_view key, Components* directory, std::string* name);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_TREE_ENTRY_H_
