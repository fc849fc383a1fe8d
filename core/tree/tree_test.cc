// Trees as a whole: built, merged, read, compared and damaged over chunks in memory.
#include <algorithm>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "core/base/limits.h"
#include "core/base/status_testing.h"
#include "core/chunking/name_cuts.h"
#include "core/crypto/blake3.h"
#include "core/tree/snapshot_reader.h"
#include "core/tree/tree_builder.h"

#ifndef HF_LARGE_TREE_ENTRIES
#define HF_LARGE_TREE_ENTRIES 100000
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMemoryIsMeasurable = false;
#else
constexpr bool kMemoryIsMeasurable = true;
#endif

namespace holdfast {
namespace {

using std::string_literals::operator""s;
constexpr absl::StatusCode kDamaged = absl::StatusCode::kDataLoss;

Key256 CutKey() {
  Key256 key;
  for (int i = 0; i < 32; ++i) key.MutableBytes()[i] = static_cast<uint8_t>(i);
  return key;
}

// Both ends of the seam: stores pages, gives them back, counts, and damages on demand. One thread.
class MemoryChunks : public PageSink, public ChunkSource {
 public:
  absl::StatusOr<ChunkRef> StorePage(EncodedPage page) override {
    EXPECT_TRUE(std::is_sorted(page.children.begin(), page.children.end()));
    EXPECT_LE(page.plaintext.size(), kChunkPlaintextBytesMax);
    EXPECT_LE(page.children.size(), kChunkChildrenMax);
    ++stored;
    if (page.plaintext[1] == 2) {
      for (const ChunkId& child : page.children) EXPECT_TRUE(chunks.contains(child)) << "a parent before its child";
    }
    return Store({ChunkType::kTree, std::move(page.plaintext), std::move(page.children)});
  }
  ChunkRef Store(OwnedChunk chunk) {
    Blake3 hash;
    hash.Update(chunk.plaintext);
    for (const ChunkId& child : chunk.children) hash.Update(child.view());
    uint8_t out[64];
    hash.Finish(out, sizeof(out));
    ChunkRef ref;
    std::memcpy(ref.id.bytes.data(), out, 32);
    ref.key = Key256(out + 32);
    if (chunks.try_emplace(ref.id, std::move(chunk)).second) ++stored_new;
    return ref;
  }
  absl::Status Fetch(absl::Span<const ChunkRef> refs, ChunkSink& sink) override {
    if (!reachable.ok()) return reachable;
    // Backwards: a sink may not count on an order.
    for (size_t i = refs.size(); i-- > 0;) {
      ++fetched;
      absl::StatusOr<OpenedChunk> opened = OpenedChunk();
      auto bad = damaged.find(refs[i].id);
      auto it = chunks.find(refs[i].id);
      if (bad != damaged.end()) {
        opened = bad->second;
      } else if (it == chunks.end()) {
        opened = absl::NotFoundError("no such chunk");
      } else {
        *opened = {it->second.type, it->second.plaintext, it->second.children};
      }
      RETURN_IF_ERROR(sink.OnChunk(i, opened));
    }
    return absl::OkStatus();
  }

  std::map<ChunkId, OwnedChunk> chunks;
  std::map<ChunkId, absl::Status> damaged;
  absl::Status reachable;
  int stored = 0, stored_new = 0, fetched = 0;
};

struct Item {
  Components directory;
  Entry entry;
};
// What a tree should hold, by key.
using Model = std::map<std::string, Item>;

Entry MakeEntry(std::string name, EntryType type, std::mt19937_64& rng) {
  Entry e;
  e.name = std::move(name);
  e.type = type;
  e.mode = rng() % 010000;
  e.uid = rng() % 3;
  e.owner_name = e.uid == 0 ? "root" : "";
  e.mtime = {static_cast<int64_t>(rng() % 1000000), static_cast<uint32_t>(rng() % 1000000000)};
  e.inode = rng();
  if (type == EntryType::kFile) {
    switch (rng() % 4) {
      case 0:
        break;
      case 1:
        e.content.kind = Content::Kind::kInline;
        e.content.inline_bytes = std::string(rng() % 64, 'i');
        break;
      case 2:
        e.content.kind = Content::Kind::kSlice;
        e.content.length = rng() % 1000;
        for (uint8_t& b : e.content.ref.id.bytes) b = static_cast<uint8_t>(rng());
        break;
      case 3:
        e.content.kind = Content::Kind::kChunks;
        e.content.chunks.resize(1 + rng() % 3);
        for (ChunkPiece& p : e.content.chunks) {
          p.length = 1 + rng() % 1000;
          for (uint8_t& b : p.ref.id.bytes) b = static_cast<uint8_t>(rng());
        }
    }
  }
  return e;
}

void Put(Model& model, const Components& directory, Entry entry) {
  std::string key = EntryKey(directory, entry.name);
  model[key] = {directory, std::move(entry)};
}

// A tree of about `entries`, with few names per directory or very many, and bytes that sort oddly.
Model RandomModel(size_t entries, std::mt19937_64& rng) {
  Model model;
  Put(model, {}, MakeEntry("", EntryType::kDirectory, rng));
  std::vector<Components> directories = {{}};
  static const std::vector<std::string> kOdd = {"", "\x01", "\xff", ".", " ", "-", "!"};
  while (model.size() < entries) {
    const Components parent = directories[rng() % directories.size()];
    for (size_t n = rng() % 8 == 0 ? 200 : 10; n > 0; --n) {
      std::string name = "f" + std::to_string(rng() % 100000) + kOdd[rng() % kOdd.size()];
      if (model.contains(EntryKey(parent, name))) continue;
      bool directory = rng() % 12 == 0 && parent.size() < 8;
      Put(model, parent, MakeEntry(name, directory ? EntryType::kDirectory : EntryType::kFile, rng));
      if (directory) {
        directories.push_back(parent);
        directories.back().push_back(name);
      }
    }
  }
  return model;
}

TreeRoot Build(const Model& model, MemoryChunks& chunks) {
  TreeBuilder builder(chunks, CutKey());
  for (const auto& [key, item] : model) EXPECT_OK(builder.Add(item.directory, item.entry));
  absl::StatusOr<TreeRoot> root = builder.Finish();
  EXPECT_OK(root);
  return root.value();
}

SnapshotReader Reader(MemoryChunks& chunks, const TreeRoot& root) {
  return SnapshotReader(chunks, root.ref, root.level);
}

// Expects exactly the entries of [from, to).
void ExpectScan(EntryIterator& it, Model::const_iterator from, Model::const_iterator to) {
  for (; it.Next(); ++from) {
    ASSERT_NE(from, to) << "one too many: " << testing::PrintToString(EntryKey(it.directory(), it.entry().name));
    ASSERT_EQ(it.directory(), from->second.directory);
    ASSERT_TRUE(it.entry() == from->second.entry) << testing::PrintToString(from->first);
  }
  ASSERT_OK(it.status());
  ASSERT_EQ(from, to) << "missing from " << testing::PrintToString(from->first);
  EXPECT_TRUE(it.gaps().empty());
  EXPECT_FALSE(it.Next());
}

void ExpectSameRoot(const TreeRoot& a, const TreeRoot& b) {
  EXPECT_EQ(HexEncode(a.ref.id.view()), HexEncode(b.ref.id.view()));
  EXPECT_TRUE(a.ref == b.ref);
  EXPECT_EQ(a.level, b.level);
  EXPECT_EQ(a.sums, b.sums);
}

// A page below (or at) the root as its index page describes it.
struct PageInfo {
  ChunkRef ref;
  uint32_t level = 0;
  std::string start_key;
  uint64_t entry_count = 0;
};

void CollectPages(MemoryChunks& chunks, const PageInfo& page, std::vector<PageInfo>* out) {
  out->push_back(page);
  if (page.level == 0) return;
  const OwnedChunk& chunk = chunks.chunks.at(page.ref.id);
  absl::StatusOr<IndexPage> index = DecodeIndex(chunk.plaintext, chunk.children);
  ASSERT_OK(index);
  uint64_t sum = 0;
  for (const IndexEntry& e : index->entries) {
    CollectPages(chunks, {e.child, page.level - 1, e.start_key, e.below.entries}, out);
    sum += e.below.entries;
  }
  EXPECT_EQ(sum, page.entry_count);
}

// In key order, parents first.
std::vector<PageInfo> Pages(MemoryChunks& chunks, const TreeRoot& root) {
  std::vector<PageInfo> out;
  CollectPages(chunks, {root.ref, root.level, EntryKey({}, ""), root.sums.entries}, &out);
  return out;
}

std::set<ChunkId> PageIds(MemoryChunks& chunks, const TreeRoot& root, bool leaves) {
  std::set<ChunkId> ids;
  for (const PageInfo& p : Pages(chunks, root)) {
    if ((p.level == 0) == leaves) ids.insert(p.ref.id);
  }
  return ids;
}

size_t CountNew(const std::set<ChunkId>& before, const std::set<ChunkId>& after) {
  return std::count_if(after.begin(), after.end(), [&](const ChunkId& id) { return !before.contains(id); });
}

// --- Reading what was built -----------------------------------------------------------------------

TEST(Tree, GivesBackWhatWasAdded) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 rng(seed);
    Model model = RandomModel(seed == 1 ? 1 : rng() % 6000, rng);
    MemoryChunks chunks;
    TreeRoot root = Build(model, chunks);
    EXPECT_EQ(root.sums.entries, model.size());
    ExpectScan(*Reader(chunks, root).Scan(KeyRange::All()), model.begin(), model.end());
    // Nothing is stored that the root does not reach.
    EXPECT_EQ(PageIds(chunks, root, true).size() + PageIds(chunks, root, false).size(), chunks.chunks.size());
    EXPECT_EQ(root.level == 0, chunks.chunks.size() == 1);
  }
}

