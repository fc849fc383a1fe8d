#include "core/tree/snapshot_reader.h"

#include <algorithm>
#include <deque>

#include "core/base/limits.h"
#include "core/tree/page.h"

namespace holdfast {
namespace {

// Pages fetched ahead of an ordered scan: one at first, so that a lookup stays cheap, then doubling.
constexpr size_t kPrefetchPagesMax = 16;

class CollectSink : public ChunkSink {
 public:
  explicit CollectSink(size_t n) : chunks(n, absl::UnavailableError("not answered")) {}
  absl::Status OnChunk(size_t index, const absl::StatusOr<OpenedChunk>& chunk) override {
    if (index >= chunks.size()) return absl::InternalError("chunk index out of range");
    if (!chunk.ok()) {
      chunks[index] = chunk.status();
    } else {
      OwnedChunk owned;
      owned.type = chunk->type;
      owned.plaintext.assign(chunk->plaintext);
      owned.children.assign(chunk->children.begin(), chunk->children.end());
      chunks[index] = std::move(owned);
    }
    return absl::OkStatus();
  }
  std::vector<absl::StatusOr<OwnedChunk>> chunks;
};

// A snapshot promises its chunks: one that is missing is damage. NOT_FOUND stays for entries that do not exist.
absl::Status CheckPresent(const absl::StatusOr<OwnedChunk>& chunk) {
  if (absl::IsNotFound(chunk.status())) return absl::DataLossError(chunk.status().message());
  return chunk.status();
}

absl::Status CheckTree(const absl::StatusOr<OwnedChunk>& chunk) {
  RETURN_IF_ERROR(CheckPresent(chunk));
  if (chunk->type != ChunkType::kTree) return absl::DataLossError("a data chunk where a tree page is expected");
  return absl::OkStatus();
}

// A page that is not opened yet.
struct Node {
  ChunkRef ref;
  uint32_t level = 0;
  std::string start_key;
  std::string end_key;            // start of the next sibling on any level; empty: the end of the tree
  std::optional<TreeSums> below;  // as its parent says
};

absl::Status CheckSums(const TreeSums& found, const Node& node) {
  if (!node.below || *node.below == found) return absl::OkStatus();
  return absl::DataLossError("a page with other counts than its parent says");
}

// Start and end are checked: a page that reached into the next would break the order that every reader relies on.
absl::StatusOr<LeafPage> OpenLeaf(const absl::StatusOr<OwnedChunk>& chunk, const Node& node) {
  RETURN_IF_ERROR(CheckTree(chunk));
  Components directory;
  std::string name;
  if (!ParseEntryKey(node.start_key, &directory, &name))
    return absl::DataLossError("an index page with a malformed key");
  ASSIGN_OR_RETURN(LeafPage leaf, DecodeLeaf(chunk->plaintext, chunk->children, directory));
  if (leaf.entries.empty()) return absl::DataLossError("an empty leaf");
  if (EntryKey(leaf.directories[0], leaf.entries[0].name) != node.start_key) {
    return absl::DataLossError("a leaf that does not start where its index page says");
  }
  if (!node.end_key.empty() &&
      EntryKey(leaf.directories[leaf.directory_index.back()], leaf.entries.back().name) >= node.end_key) {
    return absl::DataLossError("a leaf that reaches into the next");
  }
  TreeSums sums;
  for (const Entry& entry : leaf.entries) sums.Add(entry);
  RETURN_IF_ERROR(CheckSums(sums, node));
  return leaf;
}

// The children of an index page, as nodes.
absl::StatusOr<std::vector<Node>> OpenIndex(const absl::StatusOr<OwnedChunk>& chunk, const Node& node) {
  RETURN_IF_ERROR(CheckTree(chunk));
  ASSIGN_OR_RETURN(IndexPage page, DecodeIndex(chunk->plaintext, chunk->children));
  if (page.level != node.level) return absl::DataLossError("an index page of another level than expected");
  if (page.entries.front().start_key != node.start_key) {
    return absl::DataLossError("an index page that does not start where its parent says");
  }
  if (!node.end_key.empty() && page.entries.back().start_key >= node.end_key) {
    return absl::DataLossError("an index page that reaches into the next");
  }
  TreeSums sums;
  for (const IndexEntry& entry : page.entries) sums.Add(entry.below);
  RETURN_IF_ERROR(CheckSums(sums, node));
  std::vector<Node> out;
  out.reserve(page.entries.size());
  for (size_t i = 0; i < page.entries.size(); ++i) {
    Node child;
    child.ref = page.entries[i].child;
    child.level = node.level - 1;
    child.start_key = std::move(page.entries[i].start_key);
    child.below = page.entries[i].below;
    out.push_back(std::move(child));
  }
  for (size_t i = 0; i + 1 < out.size(); ++i) out[i].end_key = out[i + 1].start_key;
  out.back().end_key = node.end_key;
  return out;
}

Node RootNode(const ChunkRef& root, uint32_t level, const std::optional<TreeSums>& sums) {
  Node node;
  node.ref = root;
  node.level = level;
  node.start_key = EntryKey({}, "");
  node.below = sums;
  return node;
}

// Does [node.start_key, node.end_key) meet [range.begin, range.end)?
bool Meets(const Node& node, const KeyRange& range) {
  if (!range.end.empty() && node.start_key >= range.end) return false;
  return node.end_key.empty() || node.end_key > range.begin;
}

class ScanIterator : public EntryIterator {
 public:
  ScanIterator(ChunkSource& source, Node root, KeyRange range) : source_(source), range_(std::move(range)) {
    pending_.push_back({std::move(root), std::nullopt});
  }

