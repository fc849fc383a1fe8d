#include "server/repository/repository.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/limits.h"
#include "core/crypto/aead.h"
#include "core/crypto/kdf.h"
#include "core/format/manifest.h"
#include "core/io/errno_status.h"

namespace holdfast {
namespace {

constexpr size_t kWarningsMax = 1000;
constexpr size_t kMissingMax = 1000;
constexpr size_t kManifestCoreBytesMax = 8192;  // a page of 1,000 of them fits a message
constexpr size_t kDamagedMax = 1u << 20;

BlobName ManifestBlobName(const ManifestId& id) {
  return BlobName::FromTrusted(absl::StrCat("snapshots/", HexEncode(id.view())));
}

std::optional<ManifestId> ParseManifestBlobName(std::string_view name) {
  constexpr std::string_view kPrefix = "snapshots/";
  if (name.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  absl::StatusOr<std::string> raw = HexDecode(name.substr(kPrefix.size()));
  if (!raw.ok()) return std::nullopt;
  absl::StatusOr<ManifestId> id = ManifestId::FromBytes(*raw);
  if (!id.ok()) return std::nullopt;
  return *id;
}

RecordLocation ToRecordLocation(const ChunkLocation& l, const ChunkId& id) {
  RecordLocation out;
  out.kind = l.kind;
  out.pack = l.pack;
  out.frame_number = l.frame_number;
  out.body_offset = l.body_offset;
  out.sealed_length = l.sealed_length;
  out.child_count = l.child_count;
  out.id = id;
  return out;
}

// The manifest at rest (docs/format.md, section 8): sealed, so that the storage sees neither counts nor the chain.
constexpr std::string_view kManifestBlobMagic("HFMANI1\0", 8);
constexpr size_t kManifestBlobHeaderBytes = 48;

Key256 ManifestBlobKey(const CatalogKey& key, std::string_view salt, const ManifestId& id) {
  return Hkdf256(key.key.ExposeView(), salt,
                 absl::StrCat("holdfast/1/manifest-blob", AbslView(key.repository.view()), AbslView(id.view())));
}

std::string SealManifestBlob(std::string_view manifest, const ManifestId& id, const CatalogKey& key, Random& random) {
  std::string header(kManifestBlobMagic);
  header.push_back(1);
  header.push_back(static_cast<char>(key.aead));
  header.resize(kManifestBlobHeaderBytes, '\0');
  random.Fill({reinterpret_cast<uint8_t*>(header.data()) + 16, 32});
  return header + Aead(key.aead, ManifestBlobKey(key, std::string_view(header).substr(16), id))
                      .Seal(AeadNonce{}, header, manifest);
}

absl::StatusOr<std::string> OpenManifestBlob(std::string_view blob, const ManifestId& id, const CatalogKey& key) {
  if (blob.size() < kManifestBlobHeaderBytes || blob.substr(0, 8) != kManifestBlobMagic || blob[8] != 1 ||
      !IsKnownAead(static_cast<uint8_t>(blob[9]))) {
    return absl::DataLossError("not a manifest");
  }
  std::string_view header = blob.substr(0, kManifestBlobHeaderBytes);
  return Aead(static_cast<AeadAlgorithm>(blob[9]), ManifestBlobKey(key, header.substr(16), id))
      .Open(AeadNonce{}, header, blob.substr(kManifestBlobHeaderBytes));
}

// Cuts a salvaged pack behind the last record that reads. The index counts frames from the first one on, so what lies
// behind a lost frame cannot be addressed, and salvaging forgives more of a damaged header than reading does. What cannot
// be read must not be promised.
absl::Status KeepReadable(PackReader& reader, PackSummary& summary) {
  struct Sink : RecordReadSink {
    absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
      if (record.ok()) return absl::OkStatus();
      if (absl::IsUnavailable(record.status())) return record.status();
      good = std::min(good, index);
      return absl::OkStatus();
    }
    size_t good = 0;
  } sink;
  std::vector<RecordLocation> locations;
  for (const PackEntry& e : summary.entries) {
    RecordLocation l;
    l.kind = summary.kind;
    l.pack = summary.id;
    l.frame_number = static_cast<uint32_t>(locations.size());
    l.body_offset = e.body_offset;
    l.sealed_length = e.header.sealed_length;
    l.child_count = static_cast<uint32_t>(e.header.children.size());
    l.id = e.header.id;
    locations.push_back(l);
  }
  sink.good = locations.size();
  RETURN_IF_ERROR(reader.Read(locations, /*verify_digests=*/false, sink));
  summary.entries.resize(sink.good);
  return absl::OkStatus();
}

bool HasCopyOf(uint32_t agent, const std::vector<ChunkLocation>& copies) {
  return std::any_of(copies.begin(), copies.end(), [&](const ChunkLocation& l) { return l.uploader == agent; });
}

std::string ShortHex(const ManifestId& id) { return HexEncode(id.view().substr(0, 8)); }

}  // namespace

struct Repository::Session {
  SessionId id;
  std::string source, principal;
  uint32_t agent = 0;
  std::optional<ManifestId> base;
  // Guarded by Repository::mu_.
  absl::flat_hash_set<KnownId> known;  // uploaded by or promised to this session
  // Tree records uploaded by this session, with those of their children that are so too: what a commit makes "committed".
  absl::flat_hash_map<ChunkId, std::vector<ChunkId>> new_pages;
  uint64_t page_links = 0;  // ids in the values of new_pages
  int streams = 0;
  bool had_stream = false;
  bool busy = false;             // in Commit
  absl::Duration idle_since;     // monotonic; when streams became 0
  absl::Status failed;           // not OK: can never commit
  // A commit of this source whose outcome is unknown: settled before the next one compares heads. The next session of the
  // source inherits it.
  std::optional<CommittedRecord> unsettled;
};

Repository::Repository(Io io, BlobStore& store, KvStoreFactory kv, CatalogKey key, RepositoryOptions options)
    : io_(io),
      store_(store),
      kv_factory_(std::move(kv)),
      key_(std::move(key)),
      options_(std::move(options)),
      reader_(store, key_),
      session_idle_(io.threads) {}

Repository::~Repository() {
  if (packs_) {
    (void)packs_->StoreAll();  // best effort: what stays in the spool is recovered at the next start
    packs_.reset();
  }
  absl::StatusOr<std::shared_ptr<ChunkIndex>> idx = index();
  if (idx.ok()) (void)(*idx)->Flush();
}

absl::StatusOr<std::unique_ptr<Repository>> Repository::Open(Io io, BlobStore& store, KvStoreFactory kv,
                                                             CatalogKey key, RepositoryOptions options) {
  if (!store.capabilities().put_if_absent) {
    return absl::FailedPreconditionError("this storage has no put-if-absent: it cannot hold a repository's log");
  }
  std::unique_ptr<Repository> repository(
      new Repository(io, store, std::move(kv), std::move(key), std::move(options)));
  RETURN_IF_ERROR(repository->OpenImpl());
  return repository;
}

absl::Status Repository::OpenImpl() {
  RETURN_IF_ERROR(Annotate(RecoverSpool(), "recovering the spool"));
  RETURN_IF_ERROR(Annotate(MakeIndex(/*from_nothing=*/false), "opening the index"));
  RETURN_IF_ERROR(Annotate(OpenLog(), "reading the repository log"));
  // Always: the index may have lost its newest marks and nothing else. Costs one lookup per snapshot that is marked.
  absl::Status marked = MarkLivePages();
  if (absl::IsDataLoss(marked)) {
    NoteIndex(marked).IgnoreError();
    marked = ReopenIndexIfBroken();
  }
  RETURN_IF_ERROR(Annotate(marked, "walking the snapshots"));
  {
    absl::MutexLock lock(&index_mu_);
    index_complete_ = true;
  }
  PackPool::Callbacks callbacks;
  callbacks.stored = [this](const PackSummary& summary) { return IndexPack(summary); };
  callbacks.lost = [this](const absl::Status& why) {
    // Any open session may have been promised a chunk of the lost pack (S1, S2): none of them may commit.
    absl::MutexLock lock(&mu_);
    for (auto& [id, session] : sessions_) {
      if (session->failed.ok()) session->failed = Annotate(why, "uploaded chunks were lost before they were stored");
    }
  };
  callbacks.crash_point = options_.crash_point;
  packs_ = std::make_unique<PackPool>(io_, store_, key_, options_.spool_directory, options_.packs, callbacks);
  return absl::OkStatus();
}

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
  if (absl::IsDataLoss(index.status()) || absl::IsFailedPrecondition(index.status())) {
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
  if (!index_ || !index_complete_) return absl::UnavailableError("the index is being made anew; try again later");
  return index_;
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
    absl::StatusOr<PackSummary> summary =
        ReadPackTrailer(store_, parsed->first, parsed->second, blob.size, key_);
    if (absl::IsDataLoss(summary.status()) || absl::IsFailedPrecondition(summary.status()) ||
        absl::IsNotFound(summary.status()) || absl::IsOutOfRange(summary.status()) || IsMediumError(summary.status())) {
      *lost = true;
      Warn(absl::StrCat(blob.name, " is damaged (", summary.status().message(),
                        "): what can be read of it is kept"));
      summary = SalvagePack(store_, parsed->first, parsed->second, blob.size, key_);
      if (!summary.ok()) {
        if (absl::IsUnavailable(summary.status()) && !IsMediumError(summary.status())) return summary.status();
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

absl::Status Repository::ReopenIndexIfBroken() {
  absl::MutexLock reopening(&reopen_mu_);
  bool damaged = false;
  std::weak_ptr<KvStore> old;
  {
    absl::MutexLock lock(&index_mu_);
    if (index_status_.ok() && index_) return absl::OkStatus();
    damaged = absl::IsDataLoss(index_status_);
    old = kv_;
    index_complete_ = false;
    index_.reset();
    kv_.reset();
  }
  // Lookups that are under way still hold the old one. They are short.
  for (int waits = 0; !old.expired(); ++waits) {
    if (waits == 1000) return absl::UnavailableError("the old index is still in use; try again later");
    absl::SleepFor(absl::Milliseconds(10));
  }
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
    {
      absl::MutexLock lock(&index_mu_);
      index_.reset();
      kv_.reset();
    }
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
  ASSIGN_OR_RETURN(log_, RepositoryLog::Open(io_, store_, key_, log_options,
                                             [this](const LogRecord& record) { catalog_.Apply(record); }, &report));
  for (const DamagedSlot& slot : report.damaged) {
    Warn(absl::StrCat("log slot ", slot.slot, " is damaged: ", slot.status.message()));
  }
  for (const DamagedSlot& slot : report.broken_links) {
    Warn(absl::StrCat("log slot ", slot.slot, " does not follow the slot before it: ", slot.status.message()));
  }
  for (const auto& [first, last] : report.missing) Warn(absl::StrCat("log slots ", first, " to ", last, " are missing"));
  for (const std::string& name : report.foreign_names) Warn(absl::StrCat(name, " is not a log slot"));
  const bool holes = !report.damaged.empty() || !report.broken_links.empty() || !report.missing.empty();
  RETURN_IF_ERROR(RecoverManifests(holes));
  return absl::OkStatus();
}

// Slots may be lost, also the last ones, of which the log itself shows nothing. Manifests are blobs of their own and are
// put only when all their chunks are stored, so one that no readable slot mentions is taken as committed: if the log has
// holes, or if it is the next of its source. Others are left-overs of commits that failed and were done anew.
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
    } else if (absl::IsUnavailable(parsed.status())) {
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

absl::Status Repository::MarkLivePages() {
  std::vector<ChunkId> roots;
  for (const ManifestId& id : catalog_.LiveIds()) {
    std::optional<CatalogSnapshot> snapshot = catalog_.Find(id);
    if (!snapshot) continue;
    absl::StatusOr<pb::ManifestCore> core = ParseManifestCore(snapshot->core);
    if (!core.ok()) continue;
    absl::StatusOr<ChunkId> root = ChunkId::FromBytes(core->root_id());
    if (root.ok()) roots.push_back(*root);
  }
  return MarkPagesFrom(roots);
}

// Marks the tree pages below `roots` that are complete: they and everything below them are here. What is marked already is
// not descended into. A page that is not complete stays unmarked: `have` then answers no, and clients send it again with
// what it lacks.
absl::Status Repository::MarkPagesFrom(const std::vector<ChunkId>& roots) {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, UnfinishedIndex());
  struct Page {
    ChunkId id;
    std::vector<ChunkId> below;  // unmarked pages, still to be looked at
    bool complete = true;
  };
  absl::flat_hash_map<ChunkId, bool> known;  // page looked at -> complete
  std::vector<ChunkId> mark;
  constexpr size_t kMarkBatch = 1024;
  // Depth first, at most kTreeLevelsMax deep; a page comes after all that is below it.
  std::vector<Page> path;
  auto enter = [&](const ChunkId& id, const ChunkLocation& location) -> absl::Status {
    Page page{id, {}, true};
    absl::StatusOr<RecordHeader> header = reader_.ReadHeader(ToRecordLocation(location, id));
    if (absl::IsUnavailable(header.status())) return header.status();
    if (!header.ok() || path.size() >= 2 * kTreeLevelsMax) {
      if (!header.ok()) Warn(std::string(header.status().message()));
      page.complete = false;
    } else {
      ASSIGN_OR_RETURN(auto locations, idx->Lookup(header->children));
      for (size_t i = 0; i < locations.size(); ++i) {
        if (!locations[i]) {
          page.complete = false;
        } else if (locations[i]->type == ChunkType::kTree && !locations[i]->committed) {
          page.below.push_back(header->children[i]);
        }
      }
    }
    path.push_back(std::move(page));
    return absl::OkStatus();
  };
  for (const ChunkId& root : roots) {
    ASSIGN_OR_RETURN(auto at, idx->Lookup({&root, 1}));
    if (!at[0] || at[0]->type != ChunkType::kTree || at[0]->committed || known.contains(root)) continue;
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
      if (complete) mark.push_back(path.back().id);
      path.pop_back();
      if (!path.empty()) path.back().complete = path.back().complete && complete;
      if (mark.size() >= kMarkBatch) {
        RETURN_IF_ERROR(idx->MarkCommitted(mark));
        mark.clear();
      }
    }
  }
  return idx->MarkCommitted(mark);
}

// --- Sessions -------------------------------------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<Repository::Session>> Repository::FindSession(const Principal& who,
                                                                             const SessionId& id) {
  auto it = sessions_.find(id);
  if (it == sessions_.end() || it->second->principal != who.name) {
    return absl::AbortedError("the upload session is gone (the server was restarted, or another run replaced it)");
  }
  return it->second;
}

absl::StatusOr<SessionInfo> Repository::OpenSession(const Principal& who, std::string_view source, uint32_t agent,
                                                    std::optional<ManifestId> base) {
  RETURN_IF_ERROR(log_->status());
  RETURN_IF_ERROR(ReopenIndexIfBroken());
  if (source.empty() || source.size() > 4096 || agent == 0) {
    return absl::InvalidArgumentError("a session needs a source and an agent number");
  }
  if (base && !catalog_.Find(*base)) return absl::NotFoundError("the base snapshot does not exist");
  auto session = std::make_shared<Session>();
  io_.random.Fill(absl::MakeSpan(session->id.bytes));
  session->source = std::string(source);
  session->principal = who.name;
  session->agent = agent;
  session->base = base;
  session->idle_since = io_.clock.Monotonic();
  {
    absl::MutexLock lock(&mu_);
    auto existing = session_of_source_.find(source);
    if (existing != session_of_source_.end()) {
      std::shared_ptr<Session> old = sessions_[existing->second];
      const bool idle = old->streams == 0 && !old->busy &&
                        (!old->failed.ok() || old->had_stream || io_.clock.Monotonic() - old->idle_since >= options_.session_idle);
      if (!idle) {
        return absl::AlreadyExistsError(absl::StrCat("another backup of ", old->source,
                                                     " is running; wait until it ends"));
      }
      session->unsettled = std::move(old->unsettled);
      sessions_.erase(existing->second);
      session_of_source_.erase(existing);
    }
    // Left behind by clients that died. At the limit, and after an hour, they make room.
    const bool at_limit = sessions_.size() >= options_.sessions_max;
    const absl::Duration idle_max = at_limit ? options_.session_idle : absl::Hours(1);
    for (auto it = sessions_.begin(); it != sessions_.end();) {
      const Session& old = *it->second;
      if (old.streams == 0 && !old.busy && !old.unsettled && io_.clock.Monotonic() - old.idle_since >= idle_max) {
        session_of_source_.erase(old.source);
        sessions_.erase(it++);
      } else {
        ++it;
      }
    }
    if (sessions_.size() >= options_.sessions_max) {
      return absl::ResourceExhaustedError("too many upload sessions are open");
    }
    sessions_[session->id] = session;
    session_of_source_[session->source] = session->id;
  }
  SessionInfo info;
  info.id = session->id;
  if (std::optional<CatalogSnapshot> head = catalog_.Head(source)) {
    info.head = head->id;
    info.head_sequence = head->sequence;
    // S3: what the client will build on stays reachable while the session lives.
    absl::MutexLock lock(&mu_);
    if (!session->base) session->base = head->id;
  }
  return info;
}

absl::Status Repository::StreamBegan(const Principal& who, const SessionId& id) {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session, FindSession(who, id));
  ++session->streams;
  session->had_stream = true;
  return absl::OkStatus();
}

