// Uploads tree bodies: takes them from the tree builder, holds them until their children are at the server, asks for
// them in batches and sends those that are missing. A page is accepted only if each child was promised to or uploaded
// by this session, so the children of pages that are really new are asked for as well: what a worker has offered by now
// may still be on its way, and what an unchanged file relies on must be promised. One thread. Memory: kHeldBytesMax of
// pages and kConfirmedMax ids.
#ifndef HOLDFAST_CLIENT_UPLOAD_PAGE_UPLOADER_H_
#define HOLDFAST_CLIENT_UPLOAD_PAGE_UPLOADER_H_

#include <functional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "client/upload/chunk_uploader.h"
#include "client/upload/upload_transport.h"
#include "core/tree/tree_builder.h"

namespace holdfast {

class PageUploader : public PageSink {
 public:
  // `flush_chunks` must return when every chunk offered so far has been taken by the server.
  PageUploader(UploadTransport& transport, const SealingKeys& keys, UploadCounters& counters,
               std::function<absl::Status()> flush_chunks);
  absl::StatusOr<ChunkRef> StorePage(EncodedPage page) override;
  // A data chunk from this thread (side chunks of attributes and holes): at the server when its page is.
  absl::StatusOr<ChunkRef> StoreSideChunk(std::string plaintext);
  // All pages are at the server. NOT_FOUND: a chunk that an unchanged file relies on is no longer there; back up again
  // without the base.
  absl::Status Flush();

 private:
  static constexpr size_t kHeldBytesMax = 4u << 20;
  static constexpr size_t kConfirmedMax = 1u << 17;  // 5 MiB; forgetting costs questions
  struct Held {
    ChunkType type;
    ChunkRef ref;
    std::vector<ChunkId> children;
    std::string plaintext;
  };
  absl::StatusOr<std::string> Ask(absl::Span<const ChunkId> ids);
  absl::Status AskChildren(const std::vector<const Held*>& pages);

  UploadTransport& transport_;
  const SealingKeys& keys_;
  UploadCounters& counters_;
  const std::function<absl::Status()> flush_chunks_;
  RecordSealer sealer_;
  std::vector<Held> held_;
  size_t held_bytes_ = 0;
  absl::flat_hash_set<ChunkId> confirmed_;  // the server has promised or taken these
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_UPLOAD_PAGE_UPLOADER_H_
