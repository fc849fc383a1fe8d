// Where passwords come from: --password-file, --password-command, HOLDFAST_PASSWORD, else a prompt on the terminal.
#ifndef HOLDFAST_CLIENT_CLI_PASSWORD_H_
#define HOLDFAST_CLIENT_CLI_PASSWORD_H_

#include <string>

#include "core/base/secret.h"
#include "core/base/status.h"

namespace holdfast {

struct PasswordSources {
  std::string file{};                             // --password-file; empty = not given
  std::string command{};                          // --password-command
  const char* environment = "HOLDFAST_PASSWORD";  // the name of a variable
};

// True when a password can be had without asking a person.
bool HasPassword(const PasswordSources& sources);
// A person can be asked: standard input is a terminal, and there is a controlling one.
bool CanPrompt();

// The first line of the file, of what the command prints, or the variable; else a prompt without echo, twice when
// `confirm`. FAILED_PRECONDITION, with what to do, when there is none of these; errors of the file and of the command.
absl::StatusOr<SecretString> GetPassword(const PasswordSources& sources, const std::string& prompt, bool confirm);
// A yes-or-no question on the terminal; `otherwise` when there is no terminal or no answer.
bool AskYesNo(const std::string& question, bool otherwise);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_PASSWORD_H_
