// The upload side of one backup: a session at the server, the workers with a stream each, and a stream for tree pages.
#ifndef HOLDFAST_CLIENT_BACKUP_UPLOAD_SESSION_H_
#define HOLDFAST_CLIENT_BACKUP_UPLOAD_SESSION_H_

#include <memory>
#include <optional>
#include <string>

#include "client/backup/worker_pool.h"
#include "client/rpc/repository_client.h"
#include "client/upload/chunk_uploader.h"
#include "client/upload/page_uploader.h"
#include "client/upload/upload_transport.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/record_sealer.h"
#include "proto/holdfast/v1/service.pb.h"

namespace holdfast {

// One thread.
class UploadSession {
 public:
  struct Options {
    std::string repository, source;
    int workers = 0;  // 0: by the number of processors
    WorkerPool::Options pool;
  };
  // ALREADY_EXISTS: another backup of this source is running. `client` and `keys` are borrowed.
  static absl::StatusOr<std::unique_ptr<UploadSession>> Open(RepositoryClient& client, const SealingKeys& keys,
                                                             const Options& options);
  // Stops the workers and frees the source for the next run at once; what was uploaded stays.
  ~UploadSession();

  // The source's newest snapshot.
  const std::optional<ManifestId>& head() const { return head_; }
  uint64_t head_sequence() const { return opened_.head_sequence(); }
  WorkerPool& pool() { return *pool_; }
  PageUploader& pages() { return *pages_; }
  const UploadCounters& counters() const { return counters_; }

  // Everything offered so far has been taken by the server. Errors as PageUploader::Flush.
  absl::Status Flush();
  // FAILED_PRECONDITION: chunks are missing, of which the message names some.
  absl::StatusOr<ManifestId> Commit(const std::string& manifest);

 private:
  UploadSession(RepositoryClient& client, const SealingKeys& keys, std::string repository, v1::OpenSessionReply opened)
      : client_(client), keys_(keys), repository_(std::move(repository)), opened_(std::move(opened)) {}
  absl::Status Start(const Options& options);

  RepositoryClient& client_;
  const SealingKeys& keys_;
  const std::string repository_;
  const v1::OpenSessionReply opened_;
  std::optional<ManifestId> head_;
  OfferedIds offered_;
  UploadCounters counters_;
  std::unique_ptr<UploadTransport> page_transport_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<PageUploader> pages_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_UPLOAD_SESSION_H_
