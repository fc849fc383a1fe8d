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
    ASSIGN_OR_RETURN(auto at, index_.Lookup({&root, 1}));
    if (!at[0] || at[0]->type != ChunkType::kTree || IsDone(*at[0]) || known_.contains(root)) return absl::OkStatus();
    RETURN_IF_ERROR(Enter(root, *at[0]));
    while (!path_.empty()) RETURN_IF_ERROR(path_.back().below.empty() ? Leave() : Descend());
    return absl::OkStatus();
  }

  absl::Status WriteMarks() {
    RETURN_IF_ERROR(index_.UnmarkCommitted(std::exchange(unmark_, {})));
    return index_.MarkCommitted(std::exchange(mark_, {}));
  }

 private:
  struct Page {
    ChunkId id;
    std::vector<ChunkId> below;  // pages still to be looked at
    bool complete = true;
    bool marked = false;
  };

  bool IsDone(const ChunkLocation& l) const { return walk_ == PageWalk::kUnmarkedOnly && l.committed; }

  absl::Status Enter(const ChunkId& id, const ChunkLocation& location) {
    Page page{id, {}, !location.damaged, location.committed};
    absl::StatusOr<RecordHeader> header = reader_.ReadHeader(ToRecordLocation(location, id));
    if (MayPass(header.status())) return header.status();
    if (!header.ok() || path_.size() >= 2 * kTreeLevelsMax) {
      if (!header.ok()) warnings_.Add(std::string(header.status().message()));
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
    ASSIGN_OR_RETURN(auto location, index_.Lookup({&next, 1}));
    if (location[0]) return Enter(next, *location[0]);
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
    return mark_.size() + unmark_.size() >= kMarkBatch ? WriteMarks() : absl::OkStatus();
  }

  ChunkIndex& index_;
  PackReader& reader_;
  const PageWalk walk_;
  Warnings& warnings_;
  absl::flat_hash_map<ChunkId, bool> known_;  // page looked at -> complete
  std::vector<Page> path_;
  std::vector<ChunkId> mark_, unmark_;
};

}  // namespace

absl::Status MarkPages(ChunkIndex& index, PackReader& reader, absl::Span<const ChunkId> roots, PageWalk walk,
                       Warnings& warnings) {
  Walk all(index, reader, walk, warnings);
  for (const ChunkId& root : roots) RETURN_IF_ERROR(all.Below(root));
  return all.WriteMarks();
}

}  // namespace holdfast