void Repository::StreamEnded(const SessionId& id) {
  absl::MutexLock lock(&mu_);
  auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  Session& session = *it->second;
  if (--session.streams > 0) return;
  session.idle_since = io_.clock.Monotonic();
}

absl::Status Repository::CloseSession(const Principal& who, const SessionId& id) {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<std::shared_ptr<Session>> session = FindSession(who, id);
  if (!session.ok()) return absl::OkStatus();
  // A commit that its client no longer waits for still is the source's only one: the next session comes after it.
  std::shared_ptr<Session> closing = *session;
  session_idle_.Wait(&mu_, [&] { return !closing->busy; });
  session = FindSession(who, id);
  if (!session.ok()) return absl::OkStatus();
  if (closing->unsettled) {
    closing->failed = absl::AbortedError("the upload session was closed");
    return absl::OkStatus();
  }
  session_of_source_.erase((*session)->source);
  sessions_.erase(id);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<HaveAnswer>> Repository::Have(const Principal& who, const SessionId& id,
                                                         absl::Span<const ChunkId> ids) {
  // Pending before index: a chunk that moves from one to the other in between is seen at least once.
  std::vector<std::optional<uint32_t>> pending(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) pending[i] = packs_->PendingUploader(ids[i]);
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, index());
  auto copies = idx->LookupAll(ids);
  idx.reset();
  if (!copies.ok()) return NoteIndex(copies.status());
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session, FindSession(who, id));
  RETURN_IF_ERROR(session->failed);
  if (session->busy) return absl::FailedPreconditionError("the session's commit is under way");
  std::vector<HaveAnswer> answers(ids.size(), HaveAnswer::kNone);
  for (size_t i = 0; i < ids.size(); ++i) {
    std::optional<uint32_t> uploader;
    if (session->new_pages.contains(ids[i])) {
      uploader = session->agent;
    } else if (const std::vector<ChunkLocation>& all = (*copies)[i]; !all.empty()) {
      // S2: a page is promised only if a committed snapshot reaches it.
      if (all[0].type == ChunkType::kTree && !all[0].committed) continue;
      if (damaged_.contains(ids[i])) continue;  // sent again, it has a good copy
      uploader = HasCopyOf(session->agent, all) ? session->agent : all[0].uploader;
    } else if (pending[i]) {
      uploader = pending[i];
    }
    if (!uploader) continue;
    KnownId known;
    std::memcpy(&known, ids[i].bytes.data(), sizeof(known));
    session->known.insert(known);
    answers[i] = *uploader == session->agent ? HaveAnswer::kOwn : HaveAnswer::kForeign;
  }
  if (session->known.size() > options_.session_known_ids_max) {
    session->failed = absl::ResourceExhaustedError("the session holds too many chunks: back up in parts");
    return session->failed;
  }
  return answers;
}

