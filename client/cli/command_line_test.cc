#include "client/cli/command_line.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;

class CommandLineTest : public testing::Test {
 protected:
  CommandLineTest() {
    CLI::App* group = line_.app.add_subcommand("snapshot", "");
    CLI::App* create = AddCommand(line_, *group, "create", "", "", [](Context&) { return ExitCode::kOk; });
    create->add_option("path", paths_, "")->required();
    AddRepeatable(*create, "--exclude,-x", &excludes_, "");
    create->add_flag("--full", full_, "");
    AddRepositoryOption(*create, &repository_);
  }
  void Parse(std::vector<std::string> words) {
    words = SpellLiterally(line_.app, std::move(words));
    std::reverse(words.begin(), words.end());
    line_.app.parse(std::move(words));
  }

  CommandLine line_;
  std::vector<std::string> paths_, excludes_;
  std::string repository_ = "default";
  bool full_ = false;
};

TEST_F(CommandLineTest, NamesTheWordThatIsNoCommand) {
  EXPECT_EQ(UnknownCommand(line_.app, {"snapshto"}), "snapshto");
  EXPECT_EQ(UnknownCommand(line_.app, {"snapshot", "creat", "/home"}), "creat");
  EXPECT_EQ(UnknownCommand(line_.app, {"snapshot", "create", "creat"}), "");
  EXPECT_EQ(UnknownCommand(line_.app, {"--version"}), "");
  EXPECT_EQ(UnknownCommand(line_.app, {"snapshot", "--help"}), "");
  EXPECT_EQ(UnknownCommand(line_.app, {}), "");
}

TEST_F(CommandLineTest, PathsThatLookLikeListsStayPaths) {
  Parse({"snapshot", "create", "[a,b]", "++", "plain"});
  EXPECT_THAT(paths_, ElementsAre("./[a,b]", "./++", "plain"));
}

TEST_F(CommandLineTest, ValuesOfOptionsStayAsTheyAre) {
  EXPECT_THAT(SpellLiterally(line_.app, {"--exclude", "[ab]", "-x", "++", "--full", "[ab]", "[", "[]"}),
              ElementsAre("--exclude", "[ab]", "-x", "++", "--full", "./[ab]", "[", "./[]"));
}

TEST_F(CommandLineTest, ARepeatableOptionTakesOneValueEach) {
  Parse({"snapshot", "create", "-x", "one", "/home", "-x", "two"});
  EXPECT_THAT(excludes_, ElementsAre("one", "two"));
  EXPECT_THAT(paths_, ElementsAre("/home"));
}

TEST_F(CommandLineTest, ParsingSelectsTheCommandWithTheOptionsThatAllHave) {
  Parse({"snapshot", "create", "/home", "--server", "unix:/s", "--json", "-r", "photos"});
  ASSERT_TRUE(line_.selected != nullptr);
  EXPECT_EQ(line_.common.server, "unix:/s");
  EXPECT_TRUE(line_.common.json);
  EXPECT_EQ(repository_, "photos");
}

TEST_F(CommandLineTest, OnePasswordSourceExcludesTheOther) {
  EXPECT_THROW(Parse({"snapshot", "create", "/home", "--password-file", "f", "--password-command", "c"}),
               CLI::ParseError);
}

}  // namespace
}  // namespace holdfast
