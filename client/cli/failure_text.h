// What a person reads when a command has failed. Pure.
#ifndef HOLDFAST_CLIENT_CLI_FAILURE_TEXT_H_
#define HOLDFAST_CLIENT_CLI_FAILURE_TEXT_H_

#include <string>

#include "core/base/status.h"

namespace holdfast {

// The message of a failed command, with what to do about it; nothing in it controls a terminal.
std::string ExplainFailure(const absl::Status& status);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_FAILURE_TEXT_H_