absl::Status Repository::Append(const Principal& who, const SessionId& id, absl::Span<const IncomingRecord> records) {
  std::vector<ChunkId> ids;
  ids.reserve(records.size());
  for (const IncomingRecord& r : records) ids.push_back(r.header.id);
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, index());
  auto copies = idx->LookupAll(ids);
  idx.reset();  // not held while waiting for room in a pack
  if (!copies.ok()) return NoteIndex(copies.status());

  std::vector<PoolRecord> data, tree;
  std::shared_ptr<Session> session;
  {
    absl::MutexLock lock(&mu_);
    ASSIGN_OR_RETURN(session, FindSession(who, id));
    RETURN_IF_ERROR(session->failed);
    if (session->busy) return absl::FailedPreconditionError("the session's commit is under way");
    absl::flat_hash_set<KnownId> in_message;
    for (size_t i = 0; i < records.size(); ++i) {
      const RecordHeader& h = records[i].header;
      if (h.uploader != session->agent) {
        return absl::InvalidArgumentError("a record names another agent as its uploader than the session's");
      }
      if (!IsKnownAead(h.aead)) return absl::InvalidArgumentError("a record with an unknown AEAD");
      for (const ChunkId& child : h.children) {
        KnownId known;
        std::memcpy(&known, child.bytes.data(), sizeof(known));
        if (!session->known.contains(known) && !in_message.contains(known)) {
          return absl::FailedPreconditionError(
              "a tree record refers to a chunk that this session neither uploaded nor was promised");
        }
      }
      KnownId self;
      std::memcpy(&self, h.id.bytes.data(), sizeof(self));
      in_message.insert(self);
      // Stored already (another stream was faster, or an interrupted run left it): the bytes need not be kept twice.
      // Another agent's copy does not count: the server cannot tell whether it is good.
      if (HasCopyOf(session->agent, (*copies)[i]) && damaged_.erase(h.id) == 0) continue;
      PoolRecord pool{&h, records[i].header_bytes, records[i].body};
      (h.type == ChunkType::kTree ? tree : data).push_back(pool);
    }
  }
  auto drop_pending = [&](std::vector<PoolRecord>& v) {
    v.erase(std::remove_if(v.begin(), v.end(),
                           [&](const PoolRecord& r) { return packs_->PendingUploader(r.header->id) == session->agent; }),
            v.end());
  };
  drop_pending(data);
  drop_pending(tree);
  if (!data.empty()) RETURN_IF_ERROR(packs_->Append(PackKind::kData, data));
  if (!tree.empty()) RETURN_IF_ERROR(packs_->Append(PackKind::kTree, tree));

  absl::MutexLock lock(&mu_);
  RETURN_IF_ERROR(session->failed);
  for (const IncomingRecord& r : records) {
    KnownId known;
    std::memcpy(&known, r.header.id.bytes.data(), sizeof(known));
    session->known.insert(known);
    if (r.header.type == ChunkType::kTree && !session->new_pages.contains(r.header.id)) {
      std::vector<ChunkId>& children = session->new_pages[r.header.id];
      for (const ChunkId& child : r.header.children) {
        if (session->new_pages.contains(child)) children.push_back(child);
      }
      session->page_links += children.size();
    }
    counters_.bytes_appended += r.header.sealed_length;
  }
  counters_.records_appended += records.size();
  if (session->known.size() + session->page_links > options_.session_known_ids_max) {
    session->failed = absl::ResourceExhaustedError("the session holds too many chunks: back up in parts");
  }
  return session->failed;
}

