#include "core/tree/page.h"

#include <algorithm>
#include <cstring>

#include "absl/container/flat_hash_map.h"
#include "core/base/codec.h"
#include "core/base/limits.h"

namespace holdfast {
namespace {

constexpr uint8_t kVersion = 1;
constexpr uint8_t kKindLeaf = 1, kKindIndex = 2, kKindList = 3;
constexpr uint8_t kItemChangeDirectory = 1, kItemEntry = 2;
constexpr uint32_t kSymlinkBytesMax = 65535;
constexpr uint64_t kHolesMax = 1u << 22;
constexpr uint64_t kPageHolesMax = 65536;  // of one entry, not in a side chunk
constexpr uint32_t kStringsMax = 65536;
constexpr uint64_t kNanosPerSecond = 1000000000;

enum Field : uint64_t {
  kInline = 1,
  kDigest = 2,
  kSlice = 3,
  kBirthTime = 4,
  kChunks = 5,
  kInodeFlags = 6,
  kList = 7,
  kHoles = 9,
  kSymlink = 11,
  kDevice = 13,
  kXattrs = 15,
  kXattrChunk = 17,
  kHoleChunk = 19,
};

absl::Status Damaged(std::string_view what) { return absl::DataLossError(absl::StrCat("tree page: ", AbslView(what))); }

// Collects the children of a page; after Sort() gives the ordinal of each.
class ChildTable {
 public:
  void Add(const ChunkRef& ref) { refs_.try_emplace(ref.id, ref); }
  void Sort() {
    sorted_.reserve(refs_.size());
    for (const auto& [id, ref] : refs_) sorted_.push_back(id);
    std::sort(sorted_.begin(), sorted_.end());
    for (uint32_t i = 0; i < sorted_.size(); ++i) ordinal_[sorted_[i]] = i;
  }
  uint64_t Ordinal(const ChunkRef& ref) const { return ordinal_.at(ref.id); }
  void WriteTo(ByteWriter& w) const {
    w.Varint(sorted_.size());
    for (const ChunkId& id : sorted_) {
      const ChunkRef& ref = refs_.at(id);
      w.Bytes(ref.key.ExposeView());
      w.Bytes(ref.digest.view());
    }
    w.Varint(0);  // the area of extension fields: none yet
  }
  std::vector<ChunkId> Take() { return std::move(sorted_); }

 private:
  absl::flat_hash_map<ChunkId, ChunkRef> refs_;
  absl::flat_hash_map<ChunkId, uint32_t> ordinal_;
  std::vector<ChunkId> sorted_;
};

// The children of a page being decoded.
class ChildReader {
 public:
  absl::Status Init(ByteReader& r, absl::Span<const ChunkId> children) {
    uint64_t n = r.Varint();
    if (!r.ok() || n > kChunkChildrenMax || n != children.size()) {
      return Damaged("its key count does not match its children");
    }
    refs_ = r.Bytes(n * kRefBytes);
    if (!r.ok()) return Damaged("truncated references");
    children_ = children;
    return CheckExtensions(r.LengthPrefixed(kExtensionBytesMax), r.ok());
  }
  bool Get(uint64_t ordinal, ChunkRef* out) const {
    if (ordinal >= children_.size()) return false;
    out->id = children_[ordinal];
    const char* at = refs_.data() + ordinal * kRefBytes;
    out->key = Key256(reinterpret_cast<const uint8_t*>(at));
    std::memcpy(out->digest.bytes.data(), at + Key256::kSizeInBytes, ContentDigest::kSizeInBytes);
    return true;
  }

 private:
  static constexpr size_t kRefBytes = Key256::kSizeInBytes + ContentDigest::kSizeInBytes;
  static constexpr size_t kExtensionBytesMax = 64u << 10;

  // Fields of later versions: even ones may be passed over.
  static absl::Status CheckExtensions(std::string_view area, bool whole) {
    if (!whole) return Damaged("truncated extension fields");
    ByteReader r(area);
    uint64_t last = 0;
    while (!r.AtEnd()) {
      const uint64_t tag = r.Varint();
      r.LengthPrefixed(r.remaining());
      if (!r.ok() || tag <= last) return Damaged("extension fields");
      if (tag % 2 == 1) return Damaged(std::string("an extension this version does not know: ") + std::to_string(tag));
      last = tag;
    }
    return absl::OkStatus();
  }

