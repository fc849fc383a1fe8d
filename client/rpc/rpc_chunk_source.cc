#include "client/rpc/rpc_chunk_source.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "core/base/limits.h"
#include "proto/holdfast/v1/raw_messages.h"

namespace holdfast {
namespace {

constexpr size_t kIdsPerRequest = 1024;
constexpr uint32_t kReadRepository = 1, kReadIds = 2, kReadVerify = 3, kReadUnopenable = 4;
constexpr uint32_t kReadRecords = 1, kReadFailures = 2, kReadEnd = 3;

absl::Status Malformed() { return absl::InternalError("the server sent a malformed answer"); }

}  // namespace

struct RpcChunkSource::Reader {
  Reader(std::unique_ptr<RawStream> s, const SealingKeys& keys) : stream(std::move(s)), opener(keys) {}
  std::unique_ptr<RawStream> stream;
  RecordOpener opener;
  std::string record;
};

RpcChunkSource::RpcChunkSource(Connection& connection, std::string repository, const SealingKeys& keys)
    : connection_(connection), repository_(std::move(repository)), keys_(keys) {}

RpcChunkSource::~RpcChunkSource() = default;

absl::Status RpcChunkSource::Fetch(absl::Span<const ChunkRef> refs, ChunkSink& sink) {
  std::unique_ptr<Reader> reader;
  {
    absl::MutexLock lock(&mu_);
    if (!idle_.empty()) {
      reader = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!reader) reader = std::make_unique<Reader>(connection_.NewStream(kReadMethod), keys_);
  for (size_t i = 0; i < refs.size(); i += kIdsPerRequest) {
    // An error leaves the stream in the middle of an answer: it is not used again.
    RETURN_IF_ERROR(FetchPart(*reader, refs.subspan(i, kIdsPerRequest), i, sink));
  }
  absl::MutexLock lock(&mu_);
  idle_.push_back(std::move(reader));
  return absl::OkStatus();
}

absl::Status RpcChunkSource::FetchPart(Reader& reader, absl::Span<const ChunkRef> refs, size_t first, ChunkSink& sink) {
  // The same chunk may be wanted under several indices; the server answers an id once.
  absl::flat_hash_map<ChunkId, std::vector<size_t>> wanted;
  std::vector<ChunkId> ids;
  for (size_t i = 0; i < refs.size(); ++i) {
    std::vector<size_t>& indices = wanted[refs[i].id];
    if (indices.empty()) ids.push_back(refs[i].id);
    indices.push_back(i);
  }
  std::vector<ChunkId> again;   // did not open: maybe another copy does
  bool all_are_damaged = true;  // and not of a version or key that we lack
  auto deliver = [&](const ChunkId& id, const absl::StatusOr<OpenedChunk>& chunk, bool last) -> absl::Status {
    auto it = wanted.find(id);
    if (it == wanted.end()) return Malformed();
    if (!chunk.ok() && !last) {
      again.push_back(id);
      all_are_damaged = all_are_damaged && absl::IsDataLoss(chunk.status());
      return absl::OkStatus();
    }
    for (size_t index : it->second) RETURN_IF_ERROR(sink.OnChunk(first + index, chunk));
    wanted.erase(it);
    return absl::OkStatus();
  };
  for (int attempt = 0; attempt < 2 && !ids.empty(); ++attempt) {
    const bool last = attempt == 1;
    std::string request = FieldHeader(kReadRepository, repository_.size()) + repository_;
    request += FieldHeader(kReadIds, ids.size() * sizeof(ChunkId));
    request.append(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(ChunkId));
    if (last) {
      AppendVarint(&request, kReadVerify << 3);
      AppendVarint(&request, 1);
      if (all_are_damaged) {
        AppendVarint(&request, kReadUnopenable << 3);
        AppendVarint(&request, 1);
      }
    }
    grpc::Slice slice(request);
    RETURN_IF_ERROR(reader.stream->Write(grpc::ByteBuffer(&slice, 1)));
    bool end = false;
    while (!end) {
      grpc::ByteBuffer message;
      RETURN_IF_ERROR(reader.stream->Read(&message));
      SliceReader in(message);
      while (in.ok() && in.remaining() > 0) {
        const uint64_t tag = in.Varint();
        if (tag == (kReadEnd << 3)) {
          end = in.Varint() != 0;
          continue;
        }
        const uint64_t length = in.Varint();
        if (!in.ok() || length > in.remaining()) return Malformed();
        if (tag == (kReadRecords << 3 | 2)) {
          if (!in.Bytes(length, &reader.record)) return Malformed();
          if (reader.record.size() < kRecordHeaderFixedBytes) return Malformed();
          ASSIGN_OR_RETURN(ChunkId id, ChunkId::FromBytes(std::string_view(reader.record).substr(20, 32)));
          auto it = wanted.find(id);
          if (it == wanted.end()) return Malformed();
          const ChunkRef& ref = refs[it->second.front()];
          RETURN_IF_ERROR(deliver(id, reader.opener.Open(ref, reader.record), last));
        } else if (tag == (kReadFailures << 3 | 2)) {
          std::string bytes;
          v1::ReadFailure failure;
          if (!in.Bytes(length, &bytes) || !failure.ParseFromString(bytes)) return Malformed();
          ASSIGN_OR_RETURN(ChunkId id, ChunkId::FromBytes(failure.id()));
          const absl::StatusCode code = static_cast<absl::StatusCode>(failure.code()) == absl::StatusCode::kNotFound
                                            ? absl::StatusCode::kNotFound
                                            : absl::StatusCode::kDataLoss;
          RETURN_IF_ERROR(deliver(id, absl::Status(code, failure.message()), last));
        } else {
          return Malformed();
        }
      }
      if (!in.ok()) return Malformed();
    }
    ids = std::move(again);
    again.clear();
  }
  if (!wanted.empty()) return absl::InternalError("the server did not answer for every chunk");
  return absl::OkStatus();
}

}  // namespace holdfast
