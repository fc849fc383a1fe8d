// Re-chunking a large file that changed, with the help of its previous version, to exactly the chunks that a full scan
// would give. Pure planner: the caller hashes and scans, in parallel if it likes.
//
//   1. ToVerify(): previous chunks to hash at their old offset; report those with their old id by SetVerified(i).
//   2. ScanStarts(): where to start scanning. Report every chunk found by AddScanned(); stop a scan at the end of the
//      data run or when a chunk ends where StopsAt() is true. Each start is independent of the others.
//   3. Assemble(): the chunks of the whole file in order, or the start of one more scan (a scan overtook a verified
//      chunk): do it like those of step 2 and call again. Each such call makes progress.
//
// Why it is exact: the length of a chunk depends only on where it starts, the bytes from there on and the end of the
// run. Equal bytes at a chunk's start thus give an equal cut, unless the previous chunk was ended by its run's end,
// which is no cut; such a chunk counts only where a run ends at the same offset. Whether a chunk starts there at all is
// decided in step 3. What the previous version says is trusted for speed only if it was cut by the same key and
// parameters. Not thread-safe. About 50 bytes of memory per chunk.
#ifndef HOLDFAST_CORE_CHUNKING_HINTS_H_
#define HOLDFAST_CORE_CHUNKING_HINTS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace holdfast {

// Bytes [offset, offset + length) of the file as it is now that are not a hole.
struct DataRun {
  uint64_t offset = 0;
  uint64_t length = 0;
};

// A chunk of the previous version. The list comes from a snapshot: no order or sanity is assumed.
struct PreviousPiece {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool last_of_run = false;  // ended by the end of its data run (end of file or a hole)
};

struct PlannedPiece {
  uint64_t offset = 0;
  uint64_t length = 0;
  std::optional<size_t> previous;  // index of the equal previous piece, whose id can be used
  bool last_of_run = false;
  bool operator==(const PlannedPiece&) const = default;
};

class RechunkPlanner {
 public:
  // `runs` in ascending order, not overlapping (our bug otherwise: crashes). Empty runs are ignored.
  RechunkPlanner(std::vector<DataRun> runs, std::vector<PreviousPiece> previous);

  // Indices of previous pieces whose equality would help, ascending by offset; they do not depend on each other.
  const std::vector<size_t>& ToVerify() const { return to_verify_; }
  void SetVerified(size_t index);

  std::vector<uint64_t> ScanStarts() const;
  // True if a scan may end at a cut here, because what follows is known already.
  bool StopsAt(uint64_t offset) const;
  // The end of the run that holds `offset`; `offset` itself if it lies in no run.
  uint64_t RunEnd(uint64_t offset) const;
  // A scan that stood at `offset` found a chunk of this length.
  void AddScanned(uint64_t offset, uint64_t length);

  // Fills `out` and returns nothing, or returns where one more scan must start.
  std::optional<uint64_t> Assemble(std::vector<PlannedPiece>* out) const;

 private:
  struct Known {
    uint64_t length = 0;
    std::optional<size_t> previous;
  };
  const std::vector<DataRun> runs_;
  const std::vector<PreviousPiece> previous_;
  std::vector<size_t> to_verify_;
  std::unordered_map<uint64_t, Known> known_;  // by offset: what a chunk that starts here looks like
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_CHUNKING_HINTS_H_