TEST(Tree, LooksUpEveryEntryAndNothingElse) {
  std::mt19937_64 rng(3);
  Model model = RandomModel(4000, rng);
  MemoryChunks chunks;
  TreeRoot root = Build(model, chunks);
  SnapshotReader reader = Reader(chunks, root);
  for (const auto& [key, item] : model) {
    chunks.fetched = 0;
    ASSERT_OK_AND_ASSIGN(Entry e, reader.Lookup(item.directory, item.entry.name));
    ASSERT_TRUE(e == item.entry);
    ASSERT_LE(chunks.fetched, static_cast<int>(root.level + 1));
    Components path = item.directory;
    if (!item.entry.name.empty()) path.push_back(item.entry.name);
    ASSERT_OK_AND_ASSIGN(e, reader.LookupPath(path));
    ASSERT_TRUE(e == item.entry);
    if (!model.contains(key + '\x01')) {
      ASSERT_THAT(reader.Lookup(item.directory, item.entry.name + '\x01'), StatusIs(absl::StatusCode::kNotFound));
    }
  }
  EXPECT_THAT(reader.Lookup({"nowhere"}, "x"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(reader.LookupPath({"\xff\xff"}), StatusIs(absl::StatusCode::kNotFound));
}

TEST(Tree, ListsADirectoryAndASubtree) {
  std::mt19937_64 rng(5);
  Model model = RandomModel(4000, rng);
  MemoryChunks chunks;
  SnapshotReader reader = Reader(chunks, Build(model, chunks));
  int directories = 0;
  for (const auto& [key, item] : model) {
    if (item.entry.type != EntryType::kDirectory) continue;
    ++directories;
    Components directory = item.directory;
    if (!item.entry.name.empty()) directory.push_back(item.entry.name);
    Model inside, below;
    for (const auto& [k, i] : model) {
      if (i.entry.name.empty() || i.directory.size() < directory.size() ||
          !std::equal(directory.begin(), directory.end(), i.directory.begin())) {
        continue;
      }
      below.emplace(k, i);
      if (i.directory.size() == directory.size()) inside.emplace(k, i);
    }
    ExpectScan(*reader.Scan(KeyRange::Directory(directory)), inside.begin(), inside.end());
    ExpectScan(*reader.ScanSubtree(directory), below.begin(), below.end());
  }
  EXPECT_GT(directories, 20);
}

TEST(Tree, ListsADirectoryWhoseNeighboursDifferInAnOddByte) {
  Model model;
  std::mt19937_64 rng(1);
  Put(model, {}, MakeEntry("", EntryType::kDirectory, rng));
  for (const char* name : {"a", "a\x01", "a ", "aa", "b", "\x01"}) {
    Put(model, {}, MakeEntry(name, EntryType::kDirectory, rng));
    for (const char* file : {"\x01", "f", "\xff"}) Put(model, {name}, MakeEntry(file, EntryType::kFile, rng));
    Put(model, {name, "\x01"}, MakeEntry("g", EntryType::kFile, rng));
  }
  MemoryChunks chunks;
  SnapshotReader reader = Reader(chunks, Build(model, chunks));
  auto count = [](std::unique_ptr<EntryIterator> it) {
    int n = 0;
    while (it->Next()) ++n;
    EXPECT_OK(it->status());
    return n;
  };
  EXPECT_EQ(count(reader.Scan(KeyRange::Directory({}))), 6);
  EXPECT_EQ(count(reader.ScanSubtree({})), 6 * 5);
  for (const char* name : {"a", "a\x01", "a ", "aa", "b", "\x01"}) {
    EXPECT_EQ(count(reader.Scan(KeyRange::Directory({name}))), 3) << name;
    EXPECT_EQ(count(reader.ScanSubtree({name})), 4) << name;
    EXPECT_EQ(count(reader.ScanSubtree({name, "\x01"})), 1) << name;
  }
}

TEST(Tree, ScansAnyRangeOfKeys) {
  std::mt19937_64 rng(6);
  Model model = RandomModel(6000, rng);
  MemoryChunks chunks;
  SnapshotReader reader = Reader(chunks, Build(model, chunks));
  std::vector<std::string> keys;
  for (const auto& [key, item] : model) keys.push_back(key);
  for (int i = 0; i < 200; ++i) {
    KeyRange range{keys[rng() % keys.size()], keys[rng() % keys.size()]};
    if (rng() % 2) range.begin += '\0';
    if (rng() % 5 == 0) range.end.clear();
    if (!range.end.empty() && range.end < range.begin) std::swap(range.begin, range.end);
    ExpectScan(*reader.Scan(range), model.lower_bound(range.begin),
               range.end.empty() ? model.end() : model.lower_bound(range.end));
  }
}

TEST(Tree, ReportsAnUnreachableSource) {
  std::mt19937_64 rng(1);
  MemoryChunks chunks;
  SnapshotReader reader = Reader(chunks, Build(RandomModel(100, rng), chunks));
  chunks.reachable = absl::UnavailableError("gone");
  auto it = reader.Scan(KeyRange::All());
  EXPECT_FALSE(it->Next());
  EXPECT_THAT(it->status(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_TRUE(it->gaps().empty());
  EXPECT_THAT(reader.Lookup({}, ""), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(TreeBuilder, RefusesEntriesOutOfOrderForGood) {
  std::mt19937_64 rng(1);
  MemoryChunks chunks;
  TreeBuilder builder(chunks, CutKey());
  ASSERT_OK(builder.Add({}, MakeEntry("", EntryType::kDirectory, rng)));
  ASSERT_OK(builder.Add({}, MakeEntry("b", EntryType::kFile, rng)));
  EXPECT_THAT(builder.Add({}, MakeEntry("b", EntryType::kFile, rng)), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(builder.Add({}, MakeEntry("c", EntryType::kFile, rng)), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(builder.Finish(), StatusIs(absl::StatusCode::kInvalidArgument));
  TreeBuilder empty(chunks, CutKey());
  EXPECT_THAT(empty.Finish(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(TreeBuilder, RefusesWhatAReaderWouldRefuse) {
  std::mt19937_64 rng(1);
  MemoryChunks chunks;
  auto add = [&](const Components& directory, const std::string& name) {
    TreeBuilder builder(chunks, CutKey());
    EXPECT_OK(builder.Add({}, MakeEntry("", EntryType::kDirectory, rng)));
    return builder.Add(directory, MakeEntry(name, EntryType::kFile, rng));
  };
  EXPECT_OK(add({}, std::string(kNameBytesMax, 'n')));
  EXPECT_THAT(add({}, std::string(kNameBytesMax + 1, 'n')), StatusIs(absl::StatusCode::kInvalidArgument));
  Components deep(kEntryKeyBytesMax / 2 - 1, "d");  // with its separators two bytes short of the limit
  EXPECT_OK(add(deep, "n"));
  EXPECT_THAT(add(deep, "nnn"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(TreeBuilder, CutsFullPages) {
  std::mt19937_64 rng(1);
  // Entries, bytes, children: each limit by itself, in leaves whose names would never end them that early.
  struct Case {
    const char* what;
    size_t entries_max;
    std::function<void(Entry&)> grow;
  };
  const Case cases[] = {
      {"bytes", 512 * 1024 / 16384 + 1,
       [](Entry& e) {
         e.xattrs = {{"x", std::string(16384, 'v')}};
       }},
      {"children", 8192 / 64 + 1,  // the root entry has none
       [&](Entry& e) {
         e.content = Content();
         e.content.kind = Content::Kind::kChunks;
         e.content.chunks.resize(64);
         for (ChunkPiece& p : e.content.chunks) {
           p.length = 1;
           for (uint8_t& b : p.ref.id.bytes) b = static_cast<uint8_t>(rng());
         }
       }},
      {"entries", kPageEntriesMax, [](Entry&) {}},
  };
  for (const Case& c : cases) {
    Model model;
    Put(model, {}, MakeEntry("", EntryType::kDirectory, rng));
    for (int i = 0; i < (c.entries_max > 1000 ? 12000 : 1000); ++i) {
      // For the limit of entries: names that end no page.
      std::string name;
      do name = "n" + std::to_string(rng());
      while (c.entries_max > 1000 && (NameCutHash(CutKey(), 1, "", name) & kLeafCutMask) == 0);
      Entry e = MakeEntry(name, EntryType::kFile, rng);
      c.grow(e);
      Put(model, {}, std::move(e));
    }
    MemoryChunks chunks;
    TreeRoot root = Build(model, chunks);
    size_t largest = 0;
    for (const PageInfo& p : Pages(chunks, root)) {
      if (p.level == 0) largest = std::max<size_t>(largest, p.entry_count);
    }
    EXPECT_EQ(largest, c.entries_max) << c.what;
    ExpectScan(*Reader(chunks, root).Scan(KeyRange::All()), model.begin(), model.end());
  }
}

TEST(TreeBuilder, CutsPagesOfVeryDeepDirectoriesByThePathsTheyHold) {
  std::mt19937_64 rng(1);
  Model model;
  Put(model, {}, MakeEntry("", EntryType::kDirectory, rng));
  Components directory;
  for (int depth = 0; depth < 3000; ++depth) {
    Put(model, directory, MakeEntry("d", EntryType::kDirectory, rng));
    directory.push_back("d");
  }
  MemoryChunks chunks;
  TreeRoot root = Build(model, chunks);
  auto it = model.begin();
  for (const PageInfo& p : Pages(chunks, root)) {
    if (p.level != 0) continue;
    uint64_t components = 0;
    for (size_t i = 0; i < p.entry_count; ++i, ++it) components += it->second.directory.size();
    EXPECT_LE(components, kPageWeightCut + directory.size());
  }
  EXPECT_EQ(it, model.end());
  ExpectScan(*Reader(chunks, root).Scan(KeyRange::All()), model.begin(), model.end());
}

// --- Histories ------------------------------------------------------------------------------------

// Moves the subtree of a directory to a new name beside it.
void Rename(Model& model, const Components& directory, const std::string& to) {
  Components renamed = directory;
  renamed.back() = to;
  Components parent(directory.begin(), directory.end() - 1);
  Model moved;
  for (auto it = model.begin(); it != model.end();) {
    Item& item = it->second;
    bool self = item.directory == parent && item.entry.name == directory.back();
    bool below = item.directory.size() >= directory.size() &&
                 std::equal(directory.begin(), directory.end(), item.directory.begin());
    if (!self && !below) {
      ++it;
      continue;
    }
    if (self) item.entry.name = to;
    if (below) item.directory[directory.size() - 1] = to;
    Put(moved, item.directory, item.entry);
    it = model.erase(it);
  }
  model.merge(moved);
}

void Edit(Model& model, std::mt19937_64& rng) {
  std::vector<std::string> keys;
  for (const auto& [key, item] : model) keys.push_back(key);
  for (size_t n = 1 + rng() % 20; n > 0; --n) {
    auto it = model.find(keys[rng() % keys.size()]);
    if (it == model.end() || it->second.entry.name.empty()) continue;
    Item& item = it->second;
    const Components parent = item.directory;
    Components self = parent;
    self.push_back(item.entry.name);
    switch (rng() % 6) {
      case 0:
        Put(model, parent, MakeEntry("new" + std::to_string(rng() % 1000), EntryType::kFile, rng));
        break;
      case 1:
        item.entry.mtime.seconds += 1;
        break;
      case 2:
        item.entry = MakeEntry(item.entry.name, item.entry.type, rng);
        break;
      case 3:
        if (item.entry.type != EntryType::kDirectory) model.erase(it);
        break;
      case 4:
        if (item.entry.type == EntryType::kDirectory) {
          Put(model, self, MakeEntry("in" + std::to_string(rng() % 1000), EntryType::kFile, rng));
        }
        break;
      case 5:
        if (item.entry.type == EntryType::kDirectory && rng() % 3 == 0) {
          std::string name = "moved" + std::to_string(rng());
          Rename(model, self, name);
        }
    }
  }
}

// The old tree streamed, with the differences to `model` merged in, as an incremental backup does.
TreeRoot Merge(MemoryChunks& chunks, const TreeRoot& old_root, const Model& before, const Model& after) {
  TreeBuilder builder(chunks, CutKey());
  SnapshotReader reader = Reader(chunks, old_root);
  auto old = reader.Scan(KeyRange::All());
  bool has_old = old->Next();
  // Edits: entries of `after` that are new or differ; null: removed.
  std::map<std::string, const Item*> edits;
  for (const auto& [key, item] : before) {
    if (!after.contains(key)) edits[key] = nullptr;
  }
  for (const auto& [key, item] : after) {
    auto it = before.find(key);
    if (it == before.end() || !(it->second.entry == item.entry)) edits[key] = &item;
  }
  auto edit = edits.begin();
  while (has_old || edit != edits.end()) {
    std::string key = has_old ? EntryKey(old->directory(), old->entry().name) : "";
    if (edit == edits.end() || (has_old && key < edit->first)) {
      EXPECT_OK(builder.Add(old->directory(), old->entry()));
      has_old = old->Next();
      continue;
    }
    if (edit->second != nullptr) {
      EXPECT_OK(builder.Add(edit->second->directory, edit->second->entry));
    }
    if (has_old && key == edit->first) has_old = old->Next();
    ++edit;
  }
  EXPECT_OK(old->status());
  absl::StatusOr<TreeRoot> root = builder.Finish();
  EXPECT_OK(root);
  return root.value();
}

TEST(Tree, IsTheSameWhetherMergedOrBuiltFromScratch) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 rng(seed);
    Model model = RandomModel(200 + rng() % 6000, rng);
    MemoryChunks chunks;
    TreeRoot root = Build(model, chunks);
    for (int step = 0; step < 6; ++step) {
      SCOPED_TRACE(testing::Message() << "step " << step);
      Model before = model;
      Edit(model, rng);
      root = Merge(chunks, root, before, model);
      MemoryChunks fresh;
      ExpectSameRoot(root, Build(model, fresh));
    }
  }
}

std::vector<std::string> NaiveDiff(const Model& a, const Model& b) {
  std::map<std::string, char> kinds;
  for (const auto& [key, item] : a) {
    auto it = b.find(key);
    if (it == b.end()) kinds[key] = '-';
    if (it != b.end() && !(it->second.entry == item.entry)) kinds[key] = '*';
  }
  for (const auto& [key, item] : b) {
    if (!a.contains(key)) kinds[key] = '+';
  }
  std::vector<std::string> out;
  for (const auto& [key, kind] : kinds) out.push_back(kind + key);
  return out;
}

std::vector<std::string> TreeDiff(const SnapshotReader& a, const SnapshotReader& b, const Model& before,
                                  const Model& after) {
  std::vector<std::string> out;
  EXPECT_OK(a.Diff(b, [&](const DiffItem& item) {
    const Entry& entry = item.before ? *item.before : *item.after;
    std::string key = EntryKey(item.directory, entry.name);
    EXPECT_EQ(item.before.has_value(), item.kind != DiffKind::kAdded);
    EXPECT_EQ(item.after.has_value(), item.kind != DiffKind::kRemoved);
    if (item.before) {
      EXPECT_TRUE(*item.before == before.at(key).entry);
    }
    if (item.after) {
      EXPECT_TRUE(*item.after == after.at(key).entry);
    }
    out.push_back((item.kind == DiffKind::kAdded ? '+' : item.kind == DiffKind::kRemoved ? '-' : '*') + key);
    return absl::OkStatus();
  }));
  return out;
}

TEST(Diff, IsWhatAComparisonOfAllEntriesSays) {
  for (uint64_t seed = 1; seed <= 15; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 rng(seed);
    Model before = RandomModel(1 + rng() % 5000, rng);
    Model after = before;
    for (size_t n = seed % 4; n > 0; --n) Edit(after, rng);
    if (seed == 5) after = RandomModel(3000, rng);  // nothing in common
    if (seed == 6) after = RandomModel(1, rng);
    MemoryChunks chunks;
    TreeRoot a = Build(before, chunks), b = Build(after, chunks);
    EXPECT_EQ(TreeDiff(Reader(chunks, a), Reader(chunks, b), before, after), NaiveDiff(before, after));
    EXPECT_EQ(TreeDiff(Reader(chunks, b), Reader(chunks, a), after, before), NaiveDiff(after, before));
  }
}

TEST(Diff, OfEqualTreesReadsNothing) {
  std::mt19937_64 rng(1);
  MemoryChunks chunks;
  Model model = RandomModel(3000, rng);
  TreeRoot root = Build(model, chunks);
  EXPECT_TRUE(TreeDiff(Reader(chunks, root), Reader(chunks, root), model, model).empty());
  EXPECT_EQ(chunks.fetched, 0);
}

TEST(Diff, StopsWithTheVisitorsError) {
  std::mt19937_64 rng(1);
  MemoryChunks chunks;
  TreeRoot a = Build(RandomModel(500, rng), chunks), b = Build(RandomModel(500, rng), chunks);
  int visits = 0;
  EXPECT_THAT(Reader(chunks, a).Diff(Reader(chunks, b),
                                     [&](const DiffItem&) {
                                       ++visits;
                                       return absl::AbortedError("enough");
                                     }),
              StatusIs(absl::StatusCode::kAborted));
  EXPECT_EQ(visits, 1);
}

TEST(Diff, OfADamagedTreeIsAnError) {
  std::mt19937_64 rng(1);
  MemoryChunks chunks;
  TreeRoot a = Build(RandomModel(3000, rng), chunks), b = Build(RandomModel(3000, rng), chunks);
  auto ignore = [](const DiffItem&) { return absl::OkStatus(); };
  for (const TreeRoot& root : {a, b}) {
    for (const PageInfo& page : Pages(chunks, root)) {
      chunks.damaged = {{page.ref.id, absl::DataLossError("bad")}};
      EXPECT_THAT(Reader(chunks, a).Diff(Reader(chunks, b), ignore), StatusIs(kDamaged));
    }
  }
}

// --- Large trees ----------------------------------------------------------------------------------

// Entry `n` of a fixed large tree: 10 top-level directories of which "d4" holds 40 % of the entries, 1,000 files per
// directory below. Calls `f(directory, entry)` in key order.
template <typename F>
void ForEachLargeEntry(size_t entries, F f) {
  std::mt19937_64 rng(1);
  auto number = [](size_t n, int width) {
    std::string s = std::to_string(n);
    return std::string(width - s.size(), '0') + s;
  };
  f(Components{}, MakeEntry("", EntryType::kDirectory, rng));
  for (int d = 0; d < 10; ++d) f(Components{}, MakeEntry("d" + std::to_string(d), EntryType::kDirectory, rng));
  for (int d = 0; d < 10; ++d) {
    const Components top = {"d" + std::to_string(d)};
    const size_t files = d == 4 ? entries * 4 / 10 : entries * 6 / 90;
    const size_t directories = files / 1000 + 1;
    for (size_t s = 0; s < directories; ++s) f(top, MakeEntry("s" + number(s, 4), EntryType::kDirectory, rng));
    for (size_t s = 0; s < directories; ++s) {
      const Components sub = {top[0], "s" + number(s, 4)};
      for (size_t i = 0; i < files / directories; ++i) f(sub, MakeEntry("f" + number(i, 5), EntryType::kFile, rng));
    }
  }
}

Model LargeModel() {
  Model model;
  ForEachLargeEntry(HF_LARGE_TREE_ENTRIES,
                    [&](const Components& directory, Entry e) { Put(model, directory, std::move(e)); });
  return model;
}

// Peak memory of this process since the last call of ForgetPeak(), in bytes.
size_t PeakBytes() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}
void ForgetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

// Forgets pages, so that what is measured is the builder.
class NullSink : public PageSink {
 public:
  absl::StatusOr<ChunkRef> StorePage(EncodedPage page) override {
    ++pages;
    bytes += page.plaintext.size();
    ChunkRef ref;
    ref.id.bytes = Blake3Digest(page.plaintext).bytes;
    return ref;
  }
  size_t pages = 0, bytes = 0;
};

TEST(LargeTree, IsBuiltAndReadInLittleMemory) {
  NullSink null;
  TreeBuilder builder(null, CutKey());
  ForgetPeak();
  size_t before = PeakBytes();
  ForEachLargeEntry(HF_LARGE_TREE_ENTRIES,
                    [&](const Components& directory, Entry e) { ASSERT_OK(builder.Add(directory, std::move(e))); });
  ASSERT_OK_AND_ASSIGN(TreeRoot built, builder.Finish());
  size_t grown = PeakBytes() - before;
  std::printf("%zu entries in %zu pages of %zu bytes; the builder took %zu KiB\n", size_t{built.sums.entries},
              null.pages, null.bytes, grown / 1024);
  if (kMemoryIsMeasurable) {
    EXPECT_LT(grown, 24u << 20);
  }

  MemoryChunks chunks;
  TreeBuilder again(chunks, CutKey());
  ForEachLargeEntry(HF_LARGE_TREE_ENTRIES,
                    [&](const Components& directory, Entry e) { ASSERT_OK(again.Add(directory, std::move(e))); });
  ASSERT_OK_AND_ASSIGN(TreeRoot root, again.Finish());
  SnapshotReader reader = Reader(chunks, root);
  ForgetPeak();
  before = PeakBytes();
  auto it = reader.Scan(KeyRange::All());
  uint64_t count = 0;
  while (it->Next()) ++count;
  ASSERT_OK(it->status());
  EXPECT_EQ(count, root.sums.entries);
  EXPECT_EQ(chunks.fetched, static_cast<int>(chunks.chunks.size())) << "each page once";
  grown = PeakBytes() - before;
  std::printf("the scan took %zu KiB\n", grown / 1024);
  if (kMemoryIsMeasurable) {
    EXPECT_LT(grown, 24u << 20);
  }

  for (uint32_t i = 0; i < 50; ++i) {
    chunks.fetched = 0;
    EXPECT_OK(reader.Lookup({"d" + std::to_string(i % 10), "s0002"}, "f00" + std::to_string(100 + i)));
    EXPECT_LE(chunks.fetched, static_cast<int>(root.level + 1));
  }
  EXPECT_GE(root.level, 1u);
  EXPECT_LE(root.level, 3u);
}

TEST(LargeTree, KeepsItsLeavesWhenADirectoryIsRenamed) {
  Model model = LargeModel();
  MemoryChunks chunks;
  TreeRoot before = Build(model, chunks);
  // In place, to the front and to the end of the walk.
  for (const char* name : {"d4renamed", "a", "zzz"}) {
    SCOPED_TRACE(name);
    Model renamed = model;
    Rename(renamed, {"d4"}, name);
    TreeRoot after = Build(renamed, chunks);
    size_t leaves = PageIds(chunks, after, true).size();
    size_t new_leaves = CountNew(PageIds(chunks, before, true), PageIds(chunks, after, true));
    size_t new_index = CountNew(PageIds(chunks, before, false), PageIds(chunks, after, false));
    std::printf("%zu of %zu leaves and %zu of %zu index pages are new\n", new_leaves, leaves, new_index,
                PageIds(chunks, after, false).size());
    EXPECT_GE(leaves, model.size() / 1000);
    EXPECT_LE(new_leaves, 8u);
  }
}

TEST(LargeTree, KeepsItsCutsWhenMetadataChanges) {
  Model model = LargeModel();
  MemoryChunks chunks;
  TreeRoot before = Build(model, chunks);
  std::mt19937_64 rng(9);
  std::vector<std::string> keys;
  for (const auto& [key, item] : model) keys.push_back(key);
  for (int i = 0; i < 5; ++i) {
    Entry& e = model[keys[rng() % keys.size()]].entry;
    std::string name = e.name;
    e = MakeEntry(name, e.type, rng);
    e.mode = 0123;
    chunks.stored_new = 0;
    TreeRoot after = Build(model, chunks);
    EXPECT_EQ(chunks.stored_new, static_cast<int>(after.level + 1)) << "one leaf and the index pages above it";
    EXPECT_EQ(after.level, before.level);
  }
}

TEST(LargeTree, IsComparedInProportionToTheChange) {
  Model model = LargeModel();
  MemoryChunks chunks;
  TreeRoot before = Build(model, chunks);
  std::vector<std::string> keys;
  for (const auto& [key, item] : model) keys.push_back(key);
  std::mt19937_64 rng(10);
  for (int changes : {1, 10}) {
    Model edited = model;
    for (int i = 0; i < changes; ++i) {
      auto it = edited.find(keys[1 + rng() % (keys.size() - 1)]);
      if (it == edited.end()) continue;
      switch (rng() % 3) {
        case 0:
          it->second.entry.mtime.seconds += 1;
          break;
        case 1:
          Put(edited, it->second.directory, MakeEntry("new", EntryType::kFile, rng));
          break;
        case 2:
          if (it->second.entry.type == EntryType::kFile) edited.erase(it);
      }
    }
    TreeRoot after = Build(edited, chunks);
    chunks.fetched = 0;
    std::vector<std::string> diff = TreeDiff(Reader(chunks, before), Reader(chunks, after), model, edited);
    EXPECT_EQ(diff, NaiveDiff(model, edited));
    EXPECT_FALSE(diff.empty());
    std::printf("%zu differences, %d pages read of 2 x %zu\n", diff.size(), chunks.fetched,
                Pages(chunks, before).size());
    // A change rewrites one leaf and its index path, now and then two leaves (a cut that comes or goes), on two sides.
    EXPECT_LE(chunks.fetched, changes * 2 * static_cast<int>(after.level + 2));
  }
}

// --- Damage ---------------------------------------------------------------------------------------

TEST(DamagedTree, LosesExactlyTheEntriesOfTheDamagedPage) {
  std::mt19937_64 rng(4);
  Model model = RandomModel(9000, rng);
  MemoryChunks chunks;
  TreeRoot root = Build(model, chunks);
  ASSERT_GE(root.level, 1u);
  for (const absl::Status& why :
       {absl::Status(absl::DataLossError("bad")), absl::Status(absl::NotFoundError("none"))}) {
    for (const PageInfo& page : Pages(chunks, root)) {
      chunks.damaged = {{page.ref.id, why}};
      auto it = Reader(chunks, root).Scan(KeyRange::All());
      Model lost = model;
      while (it->Next()) {
        auto found = lost.find(EntryKey(it->directory(), it->entry().name));
        ASSERT_NE(found, lost.end());
        ASSERT_TRUE(found->second.entry == it->entry());
        lost.erase(found);
      }
      ASSERT_OK(it->status());
      ASSERT_EQ(it->gaps().size(), 1u);
      const KeyGap& gap = it->gaps()[0];
      EXPECT_THAT(gap.status, StatusIs(kDamaged));
      EXPECT_EQ(lost.size(), page.entry_count);
      EXPECT_EQ(gap.range.begin, page.start_key);
      EXPECT_EQ(gap.range.begin, lost.begin()->first);
      auto behind = model.upper_bound(lost.rbegin()->first);
      EXPECT_EQ(gap.range.end, behind == model.end() ? "" : behind->first);
    }
  }
}

TEST(DamagedTree, SaysSoInALookupAndFindsTheRest) {
  std::mt19937_64 rng(4);
  Model model = RandomModel(5000, rng);
  MemoryChunks chunks;
  TreeRoot root = Build(model, chunks);
  SnapshotReader reader = Reader(chunks, root);
  std::vector<PageInfo> leaves;
  for (const PageInfo& p : Pages(chunks, root)) {
    if (p.level == 0) leaves.push_back(p);
  }
  ASSERT_GE(leaves.size(), 3u);
  for (const absl::Status& why :
       {absl::Status(absl::DataLossError("bad")), absl::Status(absl::NotFoundError("none"))}) {
    chunks.damaged = {{leaves[1].ref.id, why}};
    for (const auto& [key, item] : model) {
      absl::StatusOr<Entry> e = reader.Lookup(item.directory, item.entry.name);
      if (key >= leaves[1].start_key && key < leaves[2].start_key) {
        ASSERT_THAT(e, StatusIs(kDamaged));
      } else {
        ASSERT_OK(e);
      }
    }
  }
  chunks.damaged = {{root.ref.id, absl::DataLossError("bad")}};
  EXPECT_THAT(reader.LookupPath({}), StatusIs(kDamaged));
}

TEST(DamagedTree, NeverGivesAWrongEntryWhicheverByteOfAPageChanges) {
  // As if an agent sealed nonsense: the chunk opens, its content is not what it should be.
  std::mt19937_64 rng(8);
  Model model = RandomModel(1500, rng);
  MemoryChunks chunks;
  TreeRoot root = Build(model, chunks);
  ASSERT_EQ(root.level, 1u);
  const OwnedChunk good = chunks.chunks.at(root.ref.id);
  for (size_t at = 0; at < good.plaintext.size(); ++at) {
    OwnedChunk& bad = chunks.chunks.at(root.ref.id);
    bad = good;
    bad.plaintext[at] = static_cast<char>(bad.plaintext[at] ^ (1 + rng() % 255));
    auto it = Reader(chunks, root).Scan(KeyRange::All());
    std::string last;
    while (it->Next()) {
      std::string key = EntryKey(it->directory(), it->entry().name);
      ASSERT_GT(key, last) << "byte " << at;
      last = key;
    }
    ASSERT_OK(it->status());
  }
}

// Trees that no builder makes.
class HostileTree : public testing::Test {
 protected:
  ChunkRef Leaf(const Components& directory, const std::vector<std::string>& names) {
    std::mt19937_64 rng(1);
    LeafPage leaf;
    leaf.directories = {directory};
    for (const std::string& name : names) {
      leaf.entries.push_back(MakeEntry(name, EntryType::kDirectory, rng));
      leaf.directory_index.push_back(0);
    }
    const ChunkRef ref = chunks_.StorePage(EncodeLeaf(leaf)).value();
    TreeSums below;
    for (const Entry& entry : leaf.entries) below.Add(entry);
    below_[ref.id] = below;
    return ref;
  }
  ChunkRef Index(uint32_t level, const std::vector<std::pair<ChunkRef, std::string>>& children) {
    IndexPage index;
    index.level = level;
    TreeSums below;
    for (const auto& [ref, key] : children) {
      index.entries.push_back({ref, key, below_[ref.id], "", ""});
      below.Add(below_[ref.id]);
    }
    const ChunkRef ref = chunks_.StorePage(EncodeIndex(index)).value();
    below_[ref.id] = below;
    return ref;
  }
  // The keys that a scan gives; expects `gaps` gaps, each DATA_LOSS.
  std::vector<std::string> Scan(const ChunkRef& root, uint32_t level, size_t gaps) {
    auto it = SnapshotReader(chunks_, root, level).Scan(KeyRange::All());
    std::vector<std::string> keys;
    while (it->Next()) keys.push_back(EntryKey(it->directory(), it->entry().name));
    EXPECT_OK(it->status());
    EXPECT_EQ(it->gaps().size(), gaps);
    for (const KeyGap& gap : it->gaps()) EXPECT_THAT(gap.status, StatusIs(kDamaged));
    return keys;
  }
  MemoryChunks chunks_;
  std::map<ChunkId, TreeSums> below_;  // what is below each page
};

TEST_F(HostileTree, CannotCountWhatIsNotThere) {
  const ChunkRef first = Leaf({}, {"", "a"}), second = Leaf({}, {"b"});
  for (uint64_t TreeSums::*count : {&TreeSums::entries, &TreeSums::files, &TreeSums::directories, &TreeSums::bytes}) {
    ++(below_[second.id].*count);
    const ChunkRef root = Index(1, {{first, "\0\0"s}, {second, "\0\0b"s}});
    EXPECT_THAT(Scan(root, 1, 1), testing::ElementsAre("\0\0"s, "\0\0a"s));
    --(below_[second.id].*count);
  }
}

TEST_F(HostileTree, CannotHaveOtherCountsThanTheSnapshotsCore) {
  const ChunkRef root = Index(1, {{Leaf({}, {"", "a"}), "\0\0"s}, {Leaf({}, {"b"}), "\0\0b"s}});
  TreeSums sums = below_[root.id];
  const auto gaps = [&] {
    auto it = SnapshotReader(chunks_, root, 1, sums).Scan(KeyRange::All());
    while (it->Next()) {
    }
    return it->gaps().size();
  };
  EXPECT_EQ(gaps(), 0u);
  sums.bytes = 1;
  EXPECT_EQ(gaps(), 1u);
}

TEST_F(HostileTree, IsReadWhenItIsNot) {
  ChunkRef root = Index(1, {{Leaf({}, {"", "a"}), "\0\0"s}, {Leaf({}, {"b"}), "\0\0b"s}});
  EXPECT_THAT(Scan(root, 1, 0), testing::ElementsAre("\0\0"s, "\0\0a"s, "\0\0b"s));
}

TEST_F(HostileTree, CannotStartALeafInADirectoryThatLeadsElsewhere) {
  for (const std::string& name : {".."s, "."s, "a/b"s, "/"s}) {
    std::string key = EntryKey({name}, "passwd");
    ChunkRef root = Index(1, {{Leaf({}, {""}), "\0\0"s}, {Leaf({name}, {"passwd"}), key}});
    EXPECT_THAT(Scan(root, 1, 1), testing::ElementsAre("\0\0"s)) << name;
  }
}

TEST_F(HostileTree, CannotLetALeafReachIntoTheNext) {
  ChunkRef root = Index(1, {{Leaf({}, {"", "c", "d"}), "\0\0"s}, {Leaf({}, {"b", "c"}), "\0\0b"s}});
  EXPECT_THAT(Scan(root, 1, 1), testing::ElementsAre("\0\0b"s, "\0\0c"s));
}

TEST_F(HostileTree, CannotLetAnIndexPageReachIntoTheNext) {
  ChunkRef first = Index(1, {{Leaf({}, {""}), "\0\0"s}, {Leaf({}, {"x"}), "\0\0x"s}});
  ChunkRef second = Index(1, {{Leaf({}, {"b"}), "\0\0b"s}});
  EXPECT_THAT(Scan(Index(2, {{first, "\0\0"s}, {second, "\0\0b"s}}), 2, 1), testing::ElementsAre("\0\0b"s));
}

TEST_F(HostileTree, CannotPutAPageWhereItDoesNotStart) {
  ChunkRef leaf = Leaf({}, {"", "a"});
  EXPECT_TRUE(Scan(Index(1, {{leaf, "\0\0a"s}}), 1, 1).empty());
  EXPECT_TRUE(Scan(Leaf({}, {"a"}), 0, 1).empty()) << "a tree starts with its root entry";
  EXPECT_THAT(Scan(Index(1, {{leaf, "\0\0"s}, {Leaf({}, {"c"}), "\0\0b"s}}), 1, 1),
              testing::ElementsAre("\0\0"s, "\0\0a"s));
  EXPECT_THAT(Scan(Index(1, {{leaf, "\0\0"s}, {leaf, "not a key"}}), 1, 1), testing::ElementsAre("\0\0"s, "\0\0a"s));
}

TEST_F(HostileTree, CannotMixLevelsOrKinds) {
  ChunkRef leaf = Leaf({}, {""});
  ChunkRef index = Index(1, {{leaf, "\0\0"s}});
  EXPECT_TRUE(Scan(index, 0, 1).empty());
  EXPECT_TRUE(Scan(index, 2, 1).empty());
  EXPECT_TRUE(Scan(leaf, 1, 1).empty());
  EXPECT_TRUE(Scan(Index(3, {{index, "\0\0"s}}), 3, 1).empty());
  OwnedChunk data = chunks_.chunks.at(leaf.id);
  data.type = ChunkType::kData;
  data.plaintext += "x";
  EXPECT_TRUE(Scan(chunks_.Store(data), 0, 1).empty());
  EXPECT_TRUE(Scan(Leaf({}, {}), 0, 1).empty());
}

// --- Contents of large files ----------------------------------------------------------------------

std::vector<ChunkPiece> RandomPieces(size_t n, std::mt19937_64& rng) {
  std::vector<ChunkPiece> pieces(n);
  for (ChunkPiece& p : pieces) {
    for (uint8_t& b : p.ref.id.bytes) b = static_cast<uint8_t>(rng());
    p.ref.key.MutableBytes()[0] = static_cast<uint8_t>(rng());
    p.ref.digest.bytes[0] = static_cast<uint8_t>(rng());
    p.length = 1 + rng() % (4u << 20);
  }
  return pieces;
}

Content BuildContent(const std::vector<ChunkPiece>& pieces, MemoryChunks& chunks) {
  ContentBuilder builder(chunks);
  for (const ChunkPiece& p : pieces) EXPECT_OK(builder.Add(p));
  absl::StatusOr<Content> content = builder.Finish();
  EXPECT_OK(content);
  return content.value();
}

void ExpectPieces(MemoryChunks& chunks, const Content& content, const std::vector<ChunkPiece>& pieces) {
  size_t i = 0;
  ASSERT_OK(SnapshotReader(chunks, ChunkRef(), 0).ForEachPiece(content, [&](const ChunkPiece& p) {
    EXPECT_TRUE(i < pieces.size() && p == pieces[i]) << i;
    ++i;
    return absl::OkStatus();
  }));
  EXPECT_EQ(i, pieces.size());
}

// A page beyond 8 MiB would be stored and never opened again.
TEST(IndexPages, StayWithinTheirLimitWhateverThePathsAre) {
  // Measures and forgets: the leaves are large.
  struct Sizes : PageSink {
    absl::StatusOr<ChunkRef> StorePage(EncodedPage page) override {
      largest = std::max(largest, page.plaintext.size());
      if (page.plaintext[1] == 2) {
        EXPECT_OK(DecodeIndex(page.plaintext, page.children));
        ++index_pages;
      }
      ChunkRef ref;
      std::memcpy(ref.id.bytes.data(), &++stored, sizeof(stored));
      return ref;
    }
    size_t largest = 0;
    uint64_t stored = 0, index_pages = 0;
  } sizes;
  TreeBuilder builder(sizes, CutKey());
  Entry root;
  root.type = EntryType::kDirectory;
  ASSERT_OK(builder.Add({}, root));
  for (int i = 0; i < 300; ++i) {
    // As deep as a path can be, and different from the others from its beginning.
    Components directory(240, std::string(250, 'd'));
    directory[0] = "chain" + std::to_string(1000 + i);
    for (int k = 0; k < 33; ++k) {
      Entry e;
      e.name = std::to_string(100 + k);
      e.xattrs = {{"user.large", std::string(16000, 'x')}};
      ASSERT_OK(builder.Add(directory, std::move(e)));
    }
  }
  ASSERT_OK(builder.Finish());
  EXPECT_LE(sizes.largest, 2u << 20);
  EXPECT_GT(sizes.index_pages, 300 * 60000 / (600 << 10));
}

TEST(Content, GivesBackItsPieces) {
  std::mt19937_64 rng(1);
  for (size_t n : {0, 1, 64, 65, 5000, 200000}) {
    SCOPED_TRACE(n);
    std::vector<ChunkPiece> pieces = RandomPieces(n, rng);
    MemoryChunks chunks;
    Content content = BuildContent(pieces, chunks);
    EXPECT_EQ(content.kind, n == 0 ? Content::Kind::kNone : n <= 64 ? Content::Kind::kChunks : Content::Kind::kList);
    if (n <= 64) {
      EXPECT_EQ(chunks.stored, 0);
    }
    if (n > 64) {
      EXPECT_LE(content.list_levels, 4u);
    }
    if (n == 200000) {
      EXPECT_GE(content.list_levels, 2u);
    }
    ExpectPieces(chunks, content, pieces);
  }
}

TEST(Content, MayRepeatOneChunk) {
  std::mt19937_64 rng(2);
  for (bool cutting : {false, true}) {
    std::vector<ChunkPiece> pieces(5000, RandomPieces(1, rng)[0]);
    for (ChunkPiece& p : pieces) p.ref.id.bytes[0] = cutting ? 0 : 1;
    MemoryChunks chunks;
    ExpectPieces(chunks, BuildContent(pieces, chunks), pieces);
    EXPECT_LE(chunks.stored_new, 6) << "equal lists are one chunk";
  }
}

TEST(Content, RewritesFewListsWhenOnePieceChanges) {
  std::mt19937_64 rng(3);
  std::vector<ChunkPiece> pieces = RandomPieces(200000, rng);
  MemoryChunks chunks;
  Content before = BuildContent(pieces, chunks);
  for (int i = 0; i < 5; ++i) {
    pieces[rng() % pieces.size()] = RandomPieces(1, rng)[0];
    if (i == 2) pieces.insert(pieces.begin() + 1000, RandomPieces(1, rng)[0]);
    if (i == 3) pieces.erase(pieces.begin() + 1000);
    chunks.stored_new = 0;
    Content after = BuildContent(pieces, chunks);
    std::printf("%d of %d lists are new\n", chunks.stored_new, chunks.stored / (i + 2));
    EXPECT_LE(chunks.stored_new, 6 * static_cast<int>(after.list_levels));
    EXPECT_FALSE(after == before);
    ExpectPieces(chunks, after, pieces);
  }
}

TEST(Content, IsDataLossWhenAListIsDamagedOrMissing) {
  std::mt19937_64 rng(4);
  MemoryChunks chunks;
  Content content = BuildContent(RandomPieces(3000, rng), chunks);
  auto read = [&](const Content& c) {
    return SnapshotReader(chunks, ChunkRef(), 0).ForEachPiece(c, [](const ChunkPiece&) { return absl::OkStatus(); });
  };
  ASSERT_OK(read(content));
  for (const auto& [id, chunk] : chunks.chunks) {
    chunks.damaged = {{id, absl::DataLossError("bad")}};
    EXPECT_THAT(read(content), StatusIs(kDamaged));
    chunks.damaged = {{id, absl::NotFoundError("none")}};
    EXPECT_THAT(read(content), StatusIs(kDamaged));
  }
  chunks.damaged.clear();
  Content other_level = content;
  other_level.list_levels += 1;
  EXPECT_THAT(read(other_level), StatusIs(kDamaged));
  chunks.reachable = absl::UnavailableError("gone");
  EXPECT_THAT(read(content), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(SideChunks, AreResolvedIntoTheEntry) {
  MemoryChunks chunks;
  std::vector<Xattr> xattrs = {{"user.a", std::string(40000, 'v')}, {"user.b", ""}};
  std::vector<Hole> holes;
  for (uint64_t i = 0; i < 5000; ++i) holes.push_back({i * 8192, 4096});
  Entry e;
  e.xattr_chunk = chunks.Store({ChunkType::kData, EncodeXattrs(xattrs), {}});
  e.hole_chunk = chunks.Store({ChunkType::kData, EncodeHoles(holes), {}});
  SnapshotReader reader(chunks, ChunkRef(), 0);
  Entry resolved = e;
  ASSERT_OK(reader.ResolveSideChunks(resolved));
  EXPECT_EQ(resolved.xattrs, xattrs);
  EXPECT_EQ(resolved.holes, holes);
  EXPECT_FALSE(resolved.xattr_chunk || resolved.hole_chunk);
  chunks.damaged = {{e.hole_chunk->id, absl::NotFoundError("none")}};
  resolved = e;
  EXPECT_THAT(reader.ResolveSideChunks(resolved), StatusIs(kDamaged));
}

}  // namespace
}  // namespace holdfast
