// The program as supervisors and people meet it: flags, exit statuses, messages, signals.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status_testing.h"
#include "core/base/version.h"

extern char** environ;

namespace holdfast {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// One run of the program, whose output and messages come back together.
class Program {
 public:
  explicit Program(std::vector<std::string> arguments) {
    std::string path =
        absl::StrCat(std::getenv("TEST_SRCDIR"), "/", std::getenv("TEST_WORKSPACE"), "/server/daemon/holdfastd");
    arguments.insert(arguments.begin(), path);
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    EXPECT_EQ(::posix_spawn(&pid_, path.c_str(), &actions, nullptr, argv.data(), environ), 0) << path;
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    output_fd_ = ends[0];
  }
  ~Program() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      Wait();
    }
    ::close(output_fd_);
  }

  // Until it says this, or ends.
  void ReadUntil(std::string_view text) {
    while (output_.find(text) == std::string::npos && ReadSome()) {
    }
  }
  void Signal(int number) { EXPECT_EQ(::kill(pid_, number), 0); }
  // Its exit status; negative: a signal ended it.
  int Wait() {
    while (ReadSome()) {
    }
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  const std::string& output() const { return output_; }

 private:
  bool ReadSome() {
    char buffer[4096];
    const ssize_t n = ::read(output_fd_, buffer, sizeof(buffer));
    if (n > 0) output_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }

  pid_t pid_ = -1;
  int output_fd_ = -1;
  std::string output_;
};

class HoldfastdTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Not below the test's own folder: paths of sockets are short.
    char name[] = "/tmp/hf_daemon_XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    config_ = folder_ + "/holdfastd.toml";
    std::ofstream(config_) << "data_directory = '" << folder_ << "/data'\nsocket = '" << folder_
                           << "/run/holdfastd.sock'\nhttp.socket = '" << folder_ << "/run/http.sock'\n";
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string folder_, config_;
};

TEST_F(HoldfastdTest, TellsItsVersionAndItsFlags) {
  Program version({"--version"});
  EXPECT_EQ(version.Wait(), 0);
  EXPECT_EQ(version.output(), absl::StrCat("holdfastd ", kVersion, "\n"));
  Program help({"--help"});
  EXPECT_EQ(help.Wait(), 0);
  EXPECT_THAT(help.output(), HasSubstr("--config"));
}

TEST_F(HoldfastdTest, RefusesUnknownFlagsAndBadConfigurations) {
  Program unknown({"--colour"});
  EXPECT_EQ(unknown.Wait(), 64);
  EXPECT_THAT(unknown.output(), HasSubstr("--colour"));
  std::ofstream(config_, std::ios::app) << "speed = 'high'\n";
  Program bad({"--config", config_});
  EXPECT_EQ(bad.Wait(), 2);
  EXPECT_EQ(bad.output(), "holdfastd: " + config_ + ":4:9: unknown setting speed\n");
}

TEST_F(HoldfastdTest, ServesUntilASignalEndsIt) {
  for (const int number : {SIGTERM, SIGINT}) {
    Program program({"--config", config_});
    program.ReadUntil("listens on");
    EXPECT_TRUE(fs::exists(folder_ + "/run/holdfastd.sock")) << program.output();
    // A second one says why it does not start, and the first goes on.
    Program second({"--config", config_});
    EXPECT_EQ(second.Wait(), 2);
    EXPECT_THAT(second.output(), HasSubstr("a holdfastd is already listening on " + folder_ + "/run/holdfastd.sock"));
    program.Signal(number);
    EXPECT_EQ(program.Wait(), 0);
    EXPECT_THAT(program.output(), HasSubstr("Z stopped\n"));
    EXPECT_FALSE(fs::exists(folder_ + "/run/holdfastd.sock"));
  }
}

}  // namespace
}  // namespace holdfast
