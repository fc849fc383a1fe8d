// Tree bodies: leaf pages, index pages and content lists, encode and decode (docs/format.md, section 7). No I/O.
// A decoder takes hostile bytes: every count, ordinal and length is checked before it is used.
#ifndef HOLDFAST_CORE_TREE_PAGE_H_
#define HOLDFAST_CORE_TREE_PAGE_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "core/base/status.h"
#include "core/tree/entry.h"

namespace holdfast {

inline constexpr uint32_t kInlineChunksMax = 64;  // more go to content lists
inline constexpr uint32_t kInlineXattrBytesMax = 16384;
inline constexpr uint32_t kInlineHolesMax = 1024;
inline constexpr uint32_t kListRefsMax = 2048;
inline constexpr uint64_t kListCutMask = 255;
// Where pages end (docs/format.md, section 6).
inline constexpr uint64_t kLeafCutMask = 511;
inline constexpr uint64_t kIndexCutMask = 127;
inline constexpr uint64_t kPageEntriesMax = 4096;
inline constexpr uint64_t kPageChildrenCut = 8192;
inline constexpr uint64_t kPageWeightCut = 512u << 10;

// A tree body ready to be hashed and sealed: children strictly ascending, their keys inside the plaintext.
struct EncodedPage {
  std::vector<ChunkId> children;
  std::string plaintext;
};

// Entries of one leaf; the directories of the entries as indices into `directories`.
struct LeafPage {
  std::vector<Components> directories;    // distinct, in walk order
  std::vector<uint32_t> directory_index;  // per entry
  std::vector<Entry> entries;
};

EncodedPage EncodeLeaf(const LeafPage& leaf);
// `start_directory`: that of the page's start key.
absl::StatusOr<LeafPage> DecodeLeaf(std::string_view plaintext, absl::Span<const ChunkId> children,
                                    const Components& start_directory);

struct IndexEntry {
  ChunkRef child;
  std::string start_key;  // key of the first entry below
  TreeSums below;
  std::string last_parent_name;  // directory name and name of the last entry below: decide the next level's cut
  std::string last_name;
};
struct IndexPage {
  uint32_t level = 1;
  std::vector<IndexEntry> entries;
};
EncodedPage EncodeIndex(const IndexPage& page);
absl::StatusOr<IndexPage> DecodeIndex(std::string_view plaintext, absl::Span<const ChunkId> children);

struct ContentList {
  uint32_t level = 1;              // 1: pieces are chunks
  std::vector<ChunkPiece> pieces;  // length = plaintext bytes below
};
EncodedPage EncodeContentList(const ContentList& list);
absl::StatusOr<ContentList> DecodeContentList(std::string_view plaintext, absl::Span<const ChunkId> children);

// Field encodings that also stand in side chunks.
std::string EncodeXattrs(absl::Span<const Xattr> xattrs);
absl::StatusOr<std::vector<Xattr>> DecodeXattrs(std::string_view bytes);
std::string EncodeHoles(absl::Span<const Hole> holes);
absl::StatusOr<std::vector<Hole>> DecodeHoles(std::string_view bytes);

// What an entry counts for in the page's byte limit (512 KiB), and how many children it may add.
uint64_t EntryCutWeight(const Entry& entry);
uint64_t IndexEntryCutWeight(const IndexEntry& entry);
uint32_t EntryChildCount(const Entry& entry);
// INVALID_ARGUMENT for what no decoder would take: one such entry would cost the whole page. What comes from a file
// system has to be checked; the root alone has an empty name, which is not checked here.
absl::Status CheckEntry(const Entry& entry);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_TREE_PAGE_H_
