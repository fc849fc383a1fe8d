#include "server/repository/session_table.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/crypto/aead.h"

namespace holdfast {
namespace {

constexpr size_t kSourceBytesMax = 4096;
// In ids of a set, which take 20 to 39 bytes: the more the emptier it is.
constexpr uint64_t kPageWeight = 4;  // 65 to 130 bytes in a map likewise, beside its id in the set
constexpr uint64_t kLinkWeight = 2;  // 32 bytes and a share of an allocation
// Sessions of clients that died.
constexpr absl::Duration kForgottenAfter = absl::Hours(1);

bool HasCopyOf(uint32_t agent, const SessionTable::Copies& copies) {
  return std::any_of(copies.begin(), copies.end(), [&](const ChunkLocation& l) { return l.uploader == agent; });
}

// Who uploaded what may be promised of this chunk; nobody: it has to be sent.
std::optional<uint32_t> UploaderOf(uint32_t agent, const SessionTable::Copies& copies,
                                   std::optional<uint32_t> pending) {
  if (copies.empty() || copies[0].damaged) return pending;  // what is damaged is being sent again
  // S2: a page is promised only if a committed snapshot reaches it.
  if (copies[0].type == ChunkType::kTree && !copies[0].committed) return std::nullopt;
  return HasCopyOf(agent, copies) ? agent : copies[0].uploader;
}

}  // namespace

// The first five are constant; the others guarded by SessionTable::mu_, but `unsettled`, which only who has the turn
// looks at.
struct SessionTable::Session {
  SessionId id;
  std::string source, principal;
  uint32_t agent = 0;
  std::optional<ManifestId> base;
  absl::flat_hash_set<KnownId> known;  // uploaded by or promised to this session
  // Tree records uploaded by this session, with those of their children that are so too.
  absl::flat_hash_map<ChunkId, std::vector<ChunkId>> new_pages;
  uint64_t page_links = 0;  // ids in the values of new_pages
  uint64_t counted = 0;     // of Weight(), in SessionTable::weight_held_
  int streams = 0;
  bool had_stream = false;
  bool busy = false;          // somebody has the turn
  absl::Duration idle_since;  // monotonic; when streams became 0
  absl::Status failed;        // not OK: can never commit
  std::optional<CommittedRecord> unsettled;

