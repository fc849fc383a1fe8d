#include "client/restore/beneath.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/limits.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

class BeneathTest : public ::testing::Test {
 protected:
  BeneathTest() {
    std::string name = ::testing::TempDir() + "/beneath-XXXXXX";
    base_ = ::mkdtemp(name.data());
    std::filesystem::create_directories(base_ + "/root/a/b/c");
    std::filesystem::create_directories(base_ + "/outside/in");
    root_fd_ = ::open((base_ + "/root").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  ~BeneathTest() override {
    ::close(root_fd_);
    // Deeper than std::filesystem can go.
    EXPECT_EQ(std::system(("rm -rf " + base_).c_str()), 0);
  }
  // That what is opened at a path is the directory `fd`, which it closes.
  void ExpectOpens(std::string_view path, int fd) {
    ASSERT_GE(fd, 0);
    absl::StatusOr<int> opened = OpenBeneath(root_fd_, path);
    ASSERT_OK(opened);
    struct stat expected, found;
    ASSERT_EQ(::fstat(fd, &expected), 0);
    ASSERT_EQ(::fstat(*opened, &found), 0);
    EXPECT_EQ(found.st_ino, expected.st_ino);
    EXPECT_NE(::fcntl(*opened, F_GETFD) & FD_CLOEXEC, 0);
    ::close(*opened);
    ::close(fd);
  }
  int Open(const std::string& path) { return ::open((base_ + "/root/" + path).c_str(), O_RDONLY | O_DIRECTORY); }
  std::string base_;
  int root_fd_ = -1;
};

TEST(CheckName, TakesWhatIsOneComponentOfAPath) {
  for (const std::string& name : {std::string("a"), std::string(".a"), std::string("..."), std::string("a b"),
                                  std::string("\xff\n"), std::string(kNameBytesMax, 'x')}) {
    EXPECT_OK(CheckName(name)) << name;
  }
}

TEST(CheckName, RefusesWhatLeadsElsewhereOrCannotBe) {
  for (const std::string& name : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                                  std::string("/"), std::string("a\0b", 3), std::string(kNameBytesMax + 1, 'x')}) {
    EXPECT_THAT(CheckName(name), StatusIs(absl::StatusCode::kInvalidArgument)) << name;
  }
}

TEST_F(BeneathTest, OpensDirectoriesAtAPath) {
  ExpectOpens("", Open(""));
  ExpectOpens("a", Open("a"));
  ExpectOpens("a/b/c", Open("a/b/c"));
}

TEST_F(BeneathTest, OpensPathsLongerThanTheKernelTakes) {
  // Steps of 4,000 bytes end in different places of a name.
  for (size_t length : {19, 199, 255}) {
    const std::string name(length, 'd');
    int fd = ::dup(root_fd_);
    std::string path;
    while (path.size() < 10'000) {
      ASSERT_EQ(::mkdirat(fd, name.c_str(), 0700), 0);
      const int next = ::openat(fd, name.c_str(), O_RDONLY | O_DIRECTORY);
      ::close(fd);
      fd = next;
      ASSERT_GE(fd, 0);
      path += (path.empty() ? "" : "/") + name;
    }
    ExpectOpens(path, fd);
  }
}

TEST_F(BeneathTest, NeverGoesThroughASymbolicLink) {
  std::filesystem::create_directory_symlink("../outside", base_ + "/root/out");
  std::filesystem::create_directory_symlink("a", base_ + "/root/in");
  for (const char* path : {"out", "out/in", "in", "in/b"}) {
    EXPECT_FALSE(OpenBeneath(root_fd_, path).ok()) << path;
  }
  for (const char* name : {"out", "in"}) EXPECT_LT(OpenDirectoryAt(root_fd_, name), 0) << name;
}

TEST_F(BeneathTest, SaysWhatIsNotThereOrNoDirectory) {
  EXPECT_THAT(OpenBeneath(root_fd_, "a/no/c"), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_EQ(::mknod((base_ + "/root/a/file").c_str(), S_IFREG | 0600, 0), 0);
  EXPECT_FALSE(OpenBeneath(root_fd_, "a/file").ok());
  EXPECT_FALSE(OpenBeneath(root_fd_, "a/file/c").ok());
  EXPECT_FALSE(OpenBeneath(-1, "a").ok());
}

}  // namespace
}  // namespace holdfast
