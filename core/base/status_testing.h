// Test matchers for absl::Status: EXPECT_OK, ASSERT_OK, StatusIs, IsOkAndHolds, ASSERT_OK_AND_ASSIGN.
#ifndef HOLDFAST_CORE_BASE_STATUS_TESTING_H_
#define HOLDFAST_CORE_BASE_STATUS_TESTING_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast {
inline absl::Status ToStatus(const absl::Status& s) { return s; }
template <typename T>
absl::Status ToStatus(const absl::StatusOr<T>& s) {
  return s.status();
}

MATCHER(IsOk, "is OK") {
  absl::Status s = ToStatus(arg);
  *result_listener << s.ToString();
  return s.ok();
}
MATCHER_P(StatusIs, code, std::string("has status ") + absl::StatusCodeToString(code)) {
  absl::Status s = ToStatus(arg);
  *result_listener << s.ToString();
  return s.code() == code;
}
MATCHER_P2(StatusIs, code, message, std::string("has status ") + absl::StatusCodeToString(code)) {
  absl::Status s = ToStatus(arg);
  *result_listener << s.ToString();
  return s.code() == code && ::testing::Matches(::testing::HasSubstr(message))(std::string(s.message()));
}
MATCHER_P(IsOkAndHolds, inner, "is OK and holds the value") {
  if (!arg.ok()) {
    *result_listener << arg.status().ToString();
    return false;
  }
  return ::testing::ExplainMatchResult(inner, *arg, result_listener);
}
}  // namespace holdfast

#define EXPECT_OK(expr) EXPECT_THAT((expr), ::holdfast::IsOk())
#define ASSERT_OK(expr) ASSERT_THAT((expr), ::holdfast::IsOk())
#define HF_ASSERT_OK_AND_ASSIGN(tmp, lhs, expr)     \
  auto tmp = (expr);                                \
  ASSERT_TRUE(tmp.ok()) << tmp.status().ToString(); \
  lhs = *std::move(tmp)
#define ASSERT_OK_AND_ASSIGN(lhs, expr) HF_ASSERT_OK_AND_ASSIGN(HF_STATUS_CONCAT(_hf_assert_, __LINE__), lhs, expr)

#endif  // HOLDFAST_CORE_BASE_STATUS_TESTING_H_
