#include "storage/pack/pack_reader.h"

#include <algorithm>
#include <numeric>

#include "core/crypto/blake3.h"
#include "storage/pack/pack_layout.h"

namespace holdfast {
namespace {

constexpr uint64_t kRunBytesMax = 4u << 20;
constexpr uint64_t kGapBytesMax = 32u << 10;  // cheaper to read over than to read again
constexpr size_t kSealersMax = 1024;

size_t FrameHeaderBytes(const RecordLocation& l) {
  return kSealedFrameHeaderBytesMin + 32 * static_cast<size_t>(l.child_count);
}
uint64_t FrameBegin(const RecordLocation& l) { return l.body_offset - FrameHeaderBytes(l); }
uint64_t FrameEnd(const RecordLocation& l) { return l.body_offset + l.sealed_length; }

bool IsSane(const RecordLocation& l) {
  return l.child_count <= kChunkChildrenMax && l.sealed_length <= kChunkSealedBytesMax &&
         l.body_offset >= FrameHeaderBytes(l) + kPackHeaderBytes && l.body_offset < (uint64_t{1} << 62);
}

// What a missing or short blob means to whoever wants the chunk.
absl::Status AsLoss(const absl::Status& s, const RecordLocation& l) {
  if (absl::IsNotFound(s) || absl::IsOutOfRange(s)) {
    return absl::DataLossError(absl::StrCat("pack ", HexEncode(l.pack.view()), " is missing or truncated"));
  }
  // The other chunks are as good as before.
  if (IsMediumError(s)) {
    return absl::DataLossError(absl::StrCat("pack ", HexEncode(l.pack.view()), " cannot be read: ", s.message()));
  }
  return s;
}

// Passes the single answer of a request of one on under its number in the whole request.
class RenumberedSink : public RecordReadSink {
 public:
  RenumberedSink(RecordReadSink& sink, size_t index) : sink_(sink), index_(index) {}
  absl::Status OnRecord(size_t, absl::StatusOr<ReadRecord> record) override {
    return sink_.OnRecord(index_, std::move(record));
  }