  uint64_t Weight() const { return known.size() + kPageWeight * new_pages.size() + kLinkWeight * page_links; }
};

SessionTable::Turn::~Turn() {
  absl::MutexLock lock(&table_.mu_);
  session_->busy = false;
  table_.turn_ended_.NotifyAll();
}

const SessionId& SessionTable::Turn::id() const { return session_->id; }
const std::string& SessionTable::Turn::source() const { return session_->source; }
uint32_t SessionTable::Turn::agent() const { return session_->agent; }
std::optional<CommittedRecord>& SessionTable::Turn::unsettled() { return session_->unsettled; }

absl::StatusOr<std::vector<ChunkId>> SessionTable::Turn::NewPages(const ChunkId& root, bool* root_known) {
  absl::MutexLock lock(&table_.mu_);
  RETURN_IF_ERROR(session_->failed);  // S5, of a pack that was lost since the turn began
  *root_known = session_->known.contains(KnownIdOf(root));
  // Depth first, and without recursion: how deep it goes is up to the client.
  struct Step {
    const ChunkId* page;
    const std::vector<ChunkId>* children;
    size_t next = 0;
  };
  std::vector<ChunkId> pages;
  absl::flat_hash_set<ChunkId> seen;
  std::vector<Step> path;
  auto enter = [&](const ChunkId& id) {
    auto page = session_->new_pages.find(id);
    if (page == session_->new_pages.end() || !seen.insert(id).second) return;
    path.push_back({&page->first, &page->second});
  };
  enter(root);
  while (!path.empty()) {
    Step& step = path.back();
    if (step.next < step.children->size()) {
      enter((*step.children)[step.next++]);
    } else {
      pages.push_back(*step.page);
      path.pop_back();
    }
  }
  return pages;
}

void SessionTable::Turn::Fail(const absl::Status& why) {
  absl::MutexLock lock(&table_.mu_);
  session_->failed = why;
}

SessionTable::SessionTable(Io io, SessionLimits limits) : io_(io), limits_(limits), turn_ended_(io.threads) {}

SessionTable::KnownId SessionTable::KnownIdOf(const ChunkId& id) {
  KnownId known;
  std::memcpy(&known, id.bytes.data(), sizeof(known));
  return known;
}

absl::StatusOr<std::shared_ptr<SessionTable::Session>> SessionTable::Find(const Principal& who,
                                                                          const SessionId& id) const {
  auto it = sessions_.find(id);
  // S1: another run of the server knows none of this one's sessions. S5: nor is one that was replaced found again.
  // S6: to another principal it does not exist.
  if (it == sessions_.end() || it->second->principal != who.name) {
    return absl::AbortedError("the upload session is gone (the server was restarted, or another run replaced it)");
  }
  return it->second;
}

bool SessionTable::IsIdle(const Session& session) const {
  if (session.streams > 0 || session.busy) return false;
  return !session.failed.ok() || session.had_stream || io_.clock.Monotonic() - session.idle_since >= limits_.idle;
}

void SessionTable::Erase(const SessionId& id) {
  auto it = sessions_.find(id);
  weight_held_ -= it->second->counted;
  session_of_source_.erase(it->second->source);
  sessions_.erase(it);
}

// Left behind by clients that died. At the limit, and after an hour, they make room.
absl::Status SessionTable::MakeRoom() {
  const bool at_limit = sessions_.size() >= limits_.sessions_max || weight_held_ > limits_.all_weight_max / 2;
  const absl::Duration idle_max = at_limit ? limits_.idle : kForgottenAfter;
  for (auto it = sessions_.begin(); it != sessions_.end();) {
    const Session& old = *it->second;
    if (old.streams == 0 && !old.busy && !old.unsettled && io_.clock.Monotonic() - old.idle_since >= idle_max) {
      Erase((it++)->first);
    } else {
      ++it;
    }
  }
  if (sessions_.size() >= limits_.sessions_max) {
    return absl::ResourceExhaustedError("too many upload sessions are open");
  }
  return absl::OkStatus();
}

absl::StatusOr<SessionTable::Opened> SessionTable::Open(const Principal& who, std::string_view source, uint32_t agent,
                                                        std::optional<ManifestId> base) {
  if (source.empty() || source.size() > kSourceBytesMax || agent == 0) {
    return absl::InvalidArgumentError("a session needs a source and an agent number");
  }
  auto session = std::make_shared<Session>();
  io_.random.Fill(absl::MakeSpan(session->id.bytes));
  session->source = std::string(source);
  session->principal = who.name;
  session->agent = agent;
  session->base = base;  // S3
  session->idle_since = io_.clock.Monotonic();
  absl::MutexLock lock(&mu_);
  auto existing = session_of_source_.find(source);
  if (existing != session_of_source_.end()) {
    std::shared_ptr<Session> old = sessions_[existing->second];
    if (!IsIdle(*old)) {
      return absl::AlreadyExistsError(
          absl::StrCat("another backup of ", old->source, " is running; wait until it ends"));
    }
    session->unsettled = std::move(old->unsettled);
    Erase(old->id);  // S5: what was replaced commits nothing more
  }
  RETURN_IF_ERROR(MakeRoom());
  session->busy = session->unsettled.has_value();
  sessions_[session->id] = session;
  session_of_source_[session->source] = session->id;
  Opened opened;
  opened.id = session->id;
  if (session->busy) opened.unsettled.reset(new Turn(*this, session));
  return opened;
}

void SessionTable::PinHead(const SessionId& id, const ManifestId& head) {
  absl::MutexLock lock(&mu_);
  auto it = sessions_.find(id);
  // S3: what the client will build on stays reachable while the session lives.
  if (it != sessions_.end() && !it->second->base) it->second->base = head;
}

std::vector<ManifestId> SessionTable::PinnedSnapshots() const {
  absl::MutexLock lock(&mu_);
  std::vector<ManifestId> pinned;
  for (const auto& [id, session] : sessions_) {
    if (session->base) pinned.push_back(*session->base);
  }
  return pinned;
}

absl::Status SessionTable::StreamBegan(const Principal& who, const SessionId& id) {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session, Find(who, id));
  ++session->streams;
  session->had_stream = true;
  return absl::OkStatus();
}

