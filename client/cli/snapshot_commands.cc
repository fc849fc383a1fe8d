// holdfast snapshot create | list | show | delete
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "client/backup/backup.h"
#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/failure_text.h"
#include "client/cli/interrupt.h"
#include "client/cli/progress.h"
#include "core/base/repository_name.h"
#include "core/base/utf8.h"
#include "core/io/errno_status.h"

namespace holdfast {
namespace {

constexpr uint64_t kSkippedNamedMax = 50;  // of one reason

struct CreateArguments {
  std::vector<std::string> paths;
  std::string repository = "default";
  std::vector<std::string> excludes;
  std::string source;
  std::string description;
  bool one_file_system = false;
  bool full = false;
  bool no_cache_dir_skip = false;
  int workers = 0;
};

struct ListArguments {
  std::string repository = "default";
  std::string source;
  std::vector<std::string> snapshots;
  std::string reason;
};

// /absolute/path of what the user meant. Only the directory is resolved: a link keeps its name.
absl::StatusOr<std::string> CanonicalPath(std::string path) {
  const std::string given = path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const size_t slash = path.rfind('/');
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  const bool is_whole = name.empty() || name == "." || name == "..";
  const std::string directory = is_whole                     ? path
                                : slash == std::string::npos ? "."
                                : slash == 0                 ? "/"
                                                             : path.substr(0, slash);
  std::unique_ptr<char, decltype(&free)> resolved(realpath(directory.c_str(), nullptr), &free);
  if (resolved == nullptr) return ErrnoStatus(errno, "open", EscapeForTerminal(given));
  std::string out = resolved.get();
  if (is_whole) return out;
  if (out != "/") out += '/';
  return out + name;
}

void AddOwnState(const std::string& directory, std::vector<FileIdentity>* out) {
  struct stat st {};
  if (directory.empty() || directory[0] != '/' || ::stat(directory.c_str(), &st) != 0) return;
  out->push_back({st.st_dev, st.st_ino});
}

class Observer : public BackupObserver {
 public:
  explicit Observer(Context& context) : context_(context) {}
  void set_progress(Progress* progress) { progress_ = progress; }

  void OnSourceError(const SourceError& error) override {
    progress_->Message(absl::StrFormat("holdfast: not backed up: %s: %s: %s", Shown(error.path), error.operation,
                                       strerror(error.error_number)));
  }
  void OnSkipped(std::string_view path, SkipReason reason) override {
    // What patterns exclude was asked for.
    if (reason == SkipReason::kExcluded || context_.json()) {
      if (reason == SkipReason::kExcluded || reason == SkipReason::kCacheDirectory) return;
    }
    const uint64_t count = ++skipped_[reason];
    if (count > kSkippedNamedMax) return;
    progress_->Message(absl::StrFormat("skipped %s: %s%s", Shown(path), std::string(SkipReasonText(reason)),
                                       count == kSkippedNamedMax ? " (no more are named)" : ""));
  }
  void OnNote(std::string_view message) override {
    if (!context_.json()) progress_->Message("note: " + EscapeForTerminal(message));
  }

 private:
  static std::string Shown(std::string_view path) { return path.empty() ? "." : EscapeForTerminal(path); }

