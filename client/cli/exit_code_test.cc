#include "client/cli/exit_code.h"

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

TEST(ExitCode, OfWorkThatWasDoneIsZero) { EXPECT_EQ(ExitCodeOf(Outcome{}), ExitCode::kOk); }

TEST(ExitCode, IsOneWhenAFileCouldNotBeReadRestoredOrVerified) {
  EXPECT_EQ(ExitCodeOf(Outcome{.not_read = 1}), ExitCode::kIncomplete);
  EXPECT_EQ(ExitCodeOf(Outcome{.not_restored = 1}), ExitCode::kIncomplete);
  EXPECT_EQ(ExitCodeOf(Outcome{.damaged = 1}), ExitCode::kIncomplete);
  EXPECT_EQ(static_cast<int>(ExitCode::kIncomplete), 1);
}

TEST(ExitCode, IsTwoWhenAPieceOfTheWorkFailed) {
  EXPECT_EQ(ExitCodeOf(Outcome{.failed = 1}), ExitCode::kFailed);
  EXPECT_EQ(ExitCodeOf(Outcome{.not_read = 5, .failed = 1}), ExitCode::kFailed);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError("no such repository")), ExitCode::kFailed);
  EXPECT_EQ(static_cast<int>(ExitCode::kFailed), 2);
}

TEST(ExitCode, Is64WhenTheCallerWasWrong) {
  EXPECT_EQ(ExitCodeOf(AsUsage(absl::InvalidArgumentError("not a name"))), ExitCode::kUsage);
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError("not a name")), ExitCode::kFailed);
  EXPECT_EQ(static_cast<int>(ExitCode::kUsage), 64);
}

TEST(AsUsage, KeepsTheErrorAndLeavesOkAsItIs) {
  EXPECT_THAT(AsUsage(absl::InvalidArgumentError("not a name")),
              StatusIs(absl::StatusCode::kInvalidArgument, "not a name"));
  EXPECT_OK(AsUsage(absl::OkStatus()));
}

}  // namespace
}  // namespace holdfast
