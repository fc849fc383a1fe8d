#include "core/io/machine_paths.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

class SomebodyListensTest : public testing::Test {
 protected:
  void SetUp() override {
    // Not below the test's own folder: paths of sockets are short.
    char name[] = "/tmp/hf_paths_XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    path_ = folder_ + "/socket";
  }
  void TearDown() override {
    for (const int fd : open_) ::close(fd);
    std::filesystem::remove_all(folder_);
  }
  int NewSocket() {
    open_.push_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_GE(open_.back(), 0);
    return open_.back();
  }
  sockaddr_un Address() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, kSocketPathBytesMax);
    return address;
  }
  int Bind() {
    const int fd = NewSocket();
    const sockaddr_un address = Address();
    EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  void Listen() { EXPECT_EQ(::listen(Bind(), /*backlog=*/1), 0); }
  int Connect() {
    const sockaddr_un address = Address();
    return ::connect(NewSocket(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }

  std::string folder_, path_;
  std::vector<int> open_;
};

TEST_F(SomebodyListensTest, SaysNoWhereNothingIsOrNobodyTakesConnections) {
  EXPECT_FALSE(SomebodyListens(path_));
  EXPECT_FALSE(SomebodyListens(folder_));
  std::ofstream(path_) << "a file";
  EXPECT_FALSE(SomebodyListens(path_));
  std::filesystem::remove(path_);
  Bind();  // as a server leaves it that was killed
  EXPECT_FALSE(SomebodyListens(path_));
}

TEST_F(SomebodyListensTest, SaysYesOfAServerAlsoWhenItIsBusy) {
  Listen();
  EXPECT_TRUE(SomebodyListens(path_));
  for (int i = 0; i < 100 && Connect() == 0; ++i) {
  }
  EXPECT_EQ(errno, EAGAIN) << "the queue of connections is full";
  EXPECT_TRUE(SomebodyListens(path_));
}

TEST_F(SomebodyListensTest, SaysYesWhenItCannotFindOut) {
  Bind();
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit no_more_files{0, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &no_more_files), 0);
  const bool somebody = SomebodyListens(path_);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(somebody);
}

}  // namespace
}  // namespace holdfast
