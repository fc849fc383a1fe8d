// holdfast restore
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/path_filter.h"
#include "client/cli/progress.h"
#include "client/restore/restore.h"
#include "client/snapshots/open_snapshot.h"
#include "client/snapshots/snapshot_path.h"
#include "core/base/repository_name.h"
#include "core/base/utf8.h"

namespace holdfast {
namespace {

constexpr uint64_t kNotesShownMax = 50;
constexpr uint64_t kProblemsInJsonMax = 10000;

struct RestoreArguments {
  std::string snapshot;
  std::string repository = "default";
  std::string source;
  std::string target;
  std::vector<std::string> includes, excludes;
  std::string overwrite = "never";
  bool verify = false;
  bool no_owner = false;
  bool numeric_owner = false;
};

class Observer : public RestoreObserver {
 public:
  explicit Observer(bool json) : json_(json) {}
  void set_progress(Progress* progress) { progress_ = progress; }

  void OnProblem(const RestoreProblem& problem) override {
    const bool is_note = problem.kind == RestoreProblemKind::kNote;
    if (json_ && problems_.size() < kProblemsInJsonMax) {
      Json item;
      SetName(item, "path", problem.path);
      item["kind"] = is_note ? "note" : problem.kind == RestoreProblemKind::kRepository ? "repository" : "target";
      item["operation"] = EscapeInvalidUtf8(problem.operation);
      item["message"] = EscapeInvalidUtf8(StdView(problem.status.message()));
      problems_.push_back(std::move(item));
    }
    if (is_note && (json_ || ++notes_ > kNotesShownMax)) return;
    progress_->Message(absl::StrFormat("%s%s: %s: %s",
                                       is_note ? "note: " : "holdfast: ", EscapeForTerminal(problem.path),
                                       problem.operation, EscapeForTerminal(StdView(problem.status.message()))));
  }
  void OnPhase(RestorePhase phase) override { phase_.store(phase); }
  // After the restore.
  void OnNotBackedUp(const std::string& path, bool partly, const std::string& operation, const char* why,
                     Context& context) {
    if (json_ && problems_.size() < kProblemsInJsonMax) {
      Json item;
      SetName(item, "path", path);
      item["kind"] = "source";
      item["operation"] = EscapeInvalidUtf8(operation);
      item["message"] = why;
      problems_.push_back(std::move(item));
    }
    context.Say(absl::StrFormat("holdfast: %s: not %s in the snapshot: %s: %s", EscapeForTerminal(path),
                                partly ? "completely" : "there", EscapeForTerminal(operation), why));
  }
  bool has_begun() const { return entries_seen.load() != 0; }

  RestorePhase phase() const { return phase_.load(); }
  Json& problems() { return problems_; }

 private:
  const bool json_;
  Progress* progress_ = nullptr;
  std::atomic<RestorePhase> phase_{RestorePhase::kRestoring};
  uint64_t notes_ = 0;
  Json problems_ = Json::array();
};

// A snapshot of a single file: its root is that file, which needs a name to be restored to.
class SingleFileInput : public RestoreInput {
 public:
  SingleFileInput(const SnapshotReader& reader, Entry root) : reader_(reader), root_(std::move(root)) {}
  absl::StatusOr<Entry> LookupPath(const Components& path) override {
    if (path.empty() || (path.size() == 1 && path[0] == root_.name)) return root_;
    return absl::NotFoundError(absl::StrCat("the snapshot is of the single file ", EscapeForTerminal(root_.name)));
  }
  std::unique_ptr<EntryIterator> ScanSubtree(const Components& directory) override {
    return reader_.ScanSubtree(directory);
  }
  absl::Status ForEachPiece(const Content& content,
                            const std::function<absl::Status(const ChunkPiece&)>& visit) override {
    return reader_.ForEachPiece(content, visit);
  }
  absl::Status ResolveSideChunks(Entry& entry) override { return reader_.ResolveSideChunks(entry); }
  ChunkSource& source() override { return reader_.source(); }

