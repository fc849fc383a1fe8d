// The part of Repository that brings spool, index and log together after a start, and the index after damage. Nothing
// here needs a key beyond the catalog key.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/limits.h"
#include "core/format/manifest.h"
#include "server/repository/manifest_blob.h"
#include "server/repository/record_location.h"
#include "server/repository/repository.h"
#include "storage/pack/spool_file.h"
#include "storage/pack/stored_pack.h"

namespace holdfast {
namespace {

// No later attempt will read this blob as it was: damaged, gone, cut short, or on a bad sector.
bool IsLost(const absl::Status& s) {
  return IsDamage(s) || absl::IsNotFound(s) || absl::IsOutOfRange(s) || IsMediumError(s);
}

// Leaves out of a salvaged pack what does not read: salvaging forgives more of a damaged header than reading does, and
// what cannot be read must not be promised.
absl::Status KeepReadable(PackReader& reader, PackSummary& summary) {
  struct Sink : RecordReadSink {
    absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
      if (record.ok()) return absl::OkStatus();
      if (MayPass(record.status())) return record.status();
      bad[index] = true;
      return absl::OkStatus();
    }
    std::vector<bool> bad;
  } sink;
  std::vector<RecordLocation> locations;
  for (const PackEntry& e : summary.entries) {
    RecordLocation l;
    l.kind = summary.kind;
    l.pack = summary.id;
    l.frame_number = e.frame_number;
    l.body_offset = e.body_offset;
    l.sealed_length = e.header.sealed_length;
    l.child_count = static_cast<uint32_t>(e.header.children.size());
    l.id = e.header.id;
    locations.push_back(l);
  }
  sink.bad.resize(locations.size());
  RETURN_IF_ERROR(reader.Read(locations, /*verify_digests=*/false, sink));
  std::vector<PackEntry> good;
  for (size_t i = 0; i < summary.entries.size(); ++i) {
    if (!sink.bad[i]) good.push_back(std::move(summary.entries[i]));
  }
  summary.entries = std::move(good);
  return absl::OkStatus();
}

}  // namespace

absl::Status Repository::RecoverSpool() {
  ASSIGN_OR_RETURN(std::vector<std::string> names, io_.files.List(options_.spool_directory));
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(options_.spool_directory, "/", name);
    if (!ParseSpoolFileName(name)) continue;  // not ours to judge; set-aside files among them
    absl::StatusOr<std::optional<PackSummary>> summary = RecoverSpoolFile(io_, path, key_);
    absl::Status status = summary.status();
    if (status.ok() && summary->has_value()) status = PutPack(store_, io_, path, **summary);
    if (status.ok()) continue;
    // Nothing that was committed is in the spool, so nothing there may keep the repository closed. The file stays for
    // the next start, unless it takes the room that everything else needs.
    Warn(absl::StrCat("spool file ", name, " cannot be used: ", status.message()));
    if (absl::IsResourceExhausted(status)) (void)io_.files.Unlink(path);
  }
  return absl::OkStatus();
}

