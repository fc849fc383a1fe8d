#include "server/repository/page_marks.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/base/limits.h"
#include "server/repository/record_location.h"

namespace holdfast {
namespace {

constexpr size_t kMarkBatch = 1024;

// One walk. Depth first, at most 2 * kTreeLevelsMax deep; a page comes after all that is below it.
class Walk {
 public:
  Walk(ChunkIndex& index, PackReader& reader, PageWalk walk, Warnings& warnings)
      : index_(index), reader_(reader), walk_(walk), warnings_(warnings) {}

  absl::Status Below(const ChunkId& root) {
    ASSIGN_OR_RETURN(auto found, index_.LookupAll({&root, 1}));
    const Copies& copies = found[0];
    if (copies.empty() || copies[0].type != ChunkType::kTree || IsDone(copies[0]) || known_.contains(root)) {
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(Enter(root, copies));
    while (!path_.empty()) RETURN_IF_ERROR(path_.back().below.empty() ? Leave() : Descend());
    return absl::OkStatus();
  }

  // The writes may end anywhere: what is promised wrongly is taken back first.
  absl::Status WriteMarks() {
    RETURN_IF_ERROR(index_.UnmarkCommitted(std::exchange(unmark_, {})));
    RETURN_IF_ERROR(index_.MarkDamaged(std::exchange(damaged_, {})));
    return index_.MarkCommitted(std::exchange(mark_, {}));
  }

 private:
  using Copies = std::vector<ChunkLocation>;  // of one page, oldest first

  struct Page {
    ChunkId id;
    std::vector<ChunkId> below;  // pages still to be looked at
    bool complete = true;
    bool marked = false;
  };

  bool IsDone(const ChunkLocation& l) const { return walk_ == PageWalk::kUnmarkedOnly && l.committed; }

  // Of the oldest copy that opens. That none does is noted: whoever has the page may send it again.
  absl::StatusOr<RecordHeader> ReadHeader(const ChunkId& id, const Copies& copies) {
    absl::Status failure;
    bool damaged = true;
    for (const ChunkLocation& copy : copies) {
      absl::StatusOr<RecordHeader> header = reader_.ReadHeader(ToRecordLocation(copy, id));
      if (header.ok()) return header;
      damaged = damaged && IsDamage(header.status());
      if (!MayPass(header.status())) warnings_.Add(std::string(header.status().message()));
      // An outage is not a loss: of two failures the one that may pass counts.
      if (failure.ok() || MayPass(header.status())) failure = header.status();
    }
    if (damaged) damaged_.push_back(id);
    return failure;
  }

  absl::Status Enter(const ChunkId& id, const Copies& copies) {
    Page page{id, {}, !copies[0].damaged, copies[0].committed};
    absl::StatusOr<RecordHeader> header = ReadHeader(id, copies);
    if (MayPass(header.status())) return header.status();
    if (!header.ok() || path_.size() >= size_t{2} * kTreeLevelsMax) {
      page.complete = false;
    } else {
      ASSIGN_OR_RETURN(auto locations, index_.Lookup(header->children));
      for (size_t i = 0; i < locations.size(); ++i) {
        if (!locations[i] || locations[i]->damaged) page.complete = false;
        if (locations[i] && locations[i]->type == ChunkType::kTree && !IsDone(*locations[i])) {
          page.below.push_back(header->children[i]);
        }
      }
    }
    path_.push_back(std::move(page));
    return absl::OkStatus();
  }

  absl::Status Descend() {
    const ChunkId next = path_.back().below.back();
    path_.back().below.pop_back();
    if (auto it = known_.find(next); it != known_.end()) {
      path_.back().complete = path_.back().complete && it->second;
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(auto found, index_.LookupAll({&next, 1}));
    if (!found[0].empty()) return Enter(next, found[0]);
    path_.back().complete = false;
    return absl::OkStatus();
  }

  absl::Status Leave() {
    const Page page = std::move(path_.back());
    path_.pop_back();
    known_[page.id] = page.complete;
    if (page.complete && !page.marked) mark_.push_back(page.id);
    if (!page.complete && page.marked) unmark_.push_back(page.id);
    // What is above an incomplete page is incomplete.
    if (!path_.empty()) path_.back().complete = path_.back().complete && page.complete;
    return mark_.size() + unmark_.size() + damaged_.size() >= kMarkBatch ? WriteMarks() : absl::OkStatus();
  }

  ChunkIndex& index_;
  PackReader& reader_;
  const PageWalk walk_;
  Warnings& warnings_;
  absl::flat_hash_map<ChunkId, bool> known_;  // page looked at -> complete
  std::vector<Page> path_;
  std::vector<ChunkId> mark_, unmark_, damaged_;
};

}  // namespace

absl::Status MarkPages(ChunkIndex& index, PackReader& reader, absl::Span<const ChunkId> roots, PageWalk walk,
                       Warnings& warnings) {
  Walk all(index, reader, walk, warnings);
  for (const ChunkId& root : roots) RETURN_IF_ERROR(all.Below(root));
  return all.WriteMarks();
}

}  // namespace holdfast