  absl::Span<const ChunkId> children_;
  std::string_view refs_;
};

absl::Status ReadPreamble(ByteReader& r, uint8_t kind) {
  uint8_t version = r.U8(), k = r.U8();
  if (!r.ok()) return Damaged("truncated");
  if (version != kVersion) return Damaged(std::string("unknown version ") + std::to_string(version));
  if (k != kind) return Damaged("another kind of tree body than expected");
  return absl::OkStatus();
}

void WriteTime(ByteWriter& w, const Timestamp& t) {
  w.SignedVarint(t.seconds);
  w.Varint(t.nanos);
}

bool ReadTime(ByteReader& r, Timestamp* t) {
  t->seconds = r.SignedVarint();
  uint64_t nanos = r.Varint();
  t->nanos = static_cast<uint32_t>(nanos);
  return r.ok() && nanos < kNanosPerSecond;
}

template <typename F>
void ForEachRef(const Entry& e, F f) {
  switch (e.content.kind) {
    case Content::Kind::kSlice:
    case Content::Kind::kList:
      f(e.content.ref);
      break;
    case Content::Kind::kChunks:
      for (const ChunkPiece& p : e.content.chunks) f(p.ref);
      break;
    default:
      break;
  }
  if (e.xattr_chunk) f(*e.xattr_chunk);
  if (e.hole_chunk) f(*e.hole_chunk);
}

void WriteField(ByteWriter& w, uint64_t tag, std::string_view bytes) {
  w.Varint(tag);
  w.LengthPrefixed(bytes);
}

// The part of an entry behind its length. `scratch` is reused between calls.
void EncodeEntry(const Entry& e, const ChildTable& children,
                 const absl::flat_hash_map<std::string_view, uint32_t>& strings, std::string* out,
                 std::string* scratch) {
  ByteWriter w(out);
  w.U8(static_cast<uint8_t>(e.type));
  w.Varint(e.flags);
  w.LengthPrefixed(e.name);
  w.Varint(e.mode);
  w.Varint(e.uid);
  w.Varint(e.gid);
  w.Varint(e.owner_name.empty() ? 0 : strings.at(e.owner_name) + 1);
  w.Varint(e.group_name.empty() ? 0 : strings.at(e.group_name) + 1);
  WriteTime(w, e.mtime);
  WriteTime(w, e.ctime);
  w.Varint(e.inode);
  w.Varint(e.device);
  w.Varint(e.link_count);
  w.Varint(e.size);
  auto field = [&](uint64_t tag, auto body) {
    scratch->clear();
    ByteWriter fw(scratch);
    body(fw);
    WriteField(w, tag, *scratch);
  };
  // Ascending tags.
  if (e.content.kind == Content::Kind::kInline) WriteField(w, kInline, e.content.inline_bytes);
  if (e.digest) {
    WriteField(w, kDigest, {reinterpret_cast<const char*>(e.digest->data()), e.digest->size()});
  }
  if (e.content.kind == Content::Kind::kSlice) {
    field(kSlice, [&](ByteWriter& f) {
      f.Varint(children.Ordinal(e.content.ref));
      f.Varint(e.content.offset);
      f.Varint(e.content.length);
    });
  }
  if (e.birth_time) field(kBirthTime, [&](ByteWriter& f) { WriteTime(f, *e.birth_time); });
  if (e.content.kind == Content::Kind::kChunks) {
    field(kChunks, [&](ByteWriter& f) {
      for (const ChunkPiece& p : e.content.chunks) {
        f.Varint(children.Ordinal(p.ref));
        f.Varint(p.length);
      }
    });
  }
  if (e.inode_flags) field(kInodeFlags, [&](ByteWriter& f) { f.Varint(*e.inode_flags); });
  if (e.content.kind == Content::Kind::kList) {
    field(kList, [&](ByteWriter& f) {
      f.Varint(children.Ordinal(e.content.ref));
      f.Varint(e.content.list_levels);
    });
  }
  if (!e.holes.empty()) WriteField(w, kHoles, EncodeHoles(e.holes));
  if (!e.symlink_target.empty()) WriteField(w, kSymlink, e.symlink_target);
  if (e.type == EntryType::kCharDevice || e.type == EntryType::kBlockDevice) {
    field(kDevice, [&](ByteWriter& f) {
      f.Varint(e.device_major);
      f.Varint(e.device_minor);
    });
  }
  if (!e.xattrs.empty()) WriteField(w, kXattrs, EncodeXattrs(e.xattrs));
  if (e.xattr_chunk) field(kXattrChunk, [&](ByteWriter& f) { f.Varint(children.Ordinal(*e.xattr_chunk)); });
  if (e.hole_chunk) field(kHoleChunk, [&](ByteWriter& f) { f.Varint(children.Ordinal(*e.hole_chunk)); });
}

// What a field must leave behind: nothing, and nothing missing.
absl::Status CheckFieldEnd(uint64_t tag, const ByteReader& r) {
  if (!r.ok() || !r.AtEnd()) return Damaged(std::string("field ") + std::to_string(tag));
  return absl::OkStatus();
}

// The fields of which an entry has one: where its content is.
absl::Status DecodeContentField(uint64_t tag, std::string_view bytes, const ChildReader& children, Content* content) {
  ByteReader r(bytes);
  if (content->kind != Content::Kind::kNone) return Damaged("content in two ways");
  switch (tag) {
    case kInline:
      if (bytes.size() > kInlineContentBytesMax) return Damaged("inline content");
      content->kind = Content::Kind::kInline;
      content->inline_bytes.assign(bytes);
      return absl::OkStatus();
    case kSlice: {
      const uint64_t child = r.Varint();
      content->kind = Content::Kind::kSlice;
      content->offset = r.Varint();
      content->length = r.Varint();
      if (!children.Get(child, &content->ref) || content->length > kChunkPlaintextBytesMax ||
          content->offset > kChunkPlaintextBytesMax) {
        return Damaged("bundle slice");
      }
      break;
    }
    case kChunks:
      content->kind = Content::Kind::kChunks;
      while (r.ok() && !r.AtEnd()) {
        ChunkPiece p;
        if (!children.Get(r.Varint(), &p.ref)) return Damaged("chunk ordinal");
        p.length = r.Varint();
        if (p.length == 0 || p.length > kChunkPlaintextBytesMax || content->chunks.size() >= kInlineChunksMax) {
          return Damaged("chunks");
        }
        content->chunks.push_back(std::move(p));
      }
      break;
    default: {  // kList
      const uint64_t child = r.Varint();
      const uint64_t levels = r.Varint();
      content->kind = Content::Kind::kList;
      if (!children.Get(child, &content->ref) || levels == 0 || levels > kTreeLevelsMax) {
        return Damaged("content list");
      }
      content->list_levels = static_cast<uint32_t>(levels);
      break;
    }
  }
  return CheckFieldEnd(tag, r);
}

absl::Status DecodeChildField(ByteReader& r, const ChildReader& children, std::string_view what,
                              std::optional<ChunkRef>* out) {
  ChunkRef ref;
  if (!children.Get(r.Varint(), &ref)) return Damaged(what);
  *out = std::move(ref);
  return absl::OkStatus();
}

absl::Status DecodeField(uint64_t tag, std::string_view bytes, const ChildReader& children, Entry* e) {
  ByteReader r(bytes);
  switch (tag) {
    case kInline:
    case kSlice:
    case kChunks:
    case kList:
      return DecodeContentField(tag, bytes, children, &e->content);
    case kDigest: {
      FileDigest d;
      if (bytes.size() != d.size()) return Damaged("digest");
      std::copy(bytes.begin(), bytes.end(), d.begin());
      e->digest = d;
      return absl::OkStatus();
    }
    case kBirthTime: {
      Timestamp t;
      if (!ReadTime(r, &t)) return Damaged("birth time");
      e->birth_time = t;
      break;
    }
    case kInodeFlags:
      e->inode_flags = r.Varint();
      break;
    case kHoles: {
      ASSIGN_OR_RETURN(e->holes, DecodeHoles(bytes));
      if (e->holes.size() > kPageHolesMax) return Damaged("too many holes for a page");
      return absl::OkStatus();
    }
    case kSymlink:
      if (bytes.size() > kSymlinkBytesMax) return Damaged("symlink target");
      e->symlink_target.assign(bytes);
      return absl::OkStatus();
    case kDevice: {
      uint64_t major = r.Varint(), minor = r.Varint();
      if (major > UINT32_MAX || minor > UINT32_MAX) return Damaged("device number");
      e->device_major = static_cast<uint32_t>(major);
      e->device_minor = static_cast<uint32_t>(minor);
      break;
    }
    case kXattrs: {
      ASSIGN_OR_RETURN(e->xattrs, DecodeXattrs(bytes));
      return absl::OkStatus();
    }
    case kXattrChunk:
      RETURN_IF_ERROR(DecodeChildField(r, children, "xattr chunk", &e->xattr_chunk));
      break;
    case kHoleChunk:
      RETURN_IF_ERROR(DecodeChildField(r, children, "hole chunk", &e->hole_chunk));
      break;
    default:
      if (tag % 2 == 0) return absl::OkStatus();
      return Damaged(std::string("a field this version does not know: ") + std::to_string(tag));
  }
  return CheckFieldEnd(tag, r);
}

bool IsValidComponent(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax && name != "." && name != ".." &&
         name.find('\0') == std::string_view::npos && name.find('/') == std::string_view::npos;
}

absl::Status DecodeEntry(std::string_view bytes, const ChildReader& children,
                         const std::vector<std::string_view>& strings, Entry* e) {
  ByteReader r(bytes);
  uint8_t type = r.U8();
  if (type < 1 || type > 7) return Damaged("entry type");
  e->type = static_cast<EntryType>(type);
  uint64_t flags = r.Varint();
  e->flags = static_cast<uint32_t>(flags);
  std::string_view name = r.LengthPrefixed(kNameBytesMax);
  uint64_t mode = r.Varint(), uid = r.Varint(), gid = r.Varint(), owner = r.Varint(), group = r.Varint();
  if (!ReadTime(r, &e->mtime) || !ReadTime(r, &e->ctime)) return Damaged("time");
  e->inode = r.Varint();
  uint64_t device = r.Varint(), links = r.Varint();
  e->size = r.Varint();
  if (!r.ok() || flags > UINT32_MAX || mode > 07777 || uid > UINT32_MAX || gid > UINT32_MAX || owner > strings.size() ||
      group > strings.size() || device > UINT32_MAX || links > UINT32_MAX ||
      (!name.empty() && !IsValidComponent(name))) {
    return Damaged("entry");
  }
  e->name.assign(name);
  e->mode = static_cast<uint32_t>(mode);
  e->uid = static_cast<uint32_t>(uid);
  e->gid = static_cast<uint32_t>(gid);
  if (owner != 0) e->owner_name.assign(strings[owner - 1]);
  if (group != 0) e->group_name.assign(strings[group - 1]);
  e->device = static_cast<uint32_t>(device);
  e->link_count = static_cast<uint32_t>(links);
  uint64_t last = 0;
  while (!r.AtEnd()) {
    uint64_t tag = r.Varint();
    std::string_view value = r.LengthPrefixed(r.remaining());
    if (!r.ok()) return Damaged("entry field");
    if (tag <= last) return Damaged("entry fields out of order");
    last = tag;
    RETURN_IF_ERROR(DecodeField(tag, value, children, e));
  }
  return absl::OkStatus();
}

}  // namespace

std::string EncodeXattrs(absl::Span<const Xattr> xattrs) {
  std::string out;
  ByteWriter w(&out);
  for (const Xattr& x : xattrs) {
    w.LengthPrefixed(x.name);
    w.LengthPrefixed(x.value);
  }
  return out;
}

absl::StatusOr<std::vector<Xattr>> DecodeXattrs(std::string_view bytes) {
  std::vector<Xattr> out;
  ByteReader r(bytes);
  while (r.ok() && !r.AtEnd()) {
    std::string_view name = r.LengthPrefixed(kNameBytesMax);
    std::string_view value = r.LengthPrefixed(kChunkPlaintextBytesMax);
    if (!r.ok() || name.empty() || name.find('\0') != std::string_view::npos) return Damaged("xattrs");
    if (!out.empty() && name <= out.back().name) return Damaged("xattrs out of order");
    out.push_back({std::string(name), std::string(value)});
  }
  return out;
}

std::string EncodeHoles(absl::Span<const Hole> holes) {
  std::string out;
  ByteWriter w(&out);
  uint64_t end = 0;
  for (const Hole& h : holes) {
    w.Varint(h.offset - end);
    w.Varint(h.length);
    end = h.offset + h.length;
  }
  return out;
}

absl::StatusOr<std::vector<Hole>> DecodeHoles(std::string_view bytes) {
  std::vector<Hole> out;
  ByteReader r(bytes);
  uint64_t end = 0;
  while (r.ok() && !r.AtEnd()) {
    uint64_t gap = r.Varint(), length = r.Varint();
    if (!r.ok() || length == 0 || gap > INT64_MAX - end || length > INT64_MAX - end - gap || out.size() >= kHolesMax) {
      return Damaged("holes");
    }
    out.push_back({end + gap, length});
    end += gap + length;
  }
  if (!r.ok()) return Damaged("holes");
  return out;
}

uint64_t EntryCutWeight(const Entry& e) {
  uint64_t weight = 64 + e.name.size() + e.symlink_target.size() + e.content.inline_bytes.size() + 8 * e.holes.size() +
                    4 * e.content.chunks.size();
  for (const Xattr& x : e.xattrs) weight += x.name.size() + x.value.size();
  return weight;
}

uint64_t IndexEntryCutWeight(const IndexEntry& e) {
  return 64 + e.start_key.size() + e.last_parent_name.size() + e.last_name.size();
}

absl::Status CheckEntry(const Entry& e) {
  auto refuse = [](std::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("an entry's ", AbslView(what), " does not fit the format"));
  };
  const uint8_t type = static_cast<uint8_t>(e.type);
  if (type < 1 || type > 7) return refuse("type");
  if (!e.name.empty() && !IsValidComponent(e.name)) return refuse("name");
  if (e.mode > 07777) return refuse("mode");
  if (e.owner_name.size() > kNameBytesMax || e.group_name.size() > kNameBytesMax) return refuse("owner's name");
  for (const Timestamp* t : {&e.mtime, &e.ctime}) {
    if (t->nanos >= kNanosPerSecond) return refuse("time");
  }
  if (e.birth_time && e.birth_time->nanos >= kNanosPerSecond) return refuse("birth time");
  if (e.symlink_target.size() > kSymlinkBytesMax) return refuse("link target");
  if (e.content.inline_bytes.size() > kInlineContentBytesMax) return refuse("inline content");
  if (e.holes.size() > kPageHolesMax) return refuse("list of holes");
  const std::string* before = nullptr;
  for (const Xattr& x : e.xattrs) {
    if (x.name.empty() || x.name.size() > kNameBytesMax || x.name.find('\0') != std::string::npos ||
        x.value.size() > kChunkPlaintextBytesMax || (before != nullptr && x.name <= *before)) {
      return refuse("list of attributes");
    }
    before = &x.name;
  }
  return absl::OkStatus();
}