absl::Status Repository::Barrier(const Principal& who, const SessionId& id) {
  {
    absl::MutexLock lock(&mu_);
    ASSIGN_OR_RETURN(std::shared_ptr<Session> session, FindSession(who, id));
    RETURN_IF_ERROR(session->failed);
  }
  RETURN_IF_ERROR(packs_->Sync());
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session, FindSession(who, id));
  return session->failed;
}

absl::StatusOr<CommitResult> Repository::Commit(const Principal& who, const SessionId& id, std::string_view manifest,
                                                std::vector<ChunkId>* missing) {
  const ManifestId manifest_id = ManifestIdOf(manifest);
  auto committed = [&]() -> std::optional<CommitResult> {
    std::optional<CatalogSnapshot> known = catalog_.Find(manifest_id);
    if (!known || known->deleted || known->source.empty()) return std::nullopt;
    return CommitResult{manifest_id, known->server_time};
  };
  std::shared_ptr<Session> session;
  {
    absl::MutexLock lock(&mu_);
    // S4: a client that did not hear the answer asks again, with a new session if it must.
    if (auto result = committed()) return *result;
    ASSIGN_OR_RETURN(session, FindSession(who, id));
    session_idle_.Wait(&mu_, [&] { return !session->busy; });
    if (auto result = committed()) return *result;
    ASSIGN_OR_RETURN(session, FindSession(who, id));  // it may have been closed meanwhile
    RETURN_IF_ERROR(session->failed);
    session->busy = true;
  }
  absl::StatusOr<CommitResult> result = CommitImpl(*session, manifest, missing);
  absl::MutexLock lock(&mu_);
  session->busy = false;
  session_idle_.NotifyAll();
  return result;
}

