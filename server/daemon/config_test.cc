#include "server/daemon/config.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

class DaemonConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/config_XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = folder_ + "/holdfastd.toml";
    // What the defaults are made of.
    for (const auto& [variable, value] :
         {std::pair("HOME", "/home/anna"), std::pair("XDG_DATA_HOME", "/data"), std::pair("XDG_CONFIG_HOME", "/config"),
          std::pair("XDG_CACHE_HOME", "/cache"), std::pair("XDG_RUNTIME_DIR", "/runtime")}) {
      ASSERT_EQ(::setenv(variable, value, 1), 0);
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  absl::StatusOr<DaemonConfig> Load(std::string_view text) {
    std::ofstream(path_, std::ios::trunc) << text;
    return LoadDaemonConfig(path_);
  }
  // Refused, with the place and a message.
  void ExpectRefused(std::string_view text, std::string_view place, std::string_view what) {
    EXPECT_THAT(Load(text), StatusIs(absl::StatusCode::kInvalidArgument,
                                     absl::StrCat(path_, ":", AbslView(place), ": ", AbslView(what))))
        << text;
  }

  std::string folder_, path_;
};

TEST_F(DaemonConfigTest, WithoutAFileOrSettingsItIsTheDefaultsOfTheMachine) {
  for (const auto& config : {LoadDaemonConfig(""), Load(""), Load("# nothing\n[http]\n")}) {
    ASSERT_OK(config);
    EXPECT_EQ(config->data_directory, "/data/holdfast");
    EXPECT_EQ(config->socket, "/runtime/holdfast/holdfastd.sock");
    EXPECT_EQ(config->http_socket, "/runtime/holdfast/http.sock");
    EXPECT_EQ(config->http_loopback, "");
  }
}

TEST_F(DaemonConfigTest, TakesEverySetting) {
  auto config = Load(R"(
data_directory = "/srv/holdfast"
socket = "/run/h/h.sock"
[http]
socket = "/run/h/http.sock"
loopback = "127.0.0.1:9464"
)");
  ASSERT_OK(config);
  EXPECT_EQ(config->data_directory, "/srv/holdfast");
  EXPECT_EQ(config->socket, "/run/h/h.sock");
  EXPECT_EQ(config->http_socket, "/run/h/http.sock");
  EXPECT_EQ(config->http_loopback, "127.0.0.1:9464");
}

TEST_F(DaemonConfigTest, EachSettingStandsForItself) {
  auto config = Load("socket = '/run/h/h.sock'\n");
  ASSERT_OK(config);
  EXPECT_EQ(config->socket, "/run/h/h.sock");
  EXPECT_EQ(config->data_directory, "/data/holdfast");
  EXPECT_EQ(config->http_socket, "/runtime/holdfast/http.sock");
  config = Load("http.socket = '/run/h/http.sock'\n");
  ASSERT_OK(config);
  EXPECT_EQ(config->socket, "/runtime/holdfast/holdfastd.sock");
  EXPECT_EQ(config->http_socket, "/run/h/http.sock");
}

TEST_F(DaemonConfigTest, NamesUnknownSettingsWithTheirLine) {
  ExpectRefused("# one\ndata_dir = '/srv'\n", "2:12", "unknown setting data_dir");
  ExpectRefused("[http]\n\nport = 80\n", "3:8", "unknown setting http.port");
  ExpectRefused("\n[grpc]\n", "2:1", "unknown setting grpc");
  ExpectRefused("[[http]]\nsocket = '/x'\n", "1:1", "a table is expected");
}

TEST_F(DaemonConfigTest, NamesWrongTypesWithTheirLine) {
  ExpectRefused("\ndata_directory = 3\n", "2:18", "a string is expected");
  ExpectRefused("socket = true\n", "1:10", "a string is expected");
  ExpectRefused("socket = ['/a']\n", "1:10", "a string is expected");
  ExpectRefused("http = 3\n", "1:8", "a table is expected");
  ExpectRefused("http = '/run/http.sock'\n", "1:8", "a table is expected");
  ExpectRefused("[http]\nsocket = 1\n", "2:10", "a string is expected");
  ExpectRefused("[http]\nloopback = 9464\n", "2:12", "a string is expected");
}

TEST_F(DaemonConfigTest, RefusesEmptySettings) {
  for (const char* setting : {"data_directory", "socket", "http.socket", "http.loopback"}) {
    EXPECT_THAT(Load(absl::StrCat(setting, " = ''\n")),
                StatusIs(absl::StatusCode::kInvalidArgument, "must not be empty"))
        << setting;
  }
}

TEST_F(DaemonConfigTest, RefusesRelativePaths) {
  for (const char* setting : {"data_directory", "socket", "http.socket"}) {
    for (const char* path : {"srv/holdfast", "./x", "~/x"}) {
      EXPECT_THAT(Load(absl::StrCat(setting, " = '", path, "'\n")),
                  StatusIs(absl::StatusCode::kInvalidArgument, absl::StrCat(path_, ": paths must be absolute: ", path)))
          << setting;
    }
  }
}

TEST_F(DaemonConfigTest, RefusesOneSocketForBoth) {
  EXPECT_THAT(Load("socket = '/run/h/x'\nhttp.socket = '/run/h/x'\n"),
              StatusIs(absl::StatusCode::kInvalidArgument, "socket and http.socket must differ: /run/h/x"));
  EXPECT_OK(Load("socket = '/run/h/x'\nhttp.socket = '/run/h/x'\nhttp.loopback = '127.0.0.1:0'\n"))
      << "nobody listens on it";
}

TEST_F(DaemonConfigTest, SaysWhereAFileIsNotToml) {
  ExpectRefused("socket = '/x'\nsocket = '/y'\n", "2:10", "Error while parsing");
  ExpectRefused("socket\n", "1:7", "Error while parsing");
  EXPECT_THAT(LoadDaemonConfig(folder_ + "/none.toml"),
              StatusIs(absl::StatusCode::kInvalidArgument, folder_ + "/none.toml"));
}

}  // namespace
}  // namespace holdfast