  Context& context_;
  Progress* progress_ = nullptr;
  std::map<SkipReason, uint64_t> skipped_;
};

Json ResultJson(const BackupResult& result, double seconds) {
  Json out = SnapshotJson({result.id, result.core, 0});
  out["entries"] = result.entries;
  out["skipped"] = result.skipped;
  out["vanished"] = result.vanished;
  out["files_read"] = result.statistics.files_read();
  out["files_unchanged"] = result.statistics.files_unchanged();
  out["bytes_read"] = result.statistics.bytes_read();
  out["bytes_sent"] = result.statistics.bytes_sent();
  out["chunks_new"] = result.statistics.chunks_new();
  out["chunks_known"] = result.statistics.chunks_known();
  out["seconds"] = seconds;
  return out;
}

absl::StatusOr<BackupResult> CreateOne(const CreateArguments& arguments, const std::string& given,
                                       const BackupKeys& keys, const std::vector<FileIdentity>& own_state,
                                       Context& context, std::string* source) {
  ASSIGN_OR_RETURN(std::string path, CanonicalPath(given));
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return ErrnoStatus(errno, "open", EscapeForTerminal(given));
  BackupOptions options;
  options.repository = arguments.repository;
  options.source =
      arguments.source.empty() ? UserAtHost() + ":" + EscapeInvalidUtf8(path) : EscapeInvalidUtf8(arguments.source);
  *source = options.source;
  options.description = EscapeInvalidUtf8(arguments.description);
  options.force_full = arguments.full;
  options.workers = arguments.workers;
  options.scan.root = path;
  options.scan.exclude_patterns = arguments.excludes;
  options.scan.one_file_system = arguments.one_file_system;
  options.scan.skip_cache_directories = !arguments.no_cache_dir_skip;
  options.scan.own_state = own_state;
  ASSIGN_OR_RETURN(RepositoryClient * server, context.server());

  Observer observer(context);
  context.Note("Backing up " + EscapeForTerminal(options.source));
  Progress progress(
      context.json(),
      [&observer] {
        ProgressState s;
        const bool committing = observer.phase.load() == BackupPhase::kCommitting;
        s.activity = observer.cancel.load() ? "stopping" : committing ? "committing" : "backing up";
        s.files = observer.files_done.load();
        s.bytes = observer.bytes_done.load();
        s.files_expected = observer.files_expected.load();
        s.bytes_expected = observer.bytes_expected.load();
        return s;
      },
      context.io());
  observer.set_progress(&progress);
  InterruptScope interrupt(&observer.cancel);
  return Backup(*server, *NewPosixSourceFs(), keys, options, observer);
}

absl::Status ExplainCreate(const absl::Status& status) {
  if (WasInterrupted()) {
    return absl::CancelledError(
        "interrupted; nothing was committed\n  Run it again to go on: what had arrived is not "
        "sent again.");
  }
  if (absl::IsAlreadyExists(status)) {
    return absl::AlreadyExistsError(absl::StrCat("another backup of this source is running already (", status.message(),
                                                 ")\n  Wait for it, or run again a minute after it was killed."));
  }
  return status;
}

absl::StatusOr<ExitCode> Create(const CreateArguments& arguments, Context& context) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(arguments.repository)));
  ASSIGN_OR_RETURN(RepositoryAccess * access, context.Access(arguments.repository));
  ASSIGN_OR_RETURN(BackupKeys keys, access->MakeBackupKeys());
  // What the server and we write ourselves while a backup runs, and the repository, stay out of it.
  std::vector<FileIdentity> own_state;
  ASSIGN_OR_RETURN(const MachinePaths* paths, context.paths());
  for (const std::string& directory : {paths->data, paths->config, paths->cache}) AddOwnState(directory, &own_state);
  ASSIGN_OR_RETURN(auto repositories, context.ListRepositories());
  for (const v1::RepositoryInfo& info : repositories) AddOwnState(info.storage(), &own_state);

  Outcome outcome;
  Json results = Json::array();
  for (const std::string& path : arguments.paths) {
    const absl::Duration start = context.io().clock.Monotonic();
    std::string source;
    absl::StatusOr<BackupResult> result = CreateOne(arguments, path, keys, own_state, context, &source);
    const double seconds = absl::ToDoubleSeconds(context.io().clock.Monotonic() - start);
    if (!result.ok()) {
      const absl::Status status = ExplainCreate(result.status());
      ++outcome.failed;
      context.Say(absl::StrFormat("holdfast: %s: %s", EscapeForTerminal(path), ExplainFailure(status)));
      Json failure;
      SetName(failure, "path", path);
      failure["error"] = EscapeInvalidUtf8(StdView(status.message()));
      results.push_back(std::move(failure));
      if (WasInterrupted() || absl::IsUnavailable(status)) break;
      continue;
    }
    outcome.not_read += std::max<uint64_t>(result->core.errors(), result->core.complete() ? 0 : 1);
    if (context.json()) {
      results.push_back(ResultJson(*result, seconds));
      continue;
    }
    RETURN_IF_ERROR(context.out().Write(
        absl::StrFormat("Snapshot %s of %s\n  %d files, %d directories, %d others, %s; read %s, sent %s, in %s\n",
                        HexEncode(result->id.view()), EscapeForTerminal(result->core.source()), result->core.files(),
                        result->core.directories(), result->core.others(), FormatBytes(result->core.bytes()),
                        FormatBytes(result->statistics.bytes_read()), FormatBytes(result->statistics.bytes_sent()),
                        FormatDuration(seconds))));
    if (result->core.errors() > 0) {
      context.Say(absl::StrFormat("holdfast: %d source files could not be read; the snapshot has everything else",
                                  result->core.errors()));
    }
    RETURN_IF_ERROR(context.out().Flush());
  }
  if (context.json()) RETURN_IF_ERROR(context.out().WriteJson(results));
  return ExitCodeOf(outcome);
}

