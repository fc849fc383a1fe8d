// holdfast verify
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/progress.h"
#include "client/snapshots/open_snapshot.h"
#include "client/snapshots/snapshot_list.h"
#include "client/verify/verifier.h"
#include "core/base/repository_name.h"
#include "core/base/utf8.h"

namespace holdfast {
namespace {

constexpr size_t kProblemsInJsonMax = 10000;

struct VerifyArguments {
  std::string repository = "default";
  std::string source;
  std::string snapshot;  // empty: all
};

// The snapshots that were meant; the keys are at hand.
absl::StatusOr<std::vector<ListedSnapshot>> Choose(const VerifyArguments& arguments, Context& context) {
  if (!arguments.snapshot.empty()) {
    ASSIGN_OR_RETURN(ListedSnapshot one,
                     context.FindSnapshot(arguments.repository, arguments.snapshot, arguments.source));
    return std::vector<ListedSnapshot>{std::move(one)};
  }
  ASSIGN_OR_RETURN(std::vector<ListedSnapshot> all, context.ListSnapshots(arguments.repository, arguments.source));
  if (all.empty() && !arguments.source.empty()) {
    return absl::NotFoundError("there is no snapshot of source \"" + EscapeForTerminal(arguments.source) +
                               "\"\n  See what there is with: holdfast snapshot list");
  }
  RETURN_IF_ERROR(context.Access(arguments.repository).status());
  return all;
}

// One run of the command: problems are named as they are found, the rest is told at the end.
class VerifyRun {
 public:
  VerifyRun(const VerifyArguments& arguments, Context& context)
      : arguments_(arguments),
        context_(context),
        verifier_([this](const std::string& path, const absl::Status& status) { NameProblem(path, status); },
                  context.io(), cancel_) {}

  // Of the server, CANCELLED, and, when one snapshot was asked for, of that. Damage is no error.
  absl::Status Check(const std::vector<ListedSnapshot>& chosen) {
    uint64_t files_expected = 0, bytes_expected = 0;
    for (const ListedSnapshot& s : chosen) {
      files_expected += s.core.files();
      bytes_expected += s.core.bytes();
    }
    Progress progress(
        context_.json(),
        [&] {
          ProgressState s;
          s.activity = cancel_.load() ? "stopping" : "verifying";
          s.files = verifier_.files_done.load();
          s.bytes = verifier_.bytes_done.load();
          s.files_expected = files_expected;
          s.bytes_expected = bytes_expected;
          return s;
        },
        context_.io());
    progress_ = &progress;
    InterruptScope interrupt(&cancel_);
    for (const ListedSnapshot& s : chosen) RETURN_IF_ERROR(CheckOne(s));
    return absl::OkStatus();
  }

  absl::StatusOr<ExitCode> Report() {
    if (snapshots_.empty() && !not_checked_.empty()) {
      return absl::PermissionDeniedError(
          "nothing was checked: all snapshots are other agents'; the repository's password opens them");
    }
    const ExitCode code = ExitCodeOf(Outcome{.damaged = damaged_});
    if (context_.json()) {
      Json out;
      out["ok"] = code == ExitCode::kOk;
      out["snapshots"] = std::move(snapshots_);
      out["not_checked"] = std::move(not_checked_);
      out["chunks"] = verifier_.chunks_fetched.load();
      out["chunk_bytes"] = verifier_.chunk_bytes_fetched.load();
      out["damaged"] = damaged_;
      out["problems"] = std::move(problems_);
      RETURN_IF_ERROR(context_.out().WriteJson(out));
      return code;
    }
    RETURN_IF_ERROR(context_.out().Write(
        absl::StrFormat("%d snapshots, %d files, %s: %s (%d data chunks, %s, fetched and opened)\n", snapshots_.size(),
                        verifier_.files_done.load(), FormatBytes(verifier_.bytes_done.load()),
                        damaged_ == 0 ? std::string("all right") : absl::StrFormat("%d DAMAGED, named above", damaged_),
                        verifier_.chunks_fetched.load(), FormatBytes(verifier_.chunk_bytes_fetched.load()))));
    if (!not_checked_.empty()) {
      context_.Say(
          absl::StrFormat("note: %d snapshots of other agents were not checked; the repository's password opens them",
                          not_checked_.size()));
    }
    if (damaged_ != 0) {
      context_.Say(
          "holdfast: everything else can be restored. Damaged files that are still on their machines are stored "
          "again by: holdfast snapshot create PATH --full");
    }
    return code;
  }