absl::StatusOr<CommitResult> Repository::CommitImpl(Session& session, std::string_view manifest,
                                                    std::vector<ChunkId>* missing) {
  // 1. Is it a manifest, and the next of its source? The source has one session, so nobody else moves its head.
  absl::StatusOr<ParsedManifest> parsed = ParseManifest(manifest);
  if (!parsed.ok()) return absl::InvalidArgumentError(parsed.status().message());
  const pb::ManifestCore& core = parsed->core;
  if (parsed->manifest.core().size() > kManifestCoreBytesMax) {
    return absl::InvalidArgumentError("the manifest's core is too large");
  }
  if (core.repository_id() != key_.repository.view() || core.source() != session.source ||
      core.agent() != session.agent) {
    return absl::InvalidArgumentError("the manifest belongs to another repository, source or agent than the session");
  }
  // The same record again as the next thing settles it and writes nothing twice; this session is busy, so only this thread
  // looks at it.
  if (session.unsettled && !catalog_.Find(session.unsettled->manifest)) {
    RETURN_IF_ERROR(Annotate(log_->Append(*session.unsettled).status(), "settling an earlier commit of the source"));
  }
  session.unsettled.reset();
  if (std::optional<CatalogSnapshot> known = catalog_.Find(parsed->id); known && !known->deleted) {
    return CommitResult{parsed->id, known->server_time};  // it was this one
  }
  std::optional<CatalogSnapshot> head = catalog_.Head(session.source);
  const std::string_view expected = head ? head->id.view() : std::string_view();
  if (core.previous_manifest() != expected || core.sequence() != (head ? head->sequence : 0) + 1) {
    return absl::AbortedError(absl::StrCat("another snapshot of ", session.source, " was committed meanwhile"));
  }
  // 2. Everything uploaded is stored (W2). Packs of other sessions, too: this one may have been promised their chunks.
  RETURN_IF_ERROR(packs_->StoreAll());
  ASSIGN_OR_RETURN(ChunkId root, ChunkId::FromBytes(core.root_id()));
  std::vector<ChunkId> pages;
  {
    absl::MutexLock lock(&mu_);
    RETURN_IF_ERROR(session.failed);
    KnownId known;
    std::memcpy(&known, root.bytes.data(), sizeof(known));
    if (!session.known.contains(known)) missing->push_back(root);
    // The pages that become committed with this snapshot.
    absl::flat_hash_set<ChunkId> seen;
    if (session.new_pages.contains(root)) pages.push_back(root);
    seen.insert(root);
    for (size_t i = 0; i < pages.size(); ++i) {
      for (const ChunkId& child : session.new_pages[pages[i]]) {
        if (seen.insert(child).second) pages.push_back(child);
      }
    }
  }
  // 3. Are they really there? Every page was accepted only with all its children known, so the new pages and the root
  //    are enough.
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, index());
  std::vector<ChunkId> check = pages;
  check.push_back(root);
  auto looked_up = idx->Lookup(check);
  if (!looked_up.ok()) return NoteIndex(looked_up.status());
  const auto& locations = *looked_up;
  for (size_t i = 0; i < check.size() && missing->size() < kMissingMax; ++i) {
    if (!locations[i]) missing->push_back(check[i]);
  }
  if (!missing->empty()) return absl::FailedPreconditionError("chunks of the snapshot are not stored");
  // 4. The manifest (W3).
  absl::Status put = PutBytes(store_, ManifestBlobName(parsed->id),
                              SealManifestBlob(manifest, parsed->id, key_, io_.random), PutMode::kIfAbsent);
  if (!put.ok() && !absl::IsAlreadyExists(put)) return Annotate(put, "storing the manifest");
  CrashPoint("manifest-put");
  // 5. The commit point (W4).
  CommittedRecord record;
  record.manifest = parsed->id;
  record.source = session.source;
  record.sequence = core.sequence();
  record.agent = session.agent;
  record.session = HexEncode(session.id.view());
  record.core = parsed->manifest.core();
  CrashPoint("log-put-before");
  absl::Status appended = log_->Append(record).status();
  if (absl::IsUnavailable(appended)) session.unsettled = std::move(record);
  RETURN_IF_ERROR(appended);
  CrashPoint("log-put-after");
  // 6. Hints for later; the snapshot is committed whatever happens to them.
  // Lower pages first: whoever finds a page marked does not look below it.
  std::reverse(pages.begin(), pages.end());
  absl::Status marked = idx->MarkCommitted(pages);
  if (!marked.ok()) Warn(absl::StrCat("marking pages: ", marked.message()));
  std::optional<CatalogSnapshot> snapshot = catalog_.Find(parsed->id);
  return CommitResult{parsed->id, snapshot ? snapshot->server_time : io_.clock.Wall()};
}

