// The commands. Each Add function declares one group's subcommands; parsing fills in the options and selects what to
// run.
#ifndef HOLDFAST_CLIENT_CLI_COMMANDS_H_
#define HOLDFAST_CLIENT_CLI_COMMANDS_H_

#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "client/cli/context.h"
#include "client/cli/exit_code.h"
#include "core/base/status.h"

namespace holdfast {

using CommandFunction = std::function<absl::StatusOr<ExitCode>(Context&)>;

struct CommandLine {
  CLI::App app;
  CommonOptions common;
  CommandFunction selected;  // set by parsing
};

// Declares a subcommand that runs `run` (which shares its options with the flags), with the options that all have.
// `footer` is for examples.
CLI::App* AddCommand(CommandLine& line, CLI::App& parent, const std::string& name, const std::string& description,
                     const std::string& footer, CommandFunction run);
void AddCommonOptions(CommandLine& line, CLI::App& command);
void AddRepositoryOption(CLI::App& command, std::string* repository);
// An option that may be repeated, with one value each.
CLI::Option* AddRepeatable(CLI::App& command, const std::string& name, std::vector<std::string>* values,
                           const std::string& description);

void AddRepositoryCommands(CommandLine& line);
void AddSnapshotCommands(CommandLine& line);
void AddRestoreCommand(CommandLine& line);
void AddVerifyCommand(CommandLine& line);
void AddInspectCommands(CommandLine& line);  // diff, ls, cat

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_COMMANDS_H_