 private:
  const SnapshotReader& reader_;
  const Entry root_;
};

OverwriteMode ParseOverwrite(const std::string& text) {
  if (text == "if-changed") return OverwriteMode::kIfChanged;
  if (text == "always") return OverwriteMode::kAlways;
  if (text == "skip") return OverwriteMode::kSkip;
  return OverwriteMode::kNever;
}

// What the backup could not read has no entry that says so, when it could not even be looked at or listed. Names it, as
// far as it belongs to what is restored, and returns how much there is.
uint64_t NameWhatWasNotBackedUp(const OpenSnapshot& snapshot, const Components& top,
                                const std::function<FilterResult(const Components&, bool)>& filter, Observer& observer,
                                Context& context) {
  const pb::ManifestSealed& sealed = snapshot.opened.manifest.sealed;
  uint64_t count = 0;
  for (const pb::SourceFailure& failure : sealed.failures()) {
    const Components path = ParseSnapshotPath(":" + failure.path()).path;
    if (path.size() < top.size() || !std::equal(top.begin(), top.end(), path.begin())) continue;
    // Files and directories that are marked in the snapshot are named by the restore itself.
    absl::StatusOr<Entry> entry = snapshot.reader->LookupPath(path);
    if (entry.ok() && (entry->flags & kEntryReadFailed)) continue;
    if (failure.operation() == "read ignore file") continue;  // too much was backed up, not too little
    if (filter && filter(path, entry.ok() && entry->type == EntryType::kDirectory) != FilterResult::kRestore) continue;
    ++count;
    observer.OnNotBackedUp("/" + JoinComponents(path), entry.ok(), failure.operation(),
                           strerror(failure.error_number()), context);
  }
  if (top.empty() && !filter) count += sealed.failures_not_named();
  return count;
}

RestoreOptions OptionsOf(const RestoreArguments& arguments, const OpenSnapshot& snapshot) {
  RestoreOptions options;
  options.target = arguments.target;
  options.overwrite = ParseOverwrite(arguments.overwrite);
  options.verify = arguments.verify;
  options.numeric_owner = arguments.numeric_owner;
  if (arguments.no_owner) options.owner = false;
  if (!arguments.includes.empty() || !arguments.excludes.empty()) {
    auto filter = std::make_shared<PathFilter>(arguments.includes, arguments.excludes);
    options.filter = [filter](const Components& path, bool is_directory) { return filter->Match(path, is_directory); };
  }
  return options;
}

absl::StatusOr<RestoreStats> RestoreSnapshot(const OpenSnapshot& snapshot, const Components& path,
                                             const RestoreOptions& options, Observer& observer) {
  absl::StatusOr<Entry> root = snapshot.reader->LookupPath({});
  if (root.ok() && root->type != EntryType::kDirectory) {
    root->name = SourceName(snapshot);
    SingleFileInput input(*snapshot.reader, *std::move(root));
    return Restore(input, path.empty() ? Components{SourceName(snapshot)} : path, options, observer);
  }
  return Restore(*snapshot.reader, path, options, observer);
}

absl::StatusOr<RestoreStats> RestoreWithProgress(const OpenSnapshot& snapshot, const Components& path,
                                                 const RestoreOptions& options, Observer& observer, Context& context) {
  const pb::ManifestCore& core = snapshot.opened.manifest.core;
  context.Note(absl::StrFormat("Restoring snapshot %s of %s (%s)", ShortId(snapshot.id),
                               EscapeForTerminal(core.source()), FormatTimeHuman(core.started_unix_ns())));
  const bool is_whole = path.empty() && !options.filter;
  Progress progress(
      context.json(),
      [&] {
        ProgressState s;
        s.activity = observer.cancel.load()                         ? "stopping"
                     : observer.phase() == RestorePhase::kVerifying ? "verifying"
                                                                    : "restoring";
        s.files = observer.files_done.load();
        s.bytes = observer.bytes_done.load();
        if (is_whole) {
          s.files_expected = core.files();
          s.bytes_expected = core.bytes();
        }
        return s;
      },
      context.io());
  observer.set_progress(&progress);
  InterruptScope interrupt(&observer.cancel);
  return RestoreSnapshot(snapshot, path, options, observer);
}

absl::Status ExplainRestore(const absl::Status& status, const Observer& observer, const ManifestId& id) {
  if (WasInterrupted()) {
    return absl::CancelledError(
        "interrupted; the target has part of the snapshot\n  Run it again with --overwrite if-changed to go on.");
  }
  if (absl::IsUnavailable(status)) {
    return absl::UnavailableError(absl::StrCat(
        status.message(),
        "\n  The target has part of the snapshot. When the server is back (start it with \"holdfastd &\"), run it "
        "again with --overwrite if-changed to go on."));
  }
  if (absl::IsNotFound(status) && !observer.has_begun()) {
    return absl::NotFoundError(absl::StrCat(status.message(), "\n  See what there is with: holdfast ls ", ShortId(id)));
  }
  return status;
}

Json ResultJson(const ManifestId& id, const RestoreArguments& arguments, const RestoreStats& stats,
                uint64_t not_backed_up, Json problems, double seconds) {
  Json out;
  out["id"] = HexEncode(id.view());
  SetName(out, "target", arguments.target);
  out["files"] = stats.files;
  out["directories"] = stats.directories;
  out["others"] = stats.others;
  out["hard_links"] = stats.hard_links;
  out["bytes"] = stats.bytes;
  out["skipped"] = stats.skipped;
  out["left_out"] = stats.left_out;
  out["not_reached"] = stats.not_reached;
  out["verified"] = stats.verified;
  out["xattrs_not_restored"] = stats.xattrs_not_restored;
  out["not_backed_up"] = not_backed_up;
  out["errors"] = stats.errors();
  out["problems"] = std::move(problems);
  out["seconds"] = seconds;
  return out;
}

absl::Status SayResult(const RestoreArguments& arguments, const RestoreStats& stats, uint64_t not_backed_up,
                       double seconds, Context& context) {
  std::string text = absl::StrFormat("Restored %d files, %d directories, %d others, %s to %s in %s\n", stats.files,
                                     stats.directories, stats.others, FormatBytes(stats.bytes),
                                     EscapeForTerminal(arguments.target), FormatDuration(seconds));
  if (stats.skipped != 0) absl::StrAppendFormat(&text, "Left as they were: %d\n", stats.skipped);
  if (arguments.verify) absl::StrAppendFormat(&text, "Read again and found right: %d files\n", stats.verified);
  RETURN_IF_ERROR(context.out().Write(text));
  if (stats.notes > kNotesShownMax) context.Say(absl::StrFormat("note: and %d more", stats.notes - kNotesShownMax));
  if (not_backed_up != 0) {
    context.Say(
        absl::StrFormat("holdfast: %d things could not be backed up, so they cannot be restored", not_backed_up));
  }
  if (stats.errors() == 0) return absl::OkStatus();
  const std::string below =
      stats.not_reached == 0
          ? ""
          : absl::StrFormat(", but for %d things in directories that could not be made", stats.not_reached);
  context.Say(absl::StrFormat("holdfast: %d errors, named above; everything else is restored%s%s", stats.errors(),
                              below,
                              stats.target_errors != 0 && arguments.overwrite == "never"
                                  ? "\n  Files that are there already are replaced with --overwrite always or "
                                    "if-changed, and left without an error with skip."
                                  : ""));
  return absl::OkStatus();
}

absl::StatusOr<ExitCode> RunRestore(const RestoreArguments& arguments, Context& context) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(arguments.repository)));
  const SnapshotPath what = ParseSnapshotPath(arguments.snapshot);
  ASSIGN_OR_RETURN(ListedSnapshot listed, context.FindSnapshot(arguments.repository, what.snapshot, arguments.source));
  ASSIGN_OR_RETURN(std::unique_ptr<OpenSnapshot> snapshot, context.Open(arguments.repository, listed));
  const RestoreOptions options = OptionsOf(arguments, *snapshot);
  const absl::Duration start = context.io().clock.Monotonic();
  Observer observer(context.json());
  const absl::StatusOr<RestoreStats> stats = RestoreWithProgress(*snapshot, what.path, options, observer, context);
  if (!stats.ok()) return ExplainRestore(stats.status(), observer, listed.id);
  const double seconds = absl::ToDoubleSeconds(context.io().clock.Monotonic() - start);
  const uint64_t not_backed_up = NameWhatWasNotBackedUp(*snapshot, what.path, options.filter, observer, context);
  if (context.json()) {
    RETURN_IF_ERROR(context.out().WriteJson(
        ResultJson(listed.id, arguments, *stats, not_backed_up, std::move(observer.problems()), seconds)));
  } else {
    RETURN_IF_ERROR(SayResult(arguments, *stats, not_backed_up, seconds, context));
  }
  return ExitCodeOf(Outcome{.not_restored = stats->errors() + not_backed_up});
}

}  // namespace

