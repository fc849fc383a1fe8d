#include "client/upload/page_uploader.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/limits.h"

namespace holdfast {
namespace {

constexpr int kPageLevel = 3;
constexpr size_t kIdsPerQuestion = 16384;
constexpr size_t kMessageBytesTarget = 1u << 20;

// Never stored: no reader would open it, and a snapshot would have been committed that cannot be restored.
absl::Status CheckSize(std::string_view plaintext) {
  if (plaintext.size() <= kChunkPlaintextBytesMax) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a tree page or side chunk of ", plaintext.size(), " bytes is too large"));
}

}  // namespace

PageUploader::PageUploader(UploadTransport& transport, const SealingKeys& keys, UploadCounters& counters,
                           std::function<absl::Status()> flush_chunks)
    : transport_(transport), keys_(keys), counters_(counters), flush_chunks_(std::move(flush_chunks)), sealer_(keys) {}

absl::StatusOr<ChunkRef> PageUploader::StorePage(EncodedPage page) {
  RETURN_IF_ERROR(CheckSize(page.plaintext));
  Held held;
  held.type = ChunkType::kTree;
  held.ref = ComputeChunkRef(keys_, ChunkType::kTree, page.children, page.plaintext);
  ChunkRef ref = held.ref;
  held_bytes_ += page.plaintext.size() + 32 * page.children.size();
  held.children = std::move(page.children);
  held.plaintext = std::move(page.plaintext);
  held_.push_back(std::move(held));
  if (held_bytes_ > kHeldBytesMax) RETURN_IF_ERROR(Flush());
  return ref;
}

absl::StatusOr<ChunkRef> PageUploader::StoreSideChunk(std::string plaintext) {
  RETURN_IF_ERROR(CheckSize(plaintext));
  Held held;
  held.type = ChunkType::kData;
  held.ref = ComputeChunkRef(keys_, ChunkType::kData, {}, plaintext);
  ChunkRef ref = held.ref;
  held_bytes_ += plaintext.size();
  held.plaintext = std::move(plaintext);
  held_.push_back(std::move(held));
  if (held_bytes_ > kHeldBytesMax) RETURN_IF_ERROR(Flush());
  return ref;
}

absl::StatusOr<std::string> PageUploader::Ask(absl::Span<const ChunkId> ids) {
  std::string have;
  for (size_t i = 0; i < ids.size(); i += kIdsPerQuestion) {
    absl::Span<const ChunkId> part = ids.subspan(i, kIdsPerQuestion);
    RETURN_IF_ERROR(transport_.SendHave(part));
    ASSIGN_OR_RETURN(UploadAnswer answer, transport_.Receive());
    if (answer.have.size() != part.size())
      return absl::InternalError("the server answered for another number of chunks");
    have += answer.have;
  }
  return have;
}

// Children that the server has not confirmed yet. All that workers offered before these pages were held is there by
// now; chunks of unchanged files it must promise.
absl::Status PageUploader::AskChildren(const std::vector<const Held*>& pages) {
  std::vector<ChunkId> ids;
  for (const Held* page : pages) {
    for (const ChunkId& child : page->children) {
      if (confirmed_.insert(child).second) ids.push_back(child);
    }
  }
  if (ids.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::string have, Ask(ids));
  if (have.find('\0') != std::string::npos) {
    return absl::NotFoundError("a chunk that an unchanged file relies on is no longer in the repository");
  }
  return absl::OkStatus();
}

absl::Status PageUploader::Flush() {
  if (held_.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(flush_chunks_());
  if (confirmed_.size() > kConfirmedMax) confirmed_.clear();
  std::vector<ChunkId> ids;
  for (const Held& h : held_) {
    ids.push_back(h.ref.id);
    confirmed_.insert(h.ref.id);  // promised, or sent below, children first
  }
  ASSIGN_OR_RETURN(std::string have, Ask(ids));
  std::vector<const Held*> needed;
  for (size_t i = 0; i < held_.size(); ++i) {
    if (have[i] == 0) needed.push_back(&held_[i]);
    (have[i] == 0 ? counters_.chunks_new : counters_.chunks_known).fetch_add(1, std::memory_order_relaxed);
  }
  RETURN_IF_ERROR(AskChildren(needed));
  // Children come before parents in held_, and so in the messages.
  std::unique_ptr<RecordBuffer> message;
  size_t used = 0;
  auto send = [&]() -> absl::Status {
    if (!message) return absl::OkStatus();
    counters_.bytes_sent.fetch_add(used, std::memory_order_relaxed);
    RETURN_IF_ERROR(transport_.SendRecords(std::move(message), std::exchange(used, 0)));
    return transport_.Receive().status();
  };
  for (const Held* h : needed) {
    const size_t room = RecordBytesMax(h->plaintext.size(), h->children.size());
    if (message && used + room > message->capacity()) RETURN_IF_ERROR(send());
    if (!message) message = transport_.NewBuffer(std::max(room, kMessageBytesTarget));
    used += sealer_.Seal(h->type, h->ref, h->children, h->plaintext, kPageLevel, /*headroom=*/false,
                         message->data() + used);
  }
  RETURN_IF_ERROR(send());
  held_.clear();
  held_bytes_ = 0;
  return absl::OkStatus();
}

}  // namespace holdfast