uint32_t EntryChildCount(const Entry& e) {
  uint32_t n = 0;
  ForEachRef(e, [&](const ChunkRef&) { ++n; });
  return n;
}

EncodedPage EncodeLeaf(const LeafPage& leaf) {
  ChildTable children;
  absl::flat_hash_map<std::string_view, uint32_t> strings;
  std::vector<std::string_view> string_list;
  auto intern = [&](const std::string& s) {
    if (s.empty()) return;
    if (strings.try_emplace(s, static_cast<uint32_t>(string_list.size())).second) string_list.push_back(s);
  };
  for (const Entry& e : leaf.entries) {
    ForEachRef(e, [&](const ChunkRef& ref) { children.Add(ref); });
    intern(e.owner_name);
    intern(e.group_name);
  }
  children.Sort();
  EncodedPage page;
  ByteWriter w(&page.plaintext);
  w.U8(kVersion);
  w.U8(kKindLeaf);
  children.WriteTo(w);
  w.Varint(string_list.size());
  for (std::string_view s : string_list) w.LengthPrefixed(s);
  w.Varint(leaf.entries.size());
  std::string encoded, scratch;
  for (size_t i = 0; i < leaf.entries.size(); ++i) {
    if (i > 0 && leaf.directory_index[i] != leaf.directory_index[i - 1]) {
      const Components& from = leaf.directories[leaf.directory_index[i - 1]];
      const Components& to = leaf.directories[leaf.directory_index[i]];
      size_t common = 0;
      while (common < from.size() && common < to.size() && from[common] == to[common]) ++common;
      w.U8(kItemChangeDirectory);
      w.Varint(from.size() - common);
      w.Varint(to.size() - common);
      for (size_t k = common; k < to.size(); ++k) w.LengthPrefixed(to[k]);
    }
    w.U8(kItemEntry);
    encoded.clear();
    EncodeEntry(leaf.entries[i], children, strings, &encoded, &scratch);
    w.LengthPrefixed(encoded);
  }
  page.children = children.Take();
  return page;
}

