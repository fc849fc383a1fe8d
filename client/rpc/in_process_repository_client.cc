#include "client/rpc/in_process_repository_client.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

namespace holdfast {
namespace {

const Principal kWho{"local"};

constexpr size_t kHaveIdsMax = 65536;
constexpr size_t kRecordsPerMessageMax = 16384;

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("malformed ", AbslView(what)));
}

class StringBuffer : public RecordBuffer {
 public:
  explicit StringBuffer(size_t capacity) : bytes_(capacity, '\0') {}
  char* data() override { return bytes_.data(); }
  size_t capacity() const override { return bytes_.size(); }

 private:
  std::string bytes_;
};

absl::StatusOr<std::vector<IncomingRecord>> ParseRecords(std::string_view bytes) {
  std::vector<IncomingRecord> records;
  while (!bytes.empty()) {
    if (records.size() >= kRecordsPerMessageMax) return Malformed("records: too many in a message");
    if (bytes.size() < kRecordHeaderFixedBytes) return Malformed("record");
    ASSIGN_OR_RETURN(size_t header_size, RecordHeaderSize(bytes.substr(0, kRecordHeaderFixedBytes)));
    if (header_size > bytes.size()) return Malformed("record");
    IncomingRecord& record = records.emplace_back();
    record.header_bytes = bytes.substr(0, header_size);
    ASSIGN_OR_RETURN(record.header, DecodeRecordHeader(record.header_bytes));
    bytes.remove_prefix(header_size);
    if (record.header.sealed_length > bytes.size()) return Malformed("record");
    record.body.push_back(bytes.substr(0, record.header.sealed_length));
    bytes.remove_prefix(record.header.sealed_length);
  }
  return records;
}

}  // namespace

void InProcessRepositoryClient::SetHook(Hook hook) {
  absl::MutexLock lock(&mu_);
  hook_ = hook ? std::make_shared<const Hook>(std::move(hook)) : nullptr;
}