// --- Reading --------------------------------------------------------------------------------------------------------

namespace {

// Passes answers on under their number in the caller's request, and collects those that another copy may cure.
class RetrySink : public RecordReadSink {
 public:
  RetrySink(RecordReadSink& sink, const std::vector<size_t>& numbers) : sink_(sink), numbers_(numbers) {}
  absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
    // A damaged byte can look like a version of the future.
    if (absl::IsFailedPrecondition(record.status())) record = absl::DataLossError(record.status().message());
    if (absl::IsDataLoss(record.status())) {
      failed.emplace_back(numbers_[index], record.status());
      return absl::OkStatus();
    }
    return sink_.OnRecord(numbers_[index], std::move(record));
  }
  std::vector<std::pair<size_t, absl::Status>> failed;

 private:
  RecordReadSink& sink_;
  const std::vector<size_t>& numbers_;
};

// Keeps one answer.
class KeepSink : public RecordReadSink {
 public:
  absl::Status OnRecord(size_t, absl::StatusOr<ReadRecord> answer) override {
    record = std::move(answer);
    return absl::OkStatus();
  }
  absl::StatusOr<ReadRecord> record = absl::InternalError("no answer");
};

}  // namespace

// Asked for again: the copy of the first answer, the oldest, did not open, and its digest may be as wrong as its bytes. So
// the newest intact one is given. All are looked at, so that damaged ones are named.
absl::Status Repository::ReadNewestCopy(const ChunkId& id, const std::vector<ChunkLocation>& copies, size_t number,
                                        RecordReadSink& sink) {
  absl::StatusOr<ReadRecord> answer = absl::DataLossError("no copy");
  bool damaged = true;
  for (const ChunkLocation& copy : copies) {
    const RecordLocation location = ToRecordLocation(copy, id);
    KeepSink one;
    RETURN_IF_ERROR(reader_.Read({&location, 1}, /*verify_digests=*/true, one));
    if (!one.record.ok()) Warn(std::string(one.record.status().message()));
    damaged = damaged && (absl::IsDataLoss(one.record.status()) || absl::IsFailedPrecondition(one.record.status()));
    if (one.record.ok() || !answer.ok()) answer = std::move(one.record);
  }
  if (damaged) {
    answer = absl::DataLossError(answer.status().message());
    absl::MutexLock lock(&mu_);
    if (damaged_.size() < kDamagedMax) damaged_.insert(id);
  }
  return sink.OnRecord(number, std::move(answer));
}

