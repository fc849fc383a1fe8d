#include "server/repository/repository.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/format/manifest.h"
#include "server/repository/manifest_blob.h"
#include "server/repository/manifest_recovery.h"
#include "server/repository/page_marks.h"
#include "server/repository/spool_recovery.h"

namespace holdfast {

// --- Opening --------------------------------------------------------------------------------------------------------

Repository::Repository(Io io, BlobStore& store, KvStoreFactory kv, CatalogKey key, RepositoryOptions options)
    : io_(io),
      store_(store),
      key_(std::move(key)),
      options_(std::move(options)),
      reader_(store, key_),
      manifests_(store, key_, io.random),
      reconciler_(store, reader_, key_, warnings_, options_.crash_point),
      index_(
          io, std::move(kv), key_.repository, reconciler_,
          [this](ChunkIndex& index, PageWalk walk) { return MarkPages(index, reader_, LiveRoots(), walk, warnings_); },
          warnings_, options_.crash_point),
      records_(reader_, index_, warnings_),
      sessions_(io, options_.sessions) {}

Repository::~Repository() {
  if (packs_) {
    (void)packs_->StoreAll();  // best effort: what stays in the spool is recovered at the next start
    packs_.reset();
  }
  index_.Flush();
}

absl::StatusOr<std::unique_ptr<Repository>> Repository::Open(Io io, BlobStore& store, KvStoreFactory kv, CatalogKey key,
                                                             RepositoryOptions options) {
  if (!store.capabilities().put_if_absent) {
    return absl::FailedPreconditionError("this storage has no put-if-absent: it cannot hold a repository's log");
  }
  std::unique_ptr<Repository> repository(new Repository(io, store, std::move(kv), std::move(key), std::move(options)));
  RETURN_IF_ERROR(repository->OpenImpl());
  return repository;
}

absl::Status Repository::OpenImpl() {
  RETURN_IF_ERROR(
      Annotate(RecoverSpool(io_, store_, key_, options_.spool_directory, warnings_), "recovering the spool"));
  RETURN_IF_ERROR(Annotate(index_.Open(), "opening the index"));
  RETURN_IF_ERROR(Annotate(OpenLog(), "reading the repository log"));
  RETURN_IF_ERROR(Annotate(index_.Complete(), "walking the snapshots"));
  PackPool::Callbacks callbacks;
  callbacks.stored = [this](const PackSummary& summary) { return index_.AddPack(summary); };
  callbacks.lost = [this](const absl::Status& why) { sessions_.FailAll(why); };
  callbacks.crash_point = options_.crash_point;
  packs_ = std::make_unique<PackPool>(io_, store_, key_, options_.spool_directory, options_.packs, callbacks);
  committer_ = std::make_unique<SnapshotCommitter>(
      key_.repository, SnapshotCommitter::Parts{io_.clock, sessions_, [this] { return packs_->StoreAll(); }, index_,
                                                manifests_, *log_, catalog_, warnings_, options_.crash_point});
  return absl::OkStatus();
}

absl::Status Repository::OpenLog() {
  LogReport report;
  RepositoryLogOptions log_options;
  log_options.server_id = options_.server_id;
  ASSIGN_OR_RETURN(
      log_, RepositoryLog::Open(
                io_, store_, key_, log_options, [this](const LogRecord& record) { catalog_.Apply(record); }, &report));
  for (const DamagedSlot& slot : report.damaged) {
    warnings_.Add(absl::StrCat("log slot ", slot.slot, " is damaged: ", slot.status.message()));
  }
  for (const DamagedSlot& slot : report.broken_links) {
    warnings_.Add(absl::StrCat("log slot ", slot.slot, " does not follow the slot before it: ", slot.status.message()));
  }
  for (const auto& [first, last] : report.missing) {
    warnings_.Add(absl::StrCat("log slots ", first, " to ", last, " are missing"));
  }
  for (const std::string& name : report.foreign_names) warnings_.Add(absl::StrCat(name, " is not a log slot"));
  const bool holes = !report.damaged.empty() || !report.broken_links.empty() || !report.missing.empty();
  return RecoverManifests(manifests_, catalog_, holes, *log_, warnings_);
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

// --- Sessions -------------------------------------------------------------------------------------------------------

absl::StatusOr<SessionInfo> Repository::OpenSession(const Principal& who, std::string_view source, uint32_t agent,
                                                    std::optional<ManifestId> base) {
  RETURN_IF_ERROR(CheckNamed(who));
  RETURN_IF_ERROR(log_->status());
  RETURN_IF_ERROR(index_.RenewIfBroken());
  RETURN_IF_ERROR(index_.RenewStaleMarks());
  if (base && !catalog_.Find(*base)) return absl::NotFoundError("the base snapshot does not exist");
  ASSIGN_OR_RETURN(SessionTable::Opened opened, sessions_.Open(who, source, agent, base));
  // A commit of unknown outcome moves the head or does not: that has to be known before the head is told.
  if (opened.unsettled) {
    absl::Status settled = committer_->Settle(*opened.unsettled);
    if (!settled.ok()) opened.unsettled->Fail(settled);
    opened.unsettled.reset();
    RETURN_IF_ERROR(settled);
  }
  SessionInfo info;
  info.id = opened.id;
  if (std::optional<CatalogSnapshot> head = catalog_.Head(source)) {
    info.head = head->id;
    info.head_sequence = head->sequence;
    sessions_.PinHead(info.id, head->id);
  }
  return info;
}

absl::Status Repository::StreamBegan(const Principal& who, const SessionId& id) {
  RETURN_IF_ERROR(CheckNamed(who));
  return sessions_.StreamBegan(who, id);
}

void Repository::StreamEnded(const SessionId& id) { sessions_.StreamEnded(id); }

absl::Status Repository::CloseSession(const Principal& who, const SessionId& id) {
  RETURN_IF_ERROR(CheckNamed(who));
  sessions_.Close(who, id);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<HaveAnswer>> Repository::Have(const Principal& who, const SessionId& id,
                                                         absl::Span<const ChunkId> ids) {
  RETURN_IF_ERROR(CheckNamed(who));
  // Pending before index: a chunk that moves from one to the other in between is seen at least once.
  std::vector<std::optional<uint32_t>> pending(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) pending[i] = packs_->PendingUploader(ids[i]);
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, index_.Get());
  auto copies = index->LookupAll(ids);
  index.reset();
  if (!copies.ok()) return index_.Note(copies.status());
  return sessions_.Promise(who, id, ids, *copies, pending);
}

absl::Status Repository::Append(const Principal& who, const SessionId& id, absl::Span<const IncomingRecord> records) {
  RETURN_IF_ERROR(CheckNamed(who));
  std::vector<ChunkId> ids;
  ids.reserve(records.size());
  for (const IncomingRecord& r : records) ids.push_back(r.header.id);
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, index_.Get());
  auto copies = index->LookupAll(ids);
  index.reset();  // not held while waiting for room in a pack
  if (!copies.ok()) return index_.Note(copies.status());
  ASSIGN_OR_RETURN(AcceptedRecords accepted, sessions_.Accept(who, id, records, *copies));
  auto drop_pending = [&](std::vector<PoolRecord>& v) {
    std::erase_if(v, [&](const PoolRecord& r) { return packs_->PendingUploader(r.header->id) == accepted.agent; });
  };
  drop_pending(accepted.data);
  drop_pending(accepted.tree);
  if (!accepted.data.empty()) RETURN_IF_ERROR(packs_->Append(PackKind::kData, accepted.data));
  if (!accepted.tree.empty()) RETURN_IF_ERROR(packs_->Append(PackKind::kTree, accepted.tree));
  return sessions_.NoteUploaded(who, id, records);
}

absl::Status Repository::Barrier(const Principal& who, const SessionId& id) {
  RETURN_IF_ERROR(CheckNamed(who));
  RETURN_IF_ERROR(sessions_.Check(who, id));
  RETURN_IF_ERROR(packs_->Sync());
  return sessions_.Check(who, id);
}

absl::StatusOr<CommitResult> Repository::Commit(const Principal& who, const SessionId& id, std::string_view manifest,
                                                std::vector<ChunkId>* missing) {
  RETURN_IF_ERROR(CheckNamed(who));
  return committer_->Commit(who, id, manifest, missing);
}

// --- Snapshots ------------------------------------------------------------------------------------------------------

absl::Status Repository::Read(const Principal& who, absl::Span<const ChunkId> ids, bool verify, RecordReadSink& sink) {
  RETURN_IF_ERROR(CheckNamed(who));
  return records_.Read(ids, verify, sink);
}

absl::Status Repository::NoteUnopenable(const Principal& who, absl::Span<const ChunkId> ids) {
  RETURN_IF_ERROR(CheckNamed(who));
  return records_.NoteUnopenable(who, ids);
}

absl::StatusOr<std::string> Repository::GetManifest(const Principal& who, const ManifestId& id) {
  RETURN_IF_ERROR(CheckNamed(who));
  const std::optional<CatalogSnapshot> known = catalog_.Find(id);
  // What is in the storage and in no slot is no snapshot.
  if (!known || known->deleted) return absl::NotFoundError("no such snapshot");
  absl::StatusOr<std::string> manifest = manifests_.Get(id);
  if (!absl::IsNotFound(manifest.status())) return manifest;
  return absl::DataLossError(absl::StrCat("the manifest of snapshot ", ShortHex(id), " is missing from the storage"));
}

absl::Status Repository::DeleteSnapshot(const Principal& who, const ManifestId& id, std::string_view reason) {
  RETURN_IF_ERROR(CheckNamed(who));
  if (reason.size() > kDeletionReasonBytesMax) {
    return absl::InvalidArgumentError("a reason has at most 1,024 bytes");
  }
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

// --- State ----------------------------------------------------------------------------------------------------------

RepositoryStatistics Repository::statistics() const {
  RepositoryStatistics out;
  const SessionCounters sessions = sessions_.counters();
  out.sessions = sessions.sessions;
  out.records_appended = sessions.records_uploaded;
  out.bytes_appended = sessions.bytes_uploaded;
  const RecordsRead read = records_.read();
  out.records_read = read.records;
  out.bytes_read = read.bytes;
  out.snapshots = catalog_.live_count();
  absl::StatusOr<std::shared_ptr<ChunkIndex>> index = index_.Get();
  if (index.ok()) {
    const ChunkIndexCounters c = (*index)->counters();
    out.packs = c.data_packs + c.tree_packs;
    out.stored_bytes = c.data_pack_bytes + c.tree_pack_bytes;
    out.chunks = c.chunks;
  }
  return out;
}

std::vector<std::string> Repository::warnings() const { return warnings_.All(); }

absl::Status Repository::status() const {
  RETURN_IF_ERROR(log_->status());
  return index_.Get().status();
}

}  // namespace holdfast