absl::StatusOr<LeafPage> DecodeLeaf(std::string_view plaintext, absl::Span<const ChunkId> child_ids,
                                    const Components& start_directory) {
  ByteReader r(plaintext);
  RETURN_IF_ERROR(ReadPreamble(r, kKindLeaf));
  ChildReader children;
  RETURN_IF_ERROR(children.Init(r, child_ids));
  uint64_t string_count = r.Varint();
  if (!r.ok() || string_count > kStringsMax) return Damaged("strings");
  std::vector<std::string_view> strings;
  for (uint64_t i = 0; i < string_count && r.ok(); ++i) strings.push_back(r.LengthPrefixed(kNameBytesMax));
  uint64_t count = r.Varint();
  if (!r.ok() || count > kPageEntriesMax) return Damaged("entry count");
  // The start directory comes from an index page, which is as hostile as this one.
  for (const std::string& name : start_directory) {
    if (!IsValidComponent(name)) return Damaged("directory name");
  }
  LeafPage leaf;
  leaf.entries.reserve(count);
  leaf.directory_index.reserve(count);
  leaf.directories.push_back(start_directory);
  Components current = start_directory;
  EntryKeyCursor keys;
  std::string last_key;
  bool after_entry = false;
  uint64_t components = start_directory.size();
  while (leaf.entries.size() < count) {
    uint8_t tag = r.U8();
    if (!r.ok()) return Damaged("truncated");
    if (tag == kItemChangeDirectory) {
      // One change between two entries: each costs a copy of the whole path.
      if (!after_entry) return Damaged("a directory change that follows no entry");
      after_entry = false;
      uint64_t up = r.Varint(), down = r.Varint();
      if (!r.ok() || up > current.size() || down > r.remaining()) return Damaged("directory change");
      current.resize(current.size() - up);
      for (uint64_t i = 0; i < down; ++i) {
        std::string_view name = r.LengthPrefixed(kNameBytesMax);
        if (!r.ok() || !IsValidComponent(name) || current.size() >= kPathDepthMax) return Damaged("directory name");
        current.emplace_back(name);
      }
      // What a page of very deep directories takes in memory; builders weigh it (docs/format.md, section 6).
      components += current.size();
      if (components > kPageWeightCut + kPathDepthMax) return Damaged("too many directory names");
      leaf.directories.push_back(current);
    } else if (tag == kItemEntry) {
      std::string_view bytes = r.LengthPrefixed(r.remaining());
      if (!r.ok()) return Damaged("truncated entry");
      Entry& e = leaf.entries.emplace_back();
      RETURN_IF_ERROR(DecodeEntry(bytes, children, strings, &e));
      if (e.name.empty() && !current.empty()) return Damaged("an entry without a name");
      leaf.directory_index.push_back(static_cast<uint32_t>(leaf.directories.size() - 1));
      const std::string& key = keys.Key(current, e.name);
      if (key.size() > kEntryKeyBytesMax) return Damaged("a path beyond the limit");
      if (leaf.entries.size() > 1 && key <= last_key) return Damaged("entries out of order");
      last_key = key;
      after_entry = true;
    } else {
      return Damaged("unknown item");
    }
  }
  if (!r.AtEnd()) return Damaged("bytes behind its last entry");
  return leaf;
}