absl::Status Repository::Read(const Principal& who, absl::Span<const ChunkId> ids, bool verify, RecordReadSink& sink) {
  // Not held while the records go out, which lasts as long as the client likes.
  auto look_up = [&]() -> absl::StatusOr<std::vector<std::vector<ChunkLocation>>> {
    ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, index());
    return idx->LookupAll(ids);
  };
  auto looked_up = look_up();
  if (absl::IsDataLoss(looked_up.status())) {
    NoteIndex(looked_up.status()).IgnoreError();
    RETURN_IF_ERROR(ReopenIndexIfBroken());
    looked_up = look_up();
  }
  RETURN_IF_ERROR(looked_up.status());
  auto& found = *looked_up;
  std::vector<RecordLocation> locations;
  std::vector<size_t> numbers;
  uint64_t bytes = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (found[i].empty()) {
      RETURN_IF_ERROR(sink.OnRecord(i, absl::NotFoundError("the repository does not have this chunk")));
      continue;
    }
    if (verify && found[i].size() > 1) {
      RETURN_IF_ERROR(ReadNewestCopy(ids[i], found[i], i, sink));
      continue;
    }
    locations.push_back(ToRecordLocation(found[i][0], ids[i]));
    numbers.push_back(i);
    bytes += found[i][0].sealed_length;
  }
  RetrySink first(sink, numbers);
  RETURN_IF_ERROR(reader_.Read(locations, verify, first));
  for (const auto& [number, status] : first.failed) {
    Warn(std::string(status.message()));
    const std::vector<ChunkLocation>& copies = found[number];
    bool answered = false;
    for (size_t c = 1; c < copies.size() && !answered; ++c) {
      std::vector<size_t> one = {number};
      RecordLocation location = ToRecordLocation(copies[c], ids[number]);
      RetrySink retry(sink, one);
      RETURN_IF_ERROR(reader_.Read({&location, 1}, /*verify_digests=*/true, retry));
      answered = retry.failed.empty();
    }
    if (answered) continue;
    {
      absl::MutexLock lock(&mu_);
      if (damaged_.size() < kDamagedMax) damaged_.insert(ids[number]);
    }
    RETURN_IF_ERROR(sink.OnRecord(number, status));
  }
  absl::MutexLock lock(&mu_);
  counters_.records_read += ids.size();
  counters_.bytes_read += bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Repository::GetManifest(const Principal& who, const ManifestId& id) {
  absl::StatusOr<std::string> bytes = GetWholeBlob(store_, ManifestBlobName(id), kManifestBytesMax + 4096);
  if (absl::IsNotFound(bytes.status())) {
    if (catalog_.Find(id)) {
      return absl::DataLossError(absl::StrCat("the manifest of snapshot ", ShortHex(id), " is missing from the storage"));
    }
    return absl::NotFoundError("no such snapshot");
  }
  RETURN_IF_ERROR(bytes.status());
  bytes = OpenManifestBlob(*bytes, id, key_);
  if (!bytes.ok() || ManifestIdOf(*bytes) != id) {
    return absl::DataLossError(absl::StrCat("the manifest of snapshot ", ShortHex(id), " is damaged"));
  }
  return bytes;
}

