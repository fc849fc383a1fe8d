#include "client/restore/read_back.h"

#include <fcntl.h>

#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ReadBackTest : public TargetTest {
 protected:
  void SetUp() override {
    Open();
    read_back_.emplace(*run_, *directories_, 0);
  }
  std::optional<ReadBack> read_back_;
};

TEST_F(ReadBackTest, FindsEveryFlippedByteAndEverySize) {
  std::string content = "0123456789" + std::string(20, '\0') + "abcdefghij" + std::string(5, '\0');
  const std::vector<WrittenRange> ranges = {{0, 10, HashOfWritten("0123456789")},
                                            {30, 10, HashOfWritten("abcdefghij")}};
  std::string buffer(7, '\0');
  auto check = [&] {
    Write("f", content);
    const int fd = ::open(At("f").c_str(), O_RDONLY);
    const absl::Status status = CheckFile(fd, 45, ranges, buffer);
    ::close(fd);
    return status;
  };
  EXPECT_OK(check());
  for (size_t i = 0; i < content.size(); ++i) {
    content[i] ^= 1;
    EXPECT_THAT(check(), StatusIs(absl::StatusCode::kDataLoss)) << i;
    content[i] ^= 1;
  }
  content.pop_back();
  EXPECT_THAT(check(), StatusIs(absl::StatusCode::kDataLoss));
  content.append(2, '\0');
  EXPECT_THAT(check(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ReadBackTest, ReadsEveryFileAgainAndNamesThoseThatDiffer) {
  DirRef dir = MakeDir(root_, "d");
  const std::vector<WrittenRange> ranges = {{0, 3, HashOfWritten("abc")}};
  for (const char* name : {"changed", "gone", "good", "link"}) {
    Write(absl::StrCat("d/", name), "abc");
    read_back_->Add(dir, name, 3, ranges);
  }
  Write("top", "abd");
  read_back_->Add(root_, "top", 3, ranges);
  Write("d/changed", "abd");
  std::filesystem::remove(At("d/gone"));
  std::filesystem::remove(At("d/link"));
  std::filesystem::create_symlink("good", At("d/link"));
  read_back_->Run(1);
  EXPECT_EQ(run_->stats().verified, 1u);
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget),
              ElementsAre("/in/d/changed: verify", "/in/d/gone: verify", "/in/d/link: verify", "/in/top: verify"));
}

TEST_F(ReadBackTest, DoesNotFollowADirectoryThatBecameALink) {
  DirRef dir = MakeDir(root_, "d");
  Write("d/f", "abc");
  read_back_->Add(dir, "f", 3, {{0, 3, HashOfWritten("abc")}});
  std::filesystem::rename(At("d"), At("moved"));
  std::filesystem::create_directory_symlink("moved", At("d"));
  read_back_->Run(2);
  EXPECT_EQ(run_->stats().verified, 0u);
  EXPECT_EQ(run_->stats().target_errors, 1u);
}

}  // namespace
}  // namespace holdfast
