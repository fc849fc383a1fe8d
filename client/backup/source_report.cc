#include "client/backup/source_report.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace holdfast {

void SourceReport::OnError(const SourceError& error) {
  // What this machine is short of is nobody's file: with it, half of the source might be missing from a "snapshot".
  if (error.error_number == EMFILE || error.error_number == ENFILE || error.error_number == ENOMEM) {
    machine_status_ = absl::ResourceExhaustedError(absl::StrCat(
        "this machine ran short of something while reading ", error.path, ": ", std::strerror(error.error_number),
        "\n  Nothing was committed. Raise the limit (ulimit -n for open files) and run it again."));
    return;
  }
  draft_.AddFailure(error);
  observer_.OnSourceError(error);
}

void SourceReport::OnSkipped(std::string_view path, SkipReason reason) {
  ++skipped_;
  observer_.OnSkipped(path, reason);
}

void SourceReport::OnVanished(std::string_view path) {
  ++vanished_;
  observer_.OnVanished(path);
}

}  // namespace holdfast