 private:
  RecordReadSink& sink_;
  const size_t index_;
};

}  // namespace

PackReader::PackReader(BlobStore& store, CatalogKey key) : store_(store), key_(std::move(key)) {}
PackReader::~PackReader() = default;

absl::StatusOr<std::shared_ptr<const PackSealer>> PackReader::Sealer(PackKind kind, const PackId& pack) {
  {
    absl::MutexLock lock(&mu_);
    auto it = sealers_.find(pack);
    if (it != sealers_.end()) return it->second;
  }
  std::string bytes(kPackHeaderBytes, '\0');
  RETURN_IF_ERROR(store_.Get(PackBlobName(kind, pack), 0, absl::MakeSpan(bytes)));
  ASSIGN_OR_RETURN(PackHeader header, DecodePackHeader(bytes));
  if (header.id != pack || header.kind != kind) {
    return absl::DataLossError(absl::StrCat("the blob of pack ", HexEncode(pack.view()), " holds another pack"));
  }
  auto sealer = std::make_shared<const PackSealer>(key_, header);
  absl::MutexLock lock(&mu_);
  if (sealers_.size() >= kSealersMax) sealers_.clear();
  sealers_[pack] = sealer;
  return sealer;
}

absl::Status PackReader::Read(absl::Span<const RecordLocation> locations, bool verify_digests, RecordReadSink& sink) {
  std::vector<size_t> order(locations.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (locations[a].pack != locations[b].pack) return locations[a].pack < locations[b].pack;
    return locations[a].body_offset < locations[b].body_offset;
  });
  size_t i = 0;
  while (i < order.size()) {
    const RecordLocation& first = locations[order[i]];
    if (!IsSane(first)) {
      RETURN_IF_ERROR(sink.OnRecord(order[i++], absl::DataLossError("the index is damaged")));
      continue;
    }
    // A run of neighbours in one pack.
    size_t end = i + 1;
    uint64_t run_end = FrameEnd(first);
    while (end < order.size()) {
      const RecordLocation& next = locations[order[end]];
      // A wrong location may say that the frame begins before the run, with a header of many children.
      if (next.pack != first.pack || !IsSane(next) || FrameBegin(next) < FrameBegin(first) ||
          FrameBegin(next) > run_end + kGapBytesMax || FrameEnd(next) - FrameBegin(first) > kRunBytesMax) {
        break;
      }
      run_end = std::max(run_end, FrameEnd(next));
      ++end;
    }
    const uint64_t run_begin = FrameBegin(first);
    absl::StatusOr<std::shared_ptr<const PackSealer>> sealer = Sealer(first.kind, first.pack);
    std::shared_ptr<char[]> buffer;
    absl::Status status = sealer.status();
    if (status.ok()) {
      buffer = std::shared_ptr<char[]>(new char[run_end - run_begin]);
      status = store_.Get(PackBlobName(first.kind, first.pack), run_begin,
                          absl::MakeSpan(buffer.get(), run_end - run_begin));
      // A truncated pack: what lies before the cut is still there.
      if (!status.ok() && end - i > 1) {
        for (size_t k = i; k < end; ++k) {
          RenumberedSink one(sink, order[k]);
          RETURN_IF_ERROR(Read({&locations[order[k]], 1}, verify_digests, one));
        }
        i = end;
        continue;
      }
    }
    for (size_t k = i; k < end; ++k) {
      const RecordLocation& l = locations[order[k]];
      if (!status.ok()) {
        RETURN_IF_ERROR(sink.OnRecord(order[k], AsLoss(status, l)));
        continue;
      }
      const char* frame = buffer.get() + (FrameBegin(l) - run_begin);
      ReadRecord record;
      Digest digest;
      record.body = {frame + FrameHeaderBytes(l), l.sealed_length};
      record.owner = buffer;
      if (!(*sealer)->OpenFrameHeader(l.frame_number, {frame, FrameHeaderBytes(l)}, &digest, &record.header) ||
          record.header.id != l.id || record.header.sealed_length != l.sealed_length) {
        RETURN_IF_ERROR(
            sink.OnRecord(order[k], absl::DataLossError(absl::StrCat("pack ", HexEncode(l.pack.view()),
                                                                     " is damaged at record ", l.frame_number))));
        continue;
      }
      if (verify_digests && Blake3Digest(record.body) != digest) {
        RETURN_IF_ERROR(sink.OnRecord(
            order[k], absl::DataLossError(absl::StrCat("pack ", HexEncode(l.pack.view()),
                                                       " is damaged in the body of record ", l.frame_number))));
        continue;
      }
      RETURN_IF_ERROR(sink.OnRecord(order[k], std::move(record)));
    }
    i = end;
  }
  return absl::OkStatus();
}

absl::StatusOr<RecordHeader> PackReader::ReadHeader(const RecordLocation& l) {
  if (!IsSane(l)) return absl::DataLossError("the index is damaged");
  absl::StatusOr<std::shared_ptr<const PackSealer>> sealer = Sealer(l.kind, l.pack);
  if (!sealer.ok()) return AsLoss(sealer.status(), l);
  std::string bytes(FrameHeaderBytes(l), '\0');
  absl::Status s = store_.Get(PackBlobName(l.kind, l.pack), FrameBegin(l), absl::MakeSpan(bytes));
  if (!s.ok()) return AsLoss(s, l);
  Digest digest;
  RecordHeader header;
  if (!(*sealer)->OpenFrameHeader(l.frame_number, bytes, &digest, &header) || header.id != l.id) {
    return absl::DataLossError(
        absl::StrCat("pack ", HexEncode(l.pack.view()), " is damaged at record ", l.frame_number));
  }
  return header;
}

}  // namespace holdfast
