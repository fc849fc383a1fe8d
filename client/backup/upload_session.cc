#include "client/backup/upload_session.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

constexpr size_t kMissingNamedMax = 3;

// So that whoever reads the message can look for the chunks at the server.
absl::Status NameMissing(const absl::Status& status, std::vector<ChunkId> missing) {
  if (status.ok() || missing.empty()) return status;
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  std::string named;
  for (size_t i = 0; i < std::min(missing.size(), kMissingNamedMax); ++i) {
    absl::StrAppend(&named, i == 0 ? ": " : ", ", HexEncode(missing[i].view()));
  }
  if (missing.size() > kMissingNamedMax) named += " and others";
  return absl::Status(status.code(), absl::StrCat(status.message(), named));
}

}  // namespace

absl::StatusOr<std::unique_ptr<UploadSession>> UploadSession::Open(RepositoryClient& client, const SealingKeys& keys,
                                                                   const Options& options) {
  v1::OpenSessionRequest request;
  request.set_repository(options.repository);
  request.set_source(options.source);
  request.set_agent(keys.agent);
  ASSIGN_OR_RETURN(v1::OpenSessionReply opened, client.OpenSession(request));
  std::unique_ptr<UploadSession> session(new UploadSession(client, keys, options.repository, std::move(opened)));
  RETURN_IF_ERROR(session->Start(options));
  return session;
}

absl::Status UploadSession::Start(const Options& options) {
  if (!opened_.head().empty()) {
    ASSIGN_OR_RETURN(head_, ManifestId::FromBytes(opened_.head()));
  }
  const int workers = options.workers > 0 ? options.workers
                                          : std::clamp(static_cast<int>(std::thread::hardware_concurrency()) + 1, 2, 8);
  std::vector<std::unique_ptr<UploadTransport>> transports;
  for (int i = 0; i < workers; ++i) {
    ASSIGN_OR_RETURN(transports.emplace_back(), client_.NewUploadTransport(repository_, opened_));
  }
  ASSIGN_OR_RETURN(page_transport_, client_.NewUploadTransport(repository_, opened_));
  pool_ = std::make_unique<WorkerPool>(std::move(transports), keys_, offered_, counters_, options.pool);
  pages_ = std::make_unique<PageUploader>(*page_transport_, keys_, counters_, [this] { return pool_->Flush(); });
  return absl::OkStatus();
}

UploadSession::~UploadSession() {
  pool_.reset();
  pages_.reset();
  page_transport_.reset();
  (void)client_.CloseSession(repository_, opened_.session());
}

absl::Status UploadSession::Flush() {
  RETURN_IF_ERROR(pages_->Flush());
  return pool_->Flush();
}

absl::StatusOr<ManifestId> UploadSession::Commit(const std::string& manifest) {
  v1::CommitSnapshotRequest request;
  request.set_repository(repository_);
  request.set_session(opened_.session());
  request.set_manifest(manifest);
  std::vector<ChunkId> missing;
  absl::StatusOr<v1::CommitSnapshotReply> reply = client_.CommitSnapshot(request, &missing);
  RETURN_IF_ERROR(Annotate(NameMissing(reply.status(), std::move(missing)), "committing the snapshot"));
  return ManifestId::FromBytes(reply->id());
}

}  // namespace holdfast
