#include "client/backup/large_file.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/format/record_sealer.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

constexpr size_t kReadStepBytes = 256u << 10;
constexpr int kScansPerStep = 16;       // chunks; between steps a worker flushes or stops when asked to
constexpr size_t kHolesMax = 1u << 19;  // keeps their list below the limit of a chunk

}  // namespace

LargeFileJob::LargeFileJob(std::shared_ptr<SourceDirectory> directory, std::string name, PreviousVersion previous,
                           const Chunker& chunker, int level)
    : directory_(std::move(directory)),
      name_(std::move(name)),
      previous_(std::move(previous)),
      chunker_(chunker),
      level_(level) {}

void LargeFileJob::Fail(std::string_view operation, const absl::Status& status) {
  SetSourceFailure(result_, *directory_, name_, operation, status);
  pieces_.clear();
  state_ = State::kDone;
}

void LargeFileJob::FindRuns() {
  runs_.clear();
  result_.holes.clear();
  if (opened_.blocks * 512 >= opened_.size) {
    if (opened_.size > 0) runs_.push_back({0, opened_.size});
    return;
  }
  uint64_t offset = 0;
  while (offset < opened_.size) {
    auto data = file_->NextData(offset);
    if (!data.ok()) {  // no support here: everything is data
      result_.holes.clear();
      runs_ = {{0, opened_.size}};
      return;
    }
    const uint64_t begin = *data ? std::min((*data)->begin, opened_.size) : opened_.size;
    if (begin > offset && (result_.holes.size() < kHolesMax || IsLargeHole(begin - offset))) {
      result_.holes.push_back({offset, begin - offset});
    }
    // Too many to list: the short ones are stored as zeros anyway, and come back as zeros that take space.
    if (result_.holes.size() == kHolesMax) {
      std::erase_if(result_.holes, [](const Hole& h) { return !IsLargeHole(h.length); });
    }
    if (result_.holes.size() > kHolesMax) return Fail("store: too many holes", SourceErrnoStatus(EFBIG, "map"));
    if (begin >= opened_.size) break;
    const uint64_t end = std::clamp((*data)->end, begin + 1, opened_.size);
    const bool join = !runs_.empty() && !IsLargeHole(begin - (runs_.back().offset + runs_.back().length));
    if (join) {
      runs_.back().length = end - runs_.back().offset;
    } else if (runs_.empty() && !IsLargeHole(begin)) {
      runs_.push_back({0, end});
    } else {
      runs_.push_back({begin, end - begin});
    }
    offset = end;
  }
  // A short hole at the end is stored as zeros.
  const uint64_t data_end = runs_.empty() ? 0 : runs_.back().offset + runs_.back().length;
  if (data_end < opened_.size && !IsLargeHole(opened_.size - data_end)) {
    if (runs_.empty()) {
      runs_.push_back({0, opened_.size});
    } else {
      runs_.back().length = opened_.size - runs_.back().offset;
    }
  }
}

void LargeFileJob::Open() {
  absl::StatusOr<std::unique_ptr<SourceFile>> opened = directory_->OpenFile(name_);
  if (!opened.ok()) {
    Fail("open", opened.status());
    return;
  }
  file_ = *std::move(opened);
  opened_ = file_->OpenedStat();
  result_.size = opened_.size;
  FindRuns();
  if (state_ == State::kDone) return;
  if (previous_.pieces.empty()) {
    StartSequential();
    return;
  }
  planner_ = std::make_unique<RechunkPlanner>(runs_, previous_.pieces);
  if (planner_->ToVerify().empty()) {
    StartSequential();
    return;
  }
  state_ = State::kVerifying;
}

void LargeFileJob::StartSequential() {
  planner_.reset();
  scanned_.clear();
  scan_starts_.clear();
  state_ = State::kSequential;
  run_ = 0;
  offset_ = runs_.empty() ? 0 : runs_[0].offset;
  if (runs_.empty()) FinishFile();
}

// Sets what the whole file has: attributes, and whether it changed meanwhile.
void LargeFileJob::FinishFile() {
  absl::StatusOr<SourceStat> after = file_->Stat();
  if (!after.ok()) return Fail("stat", after.status());
  result_.stat = *after;
  if (!IsSameVersion(opened_, *after)) result_.flags |= kEntryChangedWhileRead;
  absl::StatusOr<std::vector<Xattr>> xattrs = file_->ReadXattrs();
  if (!xattrs.ok()) return Fail("read attributes", xattrs.status());
  KeepXattrs(result_, *std::move(xattrs));
  state_ = State::kDone;
}

