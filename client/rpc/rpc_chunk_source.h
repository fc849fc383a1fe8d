// Chunks from the server. A stream per concurrent Fetch, kept for the next; each with an opener of its own. A chunk
// that does not open is asked for once more, then the server looks for an undamaged copy.
#ifndef HOLDFAST_CLIENT_RPC_RPC_CHUNK_SOURCE_H_
#define HOLDFAST_CLIENT_RPC_RPC_CHUNK_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/rpc/connection.h"
#include "core/format/record_sealer.h"
#include "core/tree/chunk_source.h"

namespace holdfast {

class RpcChunkSource : public ChunkSource {
 public:
  // `keys` of the agent whose snapshot is read. Both borrowed.
  RpcChunkSource(Connection& connection, std::string repository, const SealingKeys& keys);
  ~RpcChunkSource() override;
  absl::Status Fetch(absl::Span<const ChunkRef> refs, ChunkSink& sink) override;

 private:
  struct Reader;
  absl::Status FetchPart(Reader& reader, absl::Span<const ChunkRef> refs, size_t first, ChunkSink& sink);

  Connection& connection_;
  const std::string repository_;
  const SealingKeys& keys_;
  absl::Mutex mu_;
  std::vector<std::unique_ptr<Reader>> idle_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_RPC_CHUNK_SOURCE_H_
