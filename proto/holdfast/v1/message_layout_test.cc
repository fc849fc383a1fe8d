#include "proto/holdfast/v1/message_layout.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/holdfast/v1/service.pb.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(MessageLayoutTest, VarintsComeBackAtEveryLength) {
  for (int bits = 0; bits < 64; ++bits) {
    for (uint64_t value : {uint64_t{1} << bits, (uint64_t{1} << bits) - 1}) {
      std::string bytes;
      AppendVarint(&bytes, value);
      EXPECT_LE(bytes.size(), 10u);
      MessageReader whole({bytes});
      EXPECT_EQ(whole.Varint(), value);
      EXPECT_TRUE(whole.ok());
      EXPECT_EQ(whole.remaining(), 0u);
      for (size_t length = 0; length < bytes.size(); ++length) {
        MessageReader cut({std::string_view(bytes).substr(0, length)});
        EXPECT_EQ(cut.Varint(), 0u);
        EXPECT_FALSE(cut.ok()) << value << " cut at " << length;
      }
    }
  }
}

TEST(MessageLayoutTest, AVarintWithoutEndIsMalformed) {
  const std::string endless(11, '\x80');
  MessageReader reader({endless});
  EXPECT_EQ(reader.Varint(), 0u);
  EXPECT_FALSE(reader.ok());
}

TEST(MessageLayoutTest, IsWhatProtobufWrites) {
  v1::ReadRequest request;
  request.set_repository("main");
  request.set_ids(std::string(300, 'i'));
  request.set_verify(true);
  const std::string by_hand = FieldHeader(v1::ReadRequest::kRepositoryFieldNumber, 4) + "main" +
                              FieldHeader(v1::ReadRequest::kIdsFieldNumber, 300) + std::string(300, 'i') +
                              VarintField(v1::ReadRequest::kVerifyFieldNumber, 1);
  EXPECT_EQ(by_hand, request.SerializeAsString());
  MessageReader reader({by_hand});
  EXPECT_EQ(reader.Varint(), BytesTag(v1::ReadRequest::kRepositoryFieldNumber));
}

TEST(MessageLayoutTest, PartsMayBeCutAnywhere) {
  const std::string message = FieldHeader(3, 200) + std::string(100, 'a') + std::string(100, 'b') + VarintField(4, 300);
  for (size_t first = 0; first <= message.size(); ++first) {
    for (size_t second : {first, first + 1, message.size()}) {
      second = std::min(second, message.size());
      const std::string_view all = message;
      MessageReader reader({all.substr(0, first), "", all.substr(first, second - first), all.substr(second)});
      EXPECT_EQ(reader.Varint(), BytesTag(3));
      EXPECT_EQ(reader.Varint(), 200u);
      std::string copied;
      ASSERT_TRUE(reader.Bytes(150, &copied));
      EXPECT_EQ(copied, std::string(100, 'a') + std::string(50, 'b'));
      std::vector<std::string_view> parts;
      ASSERT_TRUE(reader.Parts(50, &parts));
      std::string joined;
      for (std::string_view part : parts) {
        EXPECT_NE(part, "");
        joined += part;
      }
      EXPECT_EQ(joined, std::string(50, 'b'));
      EXPECT_EQ(reader.Varint(), VarintTag(4));
      EXPECT_EQ(reader.Varint(), 300u);
      EXPECT_TRUE(reader.ok());
      EXPECT_EQ(reader.remaining(), 0u);
    }
  }
}

TEST(MessageLayoutTest, AskingForMoreThanThereIsFailsForGood) {
  for (uint64_t more : {uint64_t{5}, std::numeric_limits<uint64_t>::max()}) {
    std::string copied = "before";
    std::vector<std::string_view> parts;
    MessageReader by_copy({"ab", "cd"}), by_view({"ab", "cd"});
    EXPECT_FALSE(by_copy.Bytes(more, &copied));
    EXPECT_EQ(copied, "");
    EXPECT_FALSE(by_view.Parts(more, &parts));
    EXPECT_THAT(parts, IsEmpty());
    for (MessageReader* reader : {&by_copy, &by_view}) {
      EXPECT_FALSE(reader->ok());
      EXPECT_EQ(reader->remaining(), 0u);
      EXPECT_EQ(reader->Varint(), 0u);
      EXPECT_FALSE(reader->Bytes(0, &copied));
      EXPECT_FALSE(reader->Parts(0, &parts));
    }
  }
}

TEST(MessageLayoutTest, NothingIsReadFromNothing) {
  MessageReader reader;
  std::string copied;
  std::vector<std::string_view> parts;
  EXPECT_TRUE(reader.Bytes(0, &copied));
  EXPECT_TRUE(reader.Parts(0, &parts));
  EXPECT_THAT(parts, IsEmpty());
  EXPECT_EQ(reader.Varint(), 0u);
  EXPECT_FALSE(reader.ok());
}

TEST(MessageLayoutTest, ViewsAreOfThePartsThemselves) {
  const std::string first = "abc", second = "def";
  MessageReader reader({first, second});
  std::vector<std::string_view> parts;
  ASSERT_TRUE(reader.Parts(5, &parts));
  EXPECT_THAT(parts, ElementsAre("abc", "de"));
  EXPECT_EQ(parts[0].data(), first.data());
  EXPECT_EQ(parts[1].data(), second.data());
}

}  // namespace
}  // namespace holdfast
