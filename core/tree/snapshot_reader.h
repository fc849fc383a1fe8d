// Reads a snapshot's tree: for restore, ls, diff, verify and as the base of the next backup. Memory: depth x page.
#ifndef HOLDFAST_CORE_TREE_SNAPSHOT_READER_H_
#define HOLDFAST_CORE_TREE_SNAPSHOT_READER_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/format/manifest.h"
#include "core/tree/chunk_source.h"
#include "core/tree/entry.h"

namespace holdfast {

// A half-open range of entry keys; an empty `end` means to the end.
struct KeyRange {
  std::string begin, end;
  static KeyRange All() { return {}; }
  // The entries directly inside a directory.
  static KeyRange Directory(const Components& directory);
};

// A range of keys that could not be read, and why.
struct KeyGap {
  KeyRange range;
  absl::Status status;
};

// Key order; one thread.
class EntryIterator {
 public:
  virtual ~EntryIterator() = default;
  virtual bool Next() = 0;                              // false: the end, or status() says why not
  virtual const Entry& entry() const = 0;               // valid until Next()
  virtual const Components& directory() const = 0;      // of the entry; valid until Next()
  virtual absl::Status status() const = 0;              // repository unreachable; damaged pages become gaps
  virtual const std::vector<KeyGap>& gaps() const = 0;  // so far; iteration goes on behind a gap
};

enum class DiffKind { kAdded, kRemoved, kModified };
struct DiffItem {
  DiffKind kind;
  Components directory;
  std::optional<Entry> before, after;
};

// What a snapshot's core says of its whole tree.
TreeSums SumsOf(const pb::ManifestCore& core);

class SnapshotReader {
 public:
  // `root_level`: 0 when the root is a leaf. `sums`: what the snapshot's core says of the whole tree; a root page that
  // says something else is damage. `source` is borrowed.
  SnapshotReader(ChunkSource& source, const ChunkRef& root, uint32_t root_level,
                 std::optional<TreeSums> sums = std::nullopt);
  // NOT_FOUND when there is no such entry; DATA_LOSS when the pages on the way are damaged.
  absl::StatusOr<Entry> Lookup(const Components& directory, std::string_view name) const;
  // By path components (empty: the root entry).
  absl::StatusOr<Entry> LookupPath(const Components& path) const;
  std::unique_ptr<EntryIterator> Scan(const KeyRange& range) const;
  // A directory's own subtree: the entries below it, at any depth, in key order (the directory itself is not among
  // them).
  std::unique_ptr<EntryIterator> ScanSubtree(const Components& directory) const;
  // Calls `visit` for every difference in key order, skipping pages that both trees share: time in proportion to the
  // change. A damaged page on either side is an error.
  absl::Status Diff(const SnapshotReader& newer, const std::function<absl::Status(const DiffItem&)>& visit) const;
  // Every chunk of a file in order, lists resolved; `visit` may be called with any number of pieces.
  absl::Status ForEachPiece(const Content& content, const std::function<absl::Status(const ChunkPiece&)>& visit) const;
  // Side chunks resolved into entry.xattrs and entry.holes.
  absl::Status ResolveSideChunks(Entry& entry) const;
  ChunkSource& source() const { return source_; }
  const ChunkRef& root() const { return root_; }
  uint32_t root_level() const { return root_level_; }

 private:
  ChunkSource& source_;
  ChunkRef root_;
  uint32_t root_level_;
  std::optional<TreeSums> sums_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_TREE_SNAPSHOT_READER_H_
