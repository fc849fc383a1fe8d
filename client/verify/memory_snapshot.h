// A snapshot with real pages over chunks in memory, for tests, with damage on request.
#ifndef HOLDFAST_CLIENT_VERIFY_MEMORY_SNAPSHOT_H_
#define HOLDFAST_CLIENT_VERIFY_MEMORY_SNAPSHOT_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "core/tree/chunk_source.h"
#include "core/tree/file_content.h"
#include "core/tree/snapshot_reader.h"
#include "core/tree/tree_builder.h"

namespace holdfast {

// Thread-safe from Build() on.
class MemorySnapshot : public PageSink, public ChunkSource {
 public:
  MemorySnapshot() {
    Entry root;
    root.type = EntryType::kDirectory;
    Put({}, root);
  }

  ChunkRef AddChunk(std::string bytes, std::vector<ChunkId> children = {}, ChunkType type = ChunkType::kData) {
    Blake3 hash;
    hash.Update(bytes);
    ChunkRef ref;
    hash.Finish(ref.id.bytes.data(), ref.id.bytes.size());
    ref.key = some_key;
    chunks[ref.id] = {type, std::move(bytes), std::move(children)};
    return ref;
  }
  absl::StatusOr<ChunkRef> StorePage(EncodedPage page) override {
    pages.push_back(AddChunk(std::move(page.plaintext), std::move(page.children), ChunkType::kTree));
    return pages.back();
  }

  // Replaces what is there. Directories need entries of their own only if a test looks at them.
  void Put(Components directory, Entry entry) {
    std::string key = EntryKey(directory, entry.name);
    entries[std::move(key)] = {std::move(directory), std::move(entry)};
  }
  // A file in the root, as a backup stores it.
  static Entry File(std::string name, uint64_t size) {
    Entry out;
    out.name = std::move(name);
    out.size = size;
    return out;
  }
  Entry Inline(std::string name, std::string bytes) {
    Entry out = File(std::move(name), bytes.size());
    out.content.kind = Content::Kind::kInline;
    out.content.inline_bytes = std::move(bytes);
    return out;
  }
  Entry Slice(std::string name, const ChunkRef& bundle, uint64_t offset, std::string_view bytes) {
    Entry out = File(std::move(name), bytes.size());
    out.content.kind = Content::Kind::kSlice;
    out.content.ref = bundle;
    out.content.offset = offset;
    out.content.length = bytes.size();
    out.digest = SliceDigest(bytes);
    return out;
  }
  // More than 64 pieces become lists. The pieces are the file without its `holes`.
  Entry Chunked(std::string name, const std::vector<std::string>& pieces, std::vector<Hole> holes = {}) {
    Entry out = File(std::move(name), 0);
    ContentBuilder builder(*this);
    ChunkedFileDigest digest;
    for (const std::string& bytes : pieces) {
      const ChunkPiece piece{AddChunk(bytes), bytes.size()};
      digest.Add(piece);
      EXPECT_OK(builder.Add(piece));
      out.size += bytes.size();
    }
    absl::StatusOr<Content> content = builder.Finish();
    EXPECT_OK(content.status());
    out.content = *std::move(content);
    for (const Hole& hole : holes) out.size += hole.length;
    out.holes = std::move(holes);
    out.digest = digest.Finish(out.size, out.holes);
    return out;
  }

  std::unique_ptr<SnapshotReader> Build() {
    TreeBuilder builder(*this, some_key);
    for (const auto& [key, item] : entries) EXPECT_OK(builder.Add(item.first, item.second));
    absl::StatusOr<TreeRoot> root = builder.Finish();
    EXPECT_OK(root.status());
    return std::make_unique<SnapshotReader>(*this, root->ref, root->level);
  }

  // Last one first, for nobody may count on the order.
  absl::Status Fetch(absl::Span<const ChunkRef> refs, ChunkSink& sink) override {
    if (!reachable.ok()) return reachable;
    for (const ChunkRef& ref : refs) {
      if (auto it = unreachable.find(ref.id); it != unreachable.end()) return it->second;
    }
    for (size_t i = refs.size(); i-- > 0;) {
      absl::StatusOr<OpenedChunk> opened = absl::NotFoundError("no such chunk");
      if (auto it = chunks.find(refs[i].id); it != chunks.end()) {
        opened = OpenedChunk{it->second.type, it->second.plaintext, it->second.children};
      }
      if (opened.ok() && !(refs[i].key == some_key)) opened = absl::DataLossError("the key is of another chunk");
      if (damaged.contains(refs[i].id)) opened = absl::DataLossError("the chunk is damaged");
      if (auto it = refused.find(refs[i].id); it != refused.end()) opened = it->second;
      {
        absl::MutexLock lock(&mu);
        ++fetched[refs[i].id];
      }
      if (passed_over.contains(refs[i].id)) continue;
      RETURN_IF_ERROR(sink.OnChunk(i, opened));
      if (given_twice.contains(refs[i].id)) RETURN_IF_ERROR(sink.OnChunk(i, opened));
    }
    return absl::OkStatus();
  }
  int TimesFetched(const ChunkRef& ref) {
    absl::MutexLock lock(&mu);
    return fetched[ref.id];
  }

  Key256 some_key{std::array<uint8_t, 32>{42}};
  std::map<std::string, std::pair<Components, Entry>> entries;
  std::map<ChunkId, OwnedChunk> chunks;
  std::vector<ChunkRef> pages;  // and lists
  std::set<ChunkId> damaged;
  std::map<ChunkId, absl::Status> refused;
  std::set<ChunkId> passed_over, given_twice;  // as no source may
  // What a whole Fetch fails with; of these chunks.
  absl::Status reachable;
  std::map<ChunkId, absl::Status> unreachable;
  absl::Mutex mu;
  std::map<ChunkId, int> fetched ABSL_GUARDED_BY(mu);
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_VERIFY_MEMORY_SNAPSHOT_H_
