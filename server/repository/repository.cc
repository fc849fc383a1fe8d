#include "server/repository/repository.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/limits.h"
#include "core/crypto/aead.h"
#include "core/format/manifest.h"
#include "server/repository/manifest_blob.h"
#include "server/repository/record_location.h"

namespace holdfast {
namespace {

constexpr size_t kWarningsMax = 1000;
constexpr size_t kMissingMax = 1000;
constexpr size_t kManifestCoreBytesMax = 8192;  // a page of 1,000 of them fits a message

bool HasCopyOf(uint32_t agent, const std::vector<ChunkLocation>& copies) {
  return std::any_of(copies.begin(), copies.end(), [&](const ChunkLocation& l) { return l.uploader == agent; });
}

}  // namespace

struct Repository::Session {
  SessionId id;
  std::string source, principal;
  uint32_t agent = 0;
  std::optional<ManifestId> base;
  // Guarded by Repository::mu_.
  absl::flat_hash_set<KnownId> known;  // uploaded by or promised to this session
  // Tree records uploaded by this session, with those of their children that are so too: what a commit makes
  // "committed".
  absl::flat_hash_map<ChunkId, std::vector<ChunkId>> new_pages;
  uint64_t page_links = 0;  // ids in the values of new_pages
  uint64_t counted = 0;     // of what it holds, in Repository::ids_held_
  int streams = 0;
  bool had_stream = false;
  bool busy = false;          // in Commit
  absl::Duration idle_since;  // monotonic; when streams became 0
  absl::Status failed;        // not OK: can never commit
  // A commit of this source whose outcome is unknown: settled before the next one compares heads. The next session of
  // the source inherits it.
  std::optional<CommittedRecord> unsettled;
};

Repository::Repository(Io io, BlobStore& store, KvStoreFactory kv, CatalogKey key, RepositoryOptions options)
    : io_(io),
      store_(store),
      kv_factory_(std::move(kv)),
      key_(std::move(key)),
      options_(std::move(options)),
      reader_(store, key_),
      index_free_(io.threads),
      session_idle_(io.threads) {}

Repository::~Repository() {
  if (packs_) {
    (void)packs_->StoreAll();  // best effort: what stays in the spool is recovered at the next start
    packs_.reset();
  }
  absl::StatusOr<std::shared_ptr<ChunkIndex>> idx = index();
  if (idx.ok()) (void)(*idx)->Flush();
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
  RETURN_IF_ERROR(Annotate(RecoverSpool(), "recovering the spool"));
  RETURN_IF_ERROR(Annotate(MakeIndex(/*from_nothing=*/false), "opening the index"));
  RETURN_IF_ERROR(Annotate(OpenLog(), "reading the repository log"));
  // Always: the index may have lost its newest marks and nothing else. Costs one lookup per snapshot that is marked.
  absl::Status marked = MarkLivePages();
  if (marked.ok()) marked = RenewStaleMarks();
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

// --- Sessions -------------------------------------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<Repository::Session>> Repository::FindSession(const Principal& who,
                                                                             const SessionId& id) {
  auto it = sessions_.find(id);
  if (it == sessions_.end() || it->second->principal != who.name) {
    return absl::AbortedError("the upload session is gone (the server was restarted, or another run replaced it)");
  }
  return it->second;
}

// What the session holds has grown. The limits are those of one session and of all together.
absl::Status Repository::CountIds(Session& session) {
  const uint64_t now = session.known.size() + session.page_links;
  ids_held_ += now - session.counted;
  session.counted = now;
  if (now <= options_.session_known_ids_max && ids_held_ <= options_.known_ids_max) return session.failed;
  if (now > options_.session_known_ids_max) {
    session.failed = absl::ResourceExhaustedError("the session holds too many chunks: back up in parts");
  } else {
    session.failed = absl::ResourceExhaustedError("the server's upload sessions hold too many chunks: try again later");
  }
  // It can never commit: nothing of that is needed any more.
  session.known = {};
  session.new_pages = {};
  session.page_links = 0;
  ids_held_ -= std::exchange(session.counted, 0);
  return session.failed;
}

void Repository::EraseSession(const SessionId& id) {
  auto it = sessions_.find(id);
  ids_held_ -= it->second->counted;
  session_of_source_.erase(it->second->source);
  sessions_.erase(it);
}

absl::StatusOr<SessionInfo> Repository::OpenSession(const Principal& who, std::string_view source, uint32_t agent,
                                                    std::optional<ManifestId> base) {
  RETURN_IF_ERROR(log_->status());
  RETURN_IF_ERROR(ReopenIndexIfBroken());
  RETURN_IF_ERROR(RenewStaleMarks());
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
      const bool idle =
          old->streams == 0 && !old->busy &&
          (!old->failed.ok() || old->had_stream || io_.clock.Monotonic() - old->idle_since >= options_.session_idle);
      if (!idle) {
        return absl::AlreadyExistsError(
            absl::StrCat("another backup of ", old->source, " is running; wait until it ends"));
      }
      session->unsettled = std::move(old->unsettled);
      EraseSession(old->id);
    }
    // Left behind by clients that died. At the limit, and after an hour, they make room.
    const bool at_limit = sessions_.size() >= options_.sessions_max || ids_held_ > options_.known_ids_max / 2;
    const absl::Duration idle_max = at_limit ? options_.session_idle : absl::Hours(1);
    for (auto it = sessions_.begin(); it != sessions_.end();) {
      const Session& old = *it->second;
      if (old.streams == 0 && !old.busy && !old.unsettled && io_.clock.Monotonic() - old.idle_since >= idle_max) {
        EraseSession((it++)->first);
      } else {
        ++it;
      }
    }
    if (sessions_.size() >= options_.sessions_max) {
      return absl::ResourceExhaustedError("too many upload sessions are open");
    }
    session->busy = session->unsettled.has_value();
    sessions_[session->id] = session;
    session_of_source_[session->source] = session->id;
  }
  // A commit of unknown outcome moves the head or does not: that has to be known before the head is told.
  if (session->busy) {
    absl::Status settled = SettleEarlierCommit(*session);
    absl::MutexLock lock(&mu_);
    session->busy = false;
    if (!settled.ok()) session->failed = settled;
    session_idle_.NotifyAll();
    RETURN_IF_ERROR(settled);
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
  EraseSession(id);
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
    } else if (const std::vector<ChunkLocation>& all = (*copies)[i]; !all.empty() && !all[0].damaged) {
      // S2: a page is promised only if a committed snapshot reaches it.
      if (all[0].type == ChunkType::kTree && !all[0].committed) continue;
      uploader = HasCopyOf(session->agent, all) ? session->agent : all[0].uploader;
    } else if (pending[i]) {
      uploader = pending[i];  // also of what is damaged: it is being sent again
    }
    if (!uploader) continue;
    KnownId known;
    std::memcpy(&known, ids[i].bytes.data(), sizeof(known));
    session->known.insert(known);
    answers[i] = *uploader == session->agent ? HaveAnswer::kOwn : HaveAnswer::kForeign;
  }
  RETURN_IF_ERROR(CountIds(*session));
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
      const std::vector<ChunkLocation>& all = (*copies)[i];
      if (HasCopyOf(session->agent, all) && !all[0].damaged) continue;
      PoolRecord pool{&h, records[i].header_bytes, records[i].body};
      (h.type == ChunkType::kTree ? tree : data).push_back(pool);
    }
  }
  auto drop_pending = [&](std::vector<PoolRecord>& v) {
    v.erase(
        std::remove_if(v.begin(), v.end(),
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
  return CountIds(*session);
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

// The same record again as the next thing settles it and writes nothing twice. The session is busy, so only this thread
// looks at it.
absl::Status Repository::SettleEarlierCommit(Session& session) {
  if (session.unsettled && !catalog_.Find(session.unsettled->manifest)) {
    RETURN_IF_ERROR(Annotate(log_->Append(*session.unsettled).status(), "settling an earlier commit of the source"));
  }
  session.unsettled.reset();
  return absl::OkStatus();
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
  RETURN_IF_ERROR(SettleEarlierCommit(session));
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
    if (IsDamage(record.status())) {
      failed.emplace_back(numbers_[index], absl::DataLossError(record.status().message()));
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

// Asked for again: the copy of the first answer, the oldest, did not open, and its digest may be as wrong as its bytes.
// So the newest intact one is given. All are looked at, so that damaged ones are named.
absl::Status Repository::ReadNewestCopy(const ChunkId& id, const std::vector<ChunkLocation>& copies, size_t number,
                                        RecordReadSink& sink) {
  absl::StatusOr<ReadRecord> answer = absl::DataLossError("no copy");
  bool damaged = true;
  for (const ChunkLocation& copy : copies) {
    const RecordLocation location = ToRecordLocation(copy, id);
    KeepSink one;
    RETURN_IF_ERROR(reader_.Read({&location, 1}, /*verify_digests=*/true, one));
    if (!one.record.ok()) Warn(std::string(one.record.status().message()));
    damaged = damaged && IsDamage(one.record.status());
    // An outage is not a loss: of two failures the one that may pass counts.
    if (one.record.ok() || IsDamage(answer.status())) {
      answer = std::move(one.record);
    }
  }
  if (damaged) {
    answer = absl::DataLossError(answer.status().message());
    NoteDamage({&id, 1});
  }
  return sink.OnRecord(number, std::move(answer));
}

// It is not promised until it was sent again, and neither is what is above it, so that the next backup heals it.
void Repository::NoteDamage(absl::Span<const ChunkId> ids) {
  if (ids.empty()) return;
  absl::StatusOr<std::shared_ptr<ChunkIndex>> idx = index();
  absl::Status marked = idx.ok() ? (*idx)->MarkDamaged(ids) : idx.status();
  if (!marked.ok()) Warn(absl::StrCat("a damaged chunk could not be noted in the index: ", marked.message()));
}

absl::Status Repository::NoteUnopenable(const Principal& who, absl::Span<const ChunkId> ids) {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, index());
  ASSIGN_OR_RETURN(auto copies, idx->LookupAll(ids));
  std::vector<ChunkId> damaged;
  for (size_t i = 0; i < ids.size(); ++i) {
    // With several copies the newest is the one to be read, and it is the reader's first that did not open.
    if (copies[i].size() == 1) damaged.push_back(ids[i]);
  }
  NoteDamage(damaged);
  return absl::OkStatus();
}

absl::Status Repository::Read(const Principal& who, absl::Span<const ChunkId> ids, bool verify, RecordReadSink& sink) {
  // Not held while the records go out, which lasts as long as the client likes.
  auto look_up = [&]() -> absl::StatusOr<std::vector<std::vector<ChunkLocation>>> {
    ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> idx, index());
    return idx->LookupAll(ids);
  };
  auto looked_up = look_up();
  if (absl::IsDataLoss(looked_up.status()) || IsIndexMissing()) {
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
  std::vector<ChunkId> damaged;
  absl::Status told;
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
    damaged.push_back(ids[number]);
    told = sink.OnRecord(number, status);
    if (!told.ok()) break;
  }
  NoteDamage(damaged);  // all at once, also when the reader has gone
  RETURN_IF_ERROR(told);
  absl::MutexLock lock(&mu_);
  counters_.records_read += ids.size();
  counters_.bytes_read += bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Repository::GetManifest(const Principal& who, const ManifestId& id) {
  absl::StatusOr<std::string> bytes = GetWholeBlob(store_, ManifestBlobName(id), kManifestBytesMax + 4096);
  if (absl::IsNotFound(bytes.status())) {
    if (catalog_.Find(id)) {
      return absl::DataLossError(
          absl::StrCat("the manifest of snapshot ", ShortHex(id), " is missing from the storage"));
    }
    return absl::NotFoundError("no such snapshot");
  }
  if (absl::IsOutOfRange(bytes.status())) return absl::DataLossError(bytes.status().message());
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

absl::Status Repository::status() const {
  RETURN_IF_ERROR(log_->status());
  return index().status();
}

void Repository::Warn(std::string message) {
  absl::MutexLock lock(&mu_);
  if (warnings_.size() < kWarningsMax && std::find(warnings_.begin(), warnings_.end(), message) == warnings_.end()) {
    warnings_.push_back(std::move(message));
  }
}

}  // namespace holdfast
