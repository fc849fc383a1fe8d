#include "core/tree/tree_builder.h"

#include <cstring>
#include <utility>

#include "core/base/limits.h"
#include "core/chunking/name_cuts.h"

namespace holdfast {
TreeBuilder::TreeBuilder(PageSink& sink, const Key256& name_cut_key) : sink_(sink), name_cut_key_(name_cut_key) {}
TreeBuilder::~TreeBuilder() = default;

absl::Status TreeBuilder::Add(const Components& directory, Entry entry) {
  RETURN_IF_ERROR(status_);
  status_ = AddImpl(directory, std::move(entry));
  return status_;
}

absl::Status TreeBuilder::AddImpl(const Components& directory, Entry entry) {
  const std::string& key = keys_.Key(directory, entry.name);
  if (sums_.entries > 0 && key <= last_key_) {
    return absl::InvalidArgumentError("tree builder: entries out of order");
  }
  RETURN_IF_ERROR(CheckEntry(entry));
  if (key.size() > kEntryKeyBytesMax) {
    return absl::InvalidArgumentError("tree builder: a path beyond the format's limits");
  }
  uint32_t children = EntryChildCount(entry);
  if (!leaf_.entries.empty() && leaf_children_ + children > kPageChildrenCut) RETURN_IF_ERROR(EmitLeaf());
  if (leaf_.entries.empty()) leaf_start_key_ = key;
  if (leaf_.entries.empty() || leaf_.directories.back() != directory) {
    leaf_.directories.push_back(directory);
    leaf_weight_ += directory.size() + (directory.empty() ? 0 : directory.back().size());
  }
  leaf_.directory_index.push_back(static_cast<uint32_t>(leaf_.directories.size() - 1));
  leaf_weight_ += EntryCutWeight(entry);
  leaf_children_ += children;
  if (directory.empty()) {
    last_parent_name_.clear();
  } else {
    last_parent_name_ = directory.back();
  }
  leaf_.entries.push_back(std::move(entry));
  last_key_ = key;
  leaf_sums_.Add(leaf_.entries.back());
  sums_.Add(leaf_.entries.back());
  const std::string& name = leaf_.entries.back().name;
  bool cut = leaf_.entries.size() >= kPageEntriesMax || leaf_weight_ > kPageWeightCut ||
             (NameCutHash(name_cut_key_, 1, last_parent_name_, name) & kLeafCutMask) == 0;
  return cut ? EmitLeaf() : absl::OkStatus();
}

absl::Status TreeBuilder::EmitLeaf() {
  IndexEntry entry;
  entry.start_key = std::move(leaf_start_key_);
  entry.below = std::exchange(leaf_sums_, TreeSums());
  const Components& last_directory = leaf_.directories.back();
  entry.last_parent_name = last_directory.empty() ? std::string() : last_directory.back();
  entry.last_name = leaf_.entries.empty() ? std::string() : leaf_.entries.back().name;
  ASSIGN_OR_RETURN(entry.child, sink_.StorePage(EncodeLeaf(leaf_)));
  leaf_.directories.clear();
  leaf_.entries.clear();  // keeps its room: entries are large to move
  leaf_.directory_index.clear();
  leaf_weight_ = 0;
  leaf_children_ = 0;
  return Emitted(0, std::move(entry));
}

absl::Status TreeBuilder::Emitted(uint32_t level, IndexEntry entry) {
  if (level >= kTreeLevelsMax) return absl::ResourceExhaustedError("tree builder: too many levels");
  if (levels_.size() < level + 2) levels_.resize(level + 2);
  if (++levels_[level].emitted == 1) {
    levels_[level].first = std::move(entry);
    return absl::OkStatus();
  }
  if (levels_[level].first) {
    IndexEntry first = *std::move(levels_[level].first);
    levels_[level].first.reset();
    RETURN_IF_ERROR(AddToIndex(level + 1, std::move(first)));
  }
  return AddToIndex(level + 1, std::move(entry));
}

absl::Status TreeBuilder::AddToIndex(uint32_t level, IndexEntry entry) {
  IndexPage& open = levels_[level].open;
  open.level = level;
  levels_[level].weight += IndexEntryCutWeight(entry);
  open.entries.push_back(std::move(entry));
  const IndexEntry& last = open.entries.back();
  bool cut = open.entries.size() >= kPageEntriesMax || levels_[level].weight > kPageWeightCut ||
             (NameCutHash(name_cut_key_, static_cast<uint8_t>(level + 1), last.last_parent_name, last.last_name) &
              kIndexCutMask) == 0;
  return cut ? EmitIndex(level) : absl::OkStatus();
}

absl::Status TreeBuilder::EmitIndex(uint32_t level) {
  IndexPage page = std::move(levels_[level].open);
  levels_[level].open = IndexPage();
  levels_[level].weight = 0;
  IndexEntry entry;
  entry.start_key = page.entries.front().start_key;
  for (const IndexEntry& e : page.entries) entry.below.Add(e.below);
  entry.last_parent_name = page.entries.back().last_parent_name;
  entry.last_name = page.entries.back().last_name;
  ASSIGN_OR_RETURN(entry.child, sink_.StorePage(EncodeIndex(page)));
  return Emitted(level, std::move(entry));
}

absl::StatusOr<TreeRoot> TreeBuilder::Finish() {
  RETURN_IF_ERROR(status_);
  status_ = absl::FailedPreconditionError("tree builder: finished");
  if (sums_.entries == 0) return absl::InvalidArgumentError("tree builder: a tree has at least its root entry");
  if (!leaf_.entries.empty()) RETURN_IF_ERROR(EmitLeaf());
  uint32_t level = 0;
  while (!levels_[level].first) {
    ++level;
    if (!levels_[level].open.entries.empty()) RETURN_IF_ERROR(EmitIndex(level));
  }
  return TreeRoot{levels_[level].first->child, level, sums_};
}

absl::Status ContentBuilder::Add(ChunkPiece piece) {
  if (!listed_) {
    if (inline_.size() < kInlineChunksMax) {
      inline_.push_back(std::move(piece));
      return absl::OkStatus();
    }
    listed_ = true;
    for (ChunkPiece& p : inline_) RETURN_IF_ERROR(AddToList(0, std::move(p)));
    inline_.clear();
  }
  return AddToList(0, std::move(piece));
}

absl::Status ContentBuilder::AddToList(size_t level_index, ChunkPiece piece) {
  if (level_index >= kTreeLevelsMax) return absl::ResourceExhaustedError("a file with too many chunks");
  if (levels_.size() <= level_index) levels_.resize(level_index + 1);
  uint64_t head;
  std::memcpy(&head, piece.ref.id.bytes.data(), sizeof(head));
  levels_[level_index].open.push_back(std::move(piece));
  if ((head & kListCutMask) == 0 || levels_[level_index].open.size() >= kListRefsMax) return EmitList(level_index);
  return absl::OkStatus();
}

absl::Status ContentBuilder::EmitList(size_t level_index) {
  ContentList list;
  list.level = static_cast<uint32_t>(level_index + 1);
  list.pieces = std::move(levels_[level_index].open);
  levels_[level_index].open.clear();
  ChunkPiece parent;
  for (const ChunkPiece& p : list.pieces) parent.length += p.length;
  ASSIGN_OR_RETURN(parent.ref, sink_.StorePage(EncodeContentList(list)));
  Level& level = levels_[level_index];
  if (++level.emitted == 1) {
    level.first = std::move(parent);
    return absl::OkStatus();
  }
  if (level.first) {
    ChunkPiece first = *std::move(level.first);
    level.first.reset();
    RETURN_IF_ERROR(AddToList(level_index + 1, std::move(first)));
  }
  return AddToList(level_index + 1, std::move(parent));
}

absl::StatusOr<Content> ContentBuilder::Finish() {
  Content content;
  if (!listed_) {
    if (!inline_.empty()) {
      content.kind = Content::Kind::kChunks;
      content.chunks = std::move(inline_);
    }
    return content;
  }
  size_t level = 0;
  if (!levels_[0].open.empty()) RETURN_IF_ERROR(EmitList(0));
  while (!levels_[level].first) {
    ++level;
    if (!levels_[level].open.empty()) RETURN_IF_ERROR(EmitList(level));
  }
  content.kind = Content::Kind::kList;
  content.ref = levels_[level].first->ref;
  content.list_levels = static_cast<uint32_t>(level + 1);
  return content;
}

}  // namespace holdfast
