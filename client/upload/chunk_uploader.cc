#include "client/upload/chunk_uploader.h"

#include <algorithm>

namespace holdfast {
namespace {

constexpr size_t kHeadroomBytes = 16;
constexpr size_t kMessageBytesTarget = 1u << 20;
constexpr uint64_t kVerifyEvery = 64;
constexpr uint64_t kHeldBytesMax = 6u << 20;  // below the server's credit: memory

}  // namespace

ChunkUploader::ChunkUploader(UploadTransport& transport, const SealingKeys& keys, OfferedIds& offered,
                             SealVerifier& verifier, UploadCounters& counters)
    : transport_(transport), keys_(keys), offered_(offered), counters_(counters), sealer_(keys), verifier_(verifier) {}

ChunkUploader::~ChunkUploader() = default;

absl::StatusOr<char*> ChunkUploader::Room() {
  if (!open_.arena) open_.arena.reset(new char[kArenaBytes]);
  size_t begin = (open_.used + 15) / 16 * 16 + kHeadroomBytes;
  if (begin + kChunkRoomBytes > kArenaBytes) {
    RETURN_IF_ERROR(Turn());
    if (!open_.arena) open_.arena.reset(new char[kArenaBytes]);
    begin = kHeadroomBytes;
  }
  return open_.arena.get() + begin;
}

ChunkRef ChunkUploader::Offer(size_t size, int level) {
  const char* data = open_.arena.get() + (open_.used + 15) / 16 * 16 + kHeadroomBytes;
  Pending pending;
  pending.ref = ComputeChunkRef(keys_, ChunkType::kData, {}, {data, size});
  counters_.plaintext_offered.fetch_add(size, std::memory_order_relaxed);
  ChunkRef ref = pending.ref;
  if (!offered_.Insert(ref.id)) {
    counters_.chunks_known.fetch_add(1, std::memory_order_relaxed);
    return ref;  // its room is used again
  }
  pending.data = data;
  pending.size = size;
  pending.level = level;
  open_.used = static_cast<size_t>(data - open_.arena.get()) + size;
  open_.chunks.push_back(std::move(pending));
  return ref;
}

absl::Status ChunkUploader::Turn() {
  // The question goes out before the records of the batch before, so its answer is there when they are sent.
  RETURN_IF_ERROR(Ask(open_));
  RETURN_IF_ERROR(Send(asked_));
  std::swap(open_, asked_);
  return absl::OkStatus();
}

absl::Status ChunkUploader::Flush() {
  RETURN_IF_ERROR(Turn());
  RETURN_IF_ERROR(Turn());
  while (unanswered_head_ < unanswered_.size()) RETURN_IF_ERROR(ReceiveOne());
  return absl::OkStatus();
}

absl::Status ChunkUploader::Ask(Batch& batch) {
  if (batch.chunks.empty()) return absl::OkStatus();
  std::vector<ChunkId> ids;
  ids.reserve(batch.chunks.size());
  for (const Pending& p : batch.chunks) ids.push_back(p.ref.id);
  RETURN_IF_ERROR(transport_.SendHave(ids));
  batch.asked = ids.size();
  unanswered_.push_back({});
  return absl::OkStatus();
}

absl::Status ChunkUploader::ReceiveOne() {
  ASSIGN_OR_RETURN(UploadAnswer answer, transport_.Receive());
  const InFlight sent = unanswered_[unanswered_head_++];
  if (unanswered_head_ == unanswered_.size()) {
    unanswered_.clear();
    unanswered_head_ = 0;
  }
  if (sent.bytes == 0) {
    have_answers_.push_back(std::move(answer.have));
  } else {
    if (answer.appended_bytes != sent.bytes)
      return absl::InternalError("the server took another number of bytes than sent");
    held_bytes_ -= sent.held;
  }
  return absl::OkStatus();
}

absl::Status ChunkUploader::Send(Batch& batch) {
  if (!batch.chunks.empty()) {
    while (have_answers_.empty()) RETURN_IF_ERROR(ReceiveOne());
    const std::string have = std::move(have_answers_.front());
    have_answers_.erase(have_answers_.begin());
    if (have.size() != batch.chunks.size())
      return absl::InternalError("the server answered for another number of chunks");
    std::unique_ptr<RecordBuffer> message;
    size_t used = 0;
    auto send_message = [&]() -> absl::Status {
      if (!message) return absl::OkStatus();
      const uint64_t limit = std::min(kHeldBytesMax, transport_.credit_bytes());
      while (held_bytes_ > 0 && held_bytes_ + message->capacity() > limit) RETURN_IF_ERROR(ReceiveOne());
      counters_.bytes_sent.fetch_add(used, std::memory_order_relaxed);
      unanswered_.push_back({used, message->capacity()});
      held_bytes_ += message->capacity();
      return transport_.SendRecords(std::move(message), std::exchange(used, 0));
    };
    for (size_t i = 0; i < batch.chunks.size(); ++i) {
      const Pending& p = batch.chunks[i];
      if (have[i] != 0) {
        counters_.chunks_known.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      counters_.chunks_new.fetch_add(1, std::memory_order_relaxed);
      const size_t room = RecordBytesMax(p.size, 0);
      if (message && used + room > message->capacity()) RETURN_IF_ERROR(send_message());
      if (!message) message = transport_.NewBuffer(std::max(room, kMessageBytesTarget));
      const size_t record_bytes = sealer_.Seal(ChunkType::kData, p.ref, {}, {p.data, p.size}, p.level,
                                               /*headroom=*/true, message->data() + used);
      // A sample is opened again before it is sent: a broken compressor or bad memory must not go unnoticed for years.
      if (sealed_++ % kVerifyEvery == 0) {
        absl::Status opened = verifier_.Check(p.ref, {message->data() + used, record_bytes});
        if (!opened.ok()) {
          return absl::InternalError(
              absl::StrCat("a chunk does not open right after it was sealed (bad memory?): ", opened.message()));
        }
      }
      used += record_bytes;
      if (used >= kMessageBytesTarget) RETURN_IF_ERROR(send_message());
    }
    RETURN_IF_ERROR(send_message());
  }
  batch.chunks.clear();
  batch.used = 0;
  return absl::OkStatus();
}

}  // namespace holdfast
