#include "client/cli/exit_code.h"

namespace holdfast {
namespace {

constexpr char kUsagePayload[] = "holdfast/usage";

}  // namespace

ExitCode ExitCodeOf(const Outcome& outcome) {
  if (outcome.failed != 0) return ExitCode::kFailed;
  const bool is_complete = outcome.not_read == 0 && outcome.not_restored == 0 && outcome.damaged == 0;
  return is_complete ? ExitCode::kOk : ExitCode::kIncomplete;
}

ExitCode ExitCodeOf(const absl::Status& error) {
  return error.GetPayload(kUsagePayload).has_value() ? ExitCode::kUsage : ExitCode::kFailed;
}

absl::Status AsUsage(absl::Status status) {
  if (!status.ok()) status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

}  // namespace holdfast