absl::StatusOr<size_t> LargeFileJob::ReadChunk(uint64_t offset, uint64_t end, char* room) {
  size_t have = 0, scanned = 0;
  size_t want = chunker_.params().min_bytes + kReadStepBytes;
  while (true) {
    const size_t limit = static_cast<size_t>(std::min<uint64_t>({want, end - offset, chunker_.params().max_bytes}));
    if (limit > have) {
      ASSIGN_OR_RETURN(size_t got, file_->ReadAt(offset + have, room + have, limit - have));
      bytes_read_.fetch_add(got, std::memory_order_relaxed);
      have += got;
      if (have < limit) return have;  // the file became shorter
    }
    if (std::optional<size_t> cut = chunker_.FindCut({room, have}, scanned)) return *cut;
    if (offset + have >= end) return have;
    scanned = have;
    want = have + kReadStepBytes;
  }
}

absl::StatusOr<LargeFileJob::Step> LargeFileJob::Run(ChunkUploader& uploader) {
  // Before the lock: making room may send and wait.
  ASSIGN_OR_RETURN(char* room, uploader.Room());
  absl::MutexLock lock(&mu_);
  if (state_ == State::kNew) Open();
  absl::StatusOr<Step> step = Step::kExhausted;
  switch (state_) {
    case State::kVerifying:
      step = VerifyOne(uploader, room);
      break;
    case State::kScanning:
      step = ScanOne(uploader);
      break;
    case State::kSequential:
      step = CutOne(uploader, room);
      break;
    default:
      break;
  }
  ReleaseIfDone();
  return step;
}

void LargeFileJob::ReleaseIfDone() {
  if (state_ != State::kDone || active_ > 0) return;
  file_.reset();
  previous_ = PreviousVersion();
  planner_.reset();
}

absl::StatusOr<LargeFileJob::Step> LargeFileJob::VerifyOne(ChunkUploader&, char* room) {
  const std::vector<size_t>& to_verify = planner_->ToVerify();
  if (next_verify_ >= to_verify.size()) return Step::kNothingNow;  // others are still at it
  const size_t index = to_verify[next_verify_++];
  ++active_;
  mu_.Unlock();
  const PreviousPiece& piece = previous_.pieces[index];
  bool equal = false;
  absl::StatusOr<size_t> got = size_t{0};
  if (piece.length <= chunker_.params().max_bytes) {
    got = file_->ReadAt(piece.offset, room, piece.length);
    if (got.ok() && *got == piece.length) {
      bytes_read_.fetch_add(*got, std::memory_order_relaxed);
      // By the digest and not by the id: the piece may be of an epoch whose secrets are gone.
      equal = ComputeContentDigest(ChunkType::kData, {}, {room, *got}) == previous_.refs[index].digest;
    }
  }
  mu_.Lock();
  --active_;
  if (state_ != State::kVerifying) {
    FinishIfLast();
    return Step::kWorked;
  }
  if (!got.ok()) {
    Fail("read", got.status());
    return Step::kExhausted;
  }
  if (equal) planner_->SetVerified(index);
  if (next_verify_ >= to_verify.size() && active_ == 0) {
    std::vector<uint64_t> starts = planner_->ScanStarts();
    scan_starts_.assign(starts.begin(), starts.end());
    state_ = State::kScanning;
    if (scan_starts_.empty()) FinishPlanned();
  }
  return Step::kWorked;
}

