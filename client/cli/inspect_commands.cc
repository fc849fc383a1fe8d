// holdfast diff | ls | cat
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/snapshots/open_snapshot.h"
#include "client/snapshots/snapshot_path.h"
#include "client/verify/content_reader.h"
#include "core/base/repository_name.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

struct InspectArguments {
  std::string repository = "default";
  std::string source;
  std::string first, second;  // snapshots, with or without a path
  bool recursive = false;
  bool all = false;
};

// A JSON array on standard output, element by element: memory does not grow with it.
class JsonArray {
 public:
  explicit JsonArray(Stdout& out) : out_(out) {}
  absl::Status Add(const Json& value) {
    RETURN_IF_ERROR(out_.Write(is_first_ ? "[\n  " : ",\n  "));
    is_first_ = false;
    return out_.Write(value.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  absl::Status End() { return out_.Write(is_first_ ? "[]\n" : "\n]\n"); }

 private:
  Stdout& out_;
  bool is_first_ = true;
};

std::string PathOf(const Components& directory, const std::string& name) {
  std::string out = JoinComponents(directory);
  if (!out.empty() && !name.empty()) out += '/';
  return out + name;
}

std::string_view TypeName(EntryType type) {
  switch (type) {
    case EntryType::kFile:
      return "file";
    case EntryType::kDirectory:
      return "directory";
    case EntryType::kSymlink:
      return "symlink";
    case EntryType::kFifo:
      return "fifo";
    case EntryType::kSocket:
      return "socket";
    case EntryType::kCharDevice:
      return "character device";
    case EntryType::kBlockDevice:
      return "block device";
  }
  return "unknown";
}

// As ls -l writes it.
std::string ModeText(const Entry& e) {
  static constexpr char kTypes[] = {'?', '-', 'd', 'l', 'p', 's', 'c', 'b'};
  const auto type = static_cast<size_t>(e.type);
  std::string out(1, type < sizeof(kTypes) ? kTypes[type] : '?');
  for (int shift = 6; shift >= 0; shift -= 3) {
    const uint32_t bits = e.mode >> shift;
    out += bits & 4 ? 'r' : '-';
    out += bits & 2 ? 'w' : '-';
    const bool special = e.mode & (shift == 6 ? 04000 : shift == 3 ? 02000 : 01000);
    const char letter = shift == 0 ? 't' : 's';
    out += special ? (bits & 1 ? letter : static_cast<char>(letter - 32)) : (bits & 1 ? 'x' : '-');
  }
  return out;
}

// Not in nanoseconds of 64 bits, which end in 2262.
absl::Time ToTime(const Timestamp& t) { return absl::FromUnixSeconds(t.seconds) + absl::Nanoseconds(t.nanos); }

std::string EntryLine(const Entry& e, const std::string& path) {
  const std::string owner = e.owner_name.empty() ? absl::StrCat(e.uid) : EscapeForTerminal(e.owner_name);
  const std::string group = e.group_name.empty() ? absl::StrCat(e.gid) : EscapeForTerminal(e.group_name);
  std::string size = absl::StrCat(e.size);
  if (e.type == EntryType::kCharDevice || e.type == EntryType::kBlockDevice) {
    size = absl::StrCat(e.device_major, ",", e.device_minor);
  }
  std::string line = absl::StrFormat(
      "%s %3d %-8s %-8s %12s %s %s", ModeText(e), e.link_count, owner, group, size,
      absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(e.mtime.seconds), absl::LocalTimeZone()),
      EscapeForTerminal(path));
  if (e.type == EntryType::kSymlink) line += " -> " + EscapeForTerminal(e.symlink_target);
  if (e.flags & kEntryReadFailed) line += "  (not read)";
  return line + "\n";
}

Json EntryJson(const Entry& e, const std::string& path) {
  Json out;
  SetName(out, "name", e.name);
  SetName(out, "path", path);
  out["type"] = TypeName(e.type);
  out["size"] = e.size;
  out["mode"] = absl::StrFormat("%04o", e.mode);
  out["uid"] = e.uid;
  out["gid"] = e.gid;
  if (!e.owner_name.empty()) SetName(out, "owner", e.owner_name);
  if (!e.group_name.empty()) SetName(out, "group", e.group_name);
  out["mtime"] = FormatTimeJson(ToTime(e.mtime));
  out["links"] = e.link_count;
  if (e.type == EntryType::kSymlink) SetName(out, "target", e.symlink_target);
  if (e.type == EntryType::kCharDevice || e.type == EntryType::kBlockDevice) {
    out["device"] = {e.device_major, e.device_minor};
  }
  if (e.flags & kEntryReadFailed) out["not_read"] = true;
  if (e.flags & kEntryChangedWhileRead) out["changed_while_read"] = true;
  return out;
}

absl::StatusOr<std::unique_ptr<OpenSnapshot>> OpenNamed(Context& context, const InspectArguments& arguments,
                                                        const std::string& text) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(arguments.repository)));
  ASSIGN_OR_RETURN(ListedSnapshot listed, context.FindSnapshot(arguments.repository, text, arguments.source));
  return context.Open(arguments.repository, listed);
}

