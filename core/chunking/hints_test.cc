#include "core/chunking/hints.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/chunking/chunker.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

constexpr ChunkerParams kParams{.min_bytes = 100, .max_bytes = 600, .mask_bits = 7};

struct File {
  std::string bytes;
  std::vector<DataRun> runs;
};

std::string RandomBytes(std::mt19937_64& rng, size_t n) {
  std::string s(n, '\0');
  for (char& c : s) c = static_cast<char>(rng());
  return s;
}

uint64_t ScanOne(const Chunker& chunker, const File& file, uint64_t at, uint64_t end) {
  const std::string_view data = std::string_view(file.bytes).substr(at, end - at);
  return chunker.FindCut(data, 0).value_or(data.size());
}

std::vector<PlannedPiece> FullScan(const Chunker& chunker, const File& file) {
  std::vector<PlannedPiece> pieces;
  for (const DataRun& run : file.runs) {
    const uint64_t end = run.offset + run.length;
    for (uint64_t at = run.offset; at < end; at += pieces.back().length) {
      const uint64_t length = ScanOne(chunker, file, at, end);
      pieces.push_back({at, length, std::nullopt, at + length == end});
    }
  }
  return pieces;
}

struct Work {
  std::vector<PlannedPiece> pieces;
  uint64_t scanned_bytes = 0;
  int rounds = 0;
};

// The caller's part, as the header describes it.
Work Replan(const Chunker& chunker, const std::string& old_bytes, std::vector<PreviousPiece> previous,
            const File& file) {
  RechunkPlanner planner(file.runs, previous);
  for (size_t i : planner.ToVerify()) {
    const PreviousPiece& p = previous[i];
    if (p.offset + p.length > old_bytes.size()) continue;  // a lie: no content has this id
    const bool equal = file.bytes.compare(p.offset, p.length, old_bytes, p.offset, p.length) == 0;
    if (equal) planner.SetVerified(i);
  }
  Work work;
  auto scan = [&](uint64_t at) {
    const uint64_t end = planner.RunEnd(at);
    while (at < end && !planner.StopsAt(at)) {
      const uint64_t length = ScanOne(chunker, file, at, end);
      planner.AddScanned(at, length);
      work.scanned_bytes += length;
      at += length;
    }
  };
  for (uint64_t start : planner.ScanStarts()) scan(start);
  while (std::optional<uint64_t> start = planner.Assemble(&work.pieces)) {
    scan(*start);
    if (++work.rounds > 10000) break;
  }
  return work;
}

std::vector<PreviousPiece> AsPrevious(const std::vector<PlannedPiece>& pieces) {
  std::vector<PreviousPiece> out;
  for (const PlannedPiece& p : pieces) out.push_back({p.offset, p.length, p.last_of_run});
  return out;
}

void ExpectSame(const std::vector<PlannedPiece>& planned, const std::vector<PlannedPiece>& full,
                const std::vector<PreviousPiece>& previous, const std::string& old_bytes, const File& file) {
  ASSERT_EQ(planned.size(), full.size());
  for (size_t i = 0; i < full.size(); ++i) {
    ASSERT_EQ(planned[i].offset, full[i].offset) << i;
    ASSERT_EQ(planned[i].length, full[i].length) << i;
    ASSERT_EQ(planned[i].last_of_run, full[i].last_of_run) << i;
    if (planned[i].previous) {
      const PreviousPiece& p = previous[*planned[i].previous];
      ASSERT_EQ(p.offset, full[i].offset);
      ASSERT_EQ(p.length, full[i].length);
      ASSERT_EQ(old_bytes.substr(p.offset, p.length), file.bytes.substr(p.offset, p.length));
    }
  }
}

// Random runs over a file of this size, holes between some of them.
std::vector<DataRun> RandomRuns(std::mt19937_64& rng, uint64_t size) {
  std::vector<DataRun> runs;
  uint64_t at = rng() % 3 == 0 ? std::min<uint64_t>(size, rng() % 2000) : 0;
  while (at < size) {
    const uint64_t n = std::min<uint64_t>(size - at, rng() % 8000);
    runs.push_back({at, n});
    at += n + rng() % 2000;
  }
  return runs;
}

class Hints : public testing::Test {
 protected:
  std::mt19937_64 rng_{4711};
  Key128 key_ = [this] {
    Key128 key;
    for (int i = 0; i < 16; ++i) key.MutableBytes()[i] = static_cast<uint8_t>(rng_());
    return key;
  }();
  Chunker chunker_{key_, kParams};
};