absl::Status InProcessRepositoryClient::Before(std::string_view call) {
  std::shared_ptr<const Hook> hook;
  {
    absl::MutexLock lock(&mu_);
    hook = hook_;
  }
  return hook ? (*hook)(call) : absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<HostedRepository>> InProcessRepositoryClient::Find(std::string_view call,
                                                                                  const std::string& repository) {
  RETURN_IF_ERROR(Before(call));
  return registry_.Find(repository);
}

// --- Control ---------------------------------------------------------------------------------------------------------

absl::StatusOr<v1::GetServerInfoReply> InProcessRepositoryClient::GetServerInfo() {
  RETURN_IF_ERROR(Before("GetServerInfo"));
  v1::GetServerInfoReply reply;
  reply.set_version("in process");
  reply.set_protocol(1);
  return reply;
}

absl::Status InProcessRepositoryClient::CreateRepository(const v1::CreateRepositoryRequest& request) {
  RETURN_IF_ERROR(Before("CreateRepository"));
  NewRepository repository;
  repository.name = request.name();
  ASSIGN_OR_RETURN(repository.id, RepositoryId::FromBytes(request.repository_id()));
  if (request.aead() != 1 && request.aead() != 2) return absl::InvalidArgumentError("unknown AEAD");
  repository.aead = static_cast<AeadAlgorithm>(request.aead());
  repository.settings = request.settings();
  repository.key_slots = request.key_slots();
  repository.keyring = request.keyring();
  if (request.catalog_key().size() != 32) return absl::InvalidArgumentError("a catalog key has 32 bytes");
  repository.catalog_key = Key256(reinterpret_cast<const uint8_t*>(request.catalog_key().data()));
  return registry_.Create(repository);
}

absl::StatusOr<v1::ListRepositoriesReply> InProcessRepositoryClient::ListRepositories() {
  RETURN_IF_ERROR(Before("ListRepositories"));
  v1::ListRepositoriesReply reply;
  for (const auto& hosted : registry_.List()) {
    v1::RepositoryInfo* info = reply.add_repositories();
    info->set_name(hosted->name());
    info->set_repository_id(std::string(hosted->id().view()));
    info->set_storage(hosted->storage());
    if (absl::Status s = hosted->Health(); !s.ok()) info->set_error(std::string(s.message()));
    for (const std::string& w : hosted->Warnings()) info->add_warnings(w);
    const RepositoryStatistics s = hosted->Statistics();
    info->set_snapshots(s.snapshots);
    info->set_packs(s.packs);
    info->set_stored_bytes(s.stored_bytes);
    info->set_chunks(s.chunks);
  }
  return reply;
}

absl::StatusOr<v1::GetKeysReply> InProcessRepositoryClient::GetKeys(const std::string& repository) {
  ASSIGN_OR_RETURN(auto hosted, Find("GetKeys", repository));
  ASSIGN_OR_RETURN(StoredKeys::Contents keys, hosted->keys().Get());
  v1::GetKeysReply reply;
  reply.set_repository_id(std::string(hosted->id().view()));
  reply.set_settings(std::move(keys.settings));
  reply.set_key_slots(std::move(keys.key_slots.bytes));
  reply.set_key_slots_generation(keys.key_slots.generation);
  reply.set_keyring(std::move(keys.keyring.bytes));
  reply.set_keyring_generation(keys.keyring.generation);
  return reply;
}

absl::Status InProcessRepositoryClient::PutKeys(const v1::PutKeysRequest& request) {
  ASSIGN_OR_RETURN(auto hosted, Find("PutKeys", request.repository()));
  return hosted->keys().Put({request.key_slots(), request.keyring(), request.generation()});
}

absl::StatusOr<v1::ListSnapshotsReply> InProcessRepositoryClient::ListSnapshots(
    const v1::ListSnapshotsRequest& request) {
  ASSIGN_OR_RETURN(auto hosted, Find("ListSnapshots", request.repository()));
  CatalogFilter filter;
  if (!request.source().empty()) filter.source = request.source();
  filter.id_prefix = request.id_prefix();
  ASSIGN_OR_RETURN(CatalogPage page,
                   hosted->engine().catalog().List(filter, request.page_token(), request.page_size()));
  v1::ListSnapshotsReply reply;
  for (const CatalogSnapshot& s : page.snapshots) {
    v1::SnapshotInfo* info = reply.add_snapshots();
    info->set_id(std::string(s.id.view()));
    info->set_core(s.core);
    info->set_server_time_unix_ns(absl::ToUnixNanos(s.server_time));
    info->set_log_slot(s.slot);
  }
  reply.set_next_page_token(page.next);
  return reply;
}

absl::StatusOr<std::string> InProcessRepositoryClient::GetManifest(const std::string& repository,
                                                                   const ManifestId& id) {
  ASSIGN_OR_RETURN(auto hosted, Find("GetManifest", repository));
  return hosted->engine().GetManifest(kWho, id);
}

absl::Status InProcessRepositoryClient::DeleteSnapshot(const std::string& repository, const ManifestId& id,
                                                       const std::string& reason) {
  ASSIGN_OR_RETURN(auto hosted, Find("DeleteSnapshot", repository));
  return hosted->engine().DeleteSnapshot(kWho, id, reason);
}

// --- Sessions --------------------------------------------------------------------------------------------------------

absl::StatusOr<v1::OpenSessionReply> InProcessRepositoryClient::OpenSession(const v1::OpenSessionRequest& request) {
  ASSIGN_OR_RETURN(auto hosted, Find("OpenSession", request.repository()));
  std::optional<ManifestId> base;
  if (!request.base().empty()) {
    ASSIGN_OR_RETURN(base, ManifestId::FromBytes(request.base()));
  }
  ASSIGN_OR_RETURN(SessionInfo info, hosted->engine().OpenSession(kWho, request.source(), request.agent(), base));
  v1::OpenSessionReply reply;
  reply.set_session(std::string(info.id.view()));
  if (info.head) reply.set_head(std::string(info.head->view()));
  reply.set_head_sequence(info.head_sequence);
  reply.set_credit_bytes(credit_bytes_);
  return reply;
}

absl::StatusOr<v1::CommitSnapshotReply> InProcessRepositoryClient::CommitSnapshot(
    const v1::CommitSnapshotRequest& request, std::vector<ChunkId>* missing) {
  ASSIGN_OR_RETURN(auto hosted, Find("CommitSnapshot", request.repository()));
  ASSIGN_OR_RETURN(SessionId id, SessionId::FromBytes(request.session()));
  std::vector<ChunkId> all_missing;
  absl::StatusOr<CommitResult> result = hosted->engine().Commit(kWho, id, request.manifest(), &all_missing);
  constexpr size_t kMissingNamedMax = 100;
  if (missing != nullptr) {
    all_missing.resize(std::min(all_missing.size(), kMissingNamedMax));
    missing->insert(missing->end(), all_missing.begin(), all_missing.end());
  }
  RETURN_IF_ERROR(result.status());
  v1::CommitSnapshotReply reply;
  reply.set_id(std::string(result->id.view()));
  reply.set_server_time_unix_ns(absl::ToUnixNanos(result->server_time));
  return reply;
}

absl::Status InProcessRepositoryClient::CloseSession(const std::string& repository, const std::string& session) {
  ASSIGN_OR_RETURN(auto hosted, Find("CloseSession", repository));
  ASSIGN_OR_RETURN(SessionId id, SessionId::FromBytes(session));
  return hosted->engine().CloseSession(kWho, id);
}

// --- Streams ---------------------------------------------------------------------------------------------------------

// The server answers at once; answers wait here to be received. An error ends the stream, and is the answer to all that
// follows.
class InProcessRepositoryClient::Upload : public UploadTransport {
 public:
  Upload(InProcessRepositoryClient& client, std::shared_ptr<HostedRepository> hosted, const SessionId& session,
         uint64_t credit_bytes)
      : client_(client), hosted_(std::move(hosted)), session_(session), credit_bytes_(credit_bytes) {}
  ~Upload() override { hosted_->engine().StreamEnded(session_); }

  absl::Status SendHave(absl::Span<const ChunkId> ids) override {
    return End([&]() -> absl::Status {
      RETURN_IF_ERROR(client_.Before("Upload.have_ids"));
      if (ids.size() > kHaveIdsMax) return Malformed("list of ids");
      ASSIGN_OR_RETURN(std::vector<HaveAnswer> have, hosted_->engine().Have(kWho, session_, ids));
      UploadAnswer& answer = answers_.emplace_back();
      for (HaveAnswer h : have) answer.have.push_back(static_cast<char>(h));
      return absl::OkStatus();
    });
  }
  std::unique_ptr<RecordBuffer> NewBuffer(size_t capacity) override { return std::make_unique<StringBuffer>(capacity); }
  absl::Status SendRecords(std::unique_ptr<RecordBuffer> buffer, size_t bytes) override {
    return End([&]() -> absl::Status {
      RETURN_IF_ERROR(client_.Before("Upload.records"));
      // Nobody checks this on the network; a client that sends more can come to a standstill there. One message alone
      // may be larger.
      if (unanswered_bytes_ > 0 && unanswered_bytes_ + bytes > credit_bytes_) {
        return absl::FailedPreconditionError("more records are unanswered than the session has credit for");
      }
      ASSIGN_OR_RETURN(std::vector<IncomingRecord> records, ParseRecords({buffer->data(), bytes}));
      RETURN_IF_ERROR(hosted_->engine().Append(kWho, session_, records));
      unanswered_bytes_ += bytes;
      answers_.emplace_back().appended_bytes = bytes;
      return absl::OkStatus();
    });
  }
  absl::StatusOr<UploadAnswer> Receive() override {
    if (answers_.empty()) {
      RETURN_IF_ERROR(status_);
      return absl::FailedPreconditionError("nothing was sent that is not answered");
    }
    UploadAnswer answer = std::move(answers_.front());
    answers_.pop_front();
    unanswered_bytes_ -= answer.appended_bytes;
    return answer;
  }
  uint64_t credit_bytes() const override { return credit_bytes_; }

 private:
  template <typename F>
  absl::Status End(F call) {
    if (status_.ok()) status_ = call();
    return status_;
  }

  InProcessRepositoryClient& client_;
  const std::shared_ptr<HostedRepository> hosted_;
  const SessionId session_;
  const uint64_t credit_bytes_;
  absl::Status status_;
  std::deque<UploadAnswer> answers_;
  uint64_t unanswered_bytes_ = 0;  // of records
};

absl::StatusOr<std::unique_ptr<UploadTransport>> InProcessRepositoryClient::NewUploadTransport(
    const std::string& repository, const v1::OpenSessionReply& session) {
  ASSIGN_OR_RETURN(auto hosted, Find("Upload.attach", repository));
  ASSIGN_OR_RETURN(SessionId id, SessionId::FromBytes(session.session()));
  RETURN_IF_ERROR(hosted->engine().StreamBegan(kWho, id));
  return std::make_unique<Upload>(*this, std::move(hosted), id, session.credit_bytes());
}

class InProcessRepositoryClient::Records : public RecordStream {
 public:
  explicit Records(InProcessRepositoryClient& client) : client_(client) {}

  absl::Status Ask(const RecordQuestion& question, RecordSink& sink) override {
    ASSIGN_OR_RETURN(auto hosted, client_.Find("Read", std::string(question.repository)));
    if (question.ids.size() > RecordQuestion::kIdsMax) return Malformed("list of ids");
    if (question.unopenable) RETURN_IF_ERROR(hosted->engine().NoteUnopenable(kWho, question.ids));
    Joiner joiner(question.ids, sink);
    return hosted->engine().Read(kWho, question.ids, question.verify, joiner);
  }

 private:
  // Header and body as one, as they travel.
  class Joiner : public RecordReadSink {
   public:
    Joiner(absl::Span<const ChunkId> ids, RecordSink& sink) : ids_(ids), sink_(sink) {}
    absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
      if (record.ok()) return sink_.OnRecord(EncodeRecordHeader(record->header).append(record->body));
      // A repository that cannot be reached is the whole question's failure, not this chunk's.
      if (!absl::IsNotFound(record.status()) && !absl::IsDataLoss(record.status())) return record.status();
      return sink_.OnFailure(ids_[index], record.status());
    }

   private:
    const absl::Span<const ChunkId> ids_;
    RecordSink& sink_;
  };

  InProcessRepositoryClient& client_;
};

std::unique_ptr<RecordStream> InProcessRepositoryClient::NewRecordStream() { return std::make_unique<Records>(*this); }

}  // namespace holdfast
