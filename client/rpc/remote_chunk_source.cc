#include "client/rpc/remote_chunk_source.h"

#include <utility>

#include "absl/container/flat_hash_map.h"

namespace holdfast {
namespace {

constexpr size_t kIdsPerQuestion = 1024;

absl::Status Malformed() { return absl::InternalError("the server sent a malformed answer"); }

}  // namespace

struct RemoteChunkSource::Reader {
  Reader(std::unique_ptr<RecordStream> s, const RepositoryId& repository) : stream(std::move(s)), opener(repository) {}
  std::unique_ptr<RecordStream> stream;
  RecordOpener opener;
};

// Opens what arrives and hands it on. The same chunk may be wanted under several indices; the server answers an id
// once.
class RemoteChunkSource::Answers : public RecordSink {
 public:
  Answers(RecordOpener& opener, absl::Span<const ChunkRef> refs, size_t first, ChunkSink& sink)
      : opener_(opener), refs_(refs), first_(first), sink_(sink) {
    for (size_t i = 0; i < refs.size(); ++i) {
      std::vector<size_t>& indices = wanted_[refs[i].id];
      if (indices.empty()) ids_.push_back(refs[i].id);
      indices.push_back(i);
    }
  }

  // To be asked for next. Those of the answer before that did not open: maybe another copy does.
  std::vector<ChunkId> TakeIds() { return std::move(ids_); }
  bool all_are_damaged() const { return all_are_damaged_; }  // and not of a version or key that we lack
  void BeginLastAnswer() { is_last_ = true; }
  bool IsComplete() const { return wanted_.empty(); }

  absl::Status OnRecord(std::string_view record) override {
    if (record.size() < kRecordHeaderFixedBytes) return Malformed();
    ASSIGN_OR_RETURN(ChunkId id, ChunkId::FromBytes(record.substr(kRecordIdAt, ChunkId::kSizeInBytes)));
    auto it = wanted_.find(id);
    if (it == wanted_.end()) return Malformed();
    // References to one id may differ in the key. The one that opens the record is right, and no other.
    const ChunkRef* by = &refs_[it->second.front()];
    absl::StatusOr<OpenedChunk> chunk = opener_.Open(*by, record);
    for (size_t index : it->second) {
      if (chunk.ok()) break;
      if (refs_[index] == *by) continue;
      by = &refs_[index];
      chunk = opener_.Open(*by, record);
    }
    return Deliver(it, chunk, by);
  }
  absl::Status OnFailure(const ChunkId& id, const absl::Status& failure) override {
    auto it = wanted_.find(id);
    if (it == wanted_.end()) return Malformed();
    return Deliver(it, failure, nullptr);
  }

 private:
  using Wanted = absl::flat_hash_map<ChunkId, std::vector<size_t>>;  // indices into refs_

  // `opened_by`: of a chunk, not of a failure.
  absl::Status Deliver(Wanted::iterator it, const absl::StatusOr<OpenedChunk>& chunk, const ChunkRef* opened_by) {
    if (!chunk.ok() && !is_last_) {
      ids_.push_back(it->first);
      all_are_damaged_ = all_are_damaged_ && absl::IsDataLoss(chunk.status());
      return absl::OkStatus();
    }
    for (size_t index : it->second) {
      if (!chunk.ok() || refs_[index] == *opened_by) {
        RETURN_IF_ERROR(sink_.OnChunk(first_ + index, chunk));
      } else {
        RETURN_IF_ERROR(sink_.OnChunk(first_ + index, absl::DataLossError("the key does not open the chunk")));
      }
    }
    wanted_.erase(it);
    return absl::OkStatus();
  }

  RecordOpener& opener_;
  const absl::Span<const ChunkRef> refs_;
  const size_t first_;
  ChunkSink& sink_;
  Wanted wanted_;
  std::vector<ChunkId> ids_;
  bool all_are_damaged_ = true;
  bool is_last_ = false;
};

RemoteChunkSource::RemoteChunkSource(RepositoryClient& client, std::string repository, const RepositoryId& id)
    : client_(client), repository_(std::move(repository)), id_(id) {}

RemoteChunkSource::~RemoteChunkSource() = default;

absl::Status RemoteChunkSource::Fetch(absl::Span<const ChunkRef> refs, ChunkSink& sink) {
  std::unique_ptr<Reader> reader;
  {
    absl::MutexLock lock(&mu_);
    if (!idle_.empty()) {
      reader = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!reader) reader = std::make_unique<Reader>(client_.NewRecordStream(), id_);
  for (size_t i = 0; i < refs.size(); i += kIdsPerQuestion) {
    // An error leaves the stream in the middle of an answer: it is not used again.
    RETURN_IF_ERROR(FetchPart(*reader, refs.subspan(i, kIdsPerQuestion), i, sink));
  }
  absl::MutexLock lock(&mu_);
  idle_.push_back(std::move(reader));
  return absl::OkStatus();
}

absl::Status RemoteChunkSource::FetchPart(Reader& reader, absl::Span<const ChunkRef> refs, size_t first,
                                          ChunkSink& sink) {
  Answers answers(reader.opener, refs, first, sink);
  std::vector<ChunkId> ids = answers.TakeIds();
  RETURN_IF_ERROR(reader.stream->Ask({.repository = repository_, .ids = ids}, answers));
  ids = answers.TakeIds();
  if (!ids.empty()) {
    answers.BeginLastAnswer();
    RETURN_IF_ERROR(reader.stream->Ask(
        {.repository = repository_, .ids = ids, .verify = true, .unopenable = answers.all_are_damaged()}, answers));
  }
  if (!answers.IsComplete()) return absl::InternalError("the server did not answer for every chunk");
  return absl::OkStatus();
}

}  // namespace holdfast
