// holdfast: the command line. Parses, runs one command, turns its result into an exit status.
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "client/cli/command_line.h"
#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/failure_text.h"
#include "client/cli/interrupt.h"
#include "core/base/utf8.h"
#include "core/base/version.h"
#include "core/io/posix.h"

namespace holdfast {

namespace {

int Run(int argc, char** argv) {
  CommandLine line;
  CLI::App& app = line.app;
  app.name("holdfast");
  app.description("Holdfast: encrypted backups of real file systems.");
  app.set_version_flag("--version", std::string("holdfast ") + kVersion);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer(
      "Quick start:\n"
      "  holdfastd &                                   start this user's server\n"
      "  holdfast repository create                    make a repository (asks for a password)\n"
      "  holdfast snapshot create ~/Documents          back up a directory\n"
      "  holdfast snapshot list                        see what there is\n"
      "  holdfast restore latest --target /tmp/back    get it back\n"
      "\n"
      "Exit status: 0 all well, 1 some files could not be read or restored (they are named),\n"
      "2 failed, 64 wrong usage. Every command has --help.\n");
  AddRepositoryCommands(line);
  AddSnapshotCommands(line);
  AddRestoreCommand(line);
  AddVerifyCommand(line);
  AddInspectCommands(line);

  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  if (std::string wrong = UnknownCommand(app, words); !wrong.empty()) {
    fprintf(stderr, "holdfast: \"%s\" is not a command; see \"holdfast --help\"\n", EscapeForTerminal(wrong).c_str());
    return static_cast<int>(ExitCode::kUsage);
  }
  words = SpellLiterally(app, std::move(words));
  std::reverse(words.begin(), words.end());  // parse() wants them last first
  try {
    app.parse(std::move(words));
  } catch (const CLI::ParseError& error) {
    const bool fine = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);
    app.exit(error, std::cout, std::cerr);
    if (fine) return static_cast<int>(std::cout.flush().good() ? ExitCode::kOk : ExitCode::kFailed);
    return static_cast<int>(ExitCode::kUsage);
  }

  Io io = PosixIo();
  Context context(line.common, io);
  absl::StatusOr<ExitCode> result = line.selected(context);
  absl::Status flushed = context.out().Flush();
  if (result.ok() && !flushed.ok()) result = flushed;
  if (result.ok()) return static_cast<int>(*result);
  // A reader that left ("| head") needs no message.
  if (absl::IsCancelled(flushed)) return static_cast<int>(ExitCode::kFailed);
  const ExitCode code = ExitCodeOf(result.status());
  if (context.json() && !context.out().has_written()) {
    Json out;
    out["error"] = EscapeInvalidUtf8(StdView(result.status().message()));
    context.out().WriteJson(out).IgnoreError();
    context.out().Flush().IgnoreError();
  }
  fprintf(stderr, "holdfast: %s\n", ExplainFailure(result.status()).c_str());
  return static_cast<int>(code);
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) {
  // Keys and passwords are in memory: no core dumps. A closed pipe is an error of a write and not a signal.
  rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  holdfast::OccupyStandardDescriptors();
  holdfast::RaiseOpenFilesLimit();
  signal(SIGPIPE, SIG_IGN);
  // Buffers of a chunk's size come and go: mapping and zeroing them anew every time costs a fifth of a backup.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 32 << 20);
  mallopt(M_ARENA_MAX, 2);
  try {
    return holdfast::Run(argc, argv);
  } catch (const std::exception& error) {
    fprintf(stderr, "holdfast: %s\n", error.what());
    return static_cast<int>(holdfast::ExitCode::kFailed);
  }
}
