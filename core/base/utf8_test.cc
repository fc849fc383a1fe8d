#include "core/base/utf8.h"

#include <string>
#include <utility>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

TEST(Utf8, StaysAsItIs) {
  for (const char* text :
       {"", "plain", "with space", "Grüße", "日本語", "😀", "back\\slash", "\x1b\n\x7f", "\xc2\x80", "\xdf\xbf",
        "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsUtf8(text)) << text;
    EXPECT_EQ(EscapeInvalidUtf8(text), text);
  }
  EXPECT_TRUE(IsUtf8(std::string(1, '\0')));
}

TEST(Utf8, BytesThatAreNoPartOfItBecomeHexadecimal) {
  const std::pair<std::string, std::string> cases[] = {
      {"\xff", "\\xff"},
      {"a\x80z", "a\\x80z"},
      {"\xc3", "\\xc3"},                             // truncated
      {"\xc3z", "\\xc3z"},                           // truncated
      {"\xe2\x82", "\\xe2\\x82"},                    // truncated
      {"\xf0\x9f\x98", "\\xf0\\x9f\\x98"},           // truncated
      {"\xc0\xaf", "\\xc0\\xaf"},                    // overlong
      {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},           // overlong
      {"\xe0\x9f\xbf", "\\xe0\\x9f\\xbf"},           // overlong
      {"\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf"},  // overlong
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},           // surrogate
      {"\xed\xbf\xbf", "\\xed\\xbf\\xbf"},           // surrogate
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},  // above U+10FFFF
      {"\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80"},
  };
  for (const auto& [raw, escaped] : cases) {
    EXPECT_FALSE(IsUtf8(raw)) << escaped;
    EXPECT_EQ(EscapeInvalidUtf8(raw), escaped);
  }
}

TEST(Utf8, GivesTheCodePointAndTheLengthOfACharacter) {
  const std::pair<std::string, uint32_t> cases[] = {
      {"a", 'a'}, {"\xc3\xbc", 0xfc}, {"\xe2\x82\xac", 0x20ac}, {"\xf0\x9f\x98\x80", 0x1f600}};
  for (const auto& [character, expected] : cases) {
    uint32_t code = 0;
    EXPECT_EQ(DecodeUtf8Character(character + "more", &code), character.size());
    EXPECT_EQ(code, expected);
  }
}

}  // namespace
}  // namespace holdfast
