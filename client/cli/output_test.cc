#include "client/cli/output.h"

#include <gtest/gtest.h>

#include <string>

#include "client/cli/progress.h"

namespace holdfast {
namespace {

TEST(EscapeTest, OrdinaryNamesStayAsTheyAre) {
  for (const char* name : {"", "plain", "with space", "Grüße", "日本語", "😀", "back\\slash"}) {
    EXPECT_EQ(EscapeForTerminal(name), name);
  }
}

TEST(EscapeTest, NothingReachesATerminalThatControlsIt) {
  EXPECT_EQ(EscapeForTerminal("\x1b[31mred"), "\\x1b[31mred");
  EXPECT_EQ(EscapeForTerminal("two\nlines\tand\rmore"), "two\\nlines\\tand\\x0dmore");
  EXPECT_EQ(EscapeForTerminal("\x7f"), "\\x7f");
  EXPECT_EQ(EscapeForTerminal("\xc2\x9b"), "\\xc2\\x9b");           // CSI as one character
  EXPECT_EQ(EscapeForTerminal("\xe2\x80\xae"), "\\xe2\\x80\\xae");  // right-to-left override
}

TEST(EscapeTest, BytesThatAreNotUtf8BecomeHexadecimal) {
  EXPECT_EQ(EscapeForTerminal("a\x80z"), "a\\x80z");
  EXPECT_EQ(EscapeForTerminal("\xe0\x80\xaf\n"), "\\xe0\\x80\\xaf\\n");
}

TEST(SetNameTest, RawBytesStandBesideTextThatIsNotExact) {
  Json object;
  SetName(object, "path", "fine");
  EXPECT_EQ(object["path"], "fine");
  EXPECT_FALSE(object.contains("path_raw_base64"));
  SetName(object, "path", "\xff");
  EXPECT_EQ(object["path"], "\\xff");
  EXPECT_EQ(object["path_raw_base64"], "/w==");
}

TEST(FormatTest, Bytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(1024 * 1024 - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(uint64_t{5} << 40), "5.0 TiB");
  EXPECT_EQ(FormatBytes(~uint64_t{0}), "16.0 EiB");
}

TEST(FormatTest, Durations) {
  EXPECT_EQ(FormatDuration(0.4), "0:00");
  EXPECT_EQ(FormatDuration(59.6), "1:00");
  EXPECT_EQ(FormatDuration(3723), "1:02:03");
}

TEST(FormatTest, TimesInJsonAreUtcAndSortAsText) {
  EXPECT_EQ(FormatTimeJson(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_LT(FormatTimeJson(1'000'000'000'000'000'001), FormatTimeJson(1'000'000'000'000'000'002));
}

TEST(ProgressLineTest, SaysWhatIsKnown) {
  ProgressState state{.activity = "backing up", .files = 10, .bytes = 1024};
  EXPECT_EQ(ProgressLine(state, 0, 3), "0:03  backing up  10 files  1.0 KiB");
  state.files_expected = 20;
  state.bytes_expected = 4096;
  EXPECT_EQ(ProgressLine(state, 1024, 3),
            "0:03  backing up  25%  10/20 files  1.0 KiB of 4.0 KiB  1.0 KiB/s  ETA 0:03");
  state.files = 30;  // the source has grown
  state.bytes = 8192;
  EXPECT_EQ(ProgressLine(state, 1024, 3), "0:03  backing up  100%  30/30 files  8.0 KiB of 8.0 KiB  1.0 KiB/s");
}

}  // namespace
}  // namespace holdfast