  bool Next() override {
    while (status_.ok()) {
      if (leaf_ && ++position_ < leaf_->entries.size()) {
        if (SkipOrStop()) continue;
        return !done_;
      }
      leaf_.reset();
      if (done_ || !Advance()) return false;
    }
    return false;
  }
  const Entry& entry() const override { return leaf_->entries[position_]; }
  const Components& directory() const override { return leaf_->directories[leaf_->directory_index[position_]]; }
  absl::Status status() const override { return status_; }
  const std::vector<KeyGap>& gaps() const override { return gaps_; }

 private:
  struct Pending {
    Node node;
    std::optional<absl::StatusOr<OwnedChunk>> chunk;
  };

  // At the current position: true to go on (before the range), sets done_ behind it. Keys are compared only in the
  // first and last leaf of a range.
  bool SkipOrStop() {
    if (!check_begin_ && !check_end_) return false;
    std::string key = EntryKey(directory(), entry().name);
    if (check_begin_) {
      if (key < range_.begin) return true;
      check_begin_ = false;
    }
    if (check_end_ && key >= range_.end) done_ = true;
    return false;
  }

  // Opens pages until a leaf is current. False: no more.
  bool Advance() {
    while (!pending_.empty()) {
      if (!Meets(pending_.front().node, range_)) {
        pending_.pop_front();
        continue;
      }
      if (!pending_.front().chunk) {
        status_ = Prefetch();
        if (!status_.ok()) return false;
      }
      Pending page = std::move(pending_.front());
      pending_.pop_front();
      if (page.node.level == 0) {
        absl::StatusOr<LeafPage> leaf = OpenLeaf(*page.chunk, page.node);
        if (!leaf.ok()) {
          if (!Gap(page.node, leaf.status())) return false;
          continue;
        }
        leaf_ = *std::move(leaf);
        position_ = static_cast<size_t>(-1);
        check_begin_ = page.node.start_key < range_.begin;
        check_end_ = !range_.end.empty() && (page.node.end_key.empty() || page.node.end_key > range_.end);
        return true;
      }
      absl::StatusOr<std::vector<Node>> children = OpenIndex(*page.chunk, page.node);
      if (!children.ok()) {
        if (!Gap(page.node, children.status())) return false;
        continue;
      }
      for (auto it = children->rbegin(); it != children->rend(); ++it) {
        if (Meets(*it, range_)) pending_.push_front({std::move(*it), std::nullopt});
      }
    }
    return false;
  }

  bool Gap(const Node& node, const absl::Status& why) {
    if (!absl::IsDataLoss(why)) {
      status_ = why;
      return false;
    }
    gaps_.push_back({{node.start_key, node.end_key}, why});
    return true;
  }

  // Fetches the next pages of the front's level in one request.
  absl::Status Prefetch() {
    std::vector<ChunkRef> refs;
    for (size_t i = 0; i < pending_.size() && i < window_; ++i) {
      if (pending_[i].chunk || pending_[i].node.level != pending_[0].node.level) break;
      refs.push_back(pending_[i].node.ref);
    }
    window_ = std::min(window_ * 2, kPrefetchPagesMax);
    CollectSink sink(refs.size());
    RETURN_IF_ERROR(source_.Fetch(refs, sink));
    for (size_t i = 0; i < refs.size(); ++i) pending_[i].chunk = std::move(sink.chunks[i]);
    return absl::OkStatus();
  }