absl::Status NoSuchPath(const absl::Status& status, const SnapshotPath& what, const OpenSnapshot& snapshot) {
  if (!absl::IsNotFound(status)) return status;
  return absl::NotFoundError(absl::StrCat("snapshot ", ShortId(snapshot.id), " has no ",
                                          EscapeForTerminal(JoinComponents(what.path)),
                                          "\n  See what there is with: holdfast ls ", ShortId(snapshot.id)));
}

// --- ls and cat -----------------------------------------------------------------------------------

absl::StatusOr<ExitCode> Ls(const InspectArguments& arguments, Context& context) {
  const SnapshotPath what = ParseSnapshotPath(arguments.first);
  ASSIGN_OR_RETURN(std::unique_ptr<OpenSnapshot> snapshot, OpenNamed(context, arguments, what.snapshot));
  absl::StatusOr<Entry> top = LookupIn(*snapshot, what.path);
  if (!top.ok()) return NoSuchPath(top.status(), what, *snapshot);
  JsonArray json(context.out());
  auto show = [&](const Entry& entry, const std::string& path) -> absl::Status {
    if (context.json()) return json.Add(EntryJson(entry, path));
    return context.out().Write(EntryLine(entry, path));
  };
  if (top->type != EntryType::kDirectory) {
    std::string path = JoinComponents(what.path);
    if (path.empty()) path = SourceName(*snapshot);
    RETURN_IF_ERROR(show(*top, path));
    if (context.json()) RETURN_IF_ERROR(json.End());
    return ExitCode::kOk;
  }
  std::unique_ptr<EntryIterator> it = arguments.recursive ? snapshot->reader->ScanSubtree(what.path)
                                                          : snapshot->reader->Scan(KeyRange::Directory(what.path));
  const size_t above = what.path.size();
  while (it->Next()) {
    const Components& directory = it->directory();
    // The root itself is an entry of the root's range.
    if (directory.empty() && it->entry().name.empty()) continue;
    const Components below(directory.begin() + static_cast<ptrdiff_t>(std::min(above, directory.size())),
                           directory.end());
    RETURN_IF_ERROR(
        show(it->entry(), context.json() ? PathOf(directory, it->entry().name) : PathOf(below, it->entry().name)));
  }
  RETURN_IF_ERROR(it->status());
  if (context.json()) RETURN_IF_ERROR(json.End());
  for (const KeyGap& gap : it->gaps()) {
    context.Say("holdfast: damaged: part of the directory cannot be listed: " +
                EscapeForTerminal(StdView(gap.status.message())));
  }
  return ExitCodeOf(Outcome{.damaged = it->gaps().size()});
}

absl::StatusOr<ExitCode> Cat(const InspectArguments& arguments, Context& context) {
  const SnapshotPath what = ParseSnapshotPath(arguments.first);
  ASSIGN_OR_RETURN(std::unique_ptr<OpenSnapshot> snapshot, OpenNamed(context, arguments, what.snapshot));
  absl::StatusOr<Entry> entry = LookupIn(*snapshot, what.path);
  if (!entry.ok()) return NoSuchPath(entry.status(), what, *snapshot);
  const std::string path = EscapeForTerminal("/" + JoinComponents(what.path));
  if (entry->type == EntryType::kSymlink) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is a symbolic link to ", EscapeForTerminal(entry->symlink_target)));
  }
  if (entry->type != EntryType::kFile) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is a ", AbslView(TypeName(entry->type)),
                                                      ", not a file\n  List directories with: holdfast ls"));
  }
  if (entry->flags & kEntryReadFailed) {
    return absl::FailedPreconditionError(path + " could not be read when the snapshot was made: it has no content");
  }
  entry->xattr_chunk.reset();  // not needed, so it may be lost
  RETURN_IF_ERROR(snapshot->reader->ResolveSideChunks(*entry));
  absl::Status status =
      ReadContent(*snapshot->reader, *entry, [&](std::string_view bytes) { return context.out().Write(bytes); });
  if (!status.ok()) return Annotate(status, path);
  return ExitCode::kOk;
}

// --- diff -----------------------------------------------------------------------------------------

// Large holes are not among the chunks that a digest is made of.
bool SameLargeHoles(const Entry& a, const Entry& b) {
  if (a.hole_chunk || b.hole_chunk) return a.hole_chunk == b.hole_chunk;
  return LargeHolesOf(a.holes) == LargeHolesOf(b.holes);
}

bool SameContent(const Entry& a, const Entry& b) {
  if (a.size != b.size || !SameLargeHoles(a, b)) return false;
  // Bundles and cuts may differ where the bytes do not.
  if (a.digest && b.digest && a.content.kind == b.content.kind) return *a.digest == *b.digest;
  return a.content == b.content;
}

