#include "storage/blob_store.h"

#include "core/base/status_testing.h"
#include "storage/memory/memory_blob_store.h"

namespace holdfast {
namespace {

TEST(BlobName, TakesWhatTheFormatAllows) {
  for (std::string_view name : {"a", "0", "a/b", "log/00000000000000ff", "a.b", "..a", "a..", "-", "_", "..."}) {
    EXPECT_OK(BlobName::Parse(name)) << name;
  }
  EXPECT_OK(BlobName::Parse(std::string(255, 'x')));
}

TEST(BlobName, RefusesEverythingElse) {
  for (std::string_view name : {"", "/", "/a", "a/", "a//b", ".", "..", "a/.", "../a", "a/../b", "./a", "A", "a b",
                                "a\nb", "a\\b", "\xc3\xa4", "a*", "a:b"}) {
    EXPECT_THAT(BlobName::Parse(name), StatusIs(absl::StatusCode::kInvalidArgument)) << name;
  }
  EXPECT_THAT(BlobName::Parse(std::string(256, 'x')), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(BlobName::Parse(std::string_view("a\0b", 3)), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(BlobNameDeathTest, CrashesOnAMalformedNameOfOurOwn) {
  EXPECT_DEATH(BlobName::FromTrusted("../x"), "malformed blob name");
}

TEST(GetWholeBlob, RefusesMoreThanItsLimit) {
  MemoryBlobStore store;
  BlobName name = BlobName::FromTrusted("a");
  ASSERT_OK(PutBytes(store, name, "12345", PutMode::kIfAbsent));
  EXPECT_THAT(GetWholeBlob(store, name, 5), IsOkAndHolds(std::string("12345")));
  EXPECT_THAT(GetWholeBlob(store, name, 4), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(GetWholeBlob(store, BlobName::FromTrusted("b"), 4), StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace holdfast