absl::Status Repository::DeleteSnapshot(const Principal& who, const ManifestId& id, std::string_view reason) {
  std::optional<CatalogSnapshot> snapshot = catalog_.Find(id);
  if (!snapshot) return absl::NotFoundError("no such snapshot");
  if (snapshot->deleted) return absl::OkStatus();
  DeletedRecord record;
  record.manifest = id;
  record.core = snapshot->core;
  record.reason = std::string(reason);
  record.actor = who.name;
  return log_->Append(std::move(record)).status();
}

RepositoryStatistics Repository::statistics() const {
  RepositoryStatistics out;
  {
    absl::MutexLock lock(&mu_);
    out = counters_;
    out.sessions = sessions_.size();
  }
  out.snapshots = catalog_.live_count();
  absl::StatusOr<std::shared_ptr<ChunkIndex>> idx = index();
  if (idx.ok()) {
    ChunkIndexCounters c = (*idx)->counters();
    out.packs = c.data_packs + c.tree_packs;
    out.stored_bytes = c.data_pack_bytes + c.tree_pack_bytes;
    out.chunks = c.chunks;
  }
  return out;
}

std::vector<std::string> Repository::warnings() const {
  absl::MutexLock lock(&mu_);
  return warnings_;
}

absl::Status Repository::status() const { return log_->status(); }

void Repository::Warn(std::string message) {
  absl::MutexLock lock(&mu_);
  if (warnings_.size() < kWarningsMax &&
      std::find(warnings_.begin(), warnings_.end(), message) == warnings_.end()) {
    warnings_.push_back(std::move(message));
  }
}

}  // namespace holdfast
