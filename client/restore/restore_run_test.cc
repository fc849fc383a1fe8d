#include "client/restore/restore_run.h"

#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RestoreRunTest : public ::testing::Test {
 protected:
  RestoreOptions options_;
  RecordingObserver observer_;
  RestoreRun run_{options_, observer_};
};

TEST_F(RestoreRunTest, DamageIsAProblemOfItsObject) {
  for (auto code : {absl::StatusCode::kDataLoss, absl::StatusCode::kNotFound, absl::StatusCode::kFailedPrecondition,
                    absl::StatusCode::kInvalidArgument, absl::StatusCode::kOutOfRange}) {
    run_.ReportRepositoryProblem("/f", "fetch", absl::Status(code, "x"));
  }
  EXPECT_FALSE(run_.stopping());
  EXPECT_EQ(run_.stats().repository_errors, 5u);
  EXPECT_EQ(run_.stats().errors(), 5u);
  EXPECT_EQ(observer_.Said(RestoreProblemKind::kRepository), std::vector<std::string>(5, "/f: fetch"));
  EXPECT_OK(run_.failure());
}

TEST_F(RestoreRunTest, WhatCannotBeHadAtTheMomentEndsTheRestore) {
  run_.ReportRepositoryProblem("/f", "fetch", absl::UnavailableError("gone"));
  run_.ReportRepositoryProblem("/g", "fetch", absl::PermissionDeniedError("later"));
  EXPECT_TRUE(run_.stopping());
  EXPECT_THAT(run_.failure(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(observer_.problems, IsEmpty());
  EXPECT_EQ(run_.stats().errors(), 0u);
}

TEST_F(RestoreRunTest, AFullDiskEndsTheRestoreAndOtherErrorsDoNot) {
  run_.ReportTargetProblem("/f", "open", absl::PermissionDeniedError("no"));
  EXPECT_FALSE(run_.stopping());
  run_.ReportTargetProblem("/g", "write", absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(run_.stopping());
  EXPECT_THAT(run_.failure(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget), ElementsAre("/f: open", "/g: write"));
  EXPECT_EQ(run_.stats().target_errors, 2u);
}

TEST_F(RestoreRunTest, TheFirstFailureWinsOverLaterOnesAndOverCancelling) {
  observer_.cancel = true;
  EXPECT_TRUE(run_.stopping());
  EXPECT_THAT(run_.failure(), StatusIs(absl::StatusCode::kCancelled));
  run_.Fail(absl::UnavailableError("first"));
  run_.Fail(absl::InternalError("second"));
  EXPECT_THAT(run_.failure(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(RestoreRunTest, AttributesOfOneKindAreNotedOnce) {
  for (const char* name : {"user.a", "user.b", "trusted.x", "user.c"}) {
    run_.ReportXattrNotRestored("/f", name, absl::PermissionDeniedError("no"));
  }
  EXPECT_EQ(run_.stats().xattrs_not_restored, 4u);
  EXPECT_EQ(run_.stats().errors(), 0u);
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kNote),
              ElementsAre("/f: set extended attribute user.a", "/f: set extended attribute trusted.x"));
}

}  // namespace
}  // namespace holdfast
