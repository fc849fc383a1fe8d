#include "client/backup/base_snapshot.h"

#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "client/rpc/remote_chunk_source.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

// A file whose times are this close to the start of the backup may change again without a visible trace (2 s: FAT).
constexpr absl::Duration kTimeGranularity = absl::Seconds(2);
constexpr size_t kPreviousPiecesMax = 1u << 20;

absl::Time ToTime(const Timestamp& t) { return absl::FromUnixSeconds(t.seconds) + absl::Nanoseconds(t.nanos); }

}  // namespace

bool IsUnchanged(const Entry& old, const SourceStat& now) {
  return old.type == now.type && old.size == now.size && old.mtime == now.mtime && old.ctime == now.ctime &&
         old.inode == now.identity.inode && old.mode == now.mode &&
         (old.flags & (kEntryRacy | kEntryChangedWhileRead | kEntryReadFailed)) == 0;
}

bool IsSameObject(const Entry& old, const SourceStat& now) {
  return old.type == now.type && old.ctime == now.ctime && old.inode == now.identity.inode &&
         (old.flags & (kEntryRacy | kEntryReadFailed)) == 0;
}

bool MayChangeUnseen(const SourceStat& stat, absl::Time started) {
  if (ToTime(stat.ctime) > started - kTimeGranularity) return true;
  const absl::Time mtime = ToTime(stat.mtime);
  return mtime > started - kTimeGranularity && mtime < absl::Now() + kTimeGranularity;
}

absl::StatusOr<std::unique_ptr<BaseSnapshot>> BaseSnapshot::Open(RepositoryClient& client,
                                                                 const std::string& repository, const ManifestId& id,
                                                                 const ManifestKeys& keys, const SealingKeys& sealing,
                                                                 const Note& note) {
  auto cannot_be_used = [&](const absl::Status& why) {
    note(absl::StrCat("reading every file: the previous snapshot cannot be used: ", why.message()));
    return std::unique_ptr<BaseSnapshot>();
  };
  absl::StatusOr<std::string> bytes = client.GetManifest(repository, id);
  if (absl::IsUnavailable(bytes.status())) return bytes.status();
  if (absl::IsNotFound(bytes.status())) return nullptr;  // deleted, which somebody wanted
  if (!bytes.ok()) return cannot_be_used(bytes.status());
  const std::optional<Key256> own_key = keys.agent_reader_key;
  absl::StatusOr<OpenedManifest> opened = OpenManifest(
      *bytes, keys.repository, keys.aead, [&](uint32_t agent) { return agent == keys.agent ? own_key : std::nullopt; },
      keys.agent_mac_key);
  if (!opened.ok() && !absl::IsPermissionDenied(opened.status())) return cannot_be_used(opened.status());
  if (!opened.ok() || opened->core.agent() != keys.agent || opened->core.key_epoch() != sealing.epoch) {
    note("reading every file: the previous snapshot was made by another agent");
    return nullptr;
  }
  return std::make_unique<BaseSnapshot>(std::make_unique<RemoteChunkSource>(client, repository, keys.repository),
                                        *std::move(opened));
}

BaseSnapshot::BaseSnapshot(std::unique_ptr<ChunkSource> source, OpenedManifest manifest)
    : source_(std::move(source)),
      manifest_(std::move(manifest)),
      reader_(*source_, manifest_.root, manifest_.core.root_level(), SumsOf(manifest_.core)),
      entries_(reader_.Scan(KeyRange::All())) {
  for (const std::string& id : manifest_.sealed.sparse_bundles()) {
    if (auto parsed = ChunkId::FromBytes(id); parsed.ok()) sparse_bundles_.insert(*parsed);
  }
}

absl::Status BaseSnapshot::Advance() {
  began_ = true;
  at_entry_ = entries_->Next();
  if (!at_entry_) return entries_->status();
  key_ = keys_.Key(entries_->directory(), entries_->entry().name);
  return absl::OkStatus();
}

absl::StatusOr<const Entry*> BaseSnapshot::Find(std::string_view key) {
  if (!began_) RETURN_IF_ERROR(Advance());
  while (at_entry_ && key_ < key) RETURN_IF_ERROR(Advance());
  return at_entry_ && key_ == key ? &entries_->entry() : nullptr;
}

bool BaseSnapshot::MayReuse(const Entry& old, const SourceStat& now) const {
  return IsUnchanged(old, now) &&
         !(old.content.kind == Content::Kind::kSlice && sparse_bundles_.contains(old.content.ref.id));
}

PreviousVersion BaseSnapshot::PreviousPieces(const Entry& old) const {
  PreviousVersion out;
  if (old.type != EntryType::kFile ||
      (old.content.kind != Content::Kind::kChunks && old.content.kind != Content::Kind::kList)) {
    return out;
  }
  Entry entry = old;
  if (!reader_.ResolveSideChunks(entry).ok()) return out;
  const absl::StatusOr<ContentMap> map = ContentMap::Make(entry.size, entry.holes);
  if (!map.ok()) return out;
  uint64_t content_offset = 0;
  absl::Status s = reader_.ForEachPiece(entry.content, [&](const ChunkPiece& piece) -> absl::Status {
    if (out.pieces.size() >= kPreviousPiecesMax) return absl::ResourceExhaustedError("too many pieces for hints");
    const uint64_t offset = map->FileOffset(content_offset);
    content_offset += piece.length;
    const bool hole_follows = map->FileOffset(content_offset) != offset + piece.length;
    out.pieces.push_back({offset, piece.length, hole_follows});
    out.refs.push_back(piece.ref);
    return absl::OkStatus();
  });
  if (!s.ok()) return PreviousVersion();
  if (!out.pieces.empty()) out.pieces.back().last_of_run = true;
  return out;
}

}  // namespace holdfast
