// The two status macros of the project (and no more), and names for what several codes mean together. Errors cross our
// own boundaries as absl::Status; which code to choose is decided by what the caller should do:
//   UNAVAILABLE          outcome unknown or peer away: ask again
//   INVALID_ARGUMENT     the request (or the user) is wrong: fix it
//   DATA_LOSS            stored bytes are wrong or missing: alarm; never used for anything else
//   NOT_FOUND            the named thing does not exist
//   FAILED_PRECONDITION  right request, wrong state
//   ABORTED              lost a race or was revoked: start over
//   RESOURCE_EXHAUSTED   a limit or a full disk
//   UNAUTHENTICATED / PERMISSION_DENIED  wrong password / not yours
#ifndef HOLDFAST_CORE_BASE_STATUS_H_
#define HOLDFAST_CORE_BASE_STATUS_H_

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace holdfast {

// std::string_view -> absl::string_view (distinct types in Debian's Abseil).
inline absl::string_view AbslView(std::string_view s) { return {s.data(), s.size()}; }
inline std::string_view StdView(absl::string_view s) { return {s.data(), s.size()}; }

// The same code with "context: " in front of the message; OK stays OK.
inline absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  absl::Status out(status.code(), absl::StrCat(AbslView(context), ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { out.SetPayload(url, payload); });
  return out;
}

// What marks the status of a medium error (core/io/errno_status.h sets it).
inline constexpr char kMediumErrorPayload[] = "holdfast/medium-error";

// The device answers, but not for these bytes (EIO). Still UNAVAILABLE, as the next attempt may work; who has tried and
// can go on without them may take them for lost.
inline bool IsMediumError(const absl::Status& status) { return status.GetPayload(kMediumErrorPayload).has_value(); }

// An outage: nothing is known to be lost, and the same call may work later.
inline bool MayPass(const absl::Status& status) { return absl::IsUnavailable(status) && !IsMediumError(status); }

// Said of one object that was asked for: it is lost, damaged, of another version or nonsense. Every other error (the
// server is gone or refuses, a limit, an answer that makes no sense) says nothing about the object, and ends the run.
inline bool IsOfTheObject(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return true;
    default:
      return false;
  }
}

// Said by who reads stored bytes: they are not what was stored. FAILED_PRECONDITION, too, as a damaged byte can look
// like a version of the future.
inline bool IsDamage(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsFailedPrecondition(status);
}

}  // namespace holdfast

#define RETURN_IF_ERROR(expr)                \
  do {                                       \
    absl::Status _hf_status = (expr);        \
    if (!_hf_status.ok()) return _hf_status; \
  } while (0)

#define HF_STATUS_CONCAT_INNER(a, b) a##b
#define HF_STATUS_CONCAT(a, b) HF_STATUS_CONCAT_INNER(a, b)
#define HF_ASSIGN_OR_RETURN(tmp, lhs, expr) \
  auto tmp = (expr);                        \
  if (!tmp.ok()) return tmp.status();       \
  lhs = *std::move(tmp)
#define ASSIGN_OR_RETURN(lhs, expr) HF_ASSIGN_OR_RETURN(HF_STATUS_CONCAT(_hf_statusor_, __LINE__), lhs, expr)

#endif  // HOLDFAST_CORE_BASE_STATUS_H_