absl::Status Repository::OpenIndex(bool* rebuilt) {
  absl::StatusOr<std::unique_ptr<KvStore>> kv = kv_factory_.open();
  absl::StatusOr<std::unique_ptr<ChunkIndex>> index = absl::UnavailableError("not open");
  if (!kv.ok()) index = kv.status();
  if (kv.ok()) index = ChunkIndex::Open(**kv, key_.repository);
  if (IsDamage(index.status())) {
    Warn(absl::StrCat("the index could not be used (", index.status().message(), ") and has been rebuilt"));
    index = absl::UnavailableError("closed");
    if (kv.ok()) kv->reset();
    RETURN_IF_ERROR(kv_factory_.destroy());
    kv = kv_factory_.open();
    RETURN_IF_ERROR(kv.status());
    index = ChunkIndex::Open(**kv, key_.repository);
    *rebuilt = true;
  }
  RETURN_IF_ERROR(index.status());
  absl::MutexLock lock(&index_mu_);
  kv_ = *std::move(kv);
  // The index keeps its KvStore alive: a reader may still hold it when the engine changes to a new one.
  std::shared_ptr<KvStore> keep = kv_;
  index_ = std::shared_ptr<ChunkIndex>(index->release(), [keep](ChunkIndex* p) { delete p; });
  index_status_ = absl::OkStatus();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<ChunkIndex>> Repository::index() const {
  absl::MutexLock lock(&index_mu_);
  if (index_ && index_complete_) return index_;
  if (!index_status_.ok()) return absl::UnavailableError(absl::StrCat("the index: ", index_status_.message()));
  return absl::UnavailableError("the index is being made anew; try again later");
}

bool Repository::IsIndexMissing() const {
  absl::MutexLock lock(&index_mu_);
  return !index_complete_ && !index_status_.ok();
}

absl::StatusOr<std::shared_ptr<ChunkIndex>> Repository::UnfinishedIndex() const {
  absl::MutexLock lock(&index_mu_);
  if (!index_) return absl::UnavailableError("the index is not open");
  return index_;
}

absl::Status Repository::ReconcileIndex(bool* lost) {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, UnfinishedIndex());
  // Before the listing: a pack is stored before it is indexed, so what is here now and not listed then is gone.
  const std::vector<IndexedPack> indexed = idx->Packs();
  ASSIGN_OR_RETURN(std::vector<BlobInfo> blobs, ListAll(store_, "packs/"));
  absl::flat_hash_set<PackId> stored;
  for (const BlobInfo& blob : blobs) {
    auto parsed = ParsePackBlobName(blob.name);
    if (!parsed) {
      Warn(absl::StrCat(blob.name, " is not a pack's name"));
      continue;
    }
    stored.insert(parsed->second);
    if (idx->HasPack(parsed->second)) continue;
    absl::StatusOr<PackSummary> summary = ReadPackTrailer(store_, parsed->first, parsed->second, blob.size, key_);
    if (IsLost(summary.status())) {
      *lost = true;
      Warn(absl::StrCat(blob.name, " is damaged (", summary.status().message(), "): what can be read of it is kept"));
      summary = SalvagePack(store_, parsed->first, parsed->second, blob.size, key_);
      if (!summary.ok()) {
        if (MayPass(summary.status())) return summary.status();
        Warn(absl::StrCat(blob.name, ": nothing can be read of it: ", summary.status().message()));
        continue;
      }
      RETURN_IF_ERROR(KeepReadable(reader_, *summary));
    }
    RETURN_IF_ERROR(summary.status());
    RETURN_IF_ERROR(idx->AddPack(*summary));
    CrashPoint("index-write");
  }
  for (const IndexedPack& pack : indexed) {
    if (stored.contains(pack.id)) continue;
    Warn(absl::StrCat("pack ", HexEncode(pack.id.view()), " is missing from the storage"));
    *lost = true;
  }
  return absl::OkStatus();
}

absl::Status Repository::IndexPack(const PackSummary& summary) {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, UnfinishedIndex());
  absl::Status s = idx->AddPack(summary);
  CrashPoint("index-write");
  if (s.ok()) return s;
  // The pack itself is stored: only the cache cannot follow. It is rebuilt before the next session opens.
  absl::MutexLock lock(&index_mu_);
  index_status_ = s;
  return Annotate(s, "writing the index");
}

absl::Status Repository::NoteIndex(absl::Status status) {
  if (absl::IsDataLoss(status)) {
    absl::MutexLock lock(&index_mu_);
    index_status_ = status;
  }
  return status;
}

// Waits on an Event, as calls of the storage are made while it lives.
class Repository::IndexWork {
 public:
  explicit IndexWork(Repository& repository) : repository_(repository) {
    absl::MutexLock lock(&repository_.index_mu_);
    repository_.index_free_.Wait(&repository_.index_mu_,
                                 [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !repository_.index_busy_; });
    repository_.index_busy_ = true;
  }
  ~IndexWork() {
    absl::MutexLock lock(&repository_.index_mu_);
    repository_.index_busy_ = false;
    repository_.index_free_.NotifyAll();
  }

 private:
  Repository& repository_;
};

// Lookups that are under way still hold it. They are short.
absl::Status Repository::CloseIndex() {
  std::weak_ptr<KvStore> old;
  {
    absl::MutexLock lock(&index_mu_);
    if (kv_) closing_kv_ = kv_;
    old = closing_kv_;
    index_complete_ = false;
    index_.reset();
    kv_.reset();
  }
  std::unique_ptr<Event> never = io_.threads.NewEvent();
  for (int waits = 0; !old.expired(); ++waits) {
    if (waits == 1000) return absl::UnavailableError("the old index is still in use; try again later");
    never->WaitUntil(io_.clock.Monotonic() + absl::Milliseconds(10));
  }
  return absl::OkStatus();
}

absl::Status Repository::ReopenIndexIfBroken() {
  IndexWork work(*this);
  bool damaged = false;
  {
    absl::MutexLock lock(&index_mu_);
    if (index_status_.ok() && index_) return absl::OkStatus();
    damaged = absl::IsDataLoss(index_status_);
  }
  RETURN_IF_ERROR(CloseIndex());
  if (damaged) Warn("the index was damaged and has been rebuilt from the packs");
  absl::Status status = MakeIndex(damaged);
  if (status.ok()) status = MarkLivePages();
  absl::MutexLock lock(&index_mu_);
  // Half an index must not be taken for a whole one: the next one who needs it goes on.
  index_status_ = status;
  index_complete_ = status.ok();
  return status;
}

