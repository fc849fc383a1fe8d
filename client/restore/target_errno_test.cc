#include "client/restore/target_errno.h"

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

constexpr int kErrorMax = 133;  // EHWPOISON, the last one

TEST(TargetErrno, SaysWhatWasDoneAndWhyItFailed) {
  EXPECT_THAT(TargetErrno(ENOENT, "open"), StatusIs(absl::StatusCode::kNotFound, "open: No such file or directory"));
}

TEST(TargetErrno, IsNeverMistakenForAServerThatIsGone) {
  EXPECT_THAT(TargetErrno(EIO, "write"), StatusIs(absl::StatusCode::kFailedPrecondition, "write: Input/output error"));
  for (int error = 1; error <= kErrorMax; ++error) {
    const absl::Status status = TargetErrno(error, "write");
    EXPECT_FALSE(status.ok() || absl::IsUnavailable(status)) << status;
  }
}

TEST(TargetErrno, OnlyWhatEveryLaterCallMeetsTooIsResourceExhausted) {
  for (int error : {ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM}) {
    EXPECT_THAT(TargetErrno(error, "write"), StatusIs(absl::StatusCode::kResourceExhausted)) << error;
  }
  for (int error : {EFBIG, EMLINK, EOPNOTSUPP}) {
    EXPECT_THAT(TargetErrno(error, "write"), StatusIs(absl::StatusCode::kFailedPrecondition)) << error;
  }
}

TEST(XattrErrno, NothingThatAnAttributeMeetsEndsTheRestore) {
  for (int error : {ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM, E2BIG}) {
    EXPECT_THAT(XattrErrno(error), StatusIs(absl::StatusCode::kFailedPrecondition, "set extended attribute: "));
  }
  EXPECT_THAT(XattrErrno(EPERM), StatusIs(absl::StatusCode::kPermissionDenied));
}

}  // namespace
}  // namespace holdfast
