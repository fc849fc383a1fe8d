// From plaintext chunk to the server, on one stream: ids are computed at once, have/need is asked in batches while the
// batch before is compressed, sealed and sent, and only what is missing is sent. One thread; several uploaders share a
// session and an OfferedIds. Memory: two arenas of kArenaBytes, one compression context, the unanswered messages.
#ifndef HOLDFAST_CLIENT_UPLOAD_CHUNK_UPLOADER_H_
#define HOLDFAST_CLIENT_UPLOAD_CHUNK_UPLOADER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "client/upload/upload_transport.h"
#include "core/format/record_sealer.h"

namespace holdfast {

// Opens a sample of sealed chunks again. Shared by all uploaders, because its buffers are as large as a chunk.
// Thread-safe.
class SealVerifier {
 public:
  explicit SealVerifier(const SealingKeys& keys) : opener_(keys.repository) {}
  absl::Status Check(const ChunkRef& ref, std::string_view record) {
    absl::MutexLock lock(&mu_);
    return opener_.Open(ref, record).status();
  }

 private:
  absl::Mutex mu_;
  RecordOpener opener_ ABSL_GUARDED_BY(mu_);
};

// Data chunks that this session's workers already offered: never asked for or sent twice. Thread-safe. At the limit it
// forgets everything, which costs questions, not correctness.
class OfferedIds {
 public:
  // True the first time.
  bool Insert(const ChunkId& id) {
    absl::MutexLock lock(&mu_);
    if (ids_.size() >= kIdsMax) ids_.clear();
    return ids_.insert(id).second;
  }

 private:
  static constexpr size_t kIdsMax = 1u << 18;  // 9 MiB
  absl::Mutex mu_;
  absl::flat_hash_set<ChunkId> ids_ ABSL_GUARDED_BY(mu_);
};

// Shared by all uploaders of a backup.
struct UploadCounters {
  std::atomic<uint64_t> chunks_new{0}, chunks_known{0}, bytes_sent{0}, plaintext_offered{0};
};

class ChunkUploader {
 public:
  static constexpr size_t kArenaBytes = 7u << 20;
  static constexpr size_t kChunkRoomBytes = (4u << 20) + (256u << 10) + 64;  // what Room() guarantees

  // All borrowed.
  ChunkUploader(UploadTransport& transport, const SealingKeys& keys, OfferedIds& offered, SealVerifier& verifier,
                UploadCounters& counters);
  ~ChunkUploader();

  // Where to put the next chunk's bytes: at least kChunkRoomBytes behind the returned pointer, and 16 writable bytes
  // before it. May send. Valid until the next call of anything.
  absl::StatusOr<char*> Room();
  // Takes the first `size` bytes at the last Room() as a data chunk. The id and key are final at once; the bytes are
  // sent later, if the server needs them.
  ChunkRef Offer(size_t size, int level);
  // Everything offered was sent and has been taken by the server.
  absl::Status Flush();

 private:
  struct Pending {
    ChunkRef ref;
    const char* data;
    size_t size;
    int level;
  };
  struct Batch {
    std::unique_ptr<char[]> arena;
    size_t used = 0;
    std::vector<Pending> chunks;
    size_t asked = 0;  // ids in the have message
  };
  absl::Status Turn();  // asks for the open batch, sends the one before
  absl::Status Ask(Batch& batch);
  absl::Status Send(Batch& batch);
  absl::Status ReceiveOne();

  UploadTransport& transport_;
  const SealingKeys& keys_;
  OfferedIds& offered_;
  UploadCounters& counters_;
  RecordSealer sealer_;
  SealVerifier& verifier_;
  uint64_t sealed_ = 0;
  Batch open_, asked_;
  std::vector<std::string> have_answers_;  // received, not yet used (at most 2)
  // Messages in flight. What counts against the limit is the memory that they hold.
  struct InFlight {
    uint64_t bytes = 0;  // 0 = a have
    uint64_t held = 0;
  };
  uint64_t held_bytes_ = 0;
  std::vector<InFlight> unanswered_;
  size_t unanswered_head_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_UPLOAD_CHUNK_UPLOADER_H_