EncodedPage EncodeIndex(const IndexPage& index) {
  ChildTable children;
  for (const IndexEntry& e : index.entries) children.Add(e.child);
  children.Sort();
  EncodedPage page;
  ByteWriter w(&page.plaintext);
  w.U8(kVersion);
  w.U8(kKindIndex);
  children.WriteTo(w);
  w.Varint(index.level);
  w.Varint(index.entries.size());
  std::string_view previous;
  for (const IndexEntry& e : index.entries) {
    size_t shared = 0;
    while (shared < previous.size() && shared < e.start_key.size() && previous[shared] == e.start_key[shared]) ++shared;
    w.Varint(children.Ordinal(e.child));
    w.Varint(shared);
    w.LengthPrefixed(std::string_view(e.start_key).substr(shared));
    w.Varint(e.below.entries);
    w.Varint(e.below.files);
    w.Varint(e.below.directories);
    w.Varint(e.below.bytes);
    w.LengthPrefixed(e.last_parent_name);
    w.LengthPrefixed(e.last_name);
    previous = e.start_key;
  }
  page.children = children.Take();
  return page;
}

absl::StatusOr<IndexPage> DecodeIndex(std::string_view plaintext, absl::Span<const ChunkId> child_ids) {
  ByteReader r(plaintext);
  RETURN_IF_ERROR(ReadPreamble(r, kKindIndex));
  ChildReader children;
  RETURN_IF_ERROR(children.Init(r, child_ids));
  IndexPage page;
  uint64_t level = r.Varint();
  uint64_t count = r.Varint();
  if (!r.ok() || level == 0 || level > kTreeLevelsMax || count == 0 || count > kPageEntriesMax) return Damaged("index");
  page.level = static_cast<uint32_t>(level);
  page.entries.reserve(count);
  std::string previous;
  uint64_t weight = 0;
  for (uint64_t i = 0; i < count; ++i) {
    // What a page of long keys takes in memory: builders end it here (docs/format.md, section 6).
    if (weight > kPageWeightCut) return Damaged("an index page beyond its weight");
    IndexEntry& e = page.entries.emplace_back();
    uint64_t child = r.Varint();
    uint64_t shared = r.Varint();
    std::string_view rest = r.LengthPrefixed(r.remaining());
    e.below.entries = r.Varint();
    e.below.files = r.Varint();
    e.below.directories = r.Varint();
    e.below.bytes = r.Varint();
    std::string_view last_parent = r.LengthPrefixed(kNameBytesMax);
    std::string_view last_name = r.LengthPrefixed(kNameBytesMax);
    if (!r.ok() || !children.Get(child, &e.child) || shared > previous.size()) return Damaged("index entry");
    e.start_key = previous.substr(0, shared);
    e.start_key.append(rest);
    if (e.start_key.size() > kEntryKeyBytesMax) return Damaged("index key");
    if (i > 0 && e.start_key <= previous) return Damaged("index keys out of order");
    e.last_parent_name.assign(last_parent);
    e.last_name.assign(last_name);
    weight += IndexEntryCutWeight(e);
    previous = e.start_key;
  }
  if (!r.AtEnd()) return Damaged("bytes behind the index");
  return page;
}

