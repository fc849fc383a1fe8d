// Builds a snapshot's tree from its sorted stream of entries: leaves, index pages above, until one page remains. The
// cut of every page depends on names, counts and the entries themselves only, so equal streams give equal trees,
// whether they come from a walk or from a merge with an older tree. Memory: one open page per level.
#ifndef HOLDFAST_CORE_TREE_TREE_BUILDER_H_
#define HOLDFAST_CORE_TREE_TREE_BUILDER_H_

#include <optional>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/tree/page.h"

namespace holdfast {

// Takes finished tree bodies. Called from the builder's thread, children always before parents.
class PageSink {
 public:
  virtual ~PageSink() = default;
  // Computes the body's id and key, and stores it (or knows that it is stored).
  virtual absl::StatusOr<ChunkRef> StorePage(EncodedPage page) = 0;
};

struct TreeRoot {
  ChunkRef ref;
  uint32_t level = 0;  // 0: the root is a leaf
  TreeSums sums;
};

// One thread. After an error every call returns it.
class TreeBuilder {
 public:
  TreeBuilder(PageSink& sink, const Key256& name_cut_key);
  ~TreeBuilder();
  // Keys strictly ascending (INVALID_ARGUMENT otherwise); the first entry is the root.
  absl::Status Add(const Components& directory, Entry entry);
  absl::StatusOr<TreeRoot> Finish();

 private:
  // Level 0 are the leaves; `open` is used from level 1 on.
  struct Level {
    IndexPage open;
    uint64_t weight = 0;  // of its entries
    uint64_t emitted = 0;
    // The level's first page, until a second one shows that there is a level above: a tree's root is the only page of
    // its level, and nothing is stored that the root does not reach.
    std::optional<IndexEntry> first;
  };
  absl::Status AddImpl(const Components& directory, Entry entry);
  absl::Status EmitLeaf();
  absl::Status AddToIndex(uint32_t level, IndexEntry entry);
  absl::Status EmitIndex(uint32_t level);
  absl::Status Emitted(uint32_t level, IndexEntry entry);

  PageSink& sink_;
  const Key256 name_cut_key_;
  absl::Status status_;
  LeafPage leaf_;
  EntryKeyCursor keys_;
  std::string leaf_start_key_, last_key_;
  std::string last_parent_name_;
  uint64_t leaf_weight_ = 0;
  uint32_t leaf_children_ = 0;
  TreeSums leaf_sums_, sums_;
  std::vector<Level> levels_;
};

// Builds the content of one large file from its pieces in file order: inline up to 64, content lists above. One thread.
class ContentBuilder {
 public:
  explicit ContentBuilder(PageSink& sink) : sink_(sink) {}
  absl::Status Add(ChunkPiece piece);
  absl::StatusOr<Content> Finish();

 private:
  absl::Status AddToList(size_t level_index, ChunkPiece piece);
  absl::Status EmitList(size_t level_index);

  PageSink& sink_;
  std::vector<ChunkPiece> inline_;
  bool listed_ = false;
  struct Level {
    std::vector<ChunkPiece> open;
    uint64_t emitted = 0;
    std::optional<ChunkPiece> first;  // as in TreeBuilder
  };
  std::vector<Level> levels_;  // [0] holds chunks
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_TREE_TREE_BUILDER_H_