absl::StatusOr<ExitCode> List(const ListArguments& arguments, Context& context) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(arguments.repository)));
  ASSIGN_OR_RETURN(std::vector<ListedSnapshot> all, context.ListSnapshots(arguments.repository, arguments.source));
  if (context.json()) {
    Json out = Json::array();
    for (const ListedSnapshot& s : all) out.push_back(SnapshotJson(s));
    RETURN_IF_ERROR(context.out().WriteJson(out));
    return ExitCode::kOk;
  }
  if (all.empty() && !arguments.source.empty()) {
    context.Say("There is no snapshot of source \"" + EscapeForTerminal(arguments.source) +
                "\". See what there is with: holdfast snapshot list");
  } else if (all.empty()) {
    context.Say("There are no snapshots. Make one with: holdfast snapshot create PATH");
  }
  const std::string* source = nullptr;
  for (const ListedSnapshot& s : all) {
    if (source == nullptr || *source != s.core.source()) {
      RETURN_IF_ERROR(context.out().Write(EscapeForTerminal(s.core.source()) + "\n"));
      source = &s.core.source();
    }
    RETURN_IF_ERROR(context.out().Write(
        absl::StrFormat("  %s  %s  %9d files  %10s%s\n", ShortId(s.id), FormatTimeHuman(s.core.started_unix_ns()),
                        s.core.files(), FormatBytes(s.core.bytes()),
                        s.core.complete() ? "" : absl::StrFormat("  incomplete: %d errors", s.core.errors()))));
  }
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Show(const ListArguments& arguments, Context& context) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(arguments.repository)));
  Json documents = Json::array();
  for (const std::string& text : arguments.snapshots) {
    ASSIGN_OR_RETURN(ListedSnapshot s, context.FindSnapshot(arguments.repository, text, arguments.source));
    // What only readers know is shown when the keys are at hand; the rest needs none.
    std::unique_ptr<OpenSnapshot> open;
    std::string why = "locked";
    if (context.CanAccessQuietly(arguments.repository)) {
      absl::StatusOr<std::unique_ptr<OpenSnapshot>> opened = context.Open(arguments.repository, s);
      if (opened.ok()) {
        open = *std::move(opened);
      } else if (absl::IsPermissionDenied(opened.status())) {
        why = "another agent's";
      } else {
        return opened.status();
      }
    }
    if (open != nullptr) s.core = open->opened.manifest.core;  // authenticated
    const pb::ManifestSealed* sealed = open != nullptr ? &open->opened.manifest.sealed : nullptr;
    if (context.json()) {
      Json out = SnapshotJson(s);
      out["previous"] = nullptr;
      if (!s.core.previous_manifest().empty()) out["previous"] = HexEncode(s.core.previous_manifest());
      out["opened"] = sealed != nullptr;
      if (sealed != nullptr) {
        out["description"] = EscapeInvalidUtf8(sealed->description());
        SetName(out, "root_path", sealed->root_path());
        out["excludes"] = Json::array();
        for (const std::string& e : sealed->excludes()) out["excludes"].push_back(EscapeInvalidUtf8(e));
        out["failures"] = Json::array();
        for (const pb::SourceFailure& f : sealed->failures()) {
          Json failure;
          SetName(failure, "path", f.path());
          failure["operation"] = EscapeInvalidUtf8(f.operation());
          failure["error"] = strerror(f.error_number());
          out["failures"].push_back(std::move(failure));
        }
        out["failures_not_named"] = sealed->failures_not_named();
        out["bytes_read"] = sealed->statistics().bytes_read();
        out["bytes_sent"] = sealed->statistics().bytes_sent();
        out["seconds"] = static_cast<double>(sealed->statistics().duration_ns()) / 1e9;
      }
      documents.push_back(std::move(out));
      continue;
    }
    std::string text_out = absl::StrFormat(
        "Snapshot     %s\nSource       %s\nTime         %s\nFinished     %s\nNumber       %d of this source\n"
        "Agent        %d\nFiles        %d (%s)\nDirectories  %d\nOthers       %d\nComplete     %s\n",
        HexEncode(s.id.view()), EscapeForTerminal(s.core.source()), FormatTimeHuman(s.core.started_unix_ns()),
        FormatTimeHuman(s.core.finished_unix_ns()), s.core.sequence(), s.core.agent(), s.core.files(),
        FormatBytes(s.core.bytes()), s.core.directories(), s.core.others(),
        s.core.complete() ? "yes" : absl::StrFormat("no, %d errors", s.core.errors()));
    if (sealed == nullptr) {
      absl::StrAppend(&text_out, "Details      not shown (", why, ")\n");
    } else {
      if (!sealed->description().empty()) text_out += "Description  " + EscapeForTerminal(sealed->description()) + "\n";
      for (const std::string& e : sealed->excludes()) text_out += "Excluded     " + EscapeForTerminal(e) + "\n";
      absl::StrAppendFormat(&text_out, "Read         %s, sent %s\n", FormatBytes(sealed->statistics().bytes_read()),
                            FormatBytes(sealed->statistics().bytes_sent()));
      for (const pb::SourceFailure& f : sealed->failures()) {
        absl::StrAppendFormat(&text_out, "Not read     %s: %s: %s\n", EscapeForTerminal(f.path()),
                              EscapeForTerminal(f.operation()), strerror(f.error_number()));
      }
      if (sealed->failures_not_named() != 0) {
        absl::StrAppendFormat(&text_out, "Not read     and %d more\n", sealed->failures_not_named());
      }
    }
    RETURN_IF_ERROR(context.out().Write(text_out));
  }
  if (context.json()) {
    RETURN_IF_ERROR(context.out().WriteJson(documents.size() == 1 ? documents[0] : documents));
  }
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Delete(const ListArguments& arguments, Context& context) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(arguments.repository)));
  // All are found before any is deleted.
  std::vector<ListedSnapshot> chosen;
  for (const std::string& text : arguments.snapshots) {
    ASSIGN_OR_RETURN(ListedSnapshot s, context.FindSnapshot(arguments.repository, text, arguments.source));
    chosen.push_back(std::move(s));
  }
  ASSIGN_OR_RETURN(RepositoryClient * server, context.server());
  Json deleted = Json::array();
  for (const ListedSnapshot& s : chosen) {
    const absl::Status status = server->DeleteSnapshot(arguments.repository, s.id, EscapeInvalidUtf8(arguments.reason));
    if (!status.ok()) return Annotate(status, "delete snapshot " + ShortId(s.id));
    if (context.json()) {
      deleted.push_back(SnapshotJson(s));
    } else {
      RETURN_IF_ERROR(context.out().Write(absl::StrFormat("Deleted snapshot %s of %s (%s)\n", ShortId(s.id),
                                                          EscapeForTerminal(s.core.source()),
                                                          FormatTimeHuman(s.core.started_unix_ns()))));
    }
  }
  if (context.json()) RETURN_IF_ERROR(context.out().WriteJson(deleted));
  return ExitCode::kOk;
}

}  // namespace

