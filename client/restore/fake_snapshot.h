// A snapshot in memory for tests: entries by key, chunks by id, with damage on request.
#ifndef HOLDFAST_CLIENT_RESTORE_FAKE_SNAPSHOT_H_
#define HOLDFAST_CLIENT_RESTORE_FAKE_SNAPSHOT_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/restore/restore.h"
#include "core/crypto/blake3.h"
#include "core/tree/file_content.h"

namespace holdfast {

class FakeSnapshot : public RestoreInput, public ChunkSource {
 public:
  static Components Split(std::string_view path) {
    Components out;
    while (!path.empty()) {
      const size_t n = std::min(path.find('/'), path.size());
      if (n != 0) out.emplace_back(path.substr(0, n));
      path.remove_prefix(std::min(n + 1, path.size()));
    }
    return out;
  }
  // The entry at a path ("" is the root); its name is already right. Valid as long as the snapshot.
  Entry& Put(std::string_view path, EntryType type, uint32_t mode) {
    Components directory = Split(path);
    std::string name;
    if (!directory.empty()) {
      name = directory.back();
      directory.pop_back();
    }
    return PutRaw(std::move(directory), std::move(name), type, mode);
  }
  Entry& PutRaw(Components directory, std::string name, EntryType type, uint32_t mode) {
    auto& slot = entries[EntryKey(directory, name)];
    slot.first = std::move(directory);
    Entry& e = slot.second;
    e = Entry();
    e.name = std::move(name);
    e.type = type;
    e.mode = mode;
    e.uid = geteuid();
    e.gid = getegid();
    e.mtime = {1'500'000'000 + static_cast<int64_t>(entries.size()), 123'456'789};
    e.inode = 1000 + entries.size();
    return e;
  }
  ChunkRef AddChunk(std::string bytes) {
    ChunkRef ref;
    Blake3().Update(bytes).Update("id").Finish(ref.id.bytes.data(), 32);
    chunks[ref.id] = std::move(bytes);
    return ref;
  }
  // Several files in one bundle.
  Entry& PutInBundle(std::string_view path, std::string_view content, uint32_t mode = 0644) {
    Entry& e = Put(path, EntryType::kFile, mode);
    e.size = content.size();
    e.content.kind = Content::Kind::kSlice;
    e.content.offset = bundle_.size();
    e.content.length = content.size();
    e.digest = DigestOf(content);
    bundle_ += content;
    in_bundle_.push_back(&e);
    return e;
  }
  ChunkRef EndBundle() {
    ChunkRef ref = AddChunk(std::exchange(bundle_, {}));
    for (Entry* e : in_bundle_) e->content.ref = ref;
    in_bundle_.clear();
    return ref;
  }
  Entry& PutChunked(std::string_view path, const std::vector<std::string>& pieces, uint32_t mode = 0644,
                    bool as_list = false) {
    Entry& e = Put(path, EntryType::kFile, mode);
    std::vector<ChunkPiece> list;
    for (const std::string& piece : pieces) {
      list.push_back({AddChunk(piece), piece.size()});
      e.size += piece.size();
    }
    e.digest = ChunkedDigest(list, e);
    e.content.kind = as_list ? Content::Kind::kList : Content::Kind::kChunks;
    if (as_list) {
      e.content.ref = AddChunk(std::string("list of ") + std::string(path));
      lists[e.content.ref.id] = std::move(list);
    } else {
      e.content.chunks = std::move(list);
    }
    return e;
  }
  // Makes room for holes: they are in the size and in the digest.
  void SetHoles(Entry& e, std::vector<Hole> holes) {
    e.holes = std::move(holes);
    for (const Hole& hole : e.holes) {
      if (IsLargeHole(hole.length)) e.size += hole.length;
    }
    e.digest = ChunkedDigest(e.content.chunks, e);
  }
  static FileDigest ChunkedDigest(const std::vector<ChunkPiece>& pieces, const Entry& e) {
    ChunkedFileDigest digest;
    for (const ChunkPiece& piece : pieces) digest.Add(piece);
    return digest.Finish(e.size, e.holes);
  }
  FileDigest DigestOf(std::string_view content) const { return SliceDigest(content); }

  // RestoreInput.
  absl::StatusOr<Entry> LookupPath(const Components& path) override {
    Components directory = path;
    std::string name;
    if (!directory.empty()) {
      name = directory.back();
      directory.pop_back();
    }
    auto it = entries.find(EntryKey(directory, name));
    if (it == entries.end()) return absl::NotFoundError("no such entry");
    return it->second.second;
  }
  std::unique_ptr<EntryIterator> ScanSubtree(const Components& directory) override {
    return std::make_unique<Iterator>(*this, directory);
  }
  absl::Status ForEachPiece(const Content& content,
                            const std::function<absl::Status(const ChunkPiece&)>& visit) override {
    if (content.kind == Content::Kind::kList) {
      if (damaged.contains(content.ref.id)) return absl::DataLossError("the content list is damaged");
      for (const ChunkPiece& piece : lists.at(content.ref.id)) RETURN_IF_ERROR(visit(piece));
    }
    for (const ChunkPiece& piece : content.chunks) RETURN_IF_ERROR(visit(piece));
    return absl::OkStatus();
  }
  absl::Status ResolveSideChunks(Entry& entry) override { return absl::DataLossError("side chunks are damaged"); }
  ChunkSource& source() override { return *this; }

  // ChunkSource: last one first, for nobody may count on the order.
  absl::Status Fetch(absl::Span<const ChunkRef> refs, ChunkSink& sink) override {
    if (!fetch_status.ok()) return fetch_status;
    for (size_t i = refs.size(); i-- > 0;) {
      chunks_fetched.fetch_add(1);
      absl::StatusOr<OpenedChunk> chunk = OpenedChunk();
      auto it = chunks.find(refs[i].id);
      if (it == chunks.end()) {
        chunk = absl::NotFoundError("no such chunk");
      } else if (damaged.contains(refs[i].id)) {
        chunk = absl::DataLossError("the chunk is damaged");
      } else {
        chunk->plaintext = it->second;
      }
      RETURN_IF_ERROR(sink.OnChunk(i, chunk));
      if (after_chunk) after_chunk();
    }
    return absl::OkStatus();
  }

  std::map<std::string, std::pair<Components, Entry>> entries;
  absl::flat_hash_map<ChunkId, std::string> chunks;
  absl::flat_hash_map<ChunkId, std::vector<ChunkPiece>> lists;
  std::set<ChunkId> damaged;
  std::vector<std::pair<std::string, KeyGap>> gaps;  // the gap comes to light with the entry of this key
  absl::Status fetch_status;
  std::function<void()> after_chunk;
  std::function<void(const Entry&)> before_entry;
  std::atomic<int> chunks_fetched{0};

 private:
  class Iterator : public EntryIterator {
   public:
    Iterator(FakeSnapshot& snapshot, const Components& top)
        : snapshot_(snapshot), top_(top), next_(snapshot.entries.begin()) {}
    bool Next() override {
      while (next_ != snapshot_.entries.end()) {
        at_ = next_++;
        const Components& directory = at_->second.first;
        if (at_->second.second.name.empty() && directory.empty()) continue;
        if (directory.size() < top_.size() || !std::equal(top_.begin(), top_.end(), directory.begin())) continue;
        for (const auto& [key, gap] : snapshot_.gaps) {
          if (key == at_->first) gaps_.push_back(gap);
        }
        if (snapshot_.before_entry) snapshot_.before_entry(at_->second.second);
        return true;
      }
      return false;
    }
    const Entry& entry() const override { return at_->second.second; }
    const Components& directory() const override { return at_->second.first; }
    absl::Status status() const override { return absl::OkStatus(); }
    const std::vector<KeyGap>& gaps() const override { return gaps_; }

   private:
    FakeSnapshot& snapshot_;
    const Components top_;
    std::map<std::string, std::pair<Components, Entry>>::iterator next_, at_;
    std::vector<KeyGap> gaps_;
  };

  std::string bundle_;
  std::vector<Entry*> in_bundle_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_FAKE_SNAPSHOT_H_