absl::Status Repository::MakeIndex(bool from_nothing) {
  if (from_nothing) RETURN_IF_ERROR(kv_factory_.destroy());
  bool lost = false;
  RETURN_IF_ERROR(OpenIndex(&from_nothing));
  absl::Status status = ReconcileIndex(&lost);
  // Pages above lost chunks must not stay marked as complete: the marks are made anew, too.
  if (!from_nothing && (absl::IsDataLoss(status) || (status.ok() && lost))) {
    if (!lost) Warn("the index was damaged and has been rebuilt from the packs");
    RETURN_IF_ERROR(CloseIndex());
    RETURN_IF_ERROR(kv_factory_.destroy());
    RETURN_IF_ERROR(OpenIndex(&from_nothing));
    status = ReconcileIndex(&lost);
  }
  return status;
}

absl::Status Repository::OpenLog() {
  LogReport report;
  RepositoryLogOptions log_options;
  log_options.server_id = options_.server_id;
  ASSIGN_OR_RETURN(
      log_, RepositoryLog::Open(
                io_, store_, key_, log_options, [this](const LogRecord& record) { catalog_.Apply(record); }, &report));
  for (const DamagedSlot& slot : report.damaged) {
    Warn(absl::StrCat("log slot ", slot.slot, " is damaged: ", slot.status.message()));
  }
  for (const DamagedSlot& slot : report.broken_links) {
    Warn(absl::StrCat("log slot ", slot.slot, " does not follow the slot before it: ", slot.status.message()));
  }
  for (const auto& [first, last] : report.missing)
    Warn(absl::StrCat("log slots ", first, " to ", last, " are missing"));
  for (const std::string& name : report.foreign_names) Warn(absl::StrCat(name, " is not a log slot"));
  const bool holes = !report.damaged.empty() || !report.broken_links.empty() || !report.missing.empty();
  RETURN_IF_ERROR(RecoverManifests(holes));
  return absl::OkStatus();
}

// Slots may be lost, also the last ones, of which the log itself shows nothing. Manifests are blobs of their own and
// are put only when all their chunks are stored, so one that no readable slot mentions is taken as committed: if the
// log has holes, or if it is the next of its source. Others are left-overs of commits that failed and were done anew.
absl::Status Repository::RecoverManifests(bool log_has_holes) {
  ASSIGN_OR_RETURN(std::vector<BlobInfo> blobs, ListAll(store_, "snapshots/"));
  std::vector<ParsedManifest> candidates;
  for (const BlobInfo& blob : blobs) {
    std::optional<ManifestId> id = ParseManifestBlobName(blob.name);
    if (!id) continue;
    std::optional<CatalogSnapshot> known = catalog_.Find(*id);
    if (known && (known->deleted || !known->source.empty())) continue;
    absl::StatusOr<std::string> bytes = GetManifest({}, *id);
    absl::StatusOr<ParsedManifest> parsed =
        bytes.ok() ? ParseManifest(*bytes) : absl::StatusOr<ParsedManifest>(bytes.status());
    if (parsed.ok()) {
      candidates.push_back(*std::move(parsed));
    } else if (MayPass(parsed.status())) {
      return parsed.status();
    } else {
      Warn(absl::StrCat(blob.name, " is in no readable log slot and cannot be recovered: ", parsed.status().message()));
    }
  }
  std::sort(candidates.begin(), candidates.end(), [](const ParsedManifest& a, const ParsedManifest& b) {
    return std::make_pair(a.core.sequence(), a.id) < std::make_pair(b.core.sequence(), b.id);
  });
  for (const ParsedManifest& candidate : candidates) {
    std::optional<CatalogSnapshot> head = catalog_.Head(candidate.core.source());
    const bool next = candidate.core.sequence() == (head ? head->sequence : 0) + 1 &&
                      candidate.core.previous_manifest() == (head ? head->id.view() : std::string_view());
    if (!next && !log_has_holes) continue;
    CommittedRecord record;
    record.manifest = candidate.id;
    record.source = candidate.core.source();
    record.sequence = candidate.core.sequence();
    record.agent = candidate.core.agent();
    record.core = candidate.manifest.core();
    RETURN_IF_ERROR(log_->Append(std::move(record)).status());
    Warn(absl::StrCat("snapshot ", ShortHex(candidate.id), " was recovered from its manifest"));
  }
  return absl::OkStatus();
}

std::vector<ChunkId> Repository::LiveRoots() const {
  std::vector<ChunkId> roots;
  for (const ManifestId& id : catalog_.LiveIds()) {
    std::optional<CatalogSnapshot> snapshot = catalog_.Find(id);
    if (!snapshot) continue;
    absl::StatusOr<pb::ManifestCore> core = ParseManifestCore(snapshot->core);
    if (!core.ok()) continue;
    absl::StatusOr<ChunkId> root = ChunkId::FromBytes(core->root_id());
    if (root.ok()) roots.push_back(*root);
  }
  return roots;
}

