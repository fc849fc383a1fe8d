// holdfast: the command line. Parses, runs one command, turns its result into an exit status.
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/failure_text.h"
#include "client/cli/interrupt.h"
#include "core/base/version.h"
#include "core/io/posix.h"

namespace holdfast {

CLI::App* AddCommand(CommandLine& line, CLI::App& parent, const std::string& name, const std::string& description,
                     const std::string& footer, CommandFunction run) {
  CLI::App* command = parent.add_subcommand(name, description);
  command->footer(footer + "\n");
  command->callback([&line, run = std::move(run)] { line.selected = run; });
  AddCommonOptions(line, *command);
  return command;
}

void AddCommonOptions(CommandLine& line, CLI::App& command) {
  CommonOptions& o = line.common;
  const std::string group = "Common options";
  command
      .add_option("--server", o.server,
                  "Where the server listens: unix:/absolute/path (default: HOLDFAST_SERVER, "
                  "else this user's holdfastd)")
      ->type_name("ADDRESS")
      ->group(group);
  auto* file = command.add_option("--password-file", o.password.file, "Read the password from the first line of FILE")
                   ->type_name("FILE")
                   ->group(group);
  command
      .add_option("--password-command", o.password.command,
                  "Read the password from the first line that COMMAND prints (default: HOLDFAST_PASSWORD, else a "
                  "prompt)")
      ->type_name("COMMAND")
      ->group(group)
      ->excludes(file);
  command.add_flag("--json", o.json, "Print the result as JSON")->group(group);
}

void AddRepositoryOption(CLI::App& command, std::string* repository) {
  command.add_option("--repository,-r", *repository, "The repository (default: \"default\")")->type_name("NAME");
}

CLI::Option* AddRepeatable(CLI::App& command, const std::string& name, std::vector<std::string>* values,
                           const std::string& description) {
  return command.add_option(name, *values, description)->allow_extra_args(false);
}

namespace {

// The word in the place of a command that is none; empty: all is well, or another error.
std::string UnknownCommand(CLI::App& app, int argc, char** argv) {
  CLI::App* at = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const std::vector<CLI::App*> commands = at->get_subcommands([](CLI::App*) { return true; });
    if (word.empty() || word[0] == '-' || commands.empty()) return "";
    auto found = std::find_if(commands.begin(), commands.end(), [&](CLI::App* c) { return c->check_name(word); });
    if (found == commands.end()) return word;
    at = *found;
  }
  return "";
}

// "--exclude", "-x": every option whose value is the next argument.
std::set<std::string> OptionsWithValues(const CLI::App& app) {
  std::set<std::string> out;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional() || option->get_expected_min() == 0) continue;
    for (const std::string& name : option->get_lnames()) out.insert("--" + name);
    for (const std::string& name : option->get_snames()) out.insert("-" + name);
  }
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    out.merge(OptionsWithValues(*command));
  }
  return out;
}

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

  if (argc > 1) {
    if (std::string wrong = UnknownCommand(app, argc, argv); !wrong.empty()) {
      fprintf(stderr, "holdfast: \"%s\" is not a command; see \"holdfast --help\"\n", EscapeForTerminal(wrong).c_str());
      return static_cast<int>(ExitCode::kUsage);
    }
  }
  // CLI11 takes "[a,b]" as a list where a positional argument may be repeated, and "++" as an end: such paths are
  // spelled differently.
  const std::set<std::string> with_values = OptionsWithValues(app);
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    const bool is_value = with_values.contains(argv[i - 1]);
    const bool is_list = argument.size() > 1 && argument.front() == '[' && argument.back() == ']';
    if (!is_value && (is_list || argument == "++")) argument = "./" + argument;
    arguments.insert(arguments.begin(), std::move(argument));  // parse() wants them last first
  }
  try {
    app.parse(std::move(arguments));
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
