// Everything that our client asks of a server, as typed calls: the seam between the rest of the client and the network.
// Messages are those of service.proto, which also says what each call means and which errors it has; UNAVAILABLE from
// any of them: the server went away. What is implemented here is only the transport, over gRPC or in one process.
#ifndef HOLDFAST_CLIENT_RPC_REPOSITORY_CLIENT_H_
#define HOLDFAST_CLIENT_RPC_REPOSITORY_CLIENT_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client/rpc/record_stream.h"
#include "client/upload/upload_transport.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "proto/holdfast/v1/service.pb.h"

namespace holdfast {

// One server. Thread-safe; every call blocks. `repository` is a name at that server. Streams must end before their
// client.
class RepositoryClient {
 public:
  virtual ~RepositoryClient() = default;

  virtual absl::StatusOr<v1::GetServerInfoReply> GetServerInfo() = 0;
  virtual absl::Status CreateRepository(const v1::CreateRepositoryRequest& request) = 0;
  virtual absl::StatusOr<v1::ListRepositoriesReply> ListRepositories() = 0;
  virtual absl::StatusOr<v1::GetKeysReply> GetKeys(const std::string& repository) = 0;
  virtual absl::Status PutKeys(const v1::PutKeysRequest& request) = 0;
  // A page of them.
  virtual absl::StatusOr<v1::ListSnapshotsReply> ListSnapshots(const v1::ListSnapshotsRequest& request) = 0;
  virtual absl::StatusOr<std::string> GetManifest(const std::string& repository, const ManifestId& id) = 0;
  virtual absl::Status DeleteSnapshot(const std::string& repository, const ManifestId& id,
                                      const std::string& reason) = 0;

  // Sessions; `session` is what OpenSession gave.
  virtual absl::StatusOr<v1::OpenSessionReply> OpenSession(const v1::OpenSessionRequest& request) = 0;
  // FAILED_PRECONDITION: chunks are missing, and `missing` (may be null) has the first of them.
  virtual absl::StatusOr<v1::CommitSnapshotReply> CommitSnapshot(const v1::CommitSnapshotRequest& request,
                                                                 std::vector<ChunkId>* missing) = 0;
  // Waits for seconds at most: a session that is not closed is replaced by the source's next one.
  virtual absl::Status CloseSession(const std::string& repository, const std::string& session) = 0;

  // A new stream, attached to the session, on a connection of its own.
  virtual absl::StatusOr<std::unique_ptr<UploadTransport>> NewUploadTransport(const std::string& repository,
                                                                              const v1::OpenSessionReply& session) = 0;
  // A new stream, on a connection of its own. Does not fail: its first question does.
  virtual std::unique_ptr<RecordStream> NewRecordStream() = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_REPOSITORY_CLIENT_H_
