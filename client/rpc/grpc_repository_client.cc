#include "client/rpc/grpc_repository_client.h"

#include <utility>

#include "client/rpc/connection.h"
#include "client/rpc/rpc_record_stream.h"
#include "client/rpc/rpc_upload_transport.h"
#include "proto/holdfast/v1/raw_messages.h"

namespace holdfast {
namespace {

class GrpcRepositoryClient : public RepositoryClient {
 public:
  explicit GrpcRepositoryClient(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}

  absl::StatusOr<v1::GetServerInfoReply> GetServerInfo() override {
    return Call<v1::GetServerInfoReply>(&Stub::GetServerInfo, v1::GetServerInfoRequest());
  }
  absl::Status CreateRepository(const v1::CreateRepositoryRequest& request) override {
    return Call<v1::CreateRepositoryReply>(&Stub::CreateRepository, request).status();
  }
  absl::StatusOr<v1::ListRepositoriesReply> ListRepositories() override {
    return Call<v1::ListRepositoriesReply>(&Stub::ListRepositories, v1::ListRepositoriesRequest());
  }
  absl::StatusOr<v1::GetKeysReply> GetKeys(const std::string& repository) override {
    v1::GetKeysRequest request;
    request.set_repository(repository);
    return Call<v1::GetKeysReply>(&Stub::GetKeys, request);
  }
  absl::Status PutKeys(const v1::PutKeysRequest& request) override {
    return Call<v1::PutKeysReply>(&Stub::PutKeys, request).status();
  }
  absl::StatusOr<v1::ListSnapshotsReply> ListSnapshots(const v1::ListSnapshotsRequest& request) override {
    return Call<v1::ListSnapshotsReply>(&Stub::ListSnapshots, request);
  }
  absl::StatusOr<std::string> GetManifest(const std::string& repository, const ManifestId& id) override {
    v1::GetManifestRequest request;
    request.set_repository(repository);
    request.set_id(std::string(id.view()));
    ASSIGN_OR_RETURN(v1::GetManifestReply reply, Call<v1::GetManifestReply>(&Stub::GetManifest, request));
    return std::move(*reply.mutable_manifest());
  }
  absl::Status DeleteSnapshot(const std::string& repository, const ManifestId& id, const std::string& reason) override {
    v1::DeleteSnapshotRequest request;
    request.set_repository(repository);
    request.set_id(std::string(id.view()));
    request.set_reason(reason);
    return Call<v1::DeleteSnapshotReply>(&Stub::DeleteSnapshot, request).status();
  }
  absl::StatusOr<v1::OpenSessionReply> OpenSession(const v1::OpenSessionRequest& request) override {
    return Call<v1::OpenSessionReply>(&Stub::OpenSession, request);
  }
  absl::StatusOr<v1::CommitSnapshotReply> CommitSnapshot(const v1::CommitSnapshotRequest& request,
                                                         std::vector<ChunkId>* missing) override {
    std::string details;
    absl::StatusOr<v1::CommitSnapshotReply> reply =
        Call<v1::CommitSnapshotReply>(&Stub::CommitSnapshot, request, kCallSeconds, &details);
    v1::MissingChunks chunks;
    if (missing != nullptr && absl::IsFailedPrecondition(reply.status()) && chunks.ParseFromString(details)) {
      for (const std::string& bytes : chunks.ids()) {
        if (auto id = ChunkId::FromBytes(bytes); id.ok()) missing->push_back(*id);
      }
    }
    return reply;
  }
  absl::Status CloseSession(const std::string& repository, const std::string& session) override {
    v1::CloseSessionRequest request;
    request.set_repository(repository);
    request.set_session(session);
    return Call<v1::CloseSessionReply>(&Stub::CloseSession, request, /*seconds=*/5).status();
  }
  absl::StatusOr<std::unique_ptr<UploadTransport>> NewUploadTransport(const std::string& repository,
                                                                      const v1::OpenSessionReply& session) override {
    return RpcUploadTransport::Open(*connection_, repository, session.session(), session.credit_bytes());
  }
  std::unique_ptr<RecordStream> NewRecordStream() override {
    return std::make_unique<RpcRecordStream>(connection_->NewStream(kReadMethod));
  }

 private:
  using Stub = v1::HoldfastService::Stub;
  static constexpr int kCallSeconds = 600;

  template <typename Reply, typename Request>
  absl::StatusOr<Reply> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                             const Request& request, int seconds = kCallSeconds, std::string* details = nullptr) {
    Reply reply;
    RETURN_IF_ERROR(connection_->Call(
        [&](grpc::ClientContext& context) {
          grpc::Status status = (connection_->stub().*method)(&context, request, &reply);
          if (details != nullptr) *details = status.error_details();
          return status;
        },
        seconds));
    return reply;
  }

  const std::unique_ptr<Connection> connection_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RepositoryClient>> ConnectToServer(const std::string& address) {
  ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection, Connection::Connect(address));
  return std::make_unique<GrpcRepositoryClient>(std::move(connection));
}

}  // namespace holdfast
