// RepositoryClient without a socket, for tests: the calls go straight to the engines of a registry, with the answers
// that the server would give over the network.
#ifndef HOLDFAST_CLIENT_RPC_IN_PROCESS_REPOSITORY_CLIENT_H_
#define HOLDFAST_CLIENT_RPC_IN_PROCESS_REPOSITORY_CLIENT_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/rpc/repository_client.h"
#include "server/repository/registry.h"

namespace holdfast {

class InProcessRepositoryClient : public RepositoryClient {
 public:
  explicit InProcessRepositoryClient(RepositoryRegistry& registry) : registry_(registry) {}  // borrowed

  // `hook` is asked before every call and every message of a stream, from the caller's thread: by the name in
  // service.proto, or "Upload.attach", "Upload.have_ids", "Upload.records", "Read". An error is the caller's answer,
  // and the server does not hear of the call.
  using Hook = std::function<absl::Status(std::string_view call)>;
  void SetHook(Hook hook);
  // Of sessions opened from now on.
  void set_credit_bytes(uint64_t bytes) { credit_bytes_ = bytes; }

  absl::StatusOr<v1::GetServerInfoReply> GetServerInfo() override;
  absl::Status CreateRepository(const v1::CreateRepositoryRequest& request) override;
  absl::StatusOr<v1::ListRepositoriesReply> ListRepositories() override;
  absl::StatusOr<v1::GetKeysReply> GetKeys(const std::string& repository) override;
  absl::Status PutKeys(const v1::PutKeysRequest& request) override;
  absl::StatusOr<v1::ListSnapshotsReply> ListSnapshots(const v1::ListSnapshotsRequest& request) override;
  absl::StatusOr<std::string> GetManifest(const std::string& repository, const ManifestId& id) override;
  absl::Status DeleteSnapshot(const std::string& repository, const ManifestId& id, const std::string& reason) override;
  absl::StatusOr<v1::OpenSessionReply> OpenSession(const v1::OpenSessionRequest& request) override;
  absl::StatusOr<v1::CommitSnapshotReply> CommitSnapshot(const v1::CommitSnapshotRequest& request,
                                                         std::vector<ChunkId>* missing) override;
  absl::Status CloseSession(const std::string& repository, const std::string& session) override;
  absl::StatusOr<std::unique_ptr<UploadTransport>> NewUploadTransport(const std::string& repository,
                                                                      const v1::OpenSessionReply& session) override;
  std::unique_ptr<RecordStream> NewRecordStream() override;

 private:
  class Upload;
  class Records;
  absl::Status Before(std::string_view call);
  // The repository, unless the hook has another answer.
  absl::StatusOr<std::shared_ptr<HostedRepository>> Find(std::string_view call, const std::string& repository);

  RepositoryRegistry& registry_;
  uint64_t credit_bytes_ = 12u << 20;
  absl::Mutex mu_;
  std::shared_ptr<const Hook> hook_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_IN_PROCESS_REPOSITORY_CLIENT_H_