void SessionTable::StreamEnded(const SessionId& id) {
  absl::MutexLock lock(&mu_);
  auto it = sessions_.find(id);
  if (it == sessions_.end()) return;
  Session& session = *it->second;
  if (--session.streams > 0) return;
  session.idle_since = io_.clock.Monotonic();
}

absl::Status SessionTable::Check(const Principal& who, const SessionId& id) const {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session, Find(who, id));
  return session->failed;
}

// What the session holds has grown. The limits are those of one session and of all together.
absl::Status SessionTable::CheckWeight(Session& session) {
  const uint64_t now = session.Weight();
  weight_held_ += now - session.counted;
  session.counted = now;
  if (now <= limits_.weight_max && weight_held_ <= limits_.all_weight_max) return session.failed;
  if (now > limits_.weight_max) {
    session.failed = absl::ResourceExhaustedError("the session holds too many chunks: back up in parts");
  } else {
    session.failed = absl::ResourceExhaustedError("the server's upload sessions hold too many chunks: try again later");
  }
  // It can never commit: nothing of that is needed any more.
  session.known = {};
  session.new_pages = {};
  session.page_links = 0;
  weight_held_ -= std::exchange(session.counted, 0);
  return session.failed;
}

absl::StatusOr<std::vector<HaveAnswer>> SessionTable::Promise(const Principal& who, const SessionId& id,
                                                              absl::Span<const ChunkId> ids,
                                                              absl::Span<const Copies> copies,
                                                              absl::Span<const std::optional<uint32_t>> pending) {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session, Find(who, id));
  RETURN_IF_ERROR(session->failed);
  if (session->busy) return absl::FailedPreconditionError("the session's commit is under way");
  std::vector<HaveAnswer> answers(ids.size(), HaveAnswer::kNone);
  for (size_t i = 0; i < ids.size(); ++i) {
    std::optional<uint32_t> uploader = UploaderOf(session->agent, copies[i], pending[i]);
    if (session->new_pages.contains(ids[i])) uploader = session->agent;  // S2: or this session uploaded it
    if (!uploader) continue;
    session->known.insert(KnownIdOf(ids[i]));
    answers[i] = *uploader == session->agent ? HaveAnswer::kOwn : HaveAnswer::kForeign;
  }
  RETURN_IF_ERROR(CheckWeight(*session));
  return answers;
}

