// The commands. Each Add function declares one group's subcommands; parsing fills in the options and selects what to
// run.
#ifndef HOLDFAST_CLIENT_CLI_COMMANDS_H_
#define HOLDFAST_CLIENT_CLI_COMMANDS_H_

#include "client/cli/command_line.h"

namespace holdfast {

void AddRepositoryCommands(CommandLine& line);
void AddSnapshotCommands(CommandLine& line);
void AddRestoreCommand(CommandLine& line);
void AddVerifyCommand(CommandLine& line);
void AddInspectCommands(CommandLine& line);  // diff, ls, cat

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_COMMANDS_H_
