// Who calls the engine, and the one place that says what nobody may do.
#ifndef HOLDFAST_SERVER_REPOSITORY_PRINCIPAL_H_
#define HOLDFAST_SERVER_REPOSITORY_PRINCIPAL_H_

#include <string>

#include "core/base/status.h"

namespace holdfast {

// On the Unix socket everybody who may connect is one principal; certificates will name agents.
struct Principal {
  std::string name;
};

// A call that nobody stands behind is refused: every call of the engine names its principal, so that a path that forgot
// to find out who calls fails instead of acting for everybody.
inline absl::Status CheckNamed(const Principal& who) {
  if (!who.name.empty()) return absl::OkStatus();
  return absl::PermissionDeniedError("the call does not say on whose behalf it is made");
}

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_PRINCIPAL_H_
