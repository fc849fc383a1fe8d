#include "client/restore/restore_planner.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "client/restore/beneath.h"

namespace holdfast {
namespace {

// "/a/b" of an entry key, for messages.
std::string KeyPath(std::string_view key) {
  std::string out;
  for (size_t i = 0; i < key.size(); ++i) {
    if (key[i] != 0) {
      if (out.empty()) out += '/';
      out += key[i];
    } else if (out.empty() || out.back() != '/') {
      out += '/';
    }
  }
  return out.empty() ? "/" : out;
}

}  // namespace

RestorePlanner::RestorePlanner(const PlannerParts& parts, const Entry* root_metadata, uint64_t memory_bytes)
    : parts_(parts),
      run_(parts.run),
      metadata_(parts.run.options),
      directories_(parts.run, parts.directories, pinned_,
                   parts.directories.Root(root_metadata != nullptr ? std::optional(metadata_.For(*root_metadata))
                                                                   : std::nullopt),
                   memory_bytes),
      content_(parts.input, parts.run, parts.window, parts.writer, pinned_) {}

// --- The walk -------------------------------------------------------------------------------------

void RestorePlanner::ReportGaps(const EntryIterator& it) {
  for (; gaps_reported_ < it.gaps().size(); ++gaps_reported_) {
    const KeyGap& gap = it.gaps()[gaps_reported_];
    run_.ReportRepositoryProblem(
        KeyPath(gap.range.begin), "read directory entries",
        Annotate(gap.status, absl::StrCat("everything from ", KeyPath(gap.range.begin), " to ",
                                          gap.range.end.empty() ? "the end" : KeyPath(gap.range.end), " is lost")));
  }
}

void RestorePlanner::PlanTree(const Components& path_inside) {
  std::unique_ptr<EntryIterator> it = parts_.input.ScanSubtree(path_inside);
  while (!run_.stopping() && it->Next()) {
    run_.observer.entries_seen.fetch_add(1, std::memory_order_relaxed);
    if (it->gaps().size() != gaps_reported_) ReportGaps(*it);
    const Entry& entry = it->entry();
    if (entry.name.empty() && it->directory().empty()) continue;  // the root: done
    PlanIn(it->directory(), path_inside.size(), entry);
    PlanRetries();
  }
  ReportGaps(*it);
  if (!it->status().ok()) run_.Fail(it->status());
  directories_.FinishAll();
}

void RestorePlanner::PlanIn(const Components& directory, size_t skip, const Entry& entry) {
  directories_.MoveTo(directory, skip);
  if (run_.stopping() || directories_.is_left_out()) return;
  if (directories_.has_failed()) {
    ++run_.counters.not_reached;
    return;
  }
  const bool is_directory = entry.type == EntryType::kDirectory;
  FilterResult filter = FilterResult::kRestore;
  if (run_.options.filter) {
    Components path = directory;
    path.push_back(entry.name);
    filter = run_.options.filter(path, is_directory);
  }
  if (filter == FilterResult::kLeaveOut) {
    ++run_.counters.left_out;
    if (is_directory) directories_.List(entry.name, filter, Metadata());
    return;
  }
  // A hostile name is an error even where nothing would be written.
  if (absl::Status s = CheckName(entry.name); !s.ok()) {
    std::string shown = parts_.directories.snapshot_prefix();
    for (size_t i = skip; i < directory.size(); ++i) absl::StrAppend(&shown, "/", directory[i]);
    run_.ReportTargetProblem(absl::StrCat(shown, "/", entry.name), "check name", s);
    return;
  }
  if (is_directory) {
    PlanDirectory(entry, filter);
  } else if (const DirRef* dir = directories_.Made(); dir != nullptr) {
    PlanEntry(*dir, entry);
  } else {
    ++run_.counters.not_reached;
  }
}

void RestorePlanner::PlanDirectory(const Entry& entry, FilterResult filter) {
  auto report = [&](std::string_view operation, const absl::Status& status) {
    const DirRef* above = directories_.Made();
    if (above == nullptr) return;
    run_.ReportRepositoryProblem(parts_.directories.SnapshotPath(*above, entry.name), operation, status);
  };
  if (!entry.xattr_chunk.has_value()) {
    directories_.List(entry.name, filter, metadata_.For(entry));
  } else {
    Entry resolved = entry;
    if (absl::Status s = parts_.input.ResolveSideChunks(resolved); !s.ok()) report("read extended attributes", s);
    directories_.List(entry.name, filter, metadata_.For(resolved));
  }
  if (entry.flags & kEntryReadFailed) {
    report("restore", absl::FailedPreconditionError("the directory could not be read when the backup was made"));
  }
}

void RestorePlanner::PlanOne(const Entry& entry) {
  if (const DirRef* dir = directories_.Made(); dir != nullptr) PlanEntry(*dir, entry);
}

void RestorePlanner::Close() {
  pinned_.Release();
  parts_.links.Close();
  directories_.Clear();
}

// --- One entry ------------------------------------------------------------------------------------

void RestorePlanner::PlanEntry(const DirRef& dir, const Entry& original) {
  auto path = [&] { return parts_.directories.SnapshotPath(dir, original.name); };
  const Entry* entry = &original;
  Entry resolved;
  if (original.xattr_chunk.has_value() || original.hole_chunk.has_value()) {
    resolved = original;
    if (absl::Status s = parts_.input.ResolveSideChunks(resolved); !s.ok()) {
      run_.ReportRepositoryProblem(path(), "read side chunks of the entry", s);
      if (resolved.hole_chunk.has_value()) return;  // where its bytes belong is unknown
    }
    entry = &resolved;
  }
  if (entry->flags & kEntryReadFailed) {
    run_.ReportRepositoryProblem(path(), "restore",
                                 absl::FailedPreconditionError("it could not be read when the backup was made"));
    return;
  }
  if (entry->flags & kEntryChangedWhileRead) {
    run_.ReportNote(path(), "restore", absl::FailedPreconditionError("it changed while the backup read it"));
  }
  std::optional<LinkKey> first;
  if (entry->link_count > 1) {
    switch (parts_.links.RoleOf(*entry)) {
      case LinkRole::kFirst:
        first = LinkKey{entry->device, entry->inode};
        break;
      case LinkRole::kFurther: {
        std::optional<WhatIsThere> there;
        const std::optional<OverwriteDecision> decision = Decide(dir, *entry, true, &there);
        if (!decision.has_value()) return;
        if (*decision == OverwriteDecision::kCreate || *decision == OverwriteDecision::kReplace) {
          PlanFurtherName({dir, *entry, *decision == OverwriteDecision::kReplace});
        } else {
          LeaveAlone(dir, *entry, *decision, *there);
        }
        return;
      }
      case LinkRole::kApart:
        run_.ReportNote(path(), "link",
                        absl::FailedPreconditionError("it differs from another name of the same file: restored apart"));
        break;
    }
  }
  std::optional<WhatIsThere> there;
  const std::optional<OverwriteDecision> decision = Decide(dir, *entry, false, &there);
  if (decision == OverwriteDecision::kCreate || decision == OverwriteDecision::kReplace) {
    PlanObject(dir, *entry, decision == OverwriteDecision::kReplace, first);
    return;
  }
  const bool is_there = decision.has_value() && LeaveAlone(dir, *entry, *decision, *there);
  if (first.has_value()) parts_.links.FirstDone(*first, dir, entry->name, is_there, pinned_);
}

std::optional<OverwriteDecision> RestorePlanner::Decide(const DirRef& dir, const Entry& entry, bool is_further_name,
                                                        std::optional<WhatIsThere>* there) {
  if (!dir->existed()) return OverwriteDecision::kCreate;
  auto report = [&](std::string_view operation, const absl::Status& status) {
    run_.ReportTargetProblem(parts_.directories.SnapshotPath(dir, entry.name), operation, status);
  };
  absl::StatusOr<int> fd = pinned_.Fd(dir);
  if (!fd.ok()) {
    report("open directory", fd.status());
    return std::nullopt;
  }
  absl::StatusOr<std::optional<struct stat>> found = parts_.files.Look(*fd, entry.name);
  if (!found.ok()) {
    report("look", found.status());
    return std::nullopt;
  }
  if (found->has_value()) {
    *there = WhatIsThere{**found};
    if (run_.options.overwrite == OverwriteMode::kIfChanged && entry.type == EntryType::kSymlink &&
        S_ISLNK((*found)->st_mode)) {
      (*there)->is_same_symlink = parts_.files.IsSymlinkTo(*fd, entry.name, entry.symlink_target);
    }
  }
  return DecideOverwrite(
      run_.options.overwrite, *there,
      {.entry = entry, .gives_rights = GivesRights(metadata_.For(entry)), .is_further_name = is_further_name});
}

bool RestorePlanner::LeaveAlone(const DirRef& dir, const Entry& entry, OverwriteDecision decision,
                                const WhatIsThere& there) {
  auto report = [&](std::string_view operation, const absl::Status& status) {
    run_.ReportTargetProblem(parts_.directories.SnapshotPath(dir, entry.name), operation, status);
  };
  switch (decision) {
    case OverwriteDecision::kOnlySetMetadata: {
      ++run_.counters.skipped;
      absl::StatusOr<int> fd = pinned_.Fd(dir);
      absl::Status status = fd.status();
      if (status.ok()) status = parts_.files.SetMetadata(dir, *fd, entry.name, metadata_.For(entry), there.st);
      if (!status.ok()) report("set metadata", status);
      return true;
    }
    case OverwriteDecision::kSkip:
      ++run_.counters.skipped;
      return false;
    case OverwriteDecision::kRefuseDirectory:
      report("create", absl::AlreadyExistsError("a directory is in its place"));
      return false;
    default:
      report("create", absl::AlreadyExistsError("it exists"));
      return false;
  }
}

void RestorePlanner::PlanFurtherName(const FurtherName& further) {
  const LinkKey key{further.entry.device, further.entry.inode};
  switch (parts_.links.Place(further, pinned_)) {
    case LinkPlacement::kDone:
      return;
    case LinkPlacement::kFirst:
      PlanObject(further.dir, further.entry, further.replace, key);
      return;
    case LinkPlacement::kApart:
      PlanObject(further.dir, further.entry, further.replace, std::nullopt);
      return;
  }
}

bool RestorePlanner::PlanRetries() {
  const std::vector<FurtherName> retries = parts_.links.TakeRetries();
  for (const FurtherName& further : retries) {
    if (run_.stopping()) break;
    PlanFurtherName(further);
  }
  return !retries.empty();
}

void RestorePlanner::PlanObject(const DirRef& dir, const Entry& entry, bool replace, std::optional<LinkKey> link) {
  if (entry.type == EntryType::kFile) {
    content_.Plan(dir, entry, metadata_.For(entry), replace, link);
    return;
  }
  absl::StatusOr<int> fd = pinned_.Fd(dir);
  absl::Status status = fd.status();
  if (status.ok()) status = parts_.files.MakeSpecial(dir, *fd, entry, metadata_.For(entry), replace);
  if (status.ok()) {
    ++run_.counters.others;
  } else {
    run_.ReportTargetProblem(parts_.directories.SnapshotPath(dir, entry.name), "create", status);
  }
  if (link.has_value()) parts_.links.FirstDone(*link, dir, entry.name, status.ok(), pinned_);
}

}  // namespace holdfast