TEST_F(Hints, GiveTheChunksOfAFullScanAfterAnyEdit) {
  for (int round = 0; round < 3000; ++round) {
    SCOPED_TRACE(round);
    File old;
    old.bytes = RandomBytes(rng_, rng_() % 30000);
    if (rng_() % 4 == 0) {  // a stretch without content cuts
      const size_t at = rng_() % (old.bytes.size() + 1);
      old.bytes.replace(at, rng_() % 5000, rng_() % 5000, 'z');
    }
    const bool holes = rng_() % 2 == 0;
    old.runs = holes ? RandomRuns(rng_, old.bytes.size()) : std::vector<DataRun>{{0, old.bytes.size()}};
    File now = old;
    for (uint64_t edits = rng_() % 4; edits > 0; --edits) {
      std::string& b = now.bytes;
      const size_t at = rng_() % (b.size() + 1);
      const size_t n = rng_() % (rng_() % 2 ? 30 : 3000);
      switch (rng_() % 5) {
        case 0:  // overwrite
          for (size_t i = at; i < std::min(b.size(), at + n); ++i) b[i] = static_cast<char>(rng_());
          break;
        case 1:
          b.insert(at, RandomBytes(rng_, n));
          break;
        case 2:
          b.erase(at, n);
          break;
        case 3:
          b.resize(at);
          break;
        case 4:
          b += RandomBytes(rng_, n);
          break;
      }
    }
    if (holes && rng_() % 2 == 0) {
      now.runs = RandomRuns(rng_, now.bytes.size());
    } else if (holes) {  // the same holes, as far as they still fit
      std::erase_if(now.runs, [&](const DataRun& r) { return r.offset >= now.bytes.size(); });
      for (DataRun& r : now.runs) r.length = std::min(r.length, now.bytes.size() - r.offset);
      if (!now.runs.empty() && rng_() % 2) now.runs.back().length = now.bytes.size() - now.runs.back().offset;
    } else {
      now.runs = {{0, now.bytes.size()}};
    }
    const std::vector<PreviousPiece> previous = AsPrevious(FullScan(chunker_, old));
    const Work work = Replan(chunker_, old.bytes, previous, now);
    ASSERT_NO_FATAL_FAILURE(ExpectSame(work.pieces, FullScan(chunker_, now), previous, old.bytes, now));
  }
}

TEST_F(Hints, ScanOnlyAroundAnOverwrite) {
  File old{RandomBytes(rng_, 1 << 20), {{0, 1 << 20}}};
  File now = old;
  now.bytes[300000] ^= 1;
  now.bytes[700000] ^= 1;
  const std::vector<PreviousPiece> previous = AsPrevious(FullScan(chunker_, old));
  const Work work = Replan(chunker_, old.bytes, previous, now);
  ExpectSame(work.pieces, FullScan(chunker_, now), previous, old.bytes, now);
  EXPECT_LT(work.scanned_bytes, 20000u);
  EXPECT_EQ(work.pieces.front().previous, 0u);
}

TEST_F(Hints, ScanNothingWhenNothingChanged) {
  File file{RandomBytes(rng_, 100000), {{0, 40000}, {50000, 50000}}};
  const std::vector<PreviousPiece> previous = AsPrevious(FullScan(chunker_, file));
  const Work work = Replan(chunker_, file.bytes, previous, file);
  ExpectSame(work.pieces, FullScan(chunker_, file), previous, file.bytes, file);
  EXPECT_EQ(work.scanned_bytes, 0u);
}

TEST_F(Hints, DoNotTrustTheLastChunkOfARunThatGrew) {
  File old{RandomBytes(rng_, 10000), {{0, 10000}}};
  File now{old.bytes + RandomBytes(rng_, 10000), {{0, 20000}}};
  const std::vector<PreviousPiece> previous = AsPrevious(FullScan(chunker_, old));
  RechunkPlanner planner(now.runs, previous);
  EXPECT_EQ(planner.ToVerify().size(), previous.size() - 1);
  const Work work = Replan(chunker_, old.bytes, previous, now);
  ExpectSame(work.pieces, FullScan(chunker_, now), previous, old.bytes, now);
}

TEST_F(Hints, TakeAnEmptyFileAndNoHints) {
  RechunkPlanner empty({}, {{0, 100, false}});
  EXPECT_TRUE(empty.ToVerify().empty());
  EXPECT_TRUE(empty.ScanStarts().empty());
  std::vector<PlannedPiece> pieces;
  EXPECT_EQ(empty.Assemble(&pieces), std::nullopt);
  EXPECT_TRUE(pieces.empty());
  RechunkPlanner none({{5, 0}, {10, 20}}, {});
  EXPECT_EQ(none.ScanStarts(), std::vector<uint64_t>{10});
  EXPECT_EQ(none.RunEnd(9), 9u);
  EXPECT_EQ(none.RunEnd(10), 30u);
  EXPECT_EQ(none.RunEnd(29), 30u);
  EXPECT_EQ(none.RunEnd(30), 30u);
}

TEST_F(Hints, SurviveNonsenseFromThePreviousSnapshot) {
  File file{RandomBytes(rng_, 20000), {{0, 20000}}};
  const std::vector<PreviousPiece> nonsense = {
      {UINT64_MAX, UINT64_MAX, false}, {0, 0, false},     {19999, UINT64_MAX, false},
      {5, UINT64_MAX - 3, true},       {20000, 1, false}, {19000, 1001, false},
      {UINT64_MAX - 1, 2, true}};
  RechunkPlanner planner(file.runs, nonsense);
  EXPECT_TRUE(planner.ToVerify().empty());
  const Work work = Replan(chunker_, file.bytes, nonsense, file);
  ExpectSame(work.pieces, FullScan(chunker_, file), nonsense, file.bytes, file);
}

}  // namespace
}  // namespace holdfast