 private:
  void NameProblem(const std::string& path, const absl::Status& status) {
    if (context_.json() && problems_.size() < kProblemsInJsonMax) {
      Json item;
      item["snapshot"] = current_;
      SetName(item, "path", path);
      item["error"] = EscapeInvalidUtf8(StdView(status.message()));
      problems_.push_back(std::move(item));
    }
    progress_->Message(absl::StrFormat("holdfast: damaged: %s:%s: %s", current_.substr(0, 12), EscapeForTerminal(path),
                                       EscapeForTerminal(StdView(status.message()))));
  }

  absl::Status CheckOne(const ListedSnapshot& s) {
    current_ = HexEncode(s.id.view());
    absl::StatusOr<std::unique_ptr<OpenSnapshot>> opened = context_.Open(arguments_.repository, s);
    if (!opened.ok() && !arguments_.snapshot.empty()) return opened.status();
    if (absl::IsPermissionDenied(opened.status())) {
      not_checked_.push_back(current_);
      return absl::OkStatus();
    }
    if (absl::IsNotFound(opened.status())) return absl::OkStatus();  // deleted meanwhile
    if (!opened.ok() && !absl::IsDataLoss(opened.status())) return opened.status();
    Json item;
    item["id"] = current_;
    item["source"] = s.core.source();
    if (!opened.ok()) {
      NameProblem("/", opened.status());
      item["error"] = EscapeInvalidUtf8(StdView(opened.status().message()));
      ++damaged_;
    } else {
      ASSIGN_OR_RETURN(VerifyResult result, verifier_.Verify(*(*opened)->reader));
      item["entries"] = result.entries;
      item["files"] = result.files;
      item["bytes"] = result.bytes;
      item["damaged"] = result.damaged;
      item["not_in_snapshot"] = result.not_in_snapshot;
      damaged_ += result.damaged;
    }
    snapshots_.push_back(std::move(item));
    return absl::OkStatus();
  }

  const VerifyArguments& arguments_;
  Context& context_;
  std::atomic<bool> cancel_{false};
  Verifier verifier_;
  Progress* progress_ = nullptr;
  std::string current_;  // id of the snapshot being verified
  Json snapshots_ = Json::array(), problems_ = Json::array(), not_checked_ = Json::array();
  uint64_t damaged_ = 0;
};

absl::StatusOr<ExitCode> Verify(const VerifyArguments& arguments, Context& context) {
  RETURN_IF_ERROR(AsUsage(CheckRepositoryName(arguments.repository)));
  ASSIGN_OR_RETURN(std::vector<ListedSnapshot> chosen, Choose(arguments, context));
  VerifyRun run(arguments, context);
  const absl::Status failed = run.Check(chosen);
  if (!failed.ok() && WasInterrupted()) {
    return absl::CancelledError("interrupted; what was checked so far is named above if damaged");
  }
  RETURN_IF_ERROR(failed);
  return run.Report();
}

}  // namespace

void AddVerifyCommand(CommandLine& line) {
  auto arguments = std::make_shared<VerifyArguments>();
  CLI::App* command = AddCommand(
      line, line.app, "verify", "Fetch, open and check every chunk and every file",
      "Without SNAPSHOT: all snapshots that can be opened. Exit status 1: damaged files, which are named.\n\n"
      "Examples:\n  holdfast verify\n  holdfast verify latest --source /home/me --json",
      [arguments](Context& c) { return Verify(*arguments, c); });
  AddRepositoryOption(*command, &arguments->repository);
  command->add_option("--source", arguments->source, "The source that \"latest\" is of")->type_name("SOURCE");
  command->add_option("snapshot", arguments->snapshot, "An id, the beginning of one, or \"latest\"")
      ->type_name("SNAPSHOT");
}

}  // namespace holdfast