absl::Status Repository::MarkLivePages() { return MarkPagesFrom(LiveRoots(), MarkWalk::kUnmarkedOnly); }

absl::Status Repository::RenewStaleMarks() {
  // Hardly ever: without waiting for anybody.
  {
    ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, UnfinishedIndex());
    absl::StatusOr<uint64_t> stale = idx->StaleMarks();
    if (!stale.ok()) return NoteIndex(stale.status());
    if (*stale == 0) return absl::OkStatus();
  }
  IndexWork work(*this);
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, UnfinishedIndex());
  absl::StatusOr<uint64_t> stale = idx->StaleMarks();
  if (!stale.ok()) return NoteIndex(stale.status());
  if (*stale == 0) return absl::OkStatus();
  absl::Status status = MarkPagesFrom(LiveRoots(), MarkWalk::kAll);
  if (status.ok()) status = idx->MarksRenewed(*stale);
  return NoteIndex(Annotate(status, "looking for what is above damaged chunks"));
}

// Marks the tree pages below `roots` that are complete: they and everything below them are here and not known to be
// damaged. A page that is not complete is unmarked: `have` then answers no, and clients send it again with what it
// lacks. kUnmarkedOnly: what is marked already is not descended into. Costs a read of each page's header.
absl::Status Repository::MarkPagesFrom(const std::vector<ChunkId>& roots, MarkWalk walk) {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, UnfinishedIndex());
  struct Page {
    ChunkId id;
    std::vector<ChunkId> below;  // pages still to be looked at
    bool complete = true;
    bool marked = false;
  };
  absl::flat_hash_map<ChunkId, bool> known;  // page looked at -> complete
  std::vector<ChunkId> mark, unmark;
  constexpr size_t kMarkBatch = 1024;
  auto is_done = [&](const ChunkLocation& l) { return walk == MarkWalk::kUnmarkedOnly && l.committed; };
  // Depth first, at most kTreeLevelsMax deep; a page comes after all that is below it.
  std::vector<Page> path;
  auto enter = [&](const ChunkId& id, const ChunkLocation& location) -> absl::Status {
    Page page{id, {}, !location.damaged, location.committed};
    absl::StatusOr<RecordHeader> header = reader_.ReadHeader(ToRecordLocation(location, id));
    if (MayPass(header.status())) return header.status();
    if (!header.ok() || path.size() >= 2 * kTreeLevelsMax) {
      if (!header.ok()) Warn(std::string(header.status().message()));
      page.complete = false;
    } else {
      ASSIGN_OR_RETURN(auto locations, idx->Lookup(header->children));
      for (size_t i = 0; i < locations.size(); ++i) {
        if (!locations[i] || locations[i]->damaged) page.complete = false;
        if (locations[i] && locations[i]->type == ChunkType::kTree && !is_done(*locations[i])) {
          page.below.push_back(header->children[i]);
        }
      }
    }
    path.push_back(std::move(page));
    return absl::OkStatus();
  };
  for (const ChunkId& root : roots) {
    ASSIGN_OR_RETURN(auto at, idx->Lookup({&root, 1}));
    if (!at[0] || at[0]->type != ChunkType::kTree || is_done(*at[0]) || known.contains(root)) continue;
    RETURN_IF_ERROR(enter(root, *at[0]));
    while (!path.empty()) {
      if (!path.back().below.empty()) {
        const ChunkId next = path.back().below.back();
        path.back().below.pop_back();
        if (auto it = known.find(next); it != known.end()) {
          path.back().complete = path.back().complete && it->second;
          continue;
        }
        ASSIGN_OR_RETURN(auto location, idx->Lookup({&next, 1}));
        if (location[0]) {
          RETURN_IF_ERROR(enter(next, *location[0]));
        } else {
          path.back().complete = false;
        }
        continue;
      }
      const bool complete = path.back().complete;
      known[path.back().id] = complete;
      if (complete && !path.back().marked) mark.push_back(path.back().id);
      if (!complete && path.back().marked) unmark.push_back(path.back().id);
      path.pop_back();
      if (!path.empty()) path.back().complete = path.back().complete && complete;
      if (mark.size() + unmark.size() >= kMarkBatch) {
        RETURN_IF_ERROR(idx->UnmarkCommitted(std::exchange(unmark, {})));
        RETURN_IF_ERROR(idx->MarkCommitted(std::exchange(mark, {})));
      }
    }
  }
  RETURN_IF_ERROR(idx->UnmarkCommitted(unmark));
  return idx->MarkCommitted(mark);
}

}  // namespace holdfast
