// The command line: how commands declare themselves and their options, and what of it CLI11 does not decide as scripts
// need it.
#ifndef HOLDFAST_CLIENT_CLI_COMMAND_LINE_H_
#define HOLDFAST_CLIENT_CLI_COMMAND_LINE_H_

#include <functional>
#include <string>
#include <vector>

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

// The word in the place of a command that is none; empty when all is well, and when another error will be found.
std::string UnknownCommand(CLI::App& app, const std::vector<std::string>& words);
// The same words, so that the parser takes them as they are: it would take the argument "[a,b]" as a list where one may
// be repeated, and "++" as an end. Such paths are spelled differently.
std::vector<std::string> SpellLiterally(const CLI::App& app, std::vector<std::string> words);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_COMMAND_LINE_H_
