#include "client/restore/directory_stack.h"

#include <memory>
#include <utility>

#include "core/base/codec.h"

namespace holdfast {

DirectoryStack::DirectoryStack(RestoreRun& run, TargetDirectories& directories, PinnedDir& pinned, DirRef root,
                               uint64_t memory_bytes)
    : run_(run), directories_(directories), pinned_(pinned), listed_(directories.root_fd(), memory_bytes) {
  levels_.emplace_back().dir = std::move(root);
}

// --- What is listed -------------------------------------------------------------------------------

void DirectoryStack::List(const std::string& name, FilterResult filter, const Metadata& m) {
  std::string record;
  ByteWriter w(&record);
  w.LengthPrefixed(name);
  w.U8(static_cast<uint8_t>(filter));
  w.Varint(m.mode);
  w.Varint(m.uid);
  w.Varint(m.gid);
  w.SignedVarint(m.mtime.seconds);
  w.Varint(m.mtime.nanos);
  w.Varint(m.xattrs != nullptr ? m.xattrs->size() : 0);
  if (m.xattrs != nullptr) {
    for (const Xattr& x : *m.xattrs) {
      w.LengthPrefixed(x.name);
      w.LengthPrefixed(x.value);
    }
  }
  if (absl::Status s = listed_.Append(record); !s.ok()) run_.Fail(s);
  levels_.back().end = listed_.end();
}

std::optional<DirectoryStack::ListedDirectory> DirectoryStack::ReadListed(uint64_t offset, uint64_t* next) {
  absl::StatusOr<uint64_t> end = listed_.Read(offset, &record_);
  if (!end.ok()) {
    run_.Fail(end.status());
    return std::nullopt;
  }
  *next = *end;
  ListedDirectory out;
  ByteReader r(record_);
  out.name = r.LengthPrefixed(~0ull);
  out.filter = static_cast<FilterResult>(r.U8());
  Metadata& m = out.metadata;
  m.mode = static_cast<uint32_t>(r.Varint());
  m.uid = static_cast<uint32_t>(r.Varint());
  m.gid = static_cast<uint32_t>(r.Varint());
  m.mtime.seconds = r.SignedVarint();
  m.mtime.nanos = static_cast<uint32_t>(r.Varint());
  if (uint64_t n = r.Varint(); n != 0) {
    m.xattrs = std::make_unique<std::vector<Xattr>>();
    for (uint64_t i = 0; i < n; ++i) {
      std::string name(r.LengthPrefixed(~0ull));
      m.xattrs->push_back({std::move(name), std::string(r.LengthPrefixed(~0ull))});
    }
  }
  return out;
}

std::optional<DirectoryStack::ListedDirectory> DirectoryStack::FinishListed(size_t depth, const std::string* before) {
  while (levels_[depth].cursor < levels_[depth].end && !run_.stopping()) {
    uint64_t next = 0;
    std::optional<ListedDirectory> listed = ReadListed(levels_[depth].cursor, &next);
    if (!listed.has_value()) return std::nullopt;
    if (before != nullptr && listed->name > *before) return std::nullopt;
    levels_[depth].cursor = next;
    if (before != nullptr && listed->name == *before) return listed;
    if (listed->filter != FilterResult::kRestore || !MakeLevel(depth)) continue;
    const DirRef& above = levels_[depth].dir;
    absl::StatusOr<DirRef> dir = directories_.MakeDirectory(above, pinned_, listed->name, std::move(listed->metadata));
    if (!dir.ok()) {
      run_.ReportTargetProblem(directories_.SnapshotPath(above, listed->name), "make directory", dir.status());
    }
  }
  return std::nullopt;
}

// --- The way --------------------------------------------------------------------------------------

bool DirectoryStack::MakeLevel(size_t depth) {
  size_t made = depth;
  while (!levels_[made].dir && !levels_[made].failed && !levels_[made].left_out) --made;
  if (!levels_[made].dir) return false;
  for (size_t i = made + 1; i <= depth; ++i) {
    Level& level = levels_[i];
    const DirRef& above = levels_[i - 1].dir;
    absl::StatusOr<DirRef> dir = directories_.MakeDirectory(above, pinned_, level.name, std::move(level.metadata));
    if (!dir.ok()) {
      level.failed = true;
      run_.ReportTargetProblem(directories_.SnapshotPath(above, level.name), "make directory", dir.status());
      return false;
    }
    level.dir = *std::move(dir);
  }
  return true;
}

const DirRef* DirectoryStack::Made() { return MakeLevel(levels_.size() - 1) ? &levels_.back().dir : nullptr; }

void DirectoryStack::Enter(const std::string& name) {
  Level next;
  next.name = name;
  const Level& above = levels_.back();
  if (above.left_out || above.failed) {
    next.left_out = above.left_out;
    next.failed = above.failed;
  } else if (std::optional<ListedDirectory> listed = FinishListed(levels_.size() - 1, &name); listed.has_value()) {
    next.left_out = listed->filter == FilterResult::kLeaveOut;
    next.lazy = listed->filter == FilterResult::kDescend;
    next.metadata = std::move(listed->metadata);
  } else {
    // Its own entry was lost with a damaged page, or came in no order. What is in it is worth having all the same.
    next.lazy = true;
  }
  next.begin = next.end = next.cursor = listed_.end();
  const bool make_now = !next.lazy && !next.left_out && !next.failed;
  levels_.push_back(std::move(next));
  if (make_now) MakeLevel(levels_.size() - 1);
}

void DirectoryStack::Leave() {
  const Level& level = levels_.back();
  if (!level.left_out && !level.failed) FinishListed(levels_.size() - 1, nullptr);
  if (absl::Status s = listed_.Truncate(levels_.back().begin); !s.ok()) run_.Fail(s);
  levels_.pop_back();
}

void DirectoryStack::MoveTo(const Components& directory, size_t skip) {
  const size_t depth = directory.size() >= skip ? directory.size() - skip : 0;
  size_t same = 0;
  while (same < depth && same + 1 < levels_.size() && levels_[same + 1].name == directory[skip + same]) ++same;
  while (levels_.size() > same + 1) Leave();
  while (levels_.size() < depth + 1 && !run_.stopping()) Enter(directory[skip + levels_.size() - 1]);
}

void DirectoryStack::FinishAll() {
  while (levels_.size() > 1) Leave();
  if (!run_.stopping()) FinishListed(0, nullptr);
}

}  // namespace holdfast