// What a person would call changed: neither inode numbers nor ctime, unless `all`.
std::vector<std::string> ChangedFields(const Entry& a, const Entry& b, bool all) {
  std::vector<std::string> out;
  auto add = [&out](bool changed, const char* name) {
    if (changed) out.push_back(name);
  };
  add(a.type != b.type, "type");
  add(a.type == b.type && a.type == EntryType::kFile && !SameContent(a, b), "content");
  add(a.symlink_target != b.symlink_target, "target");
  add(a.mode != b.mode, "mode");
  add(a.uid != b.uid || a.gid != b.gid, "owner");
  add(a.mtime != b.mtime, "mtime");
  add(a.xattrs != b.xattrs || a.xattr_chunk != b.xattr_chunk, "xattrs");
  add(a.device_major != b.device_major || a.device_minor != b.device_minor, "device");
  constexpr uint32_t kShownFlags = kEntryReadFailed | kEntryNotDescended;
  add((a.flags & kShownFlags) != (b.flags & kShownFlags), "flags");
  if (all) {
    add(a.ctime != b.ctime, "ctime");
    add(a.inode != b.inode || a.device != b.device, "inode");
    add(a.link_count != b.link_count, "links");
  }
  return out;
}

absl::StatusOr<ExitCode> Diff(const InspectArguments& arguments, Context& context) {
  ASSIGN_OR_RETURN(std::unique_ptr<OpenSnapshot> before, OpenNamed(context, arguments, arguments.first));
  ASSIGN_OR_RETURN(std::unique_ptr<OpenSnapshot> after, OpenNamed(context, arguments, arguments.second));
  JsonArray json(context.out());
  RETURN_IF_ERROR(before->reader->Diff(*after->reader, [&](const DiffItem& item) -> absl::Status {
    const Entry& entry = item.after ? *item.after : *item.before;
    std::string path = PathOf(item.directory, entry.name);
    if (path.empty()) path = ".";
    std::vector<std::string> changed;
    if (item.kind == DiffKind::kModified) {
      changed = ChangedFields(*item.before, *item.after, arguments.all);
      if (changed.empty()) return absl::OkStatus();
    }
    if (context.json()) {
      Json out;
      out["change"] = item.kind == DiffKind::kAdded     ? "added"
                      : item.kind == DiffKind::kRemoved ? "removed"
                                                        : "modified";
      SetName(out, "path", path);
      out["type"] = TypeName(entry.type);
      if (item.before) out["size_before"] = item.before->size;
      if (item.after) out["size_after"] = item.after->size;
      if (!changed.empty()) out["changed"] = changed;
      return json.Add(out);
    }
    const char mark = item.kind == DiffKind::kAdded ? '+' : item.kind == DiffKind::kRemoved ? '-' : 'M';
    std::string line = absl::StrFormat("%c %s%s", mark, EscapeForTerminal(path),
                                       entry.type == EntryType::kDirectory && path != "." ? "/" : "");
    if (!changed.empty()) absl::StrAppend(&line, "  (", absl::StrJoin(changed, ", "), ")");
    return context.out().Write(line + "\n");
  }));
  if (context.json()) RETURN_IF_ERROR(json.End());
  return ExitCode::kOk;
}

}  // namespace

void AddInspectCommands(CommandLine& line) {
  auto arguments = std::make_shared<InspectArguments>();
  auto add = [&](const std::string& name, const std::string& description, const std::string& footer, auto function) {
    CLI::App* command = AddCommand(line, line.app, name, description, footer,
                                   [arguments, function](Context& c) { return function(*arguments, c); });
    AddRepositoryOption(*command, &arguments->repository);
    command->add_option("--source", arguments->source, "The source that \"latest\" is of")->type_name("SOURCE");
    return command;
  };
  CLI::App* diff = add("diff", "Show what differs between two snapshots",
                       "Lines begin with + (only in the second), - (only in the first) or M (changed, and what).\n\n"
                       "Example:\n  holdfast diff 3f2a9c 81d04e",
                       Diff);
  diff->add_option("first", arguments->first, "The older one")->required()->type_name("SNAPSHOT");
  diff->add_option("second", arguments->second, "The newer one")->required()->type_name("SNAPSHOT");
  diff->add_flag("--all", arguments->all, "Also ctime, inode and link count");
  CLI::App* ls = add("ls", "List a directory of a snapshot",
                     "Examples:\n  holdfast ls latest\n  holdfast ls 3f2a9c:etc --recursive\n  holdfast ls latest:etc "
                     "--json",
                     Ls);
  ls->add_option("snapshot", arguments->first, "An id, the beginning of one, or \"latest\"; a path inside it")
      ->required()
      ->type_name("SNAPSHOT[:PATH]");
  ls->add_flag("--recursive,-R", arguments->recursive, "With everything below");
  add("cat", "Write a file of a snapshot to standard output", "Example:\n  holdfast cat latest:etc/passwd | less", Cat)
      ->add_option("snapshot", arguments->first, "An id, the beginning of one, or \"latest\"; the file inside it")
      ->required()
      ->type_name("SNAPSHOT:PATH");
}

}  // namespace holdfast