absl::StatusOr<LargeFileJob::Step> LargeFileJob::ScanOne(ChunkUploader& uploader) {
  if (scan_starts_.empty()) return Step::kNothingNow;
  uint64_t offset = scan_starts_.front();
  scan_starts_.pop_front();
  const uint64_t end = planner_->RunEnd(offset);
  ++active_;
  bool shrunk = false;
  absl::Status read_status;
  int chunks = 0;
  while (offset < end) {
    if (chunks++ == kScansPerStep) {
      scan_starts_.push_front(offset);
      --active_;
      return Step::kWorked;
    }
    mu_.Unlock();
    absl::StatusOr<char*> room = uploader.Room();
    absl::StatusOr<size_t> length = room.ok() ? ReadChunk(offset, end, *room) : absl::StatusOr<size_t>(size_t{0});
    ChunkRef ref;
    if (length.ok() && *length > 0) ref = uploader.Offer(*length, level_);
    mu_.Lock();
    if (!room.ok()) {
      --active_;
      return room.status();
    }
    if (state_ != State::kScanning) break;  // another worker found that the plan no longer holds
    if (!length.ok()) {
      read_status = length.status();
      break;
    }
    const bool at_end = offset + *length >= end;
    if (*length == 0 || (!at_end && *length < chunker_.params().min_bytes)) {
      shrunk = true;
      break;
    }
    planner_->AddScanned(offset, *length);
    scanned_[offset] = ChunkPiece{ref, *length};
    offset += *length;
    if (planner_->StopsAt(offset)) break;
  }
  --active_;
  if (state_ != State::kScanning) {
    FinishIfLast();
    return Step::kWorked;
  }
  if (!read_status.ok()) {
    Fail("read", read_status);
    return Step::kExhausted;
  }
  if (shrunk) {
    // The plan was made for another file than this has become: start over without it.
    absl::StatusOr<SourceStat> now = file_->Stat();
    if (!now.ok()) {
      Fail("stat", now.status());
      return Step::kExhausted;
    }
    opened_.size = now->size;
    opened_.blocks = now->blocks;
    result_.size = now->size;
    result_.flags |= kEntryChangedWhileRead;
    FindRuns();
    if (state_ == State::kDone) return Step::kExhausted;
    StartSequential();
    return Step::kWorked;
  }
  if (scan_starts_.empty() && active_ == 0) FinishPlanned();
  return Step::kWorked;
}

void LargeFileJob::FinishPlanned() {
  std::vector<PlannedPiece> planned;
  if (std::optional<uint64_t> start = planner_->Assemble(&planned)) {
    scan_starts_.push_back(*start);
    return;
  }
  for (const PlannedPiece& p : planned) {
    ChunkPiece piece;
    if (p.previous) {
      piece.ref = previous_.refs[*p.previous];
    } else {
      piece.ref = scanned_.at(p.offset).ref;
    }
    piece.length = p.length;
    pieces_.push_back(std::move(piece));
  }
  next_piece_ = pieces_.size();
  scanned_.clear();
  FinishFile();
}

absl::StatusOr<LargeFileJob::Step> LargeFileJob::CutOne(ChunkUploader& uploader, char* room) {
  if (run_ >= runs_.size()) return Step::kExhausted;  // the last chunks are under way
  const uint64_t end = runs_[run_].offset + runs_[run_].length;
  absl::StatusOr<size_t> length = ReadChunk(offset_, end, room);
  if (!length.ok()) {
    Fail("read", length.status());
    return Step::kExhausted;
  }
  const bool at_end = offset_ + *length >= end;
  const bool shrunk = *length == 0 || (!at_end && *length < chunker_.params().min_bytes);
  if (shrunk) {
    // What was there is kept; the file is flagged and its size is what could be read.
    result_.flags |= kEntryChangedWhileRead;
    result_.size = offset_ + *length;
    while (!result_.holes.empty() && result_.holes.back().offset + result_.holes.back().length > result_.size) {
      Hole& hole = result_.holes.back();
      if (hole.offset >= result_.size) {
        result_.holes.pop_back();
        continue;
      }
      hole.length = result_.size - hole.offset;
      break;
    }
    run_ = runs_.size();
  } else if (at_end) {
    ++run_;
    if (run_ < runs_.size()) offset_ = runs_[run_].offset;
  } else {
    offset_ += *length;
  }
  if (*length > 0) {
    const uint64_t number = next_piece_++;
    pieces_.emplace_back();
    ++active_;
    mu_.Unlock();
    ChunkRef ref = uploader.Offer(*length, level_);
    mu_.Lock();
    --active_;
    if (state_ != State::kSequential) return Step::kExhausted;  // another worker met a read error
    pieces_[number - first_piece_] = ChunkPiece{ref, *length};
  }
  FinishIfLast();
  return state_ == State::kDone ? Step::kExhausted : Step::kWorked;
}

void LargeFileJob::FinishIfLast() {
  if (state_ == State::kSequential && run_ >= runs_.size() && active_ == 0) FinishFile();
}

bool LargeFileJob::Take(std::vector<ChunkPiece>* pieces) {
  absl::MutexLock lock(&mu_);
  while (!pieces_.empty() && pieces_.front().length > 0) {
    pieces->push_back(std::move(pieces_.front()));
    pieces_.pop_front();
    ++first_piece_;
  }
  return state_ == State::kDone && pieces_.empty();
}

}  // namespace holdfast
