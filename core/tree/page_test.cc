#include "core/tree/page.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <new>
#include <random>

#include "core/base/codec.h"
#include "core/base/limits.h"
#include "core/base/status_testing.h"

// Every byte allocated in this program, so that a test can say what a decoder took. Not inlined: gcc would see malloc
// on one side and delete on the other and warn.
static size_t allocated_bytes = 0;
__attribute__((noinline)) void* operator new(size_t n) {
  allocated_bytes += n;
  void* p = std::malloc(n == 0 ? 1 : n);
  if (p == nullptr) std::abort();
  return p;
}
__attribute__((noinline)) void operator delete(void* p) noexcept { std::free(p); }
__attribute__((noinline)) void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace holdfast {
namespace {

using std::string_literals::operator""s;
constexpr absl::StatusCode kDamaged = absl::StatusCode::kDataLoss;

ChunkRef RefOf(int n) {
  ChunkRef ref;
  ref.id.bytes.fill(static_cast<uint8_t>(n * 37));
  ref.id.bytes[1] = static_cast<uint8_t>(n);
  for (int i = 0; i < 32; ++i) ref.key.MutableBytes()[i] = static_cast<uint8_t>(n + i);
  ref.digest.bytes.fill(static_cast<uint8_t>(n * 11));
  return ref;
}

Entry Named(std::string name, EntryType type = EntryType::kFile) {
  Entry e;
  e.name = std::move(name);
  e.type = type;
  return e;
}

// Each field in use somewhere, each with a value that a mix-up of two would show.
LeafPage FullLeaf() {
  LeafPage leaf;
  leaf.directories = {{}, {"bin"}, {"bin", "\xff\x01"}, {"lib"}};
  auto add = [&](uint32_t directory, Entry e) {
    leaf.directory_index.push_back(directory);
    leaf.entries.push_back(std::move(e));
  };
  add(0, Named("", EntryType::kDirectory));
  Entry e = Named("bin", EntryType::kDirectory);
  e.flags = kEntryRacy | kEntryNotDescended;
  e.mode = 07777;
  e.uid = UINT32_MAX;
  e.gid = 100;
  e.owner_name = "root";
  e.group_name = "staff";
  e.mtime = {-1, 999999999};
  e.ctime = {INT64_MAX, 0};
  e.birth_time = Timestamp{INT64_MIN, 1};
  e.inode = UINT64_MAX;
  e.device = UINT32_MAX;
  e.link_count = UINT32_MAX;
  e.size = UINT64_MAX;
  e.inode_flags = UINT64_MAX;
  e.xattrs = {{"security.selinux", "a\0b"s}, {"user.empty", ""}, {"user.x", std::string(300, 'v')}};
  add(0, e);
  e = Named("inline");
  e.size = 64;
  e.content.kind = Content::Kind::kInline;
  e.content.inline_bytes = std::string(64, '\0');
  e.digest = FileDigest{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  e.owner_name = "staff";  // the same string in another role
  add(0, e);
  e = Named("slice");
  e.content.kind = Content::Kind::kSlice;
  e.content.ref = RefOf(9);
  e.content.offset = 5;
  e.content.length = kChunkPlaintextBytesMax;
  e.digest = FileDigest{};
  e.inode_flags = 0;
  add(1, e);
  e = Named("sparse");
  e.content.kind = Content::Kind::kChunks;
  for (int i = 0; i < static_cast<int>(kInlineChunksMax); ++i) e.content.chunks.push_back({RefOf(i % 7), 1000u + i});
  e.holes = {{0, 4096}, {8192, 1}, {1ull << 40, 1ull << 41}};
  e.birth_time = Timestamp{5, 6};
  add(1, e);
  e = Named("\xff\x01", EntryType::kDirectory);
  e.xattr_chunk = RefOf(11);
  add(1, e);
  e = Named("huge");
  e.content.kind = Content::Kind::kList;
  e.content.ref = RefOf(12);
  e.content.list_levels = kTreeLevelsMax;
  e.hole_chunk = RefOf(13);
  e.xattr_chunk = RefOf(11);
  add(2, e);
  e = Named("link", EntryType::kSymlink);
  e.symlink_target = "../" + std::string(65532, 't');
  add(3, e);
  e = Named(std::string(kNameBytesMax, 'n'), EntryType::kFifo);
  add(3, e);
  add(3, Named("o", EntryType::kSocket));
  e = Named("p", EntryType::kCharDevice);
  e.device_major = 5;
  e.device_minor = UINT32_MAX;
  add(3, e);
  e = Named("q", EntryType::kBlockDevice);
  add(3, e);
  return leaf;
}

// The same with nothing long in it, for damage at every place.
LeafPage SmallLeaf() {
  LeafPage leaf = FullLeaf();
  for (Entry& e : leaf.entries) {
    if (e.symlink_target.size() > 5) e.symlink_target.resize(5);
    if (e.name.size() > 5) e.name.resize(5, 'm');
    if (e.content.chunks.size() > 3) e.content.chunks.resize(3);
    if (e.xattrs.size() > 2) e.xattrs.resize(2);
  }
  leaf.entries[8].name = "m";
  return leaf;
}

void ExpectSameLeaf(const LeafPage& a, const LeafPage& b) {
  ASSERT_EQ(a.entries.size(), b.entries.size());
  for (size_t i = 0; i < a.entries.size(); ++i) {
    EXPECT_TRUE(a.entries[i] == b.entries[i]) << "entry " << i << " " << a.entries[i].name.substr(0, 20);
    EXPECT_EQ(a.directories[a.directory_index[i]], b.directories[b.directory_index[i]]) << i;
  }
}

bool IsGoodName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

void ExpectWellFormed(const LeafPage& leaf) {
  ASSERT_EQ(leaf.directory_index.size(), leaf.entries.size());
  std::string last;
  for (size_t i = 0; i < leaf.entries.size(); ++i) {
    ASSERT_LT(leaf.directory_index[i], leaf.directories.size());
    const Components& directory = leaf.directories[leaf.directory_index[i]];
    const Entry& e = leaf.entries[i];
    for (const std::string& c : directory) ASSERT_TRUE(IsGoodName(c));
    ASSERT_TRUE(IsGoodName(e.name) || (e.name.empty() && directory.empty()));
    ASSERT_LE(e.mode, 07777u);
    ASSERT_LT(e.mtime.nanos, 1000000000u);
    ASSERT_LE(e.content.chunks.size(), kInlineChunksMax);
    std::string key = EntryKey(directory, e.name);
    ASSERT_LE(key.size(), kEntryKeyBytesMax);
    if (i > 0) {
      ASSERT_GT(key, last);
    }
    last = key;
  }
}

// Feeds `decode` every truncation and many damaged versions of every byte. It returns a status and looks at what it
// got.
template <typename Decode>
void DamageEverywhere(const std::string& good, bool truncations_may_be_well_formed, Decode decode) {
  ASSERT_OK(decode(good));
  for (size_t n = 0; n < good.size(); ++n) {
    absl::Status s = decode(good.substr(0, n));
    if (!truncations_may_be_well_formed || !s.ok()) {
      ASSERT_THAT(s, StatusIs(kDamaged)) << "truncated to " << n;
    }
  }
  for (size_t at = 0; at < good.size(); ++at) {
    for (int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255, 0x55, 0x7f}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const size_t before = allocated_bytes;
      absl::Status s = decode(bytes);
      // 4,096 entries of about 600 bytes are reserved for a hostile count; pieces and holes grow eight-fold.
      ASSERT_LT(allocated_bytes - before, (16u << 20) + 64 * bytes.size()) << "byte " << at << " ^ " << flip;
      if (!s.ok()) {
        ASSERT_THAT(s, StatusIs(kDamaged)) << "byte " << at << " ^ " << flip;
      }
    }
  }
}

TEST(LeafPage, ComesBackWithEveryField) {
  LeafPage leaf = FullLeaf();
  EncodedPage page = EncodeLeaf(leaf);
  EXPECT_TRUE(std::is_sorted(page.children.begin(), page.children.end()));
  EXPECT_EQ(std::adjacent_find(page.children.begin(), page.children.end()), page.children.end());
  ASSERT_OK_AND_ASSIGN(LeafPage back, DecodeLeaf(page.plaintext, page.children, {}));
  ExpectSameLeaf(back, leaf);
  EXPECT_EQ(EncodeLeaf(back).plaintext, page.plaintext);
}

TEST(LeafPage, HoldsPathsRelativeToItsStartSoThatARenamedParentLeavesItAsItIs) {
  LeafPage one, two;
  one.directories = {{"old", "x"}, {"old", "x", "y"}, {"old", "z"}};
  two.directories = {{"new name", "x"}, {"new name", "x", "y"}, {"new name", "z"}};
  for (LeafPage* leaf : {&one, &two}) {
    leaf->directory_index = {0, 1, 2};
    leaf->entries = {Named("y", EntryType::kDirectory), Named("f"), Named("g")};
  }
  EncodedPage page = EncodeLeaf(one);
  EXPECT_EQ(page.plaintext, EncodeLeaf(two).plaintext);
  ASSERT_OK_AND_ASSIGN(LeafPage back, DecodeLeaf(page.plaintext, page.children, {"new name", "x"}));
  ExpectSameLeaf(back, two);
}

TEST(LeafPage, IsRefusedOrWellFormedWhereverItIsDamaged) {
  EncodedPage page = EncodeLeaf(SmallLeaf());
  DamageEverywhere(page.plaintext, false, [&](const std::string& bytes) {
    absl::StatusOr<LeafPage> leaf = DecodeLeaf(bytes, page.children, {});
    if (leaf.ok()) ExpectWellFormed(*leaf);
    return leaf.status();
  });
}

TEST(LeafPage, IsRefusedWithOtherChildren) {
  EncodedPage page = EncodeLeaf(SmallLeaf());
  std::vector<ChunkId> fewer(page.children.begin(), page.children.end() - 1);
  EXPECT_THAT(DecodeLeaf(page.plaintext, fewer, {}), StatusIs(kDamaged));
  std::vector<ChunkId> more = page.children;
  more.emplace_back();
  EXPECT_THAT(DecodeLeaf(page.plaintext, more, {}), StatusIs(kDamaged));
}

// Writes leaves that the encoder would not.
struct RawLeaf {
  uint8_t version = 1, kind = 1;
  uint64_t keys = 0;
  std::string key_bytes;
  std::string extensions;
  uint64_t strings = 0;
  uint64_t entries = 1;
  std::string items;
  std::string Bytes() const {
    std::string out;
    ByteWriter w(&out);
    w.U8(version);
    w.U8(kind);
    w.Varint(keys);
    w.Bytes(key_bytes);
    w.LengthPrefixed(extensions);
    w.Varint(strings);
    w.Varint(entries);
    w.Bytes(items);
    return out;
  }
};

struct RawEntry {
  uint8_t type = 1;
  uint64_t flags = 0;
  std::string name = "f";
  uint64_t mode = 0, uid = 0, gid = 0, owner = 0, group = 0, nanos = 0, device = 0, links = 1;
  std::string fields;
  std::string Item() const {
    std::string body;
    ByteWriter w(&body);
    w.U8(type);
    w.Varint(flags);
    w.LengthPrefixed(name);
    for (uint64_t v : {mode, uid, gid, owner, group}) w.Varint(v);
    for (int i = 0; i < 2; ++i) {
      w.SignedVarint(1);
      w.Varint(nanos);
    }
    for (uint64_t v : {uint64_t{1}, device, links, uint64_t{0}}) w.Varint(v);
    w.Bytes(fields);
    std::string out;
    ByteWriter(&out).U8(2);
    ByteWriter(&out).LengthPrefixed(body);
    return out;
  }
};

std::string Field(uint64_t tag, std::string_view bytes) {
  std::string out;
  ByteWriter(&out).Varint(tag);
  ByteWriter(&out).LengthPrefixed(bytes);
  return out;
}

std::string Varints(std::initializer_list<uint64_t> values) {
  std::string out;
  for (uint64_t v : values) ByteWriter(&out).Varint(v);
  return out;
}

std::string ChangeDirectory(uint64_t up, const std::vector<std::string>& down) {
  std::string out = Varints({1, up, down.size()});
  for (const std::string& name : down) ByteWriter(&out).LengthPrefixed(name);
  return out;
}

absl::Status DecodeRaw(const RawLeaf& leaf, const Components& start = {}) {
  std::vector<ChunkId> children;
  for (uint64_t i = 0; i < leaf.keys && i < 20; ++i) children.push_back(RefOf(static_cast<int>(i)).id);
  return DecodeLeaf(leaf.Bytes(), children, start).status();
}

absl::Status DecodeRaw(const RawEntry& entry) {
  RawLeaf leaf;
  leaf.keys = 1;
  leaf.key_bytes = std::string(64, 'k');
  leaf.items = entry.Item();
  return DecodeRaw(leaf);
}

TEST(LeafPage, IsRefusedWithAHostileCount) {
  RawLeaf good;
  good.items = RawEntry().Item();
  ASSERT_OK(DecodeRaw(good));
  auto with = [&](auto change) {
    RawLeaf leaf = good;
    change(leaf);
    const size_t before = allocated_bytes;
    absl::Status s = DecodeRaw(leaf);
    EXPECT_LT(allocated_bytes - before, 16u << 20);
    return s;
  };
  EXPECT_THAT(with([](RawLeaf& l) { l.version = 2; }), StatusIs(kDamaged, "version"));
  EXPECT_THAT(with([](RawLeaf& l) { l.kind = 2; }), StatusIs(kDamaged, "kind"));
  EXPECT_THAT(with([](RawLeaf& l) { l.keys = 1; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawLeaf& l) { l.keys = UINT64_MAX; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawLeaf& l) { l.keys = kChunkChildrenMax + 1; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawLeaf& l) { l.strings = 65537; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawLeaf& l) { l.strings = 65536; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawLeaf& l) { l.entries = 0; }), StatusIs(kDamaged, "behind its last"));
  EXPECT_THAT(with([](RawLeaf& l) { l.entries = 2; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawLeaf& l) { l.entries = 4097; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawLeaf& l) { l.entries = UINT64_MAX; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawLeaf& l) { l.items += "x"; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawLeaf& l) { l.items[0] = 3; }), StatusIs(kDamaged, "unknown item"));
}

TEST(LeafPage, IsRefusedWithANameThatCouldLeadElsewhere) {
  for (const std::string& name :
       {"."s, ".."s, "/"s, "a/b"s, "../x"s, "a\0"s, "\0"s, std::string(kNameBytesMax + 1, 'n')}) {
    RawEntry entry;
    entry.name = name;
    EXPECT_THAT(DecodeRaw(entry), StatusIs(kDamaged)) << testing::PrintToString(name.substr(0, 9));
    RawLeaf leaf;
    leaf.items = ChangeDirectory(0, {"fine", name}) + RawEntry().Item();
    EXPECT_THAT(DecodeRaw(leaf), StatusIs(kDamaged)) << "directory " << testing::PrintToString(name.substr(0, 9));
    leaf.items = RawEntry().Item();
    EXPECT_THAT(DecodeRaw(leaf, {"fine", name}), StatusIs(kDamaged))
        << "start directory " << testing::PrintToString(name.substr(0, 9));
  }
  for (const char* name : {"...", ".a", "\x01", "\xff", "\\", " "}) {
    RawEntry entry;
    entry.name = name;
    EXPECT_OK(DecodeRaw(entry)) << name;
  }
  RawLeaf leaf;
  leaf.items = ChangeDirectory(0, {""}) + RawEntry().Item();
  EXPECT_THAT(DecodeRaw(leaf), StatusIs(kDamaged));
}

TEST(LeafPage, HasAnUnnamedEntryInTheRootOnlyAndFirst) {
  RawEntry unnamed;
  unnamed.name = "";
  RawLeaf leaf;
  leaf.items = unnamed.Item();
  EXPECT_OK(DecodeRaw(leaf));
  EXPECT_THAT(DecodeRaw(leaf, {"etc"}), StatusIs(kDamaged));
  leaf.entries = 2;
  leaf.items = RawEntry().Item() + unnamed.Item();
  EXPECT_THAT(DecodeRaw(leaf), StatusIs(kDamaged));
}

TEST(LeafPage, IsRefusedWhenItsEntriesAreNotAscending) {
  RawLeaf leaf;
  leaf.entries = 2;
  leaf.items = RawEntry().Item() + RawEntry().Item();
  EXPECT_THAT(DecodeRaw(leaf), StatusIs(kDamaged, "order"));
  RawEntry earlier;
  earlier.name = "e";
  leaf.items = RawEntry().Item() + earlier.Item();
  EXPECT_THAT(DecodeRaw(leaf), StatusIs(kDamaged, "order"));
  leaf.items = ChangeDirectory(0, {"a"}) + RawEntry().Item() + ChangeDirectory(1, {}) + RawEntry().Item();
  EXPECT_THAT(DecodeRaw(leaf), StatusIs(kDamaged));
}

TEST(LeafPage, IsRefusedWithAHostileDirectoryChange) {
  RawLeaf leaf;
  leaf.entries = 2;
  const std::string first = RawEntry().Item();
  auto between = [&](const std::string& change) {
    leaf.items = first + change + RawEntry().Item();
    return DecodeRaw(leaf, {"b"});
  };
  EXPECT_OK(between(ChangeDirectory(0, {"c"})));
  EXPECT_OK(between(ChangeDirectory(1, {"c"})));
  EXPECT_THAT(between(ChangeDirectory(2, {"c"})), StatusIs(kDamaged));
  EXPECT_THAT(between(Varints({1, UINT64_MAX, 0})), StatusIs(kDamaged));
  EXPECT_THAT(between(Varints({1, 0, UINT64_MAX})), StatusIs(kDamaged));
  EXPECT_THAT(between(Varints({1, 0, 3})), StatusIs(kDamaged));
}

TEST(LeafPage, IsRefusedWithAPathBeyondTheLimitOfKeys) {
  RawLeaf leaf;
  leaf.entries = 2;
  const size_t room = kEntryKeyBytesMax - 4;  // two zeros, the name, the zero behind "b"
  leaf.items = RawEntry().Item() + ChangeDirectory(0, std::vector<std::string>(room / 2, "c")) + RawEntry().Item();
  EXPECT_OK(DecodeRaw(leaf, {"b"}));
  leaf.items = RawEntry().Item() + ChangeDirectory(0, std::vector<std::string>(room / 2 + 1, "c")) + RawEntry().Item();
  EXPECT_THAT(DecodeRaw(leaf, {"b"}), StatusIs(kDamaged));
}

TEST(LeafPage, WithEndlessDirectoryChangesTakesNoEndlessMemory) {
  RawLeaf leaf;
  leaf.entries = 2;
  leaf.items = RawEntry().Item() + ChangeDirectory(0, std::vector<std::string>(1000, "c"));
  for (int i = 0; i < 100000; ++i) leaf.items += Varints({1, 0, 0});
  leaf.items += RawEntry().Item();
  const size_t before = allocated_bytes;
  EXPECT_THAT(DecodeRaw(leaf, {"b"}), StatusIs(kDamaged));
  EXPECT_LT(allocated_bytes - before, 16u << 20);
}

TEST(LeafPage, IsRefusedWithManyVeryDeepDirectories) {
  const Components start(30000, "b");
  auto decode = [&](int changes) {
    RawLeaf leaf;
    leaf.entries = static_cast<uint64_t>(changes) + 1;
    leaf.items = RawEntry().Item();
    for (int i = 0; i < changes; ++i) {
      leaf.items += ChangeDirectory(1, {"c" + std::to_string(100 + i)}) + RawEntry().Item();
    }
    return DecodeRaw(leaf, start);
  };
  EXPECT_OK(decode(18));
  EXPECT_THAT(decode(19), StatusIs(kDamaged, "directory names"));  // 20 x 30,000 names: more than 512 Ki + 64 Ki
}

TEST(LeafPage, IsRefusedWithAFieldOutOfRange) {
  ASSERT_OK(DecodeRaw(RawEntry()));
  auto with = [&](auto change) {
    RawEntry entry;
    change(entry);
    return DecodeRaw(entry);
  };
  constexpr uint64_t kBeyond32 = uint64_t{1} << 32;
  EXPECT_THAT(with([](RawEntry& e) { e.type = 0; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.type = 8; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.flags = kBeyond32; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.mode = 010000; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.uid = kBeyond32; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.gid = kBeyond32; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.owner = 1; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.group = UINT64_MAX; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.nanos = 1000000000; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.nanos = kBeyond32; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.device = kBeyond32; }), StatusIs(kDamaged));
  EXPECT_THAT(with([](RawEntry& e) { e.links = kBeyond32; }), StatusIs(kDamaged));
}

TEST(LeafPage, ChecksItsOptionalFields) {
  auto fields = [&](const std::string& bytes) {
    RawEntry entry;
    entry.fields = bytes;
    return DecodeRaw(entry);
  };
  // One child, so that 0 is the only ordinal.
  EXPECT_OK(fields(Field(1, std::string(64, 'i'))));
  EXPECT_THAT(fields(Field(1, std::string(65, 'i'))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(2, std::string(15, 'd'))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(2, std::string(17, 'd'))), StatusIs(kDamaged));
  EXPECT_OK(fields(Field(3, Varints({0, 1, 2}))));
  EXPECT_THAT(fields(Field(3, Varints({1, 1, 2}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(3, Varints({0, 1}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(3, Varints({0, 1, 2, 3}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(3, Varints({0, 1, kChunkPlaintextBytesMax + 1}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(3, Varints({0, UINT64_MAX, 2}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(4, Varints({0, 1000000000}))), StatusIs(kDamaged));
  EXPECT_OK(fields(Field(5, Varints({0, 1, 0, 1}))));
  EXPECT_THAT(fields(Field(5, Varints({0, 1, 1, 1}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(5, Varints({0, 0}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(5, Varints({0}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(5, Varints({0, kChunkPlaintextBytesMax + 1}))), StatusIs(kDamaged));
  std::string pieces;
  for (uint32_t i = 0; i < kInlineChunksMax; ++i) pieces += Varints({0, 1});
  EXPECT_OK(fields(Field(5, pieces)));
  EXPECT_THAT(fields(Field(5, pieces + Varints({0, 1}))), StatusIs(kDamaged));
  EXPECT_OK(fields(Field(7, Varints({0, 1}))));
  EXPECT_THAT(fields(Field(7, Varints({0, 0}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(7, Varints({0, kTreeLevelsMax + 1}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(7, Varints({1, 1}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(11, std::string(65536, 't'))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(13, Varints({uint64_t{1} << 32, 0}))), StatusIs(kDamaged));
  EXPECT_OK(fields(Field(17, Varints({0}))));
  EXPECT_THAT(fields(Field(17, Varints({1}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(19, Varints({UINT64_MAX}))), StatusIs(kDamaged));
  EXPECT_THAT(fields(Field(1, "i") + Field(3, Varints({0, 1, 2}))), StatusIs(kDamaged)) << "two contents";
  EXPECT_THAT(fields(Field(5, Varints({0, 1})) + Field(7, Varints({0, 1}))), StatusIs(kDamaged)) << "two contents";
}

TEST(LeafPage, SkipsUnknownEvenFieldsAndRefusesUnknownOddOnes) {
  auto fields = [&](const std::string& bytes) {
    RawEntry entry;
    entry.fields = bytes;
    return DecodeRaw(entry);
  };
  EXPECT_OK(fields(Field(6, Varints({3})) + Field(8, "anything") + Field(1000, "")));
  EXPECT_THAT(fields(Field(21, "")), StatusIs(kDamaged, "21"));
  EXPECT_THAT(fields(Field(8, "") + Field(8, "")), StatusIs(kDamaged, "order"));
  EXPECT_THAT(fields(Field(8, "") + Field(6, Varints({3}))), StatusIs(kDamaged, "order"));
  EXPECT_THAT(fields(Field(0, "")), StatusIs(kDamaged));
}

TEST(LeafPage, TakesEvenExtensionFieldsItDoesNotKnow) {
  const auto with = [](const std::string& area) {
    RawLeaf leaf;
    leaf.items = RawEntry().Item();
    leaf.extensions = area;
    return DecodeRaw(leaf);
  };
  EXPECT_OK(with(Field(2, "anything") + Field(1000, "")));
  EXPECT_THAT(with(Field(3, "")), StatusIs(kDamaged, "3"));
  EXPECT_THAT(with(Field(4, "") + Field(4, "")), StatusIs(kDamaged));
  EXPECT_THAT(with(Field(4, "") + Field(2, "")), StatusIs(kDamaged));
  EXPECT_THAT(with(Field(0, "")), StatusIs(kDamaged));
  EXPECT_THAT(with(Varints({2, 5}) + "abc"), StatusIs(kDamaged)) << "a field beyond the area";
  EXPECT_OK(with(Field(2, std::string((64 << 10) - 4, 'x'))));
  EXPECT_THAT(with(Field(2, std::string(64 << 10, 'x'))), StatusIs(kDamaged)) << "beyond the limit";
}

IndexPage SmallIndex() {
  IndexPage page;
  page.level = 3;
  page.entries = {{RefOf(5), EntryKey({}, ""), {512, 300, 200, 12345}, "", "etc"},
                  {RefOf(3), EntryKey({"etc"}, "a"), {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}, "etc", "b"},
                  {RefOf(5), EntryKey({"etc"}, "c"), {1, 0, 1, 0}, "ssl", "\xff\x01"},
                  {RefOf(4), EntryKey({"etc", "ssl"}, ""), {}, std::string(300, 'p'), ""}};
  return page;
}

void ExpectSameIndex(const IndexPage& a, const IndexPage& b) {
  EXPECT_EQ(a.level, b.level);
  ASSERT_EQ(a.entries.size(), b.entries.size());
  for (size_t i = 0; i < a.entries.size(); ++i) {
    EXPECT_TRUE(a.entries[i].child == b.entries[i].child) << i;
    EXPECT_EQ(a.entries[i].start_key, b.entries[i].start_key) << i;
    EXPECT_EQ(a.entries[i].below, b.entries[i].below) << i;
    EXPECT_EQ(a.entries[i].last_parent_name, b.entries[i].last_parent_name) << i;
    EXPECT_EQ(a.entries[i].last_name, b.entries[i].last_name) << i;
  }
}

TEST(IndexPage, ComesBackAsItWas) {
  EncodedPage page = EncodeIndex(SmallIndex());
  EXPECT_EQ(page.children.size(), 3u);
  ASSERT_OK_AND_ASSIGN(IndexPage back, DecodeIndex(page.plaintext, page.children));
  ExpectSameIndex(back, SmallIndex());
}

TEST(IndexPage, IsRefusedOrWellFormedWhereverItIsDamaged) {
  EncodedPage page = EncodeIndex(SmallIndex());
  DamageEverywhere(page.plaintext, false, [&](const std::string& bytes) {
    absl::StatusOr<IndexPage> index = DecodeIndex(bytes, page.children);
    if (index.ok()) {
      EXPECT_FALSE(index->entries.empty());
      EXPECT_GE(index->level, 1u);
      for (size_t i = 1; i < index->entries.size(); ++i) {
        EXPECT_GT(index->entries[i].start_key, index->entries[i - 1].start_key);
      }
    }
    return index.status();
  });
}

TEST(IndexPage, IsRefusedWhenARuleIsBroken) {
  auto decode = [](uint64_t level, uint64_t count, const std::string& entries) {
    std::string bytes = Varints({1, 2, 1}) + std::string(64, 'k') + Varints({0}) + Varints({level, count}) + entries;
    ChunkId child = RefOf(1).id;
    const size_t before = allocated_bytes;
    absl::Status s = DecodeIndex(bytes, {&child, 1}).status();
    EXPECT_LT(allocated_bytes - before, 16u << 20);
    return s;
  };
  auto entry = [](uint64_t child, uint64_t shared, const std::string& rest) {
    std::string out = Varints({child, shared});
    ByteWriter(&out).LengthPrefixed(rest);
    return out + Varints({1, 1, 0, 0, 0, 0});
  };
  const std::string one = entry(0, 0, "\0\0a"s);
  EXPECT_OK(decode(1, 1, one));
  EXPECT_OK(decode(kTreeLevelsMax, 1, one));
  EXPECT_THAT(decode(0, 1, one), StatusIs(kDamaged));
  EXPECT_THAT(decode(kTreeLevelsMax + 1, 1, one), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 0, ""), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 2, one), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 4097, one), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, UINT64_MAX, one), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 1, one + "x"), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 1, entry(1, 0, "\0\0a"s)), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 1, entry(0, 1, "\0\0a"s)), StatusIs(kDamaged)) << "shared with nothing";
  EXPECT_OK(decode(1, 2, one + entry(0, 2, "b")));
  EXPECT_THAT(decode(1, 2, one + entry(0, 3, "")), StatusIs(kDamaged, "order"));
  EXPECT_THAT(decode(1, 2, one + entry(0, 4, "b")), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 2, one + entry(0, UINT64_MAX, "b")), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 2, one + entry(0, 2, "A")), StatusIs(kDamaged, "order"));
  EXPECT_OK(decode(1, 1, entry(0, 0, std::string(kEntryKeyBytesMax, 'k'))));
  EXPECT_THAT(decode(1, 1, entry(0, 0, std::string(kEntryKeyBytesMax + 1, 'k'))), StatusIs(kDamaged));
}

TEST(IndexPage, IsRefusedWithMoreLongKeysThanABuilderPutsIntoOne) {
  IndexPage page;
  while (page.entries.size() < 9) {
    IndexEntry& e = page.entries.emplace_back();
    e.child = RefOf(1);
    e.start_key = std::string(kEntryKeyBytesMax - 64, static_cast<char>('a' + page.entries.size()));
  }
  // Eight of them reach the limit, so that the ninth begins a new page.
  EncodedPage encoded = EncodeIndex(page);
  EXPECT_OK(DecodeIndex(encoded.plaintext, encoded.children));
  page.entries.back().start_key += "longer";
  page.entries.push_back(page.entries.back());
  page.entries.back().start_key += "x";
  encoded = EncodeIndex(page);
  EXPECT_THAT(DecodeIndex(encoded.plaintext, encoded.children), StatusIs(kDamaged, "weight"));
}

TEST(CheckEntry, RefusesWhatNoDecoderWouldTake) {
  auto check = [](auto change) {
    Entry e = Named("abc");
    e.xattrs = {{"user.a", "1"}, {"user.b", ""}};
    change(e);
    return CheckEntry(e);
  };
  using absl::StatusCode::kInvalidArgument;
  EXPECT_OK(check([](Entry&) {}));
  EXPECT_OK(check([](Entry& e) { e.name = ""; }));  // the root
  EXPECT_THAT(check([](Entry& e) { e.name = ".."; }), StatusIs(kInvalidArgument, "name"));
  EXPECT_THAT(check([](Entry& e) { e.name = "a/b"; }), StatusIs(kInvalidArgument, "name"));
  EXPECT_THAT(check([](Entry& e) { e.name.assign(kNameBytesMax + 1, 'n'); }), StatusIs(kInvalidArgument, "name"));
  EXPECT_THAT(check([](Entry& e) { e.type = static_cast<EntryType>(8); }), StatusIs(kInvalidArgument, "type"));
  EXPECT_THAT(check([](Entry& e) { e.mode = 010000; }), StatusIs(kInvalidArgument, "mode"));
  EXPECT_THAT(check([](Entry& e) { e.mtime.nanos = 1000000000; }), StatusIs(kInvalidArgument, "time"));
  EXPECT_THAT(check([](Entry& e) { e.ctime.nanos = 1000000000; }), StatusIs(kInvalidArgument, "time"));
  EXPECT_THAT(check([](Entry& e) { e.birth_time = Timestamp{0, 1000000000}; }), StatusIs(kInvalidArgument, "time"));
  EXPECT_THAT(check([](Entry& e) { e.symlink_target.assign(65536, 't'); }), StatusIs(kInvalidArgument, "target"));
  EXPECT_THAT(check([](Entry& e) { e.xattrs[1].name = "user.a"; }), StatusIs(kInvalidArgument, "attributes"));
  EXPECT_THAT(check([](Entry& e) { e.xattrs[0].name = ""; }), StatusIs(kInvalidArgument, "attributes"));
  EXPECT_THAT(check([](Entry& e) { e.owner_name.assign(kNameBytesMax + 1, 'o'); }),
              StatusIs(kInvalidArgument, "owner"));
  EXPECT_THAT(check([](Entry& e) { e.holes.resize(65537); }), StatusIs(kInvalidArgument, "holes"));
}

TEST(ContentList, ComesBackAsItWas) {
  ContentList list;
  list.level = 1;
  for (int i = 0; i < 100; ++i) list.pieces.push_back({RefOf(i % 9), i == 0 ? kChunkPlaintextBytesMax : 1u + i});
  EncodedPage page = EncodeContentList(list);
  EXPECT_EQ(page.children.size(), 9u);
  ASSERT_OK_AND_ASSIGN(ContentList back, DecodeContentList(page.plaintext, page.children));
  EXPECT_EQ(back.level, 1u);
  EXPECT_EQ(back.pieces, list.pieces);
  list.level = kTreeLevelsMax;
  list.pieces[5].length = INT64_MAX;
  page = EncodeContentList(list);
  ASSERT_OK_AND_ASSIGN(back, DecodeContentList(page.plaintext, page.children));
  EXPECT_EQ(back.level, kTreeLevelsMax);
  EXPECT_EQ(back.pieces, list.pieces);
}

TEST(ContentList, IsRefusedOrWellFormedWhereverItIsDamaged) {
  ContentList list;
  for (int i = 0; i < 20; ++i) list.pieces.push_back({RefOf(i % 9), 1u + 300 * i});
  EncodedPage page = EncodeContentList(list);
  DamageEverywhere(page.plaintext, false, [&](const std::string& bytes) {
    absl::StatusOr<ContentList> back = DecodeContentList(bytes, page.children);
    if (back.ok()) {
      EXPECT_EQ(back->pieces.size(), 20u);
      for (const ChunkPiece& p : back->pieces) EXPECT_GT(p.length, 0u);
    }
    return back.status();
  });
}

TEST(ContentList, IsRefusedWhenARuleIsBroken) {
  auto decode = [](uint64_t level, uint64_t count, const std::string& refs) {
    std::string bytes = Varints({1, 3, 1}) + std::string(64, 'k') + Varints({0}) + Varints({level, count}) + refs;
    ChunkId child = RefOf(1).id;
    return DecodeContentList(bytes, {&child, 1}).status();
  };
  EXPECT_OK(decode(1, 1, Varints({0, 1})));
  EXPECT_THAT(decode(0, 1, Varints({0, 1})), StatusIs(kDamaged));
  EXPECT_THAT(decode(kTreeLevelsMax + 1, 1, Varints({0, 1})), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 0, ""), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, kListRefsMax + 1, Varints({0, 1})), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, UINT64_MAX, Varints({0, 1})), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 1, Varints({1, 1})), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 1, Varints({0, 0})), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 1, Varints({0, kChunkPlaintextBytesMax + 1})), StatusIs(kDamaged));
  EXPECT_OK(decode(2, 1, Varints({0, kChunkPlaintextBytesMax + 1})));
  EXPECT_THAT(decode(2, 1, Varints({0, uint64_t{1} << 63})), StatusIs(kDamaged));
  EXPECT_THAT(decode(1, 1, Varints({0, 1, 0})), StatusIs(kDamaged));
}

TEST(TreeBody, IsNeverTakenForAnotherKind) {
  EncodedPage leaf = EncodeLeaf(SmallLeaf()), index = EncodeIndex(SmallIndex());
  ContentList list;
  list.pieces = {{RefOf(1), 1}};
  EncodedPage content = EncodeContentList(list);
  EXPECT_THAT(DecodeLeaf(index.plaintext, index.children, {}), StatusIs(kDamaged, "kind"));
  EXPECT_THAT(DecodeIndex(content.plaintext, content.children), StatusIs(kDamaged, "kind"));
  EXPECT_THAT(DecodeContentList(leaf.plaintext, leaf.children), StatusIs(kDamaged, "kind"));
}

TEST(Xattrs, ComeBackAsTheyWere) {
  std::vector<Xattr> xattrs = {{"a", ""}, {"b", "\0\xff"s}, {"user." + std::string(250, 'x'), std::string(65536, 'v')}};
  EXPECT_THAT(DecodeXattrs(EncodeXattrs(xattrs)), IsOkAndHolds(xattrs));
  EXPECT_THAT(DecodeXattrs(""), IsOkAndHolds(std::vector<Xattr>()));
}

TEST(Xattrs, AreRefusedOrWellFormedWhereverTheyAreDamaged) {
  std::vector<Xattr> xattrs = {{"a", ""}, {"b", "\0\xff"s}, {"user.x", std::string(200, 'v')}};
  DamageEverywhere(EncodeXattrs(xattrs), true, [](const std::string& bytes) {
    absl::StatusOr<std::vector<Xattr>> back = DecodeXattrs(bytes);
    for (size_t i = 0; back.ok() && i < back->size(); ++i) {
      EXPECT_NE((*back)[i].name, "");
      if (i > 0) {
        EXPECT_GT((*back)[i].name, (*back)[i - 1].name);
      }
    }
    return back.status();
  });
  EXPECT_THAT(DecodeXattrs(EncodeXattrs(std::vector<Xattr>{{"b", ""}, {"a", ""}})), StatusIs(kDamaged, "order"));
  EXPECT_THAT(DecodeXattrs(EncodeXattrs(std::vector<Xattr>{{"a", ""}, {"a", ""}})), StatusIs(kDamaged, "order"));
  EXPECT_THAT(DecodeXattrs(EncodeXattrs(std::vector<Xattr>{{"", ""}})), StatusIs(kDamaged));
  EXPECT_THAT(DecodeXattrs(EncodeXattrs(std::vector<Xattr>{{"a\0b"s, ""}})), StatusIs(kDamaged));
}

TEST(Holes, ComeBackAsTheyWere) {
  std::vector<Hole> holes = {{0, 1}, {1, 1}, {4096, 4096}, {1ull << 50, INT64_MAX - (1ull << 50)}};
  EXPECT_THAT(DecodeHoles(EncodeHoles(holes)), IsOkAndHolds(holes));
  EXPECT_THAT(DecodeHoles(""), IsOkAndHolds(std::vector<Hole>()));
}

TEST(Holes, AreRefusedOrWellFormedWhereverTheyAreDamaged) {
  std::vector<Hole> holes = {{10, 300}, {5000, 4096}, {1ull << 40, 1}};
  DamageEverywhere(EncodeHoles(holes), true, [](const std::string& bytes) {
    absl::StatusOr<std::vector<Hole>> back = DecodeHoles(bytes);
    uint64_t end = 0;
    for (size_t i = 0; back.ok() && i < back->size(); ++i) {
      const Hole& h = (*back)[i];
      EXPECT_GE(h.offset, end);
      EXPECT_GT(h.length, 0u);
      EXPECT_LE(h.length, INT64_MAX - h.offset);
      end = h.offset + h.length;
    }
    return back.status();
  });
  EXPECT_THAT(DecodeHoles(Varints({0, 0})), StatusIs(kDamaged));
  EXPECT_THAT(DecodeHoles(Varints({INT64_MAX, 1})), StatusIs(kDamaged));
  EXPECT_THAT(DecodeHoles(Varints({UINT64_MAX, 1})), StatusIs(kDamaged));
  EXPECT_THAT(DecodeHoles(Varints({1, UINT64_MAX})), StatusIs(kDamaged));
  EXPECT_THAT(DecodeHoles(Varints({1, 1, 5})), StatusIs(kDamaged));
}

TEST(Holes, AreAtMost65536InsideAPage) {
  std::string bytes;
  for (int i = 0; i < 65536; ++i) bytes += Varints({1, 1});
  RawEntry entry;
  entry.fields = Field(9, bytes);
  EXPECT_OK(DecodeRaw(entry));
  entry.fields = Field(9, bytes + Varints({1, 1}));
  EXPECT_THAT(DecodeRaw(entry), StatusIs(kDamaged));
  EXPECT_OK(DecodeHoles(bytes + Varints({1, 1}))) << "a side chunk may hold more";
}

TEST(RandomBytes, AreNeverAPageThatBreaksARule) {
  for (uint64_t seed = 1; seed <= 20000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 rng(seed);
    std::string bytes = Varints({1, 1 + seed % 3, 0});
    for (size_t n = rng() % 100; n > 0; --n) bytes.push_back(static_cast<char>(rng() % 3 == 0 ? rng() : rng() % 4));
    const size_t before = allocated_bytes;
    absl::StatusOr<LeafPage> leaf = DecodeLeaf(bytes, {}, {});
    if (leaf.ok()) ExpectWellFormed(*leaf);
    (void)DecodeIndex(bytes, {});
    (void)DecodeContentList(bytes, {});
    (void)DecodeXattrs(bytes);
    (void)DecodeHoles(bytes);
    ASSERT_LT(allocated_bytes - before, 16u << 20);
  }
}

TEST(EntryCutWeight, CountsWhatTheSpecificationSays) {
  EXPECT_EQ(EntryCutWeight(Named("abc")), 67u);
  Entry e = Named("abc");
  e.symlink_target = "0123456789";
  e.content.inline_bytes = "01234";
  e.holes.resize(3);
  e.content.chunks.resize(2);
  e.xattrs = {{"ab", "cdef"}};
  EXPECT_EQ(EntryCutWeight(e), 67u + 10 + 5 + 24 + 8 + 6);
  EXPECT_EQ(EntryChildCount(e), 0u);
  e.content.kind = Content::Kind::kChunks;
  e.xattr_chunk = RefOf(1);
  e.hole_chunk = RefOf(2);
  EXPECT_EQ(EntryChildCount(e), 4u);
}

TEST(TreeBodies, AreAsTheGoldenFileSays) {
  std::ifstream in("core/tree/testdata/golden.txt");
  ASSERT_TRUE(in) << "run from the workspace root";
  ContentList list;
  list.level = 2;
  list.pieces = {{RefOf(9), 1}, {RefOf(2), 300}, {RefOf(9), 1u << 30}};
  LeafPage leaf = SmallLeaf();
  std::map<std::string, std::string> actual = {{"leaf", HexEncode(EncodeLeaf(leaf).plaintext)},
                                               {"index", HexEncode(EncodeIndex(SmallIndex()).plaintext)},
                                               {"list", HexEncode(EncodeContentList(list).plaintext)}};
  int lines = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::string name = line.substr(0, line.find(' '));
    EXPECT_EQ(name + " " + actual[name], line);
    ++lines;
  }
  EXPECT_EQ(lines, 3);
  if (HasFailure()) {
    for (const auto& [name, hex] : actual) std::printf("%s %s\n", name.c_str(), hex.c_str());
  }
}

}  // namespace
}  // namespace holdfast