EncodedPage EncodeContentList(const ContentList& list) {
  ChildTable children;
  for (const ChunkPiece& p : list.pieces) children.Add(p.ref);
  children.Sort();
  EncodedPage page;
  ByteWriter w(&page.plaintext);
  w.U8(kVersion);
  w.U8(kKindList);
  children.WriteTo(w);
  w.Varint(list.level);
  w.Varint(list.pieces.size());
  for (const ChunkPiece& p : list.pieces) {
    w.Varint(children.Ordinal(p.ref));
    w.Varint(p.length);
  }
  page.children = children.Take();
  return page;
}

absl::StatusOr<ContentList> DecodeContentList(std::string_view plaintext, absl::Span<const ChunkId> child_ids) {
  ByteReader r(plaintext);
  RETURN_IF_ERROR(ReadPreamble(r, kKindList));
  ChildReader children;
  RETURN_IF_ERROR(children.Init(r, child_ids));
  ContentList list;
  uint64_t level = r.Varint();
  uint64_t count = r.Varint();
  if (!r.ok() || level == 0 || level > kTreeLevelsMax || count == 0 || count > kListRefsMax) return Damaged("list");
  list.level = static_cast<uint32_t>(level);
  list.pieces.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    ChunkPiece& p = list.pieces.emplace_back();
    uint64_t child = r.Varint();
    p.length = r.Varint();
    if (!r.ok() || !children.Get(child, &p.ref) || p.length == 0 || p.length > INT64_MAX) return Damaged("list entry");
    if (level == 1 && p.length > kChunkPlaintextBytesMax) return Damaged("list entry length");
  }
  if (!r.AtEnd()) return Damaged("bytes behind the list");
  return list;
}

}  // namespace holdfast
