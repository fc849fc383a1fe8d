#include "client/cli/failure_text.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/output.h"

namespace holdfast {

std::string ExplainFailure(const absl::Status& status) {
  std::string message(status.message());
  const bool has_advice = absl::StrContains(message, "\n  ");
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      if (!has_advice) {
        message +=
            "\n  The server may have stopped: start it with \"holdfastd &\" and run the command again. What had "
            "arrived of a backup is not sent again.";
      }
      break;
    case absl::StatusCode::kDataLoss:
      if (!has_advice) message = "damaged: " + message + "\n  Run \"holdfast verify\" to see what else is affected.";
      break;
    case absl::StatusCode::kUnauthenticated:
      if (!has_advice) {
        message +=
            "\n  Check --password-file, --password-command or HOLDFAST_PASSWORD, or use the recovery key as the "
            "password.";
      }
      break;
    case absl::StatusCode::kPermissionDenied:
      if (absl::StrContains(message, "another agent")) {
        message += "\n  Give the repository's password with --password-file, --password-command or HOLDFAST_PASSWORD.";
      }
      break;
    case absl::StatusCode::kResourceExhausted:
      if (!has_advice) message += "\n  Make room (the server keeps running meanwhile) and run the command again.";
      break;
    case absl::StatusCode::kAborted:
      if (!has_advice) message += "\n  Run the command again.";
      break;
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      message = absl::StrCat(absl::StatusCodeToString(status.code()), ": ", message);
      break;
    default:
      break;
  }
  // What the server says is somebody else's text; our own line ends stay.
  std::string out;
  for (absl::string_view line : absl::StrSplit(message, '\n')) {
    if (!out.empty()) out += '\n';
    out += EscapeForTerminal(StdView(line));
  }
  return out;
}

}  // namespace holdfast
