#include "client/restore/spill.h"

#include <fcntl.h>
#include <unistd.h>

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

class SpillTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  SpillTest() : fd_(::open(::testing::TempDir().c_str(), O_RDONLY | O_DIRECTORY)), store_(fd_, GetParam()) {}
  ~SpillTest() override { ::close(fd_); }
  int fd_;
  SpillStore store_;
};

TEST_P(SpillTest, GivesBackWhatWasAppended) {
  std::vector<uint64_t> offsets;
  for (int i = 0; i < 1000; ++i) {
    offsets.push_back(store_.end());
    ASSERT_OK(store_.Append(std::string(i % 700, static_cast<char>('a' + i % 26))));
  }
  uint64_t at = 0;
  std::string record;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(at, offsets[i]);
    ASSERT_OK_AND_ASSIGN(at, store_.Read(at, &record));
    ASSERT_EQ(record, std::string(i % 700, static_cast<char>('a' + i % 26))) << i;
  }
  EXPECT_EQ(at, store_.end());
}

TEST_P(SpillTest, IsAStack) {
  std::vector<std::pair<uint64_t, std::string>> model;
  uint64_t seed = 7;
  std::string record;
  for (int i = 0; i < 5000; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    if ((seed >> 60) < 9 || model.empty()) {
      std::string value((seed >> 40) % 100, static_cast<char>(i));
      model.emplace_back(store_.end(), value);
      ASSERT_OK(store_.Append(value));
    } else {
      size_t keep = model.size() - std::min<size_t>(model.size(), (seed >> 50) % 7);
      ASSERT_OK(store_.Truncate(keep < model.size() ? model[keep].first : store_.end()));
      model.resize(keep);
    }
    if (!model.empty()) {
      const auto& [offset, value] = model[(seed >> 20) % model.size()];
      ASSERT_OK_AND_ASSIGN(uint64_t next, store_.Read(offset, &record));
      ASSERT_EQ(record, value);
      ASSERT_LE(next, store_.end());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Limits, SpillTest, ::testing::Values(0, 1000, 1 << 20));

}  // namespace
}  // namespace holdfast
