#include "client/cli/failure_text.h"

#include <string>

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(FailureText, OfAnOrdinaryErrorIsItsMessage) {
  EXPECT_EQ(ExplainFailure(absl::NotFoundError("no such snapshot")), "no such snapshot");
  EXPECT_EQ(ExplainFailure(absl::InvalidArgumentError("give a name")), "give a name");
}

TEST(FailureText, SaysWhatToDoWhereTheMessageDoesNot) {
  EXPECT_THAT(ExplainFailure(absl::UnavailableError("gone")), HasSubstr("\n  The server may have stopped"));
  EXPECT_THAT(ExplainFailure(absl::DeadlineExceededError("late")), HasSubstr("\n  The server may have stopped"));
  EXPECT_THAT(ExplainFailure(absl::DataLossError("torn")), StartsWith("damaged: torn\n  Run \"holdfast verify\""));
  EXPECT_THAT(ExplainFailure(absl::UnauthenticatedError("wrong password")), HasSubstr("\n  Check --password-file"));
  EXPECT_THAT(ExplainFailure(absl::ResourceExhaustedError("full")), HasSubstr("\n  Make room"));
  EXPECT_THAT(ExplainFailure(absl::AbortedError("raced")), HasSubstr("\n  Run the command again."));
}

TEST(FailureText, DoesNotAddToAdviceThatIsThere) {
  for (auto code : {absl::StatusCode::kUnavailable, absl::StatusCode::kDataLoss, absl::StatusCode::kUnauthenticated,
                    absl::StatusCode::kResourceExhausted, absl::StatusCode::kAborted}) {
    EXPECT_EQ(ExplainFailure(absl::Status(code, "this\n  Do that.")), "this\n  Do that.") << code;
  }
}

TEST(FailureText, AsksForThePasswordWhereOnlyTheAgentIsAnother) {
  EXPECT_THAT(ExplainFailure(absl::PermissionDeniedError("it belongs to another agent")),
              HasSubstr("\n  Give the repository's password"));
  EXPECT_THAT(ExplainFailure(absl::PermissionDeniedError("/root/secret")), Not(HasSubstr("password")));
}

TEST(FailureText, NamesTheKindOfAnErrorThatIsOurs) {
  EXPECT_EQ(ExplainFailure(absl::InternalError("what")), "INTERNAL: what");
  EXPECT_EQ(ExplainFailure(absl::UnknownError("what")), "UNKNOWN: what");
}

TEST(FailureText, LetsNoServerControlTheTerminal) {
  EXPECT_EQ(ExplainFailure(absl::NotFoundError("no \x1b[31mred\n  Line two")), "no \\x1b[31mred\n  Line two");
}

}  // namespace
}  // namespace holdfast