void AddSnapshotCommands(CommandLine& line) {
  CLI::App* group = line.app.add_subcommand("snapshot", "Back up, list and delete");
  group->require_subcommand(1);

  auto create = std::make_shared<CreateArguments>();
  CLI::App* command = AddCommand(
      line, *group, "create", "Back up each PATH as a snapshot of its own",
      "Files named .holdfastignore hold patterns as .gitignore does. Pseudo file systems, Holdfast's own data and the\n"
      "contents of directories with a CACHEDIR.TAG are left out, and said so.\n"
      "Exit status 1: some files could not be read; they are named, and the snapshot has everything else.\n\n"
      "Examples:\n"
      "  holdfast snapshot create ~/Documents ~/Pictures\n"
      "  holdfast snapshot create / --one-file-system --exclude /var/cache --exclude '*.tmp'\n"
      "  holdfast snapshot create /srv/data --source database --json",
      [create](Context& c) { return Create(*create, c); });
  command->add_option("path", create->paths, "Directories or files")->required()->type_name("PATH");
  AddRepositoryOption(*command, &create->repository);
  AddRepeatable(*command, "--exclude,-x", &create->excludes,
                "Leave out what matches, as a line of .gitignore in PATH (may be repeated)")
      ->type_name("PATTERN");
  command->add_flag("--one-file-system", create->one_file_system, "Do not enter other file systems");
  command->add_option("--source", create->source, "Name the source LABEL instead of user@host:/path")
      ->type_name("LABEL");
  command->add_option("--description", create->description, "A note that only readers see")->type_name("TEXT");
  command->add_flag("--full", create->full, "Read every file, even if it looks unchanged");
  command->add_flag("--no-cache-dir-skip", create->no_cache_dir_skip,
                    "Also what is in directories with a CACHEDIR.TAG");
  command->add_option("--workers", create->workers, "Threads that read and encrypt (default: by processors)")
      ->type_name("N")
      ->check(CLI::Range(0, 64));
  command->parse_complete_callback([create] {
    if (!create->source.empty() && create->paths.size() > 1) {
      throw CLI::ValidationError("--source", "names one source: give one PATH with it");
    }
  });

  auto list = std::make_shared<ListArguments>();
  command = AddCommand(line, *group, "list", "List snapshots, by source and age",
                       "Examples:\n  holdfast snapshot list\n  holdfast snapshot list --source /home/me --json",
                       [list](Context& c) { return List(*list, c); });
  AddRepositoryOption(*command, &list->repository);
  command->add_option("--source", list->source, "Only this source: a label or its path")->type_name("SOURCE");

  command = AddCommand(line, *group, "show", "Show everything about snapshots",
                       "Example:\n  holdfast snapshot show latest", [list](Context& c) { return Show(*list, c); });
  command->add_option("snapshot", list->snapshots, "An id, the beginning of one, or \"latest\"")
      ->required()
      ->type_name("SNAPSHOT");
  AddRepositoryOption(*command, &list->repository);
  command->add_option("--source", list->source, "The source that \"latest\" is of")->type_name("SOURCE");

  command = AddCommand(line, *group, "delete", "Delete snapshots; frees no space by itself",
                       "Data that other snapshots use stays.\n\nExample:\n  holdfast snapshot delete 3f2a9c",
                       [list](Context& c) { return Delete(*list, c); });
  command->add_option("snapshot", list->snapshots, "An id or the beginning of one")->required()->type_name("SNAPSHOT");
  AddRepositoryOption(*command, &list->repository);
  command->add_option("--source", list->source, "The source that \"latest\" is of")->type_name("SOURCE");
  command->add_option("--reason", list->reason, "Recorded in the repository's log")->type_name("TEXT");
}

}  // namespace holdfast
