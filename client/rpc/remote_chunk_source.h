// Chunks from the server. A record stream per concurrent Fetch, kept for the next; each with an opener of its own. A
// chunk that does not open is asked for once more, then the server looks for an undamaged copy.
#ifndef HOLDFAST_CLIENT_RPC_REMOTE_CHUNK_SOURCE_H_
#define HOLDFAST_CLIENT_RPC_REMOTE_CHUNK_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/rpc/repository_client.h"
#include "core/format/record_sealer.h"
#include "core/tree/chunk_source.h"

namespace holdfast {

class RemoteChunkSource : public ChunkSource {
 public:
  // `repository`: its name at the server, whose id is `id`. `client` is borrowed.
  RemoteChunkSource(RepositoryClient& client, std::string repository, const RepositoryId& id);
  ~RemoteChunkSource() override;
  // INTERNAL: the server's answer is not one to the question.
  absl::Status Fetch(absl::Span<const ChunkRef> refs, ChunkSink& sink) override;

 private:
  struct Reader;
  class Answers;
  absl::Status FetchPart(Reader& reader, absl::Span<const ChunkRef> refs, size_t first, ChunkSink& sink);

  RepositoryClient& client_;
  const std::string repository_;
  const RepositoryId id_;
  absl::Mutex mu_;
  std::vector<std::unique_ptr<Reader>> idle_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_REMOTE_CHUNK_SOURCE_H_