  ChunkSource& source_;
  const KeyRange range_;
  std::deque<Pending> pending_;
  size_t window_ = 1;
  std::optional<LeafPage> leaf_;
  size_t position_ = 0;
  bool check_begin_ = false, check_end_ = false, done_ = false;
  absl::Status status_;
  std::vector<KeyGap> gaps_;
};

// One side of a diff: a position that is either an unopened page or an entry.
class DiffCursor {
 public:
  DiffCursor(ChunkSource& source, Node root) : source_(source) { pending_.push_back(std::move(root)); }
  bool AtEnd() const { return !leaf_ && pending_.empty(); }
  bool AtNode() const { return !leaf_; }
  const Node& node() const { return pending_.front(); }
  const std::string& key() const { return leaf_ ? key_ : pending_.front().start_key; }
  const Entry& entry() const { return leaf_->entries[position_]; }
  const Components& directory() const { return leaf_->directories[leaf_->directory_index[position_]]; }
  void SkipNode() { pending_.pop_front(); }
  void NextEntry() {
    if (++position_ >= leaf_->entries.size()) {
      leaf_.reset();
    } else {
      key_ = keys_.Key(directory(), entry().name);
    }
  }
  absl::Status OpenNode() {
    Node node = std::move(pending_.front());
    pending_.pop_front();
    CollectSink sink(1);
    RETURN_IF_ERROR(source_.Fetch({&node.ref, 1}, sink));
    if (node.level == 0) {
      ASSIGN_OR_RETURN(leaf_, OpenLeaf(sink.chunks[0], node));
      position_ = 0;
      key_ = keys_.Key(directory(), entry().name);
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(std::vector<Node> children, OpenIndex(sink.chunks[0], node));
    for (auto it = children.rbegin(); it != children.rend(); ++it) pending_.push_front(std::move(*it));
    return absl::OkStatus();
  }

 private:
  ChunkSource& source_;
  std::deque<Node> pending_;
  std::optional<LeafPage> leaf_;
  size_t position_ = 0;
  EntryKeyCursor keys_;
  std::string key_;
};

absl::Status VisitList(ChunkSource& source, const ChunkRef& ref, uint32_t level,
                       const std::function<absl::Status(const ChunkPiece&)>& visit) {
  const absl::StatusOr<OwnedChunk> chunk = FetchOne(source, ref);
  RETURN_IF_ERROR(CheckTree(chunk));
  ASSIGN_OR_RETURN(ContentList list, DecodeContentList(chunk->plaintext, chunk->children));
  if (list.level != level) return absl::DataLossError("a content list of another level than expected");
  for (const ChunkPiece& piece : list.pieces) {
    if (level == 1) {
      RETURN_IF_ERROR(visit(piece));
    } else {
      RETURN_IF_ERROR(VisitList(source, piece.ref, level - 1, visit));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OwnedChunk> FetchOne(ChunkSource& source, const ChunkRef& ref) {
  CollectSink sink(1);
  RETURN_IF_ERROR(source.Fetch({&ref, 1}, sink));
  return std::move(sink.chunks[0]);
}

KeyRange KeyRange::Directory(const Components& directory) {
  std::string prefix = DirectoryKeyPrefix(directory);
  KeyRange range;
  range.begin = prefix + '\x01';  // behind the root's own entry, whose name is empty
  range.end = prefix;
  range.end.back() = '\x01';
  return range;
}

TreeSums SumsOf(const pb::ManifestCore& core) {
  TreeSums sums = {0, core.files(), core.directories(), core.bytes()};
  sums.Add(TreeSums{core.files(), 0, 0, 0});
  sums.Add(TreeSums{core.directories(), 0, 0, 0});
  sums.Add(TreeSums{core.others(), 0, 0, 0});
  return sums;
}

SnapshotReader::SnapshotReader(ChunkSource& source, const ChunkRef& root, uint32_t root_level,
                               std::optional<TreeSums> sums)
    : source_(source), root_(root), root_level_(root_level), sums_(sums) {}

std::unique_ptr<EntryIterator> SnapshotReader::Scan(const KeyRange& range) const {
  return std::make_unique<ScanIterator>(source_, RootNode(root_, root_level_, sums_), range);
}

std::unique_ptr<EntryIterator> SnapshotReader::ScanSubtree(const Components& directory) const {
  KeyRange range;
  if (directory.empty()) {
    range.begin = DirectoryKeyPrefix({}) + '\x01';
  } else {
    range.begin = DirectoryKeyPrefix(directory);
    range.begin.pop_back();
    range.end = range.begin;
    range.end.back() = '\x01';
  }
  return Scan(range);
}

absl::StatusOr<Entry> SnapshotReader::Lookup(const Components& directory, std::string_view name) const {
  KeyRange range;
  range.begin = EntryKey(directory, name);
  range.end = range.begin + '\0';
  std::unique_ptr<EntryIterator> it = Scan(range);
  if (it->Next()) return it->entry();
  RETURN_IF_ERROR(it->status());
  if (!it->gaps().empty()) return it->gaps().front().status;
  return absl::NotFoundError("no such file or directory in the snapshot");
}

absl::StatusOr<Entry> SnapshotReader::LookupPath(const Components& path) const {
  if (path.empty()) return Lookup({}, "");
  Components directory(path.begin(), path.end() - 1);
  return Lookup(directory, path.back());
}

absl::Status SnapshotReader::Diff(const SnapshotReader& newer,
                                  const std::function<absl::Status(const DiffItem&)>& visit) const {
  DiffCursor a(source_, RootNode(root_, root_level_, sums_));
  DiffCursor b(newer.source_, RootNode(newer.root_, newer.root_level_, newer.sums_));
  auto emit = [&](DiffKind kind) {
    DiffItem item;
    item.kind = kind;
    item.directory = kind == DiffKind::kAdded ? b.directory() : a.directory();
    if (kind != DiffKind::kAdded) item.before = a.entry();
    if (kind != DiffKind::kRemoved) item.after = b.entry();
    return visit(item);
  };
  while (!a.AtEnd() || !b.AtEnd()) {
    if (!a.AtEnd() && !b.AtEnd() && a.AtNode() && b.AtNode()) {
      // Equal ids with equal starts are equal subtrees: leaves hold relative paths, so the start matters.
      if (a.node().ref.id == b.node().ref.id && a.key() == b.key()) {
        a.SkipNode();
        b.SkipNode();
      } else if (a.node().level != b.node().level) {
        RETURN_IF_ERROR(a.node().level > b.node().level ? a.OpenNode() : b.OpenNode());
      } else if (a.key() != b.key()) {
        RETURN_IF_ERROR(a.key() < b.key() ? a.OpenNode() : b.OpenNode());
      } else {
        RETURN_IF_ERROR(a.OpenNode());
        RETURN_IF_ERROR(b.OpenNode());
      }
      continue;
    }
    // An unopened page may hold the other side's entry unless it starts behind it.
    if (!a.AtEnd() && a.AtNode() && (b.AtEnd() || a.key() <= b.key())) {
      RETURN_IF_ERROR(a.OpenNode());
      continue;
    }
    if (!b.AtEnd() && b.AtNode() && (a.AtEnd() || b.key() <= a.key())) {
      RETURN_IF_ERROR(b.OpenNode());
      continue;
    }
    if (b.AtEnd() || (!a.AtEnd() && a.key() < b.key())) {
      RETURN_IF_ERROR(emit(DiffKind::kRemoved));
      a.NextEntry();
    } else if (a.AtEnd() || b.key() < a.key()) {
      RETURN_IF_ERROR(emit(DiffKind::kAdded));
      b.NextEntry();
    } else {
      if (!(a.entry() == b.entry())) RETURN_IF_ERROR(emit(DiffKind::kModified));
      a.NextEntry();
      b.NextEntry();
    }
  }
  return absl::OkStatus();
}

absl::Status SnapshotReader::ForEachPiece(const Content& content,
                                          const std::function<absl::Status(const ChunkPiece&)>& visit) const {
  if (content.kind == Content::Kind::kChunks) {
    for (const ChunkPiece& piece : content.chunks) RETURN_IF_ERROR(visit(piece));
  } else if (content.kind == Content::Kind::kList) {
    return VisitList(source_, content.ref, content.list_levels, visit);
  }
  return absl::OkStatus();
}

absl::Status SnapshotReader::ResolveSideChunks(Entry& entry) const {
  if (entry.xattr_chunk) {
    const absl::StatusOr<OwnedChunk> chunk = FetchOne(source_, *entry.xattr_chunk);
    RETURN_IF_ERROR(CheckPresent(chunk));
    ASSIGN_OR_RETURN(entry.xattrs, DecodeXattrs(chunk->plaintext));
    entry.xattr_chunk.reset();
  }
  if (entry.hole_chunk) {
    const absl::StatusOr<OwnedChunk> chunk = FetchOne(source_, *entry.hole_chunk);
    RETURN_IF_ERROR(CheckPresent(chunk));
    ASSIGN_OR_RETURN(entry.holes, DecodeHoles(chunk->plaintext));
    entry.hole_chunk.reset();
  }
  return absl::OkStatus();
}

}  // namespace holdfast