absl::Status SessionTable::CheckRecord(const Session& session, const RecordHeader& header,
                                       const absl::flat_hash_set<KnownId>& in_message) const {
  if (header.uploader != session.agent) {
    return absl::InvalidArgumentError("a record names another agent as its uploader than the session's");
  }
  if (!IsKnownAead(header.aead)) return absl::InvalidArgumentError("a record with an unknown AEAD");
  for (const ChunkId& child : header.children) {
    const KnownId known = KnownIdOf(child);
    // S2: a page is accepted only with all its children known, so that a commit need not look below new pages.
    if (!session.known.contains(known) && !in_message.contains(known)) {
      return absl::FailedPreconditionError(
          "a tree record refers to a chunk that this session neither uploaded nor was promised");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<AcceptedRecords> SessionTable::Accept(const Principal& who, const SessionId& id,
                                                     absl::Span<const IncomingRecord> records,
                                                     absl::Span<const Copies> copies) {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session, Find(who, id));
  RETURN_IF_ERROR(session->failed);
  if (session->busy) return absl::FailedPreconditionError("the session's commit is under way");
  AcceptedRecords accepted;
  accepted.agent = session->agent;
  absl::flat_hash_set<KnownId> in_message;
  for (size_t i = 0; i < records.size(); ++i) {
    const RecordHeader& h = records[i].header;
    RETURN_IF_ERROR(CheckRecord(*session, h, in_message));
    in_message.insert(KnownIdOf(h.id));
    // Stored already (another stream was faster, or an interrupted run left it): the bytes need not be kept twice.
    // Another agent's copy does not count: the server cannot tell whether it is good.
    if (HasCopyOf(session->agent, copies[i]) && !copies[i][0].damaged) continue;
    PoolRecord pool{&h, records[i].header_bytes, records[i].body};
    (h.type == ChunkType::kTree ? accepted.tree : accepted.data).push_back(pool);
  }
  return accepted;
}

absl::Status SessionTable::NoteUploaded(const Principal& who, const SessionId& id,
                                        absl::Span<const IncomingRecord> records) {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session, Find(who, id));  // it may have been closed meanwhile
  RETURN_IF_ERROR(session->failed);
  for (const IncomingRecord& r : records) {
    session->known.insert(KnownIdOf(r.header.id));
    bytes_uploaded_ += r.header.sealed_length;
    if (r.header.type != ChunkType::kTree || session->new_pages.contains(r.header.id)) continue;
    std::vector<ChunkId> children;
    for (const ChunkId& child : r.header.children) {
      if (session->new_pages.contains(child)) children.push_back(child);
    }
    children.shrink_to_fit();
    session->page_links += children.size();
    session->new_pages[r.header.id] = std::move(children);
  }
  records_uploaded_ += records.size();
  return CheckWeight(*session);
}

absl::StatusOr<std::unique_ptr<SessionTable::Turn>> SessionTable::BeginCommit(const Principal& who, const SessionId& id,
                                                                              absl::FunctionRef<bool()> is_committed) {
  absl::MutexLock lock(&mu_);
  // S4: a client that did not hear the answer asks again, with a new session if it must. So this comes before the
  // question whether there is such a session, and again after the commit that was waited for.
  if (is_committed()) return nullptr;
  ASSIGN_OR_RETURN(std::shared_ptr<Session> session, Find(who, id));
  turn_ended_.Wait(&mu_, [&] { return !session->busy; });
  if (is_committed()) return nullptr;
  ASSIGN_OR_RETURN(session, Find(who, id));  // S5: it may have been closed meanwhile
  RETURN_IF_ERROR(session->failed);          // S5
  session->busy = true;
  return std::unique_ptr<Turn>(new Turn(*this, std::move(session)));
}

void SessionTable::Close(const Principal& who, const SessionId& id) {
  absl::MutexLock lock(&mu_);
  absl::StatusOr<std::shared_ptr<Session>> session = Find(who, id);
  if (!session.ok()) return;
  // A commit that its client no longer waits for still is the source's only one: the next session comes after it.
  const std::shared_ptr<Session> closing = *session;
  turn_ended_.Wait(&mu_, [&] { return !closing->busy; });
  if (!Find(who, id).ok()) return;
  if (closing->unsettled) {
    closing->failed = absl::AbortedError("the upload session was closed");
  } else {
    Erase(id);
  }
}

void SessionTable::FailAll(const absl::Status& why) {
  absl::MutexLock lock(&mu_);
  // S1, S5: any of them may have been promised one of the lost chunks.
  for (auto& [id, session] : sessions_) {
    if (session->failed.ok()) session->failed = Annotate(why, "uploaded chunks were lost before they were stored");
  }
}

SessionCounters SessionTable::counters() const {
  absl::MutexLock lock(&mu_);
  return {sessions_.size(), records_uploaded_, bytes_uploaded_};
}

}  // namespace holdfast
