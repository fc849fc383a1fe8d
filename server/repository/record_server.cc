#include "server/repository/record_server.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/repository/record_location.h"

namespace holdfast {
namespace {

// Passes answers on under their number in the caller's request, and collects those that another copy may cure: all are
// DATA_LOSS.
class RetrySink : public RecordReadSink {
 public:
  RetrySink(RecordReadSink& sink, absl::Span<const size_t> numbers) : sink_(sink), numbers_(numbers) {}
  absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
    if (IsDamage(record.status())) {
      failed.emplace_back(numbers_[index], absl::DataLossError(record.status().message()));
      return absl::OkStatus();
    }
    return sink_.OnRecord(numbers_[index], std::move(record));
  }
  std::vector<std::pair<size_t, absl::Status>> failed;

 private:
  RecordReadSink& sink_;
  const absl::Span<const size_t> numbers_;
};

// Keeps one answer.
class KeepSink : public RecordReadSink {
 public:
  absl::Status OnRecord(size_t, absl::StatusOr<ReadRecord> answer) override {
    record = std::move(answer);
    return absl::OkStatus();
  }
  absl::StatusOr<ReadRecord> record = absl::InternalError("no answer");
};

}  // namespace

// The index is not held while the records go out, which lasts as long as the client likes.
absl::StatusOr<std::vector<RecordServer::Copies>> RecordServer::LookUp(absl::Span<const ChunkId> ids) {
  ASSIGN_OR_RETURN(std::shared_ptr<ChunkIndex> index, index_.Get());
  return index->LookupAll(ids);
}

absl::StatusOr<std::vector<RecordServer::Copies>> RecordServer::LookUpInSoundIndex(absl::Span<const ChunkId> ids) {
  absl::StatusOr<std::vector<Copies>> found = LookUp(ids);
  if (!absl::IsDataLoss(found.status()) && !index_.IsMissing()) return found;
  index_.Note(found.status()).IgnoreError();
  RETURN_IF_ERROR(index_.RenewIfBroken());
  return LookUp(ids);
}

// Asked for again: the copy of the first answer, the oldest, did not open, and its digest may be as wrong as its bytes.
// So the newest intact one is given. All are looked at, so that damaged ones are named.
absl::Status RecordServer::ReadNewestCopy(const ChunkId& id, const Copies& copies, size_t number,
                                          RecordReadSink& sink) {
  absl::StatusOr<ReadRecord> answer = absl::DataLossError("no copy");
  bool damaged = true;
  for (const ChunkLocation& copy : copies) {
    const RecordLocation location = ToRecordLocation(copy, id);
    KeepSink one;
    RETURN_IF_ERROR(reader_.Read({&location, 1}, /*verify_digests=*/true, one));
    if (!one.record.ok()) warnings_.Add(std::string(one.record.status().message()));
    damaged = damaged && IsDamage(one.record.status());
    // An outage is not a loss: of two failures the one that may pass counts.
    if (one.record.ok() || IsDamage(answer.status())) answer = std::move(one.record);
  }
  if (damaged) {
    answer = absl::DataLossError(answer.status().message());
    index_.NoteDamage({&id, 1});
  }
  return sink.OnRecord(number, std::move(answer));
}

absl::StatusOr<ReadRecord> RecordServer::ReadOtherCopy(const ChunkId& id, const Copies& copies,
                                                       const absl::Status& damage) {
  for (size_t c = 1; c < copies.size(); ++c) {
    const RecordLocation location = ToRecordLocation(copies[c], id);
    KeepSink one;
    RETURN_IF_ERROR(reader_.Read({&location, 1}, /*verify_digests=*/true, one));
    if (!IsDamage(one.record.status())) return std::move(one.record);
  }
  return damage;
}

absl::Status RecordServer::Read(absl::Span<const ChunkId> ids, bool verify, RecordReadSink& sink) {
  ASSIGN_OR_RETURN(const std::vector<Copies> found, LookUpInSoundIndex(ids));
  std::vector<RecordLocation> locations;
  std::vector<size_t> numbers;
  uint64_t bytes = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (found[i].empty()) {
      RETURN_IF_ERROR(sink.OnRecord(i, absl::NotFoundError("the repository does not have this chunk")));
      continue;
    }
    if (verify && found[i].size() > 1) {
      RETURN_IF_ERROR(ReadNewestCopy(ids[i], found[i], i, sink));
      continue;
    }
    locations.push_back(ToRecordLocation(found[i][0], ids[i]));
    numbers.push_back(i);
    bytes += found[i][0].sealed_length;
  }
  RetrySink first(sink, numbers);
  absl::Status told = reader_.Read(locations, verify, first);
  // What is lost is found out and noted also when the reader has gone: hardly anybody asks for it again.
  std::vector<ChunkId> lost;
  for (const auto& [number, damage] : first.failed) {
    warnings_.Add(std::string(damage.message()));
    absl::StatusOr<ReadRecord> answer = ReadOtherCopy(ids[number], found[number], damage);
    if (IsDamage(answer.status())) lost.push_back(ids[number]);
    if (told.ok()) told = sink.OnRecord(number, std::move(answer));
  }
  index_.NoteDamage(lost);  // all at once
  RETURN_IF_ERROR(told);
  absl::MutexLock lock(&mu_);
  read_.records += ids.size();
  read_.bytes += bytes;
  return absl::OkStatus();
}

absl::Status RecordServer::NoteUnopenable(const Principal& who, absl::Span<const ChunkId> ids) {
  ASSIGN_OR_RETURN(auto copies, LookUp(ids));
  std::vector<ChunkId> damaged;
  for (size_t i = 0; i < ids.size(); ++i) {
    // With several copies the newest is the one to be read, and it is the reader's first that did not open.
    if (copies[i].size() == 1) damaged.push_back(ids[i]);
  }
  if (damaged.empty()) return absl::OkStatus();
  // Its word is not proved: people should know whose it is.
  warnings_.Add(absl::StrCat(who.name, " reports chunks that it cannot open; they are taken again when they are sent"));
  index_.NoteDamage(damaged);
  return absl::OkStatus();
}

RecordsRead RecordServer::read() const {
  absl::MutexLock lock(&mu_);
  return read_;
}

}  // namespace holdfast
