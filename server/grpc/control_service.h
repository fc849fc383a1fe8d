// HoldfastService: everything but the bulk of the bytes. An adapter without logic.
#ifndef HOLDFAST_SERVER_GRPC_CONTROL_SERVICE_H_
#define HOLDFAST_SERVER_GRPC_CONTROL_SERVICE_H_

#include <cstddef>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "proto/holdfast/v1/service.grpc.pb.h"
#include "server/repository/registry.h"

namespace holdfast {

inline constexpr size_t kMissingNamedMax = 100;  // chunks, in a status: trailing metadata has 8 KiB at most

// The status details that name the first kMissingNamedMax of these; empty for none.
std::string MissingChunksDetails(const std::vector<ChunkId>& missing);

class ControlService final : public v1::HoldfastService::Service {
 public:
  // `registry` is borrowed.
  ControlService(RepositoryRegistry& registry, std::string version)
      : registry_(registry), version_(std::move(version)) {}

  grpc::Status GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest*, v1::GetServerInfoReply*) override;
  grpc::Status CreateRepository(grpc::ServerContext*, const v1::CreateRepositoryRequest*,
                                v1::CreateRepositoryReply*) override;
  grpc::Status ListRepositories(grpc::ServerContext*, const v1::ListRepositoriesRequest*,
                                v1::ListRepositoriesReply*) override;
  grpc::Status GetKeys(grpc::ServerContext*, const v1::GetKeysRequest*, v1::GetKeysReply*) override;
  grpc::Status PutKeys(grpc::ServerContext*, const v1::PutKeysRequest*, v1::PutKeysReply*) override;
  grpc::Status ListSnapshots(grpc::ServerContext*, const v1::ListSnapshotsRequest*, v1::ListSnapshotsReply*) override;
  grpc::Status GetManifest(grpc::ServerContext*, const v1::GetManifestRequest*, v1::GetManifestReply*) override;
  grpc::Status DeleteSnapshot(grpc::ServerContext*, const v1::DeleteSnapshotRequest*,
                              v1::DeleteSnapshotReply*) override;
  grpc::Status OpenSession(grpc::ServerContext*, const v1::OpenSessionRequest*, v1::OpenSessionReply*) override;
  grpc::Status Barrier(grpc::ServerContext*, const v1::BarrierRequest*, v1::BarrierReply*) override;
  grpc::Status CommitSnapshot(grpc::ServerContext*, const v1::CommitSnapshotRequest*,
                              v1::CommitSnapshotReply*) override;
  grpc::Status CloseSession(grpc::ServerContext*, const v1::CloseSessionRequest*, v1::CloseSessionReply*) override;

 private:
  RepositoryRegistry& registry_;
  const std::string version_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_GRPC_CONTROL_SERVICE_H_
