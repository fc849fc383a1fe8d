#include "core/chunking/hints.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace holdfast {
namespace {

std::vector<DataRun> WithoutEmpty(std::vector<DataRun> runs) {
  std::erase_if(runs, [](const DataRun& r) { return r.length == 0; });
  for (size_t i = 0; i < runs.size(); ++i) {
    assert(runs[i].length <= UINT64_MAX - runs[i].offset);
    assert(i == 0 || runs[i].offset >= runs[i - 1].offset + runs[i - 1].length);
  }
  return runs;
}

}  // namespace

RechunkPlanner::RechunkPlanner(std::vector<DataRun> runs, std::vector<PreviousPiece> previous)
    : runs_(WithoutEmpty(std::move(runs))), previous_(std::move(previous)) {
  for (size_t i = 0; i < previous_.size(); ++i) {
    const PreviousPiece& piece = previous_[i];
    const uint64_t end = RunEnd(piece.offset);
    const uint64_t room = end - piece.offset;
    if (piece.length == 0 || piece.length > room) continue;
    if (piece.last_of_run && piece.length != room) continue;
    to_verify_.push_back(i);
  }
  std::stable_sort(to_verify_.begin(), to_verify_.end(),
                   [&](size_t a, size_t b) { return previous_[a].offset < previous_[b].offset; });
}

void RechunkPlanner::SetVerified(size_t index) {
  const PreviousPiece& piece = previous_.at(index);
  known_.try_emplace(piece.offset, Known{piece.length, index});
}

std::vector<uint64_t> RechunkPlanner::ScanStarts() const {
  std::vector<uint64_t> starts;
  for (const DataRun& run : runs_) {
    if (!known_.contains(run.offset)) starts.push_back(run.offset);
  }
  for (const auto& [offset, known] : known_) {
    const uint64_t next = offset + known.length;
    if (next < RunEnd(offset) && !known_.contains(next)) starts.push_back(next);
  }
  std::sort(starts.begin(), starts.end());
  starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
  return starts;
}

bool RechunkPlanner::StopsAt(uint64_t offset) const { return known_.contains(offset); }

uint64_t RechunkPlanner::RunEnd(uint64_t offset) const {
  auto after = std::upper_bound(runs_.begin(), runs_.end(), offset,
                                [](uint64_t o, const DataRun& run) { return o < run.offset; });
  if (after == runs_.begin()) return offset;
  const DataRun& run = *std::prev(after);
  return offset - run.offset < run.length ? run.offset + run.length : offset;
}

void RechunkPlanner::AddScanned(uint64_t offset, uint64_t length) {
  assert(length > 0 && length <= RunEnd(offset) - offset);
  known_.try_emplace(offset, Known{length, std::nullopt});
}

std::optional<uint64_t> RechunkPlanner::Assemble(std::vector<PlannedPiece>* out) const {
  out->clear();
  for (const DataRun& run : runs_) {
    const uint64_t end = run.offset + run.length;
    for (uint64_t at = run.offset; at < end;) {
      auto it = known_.find(at);
      if (it == known_.end()) {
        out->clear();
        return at;
      }
      const Known& known = it->second;
      out->push_back({at, known.length, known.previous, at + known.length == end});
      at += known.length;
    }
  }
  return std::nullopt;
}

}  // namespace holdfast