void AddRestoreCommand(CommandLine& line) {
  auto arguments = std::make_shared<RestoreArguments>();
  CLI::App* command = AddCommand(
      line, line.app, "restore", "Write a snapshot, or a path inside it, to a directory",
      "A directory's contents go into DIR; a file becomes DIR/its name. Owners are restored when run as root.\n"
      "Patterns are those of .gitignore, from the root of the snapshot.\n"
      "Exit status 1: some files could not be restored; they are named, and everything else is there.\n\n"
      "Examples:\n"
      "  holdfast restore latest --target /tmp/back\n"
      "  holdfast restore 3f2a9c:etc/ssh --target /tmp/ssh\n"
      "  holdfast restore latest --source /home/me --target /home/me --overwrite if-changed\n"
      "  holdfast restore latest --target /tmp/photos --include '*.jpg' --exclude Trash",
      [arguments](Context& c) { return RunRestore(*arguments, c); });
  command->add_option("snapshot", arguments->snapshot, "An id, the beginning of one, or \"latest\"; a path inside it")
      ->required()
      ->type_name("SNAPSHOT[:PATH]");
  command->add_option("--target,-t", arguments->target, "Where to; made when it is not there")
      ->required()
      ->type_name("DIR");
  AddRepositoryOption(*command, &arguments->repository);
  command->add_option("--source", arguments->source, "The source that \"latest\" is of")->type_name("SOURCE");
  AddRepeatable(*command, "--include,-i", &arguments->includes, "Only what matches, and what is inside it")
      ->type_name("PATTERN");
  AddRepeatable(*command, "--exclude,-x", &arguments->excludes, "Not what matches")->type_name("PATTERN");
  command
      ->add_option("--overwrite", arguments->overwrite,
                   "Files that are there already: never (an error each, the default), if-changed, always, skip")
      ->type_name("MODE")
      ->check(CLI::IsMember({"never", "if-changed", "always", "skip"}));
  command->add_flag("--verify", arguments->verify, "Flush to disk, read everything again and compare");
  command->add_flag("--no-owner", arguments->no_owner, "Do not restore owners and groups");
  command->add_flag("--numeric-owner", arguments->numeric_owner, "Restore owners by number, not by name");
}

}  // namespace holdfast
