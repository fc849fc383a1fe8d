#include "core/format/record.h"

#include <cstring>
#include <functional>

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

ChunkId IdOf(uint8_t fill) {
  ChunkId id;
  id.bytes.fill(fill);
  return id;
}

RecordHeader TreeHeader(int children) {
  RecordHeader h;
  h.type = ChunkType::kTree;
  h.aead = 1;
  h.epoch = 0x01020304;
  h.uploader = 7;
  h.sealed_length = 1000;
  h.id = IdOf(0xee);
  for (int i = 0; i < children; ++i) h.children.push_back(IdOf(static_cast<uint8_t>(i + 1)));
  return h;
}

void SetU32(std::string& s, size_t at, uint32_t v) { std::memcpy(s.data() + at, &v, 4); }

TEST(RecordHeader, HasTheLayoutOfTheSpecification) {
  std::string bytes = EncodeRecordHeader(TreeHeader(1));
  ASSERT_EQ(bytes.size(), 84u);
  EXPECT_EQ(HexEncode(bytes.substr(0, 20)),
            "0102010004030201"
            "07000000"
            "e8030000"
            "01000000");
  EXPECT_EQ(bytes.substr(20, 32), std::string(32, '\xee'));
  EXPECT_EQ(bytes.substr(52), std::string(32, '\x01'));
}

TEST(RecordHeader, ComesBackAsItWas) {
  for (int children : {0, 1, 3}) {
    RecordHeader h = TreeHeader(children);
    std::string bytes = EncodeRecordHeader(h);
    EXPECT_THAT(RecordHeaderSize(bytes), IsOkAndHolds(bytes.size()));
    ASSERT_OK_AND_ASSIGN(RecordHeader back, DecodeRecordHeader(bytes));
    EXPECT_EQ(EncodeRecordHeader(back), bytes);
    EXPECT_EQ(back.type, h.type);
    EXPECT_EQ(back.aead, h.aead);
    EXPECT_EQ(back.epoch, h.epoch);
    EXPECT_EQ(back.uploader, h.uploader);
    EXPECT_EQ(back.sealed_length, h.sealed_length);
    EXPECT_EQ(back.id, h.id);
    EXPECT_EQ(back.children, h.children);
  }
}

TEST(RecordHeader, IsRefusedAtEveryOtherLength) {
  std::string bytes = EncodeRecordHeader(TreeHeader(3));
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_THAT(DecodeRecordHeader(bytes.substr(0, n)), StatusIs(absl::StatusCode::kInvalidArgument)) << n;
  }
  for (size_t n = 0; n < kRecordHeaderFixedBytes; ++n) {
    EXPECT_THAT(RecordHeaderSize(bytes.substr(0, n)), StatusIs(absl::StatusCode::kInvalidArgument)) << n;
  }
  EXPECT_THAT(DecodeRecordHeader(bytes + "x"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(RecordHeader, IsRefusedWhenARuleIsBroken) {
  const std::string good = EncodeRecordHeader(TreeHeader(2));
  struct Case {
    const char* what;
    std::function<void(std::string&)> damage;
  };
  const Case cases[] = {
      {"version 0", [](std::string& s) { s[0] = 0; }},
      {"version 2", [](std::string& s) { s[0] = 2; }},
      {"type 0", [](std::string& s) { s[1] = 0; }},
      {"type 3", [](std::string& s) { s[1] = 3; }},
      {"data with children", [](std::string& s) { s[1] = 1; }},
      {"aead 0", [](std::string& s) { s[2] = 0; }},
      {"aead 3", [](std::string& s) { s[2] = 3; }},
      {"byte 3", [](std::string& s) { s[3] = 1; }},
      {"sealed too short", [](std::string& s) { SetU32(s, 12, kSealedBytesMin - 1); }},
      {"sealed too long", [](std::string& s) { SetU32(s, 12, kChunkSealedBytesMax + 1); }},
      {"too many children", [](std::string& s) { SetU32(s, 16, kChunkChildrenMax + 1); }},
      {"children overflow", [](std::string& s) { SetU32(s, 16, 0xffffffff); }},
      {"equal children", [](std::string& s) { s.replace(84, 32, s, 52, 32); }},
      {"children out of order", [](std::string& s) { s[52] = '\x7f'; }},
  };
  for (const Case& c : cases) {
    std::string bytes = good;
    c.damage(bytes);
    EXPECT_THAT(DecodeRecordHeader(bytes), StatusIs(absl::StatusCode::kInvalidArgument)) << c.what;
  }
}

TEST(RecordHeader, IsTakenAtTheLimits) {
  RecordHeader h = TreeHeader(0);
  for (uint32_t i = 0; i < kChunkChildrenMax; ++i) {
    ChunkId id;
    id.bytes[0] = static_cast<uint8_t>(i >> 8);
    id.bytes[1] = static_cast<uint8_t>(i);
    h.children.push_back(id);
  }
  h.sealed_length = kChunkSealedBytesMax;
  EXPECT_OK(DecodeRecordHeader(EncodeRecordHeader(h)));
  h.sealed_length = kSealedBytesMin;
  EXPECT_OK(DecodeRecordHeader(EncodeRecordHeader(h)));
}

std::string Body(BodyPrefix prefix, size_t payload) {
  std::string body(kBodyPrefixBytes, '\0');
  EncodeBodyPrefix(prefix, body.data());
  body.append(payload, 'p');
  body.append(prefix.padding_length, '\0');
  return body;
}

TEST(BodyPrefix, ComesBackAsItWas) {
  std::string body = Body({Codec::kZstd, 300, 5}, 20);
  EXPECT_EQ(HexEncode(body.substr(0, 9)), "012c01000005000000");
  ASSERT_OK_AND_ASSIGN(BodyPrefix p, DecodeBodyPrefix(body));
  EXPECT_EQ(p.codec, Codec::kZstd);
  EXPECT_EQ(p.plaintext_length, 300u);
  EXPECT_EQ(p.padding_length, 5u);
  EXPECT_OK(DecodeBodyPrefix(Body({Codec::kNone, 20, 0}, 20)));
  EXPECT_OK(DecodeBodyPrefix(Body({Codec::kNone, 0, 0}, 0)));
  EXPECT_OK(DecodeBodyPrefix(Body({Codec::kZstd, kChunkPlaintextBytesMax, 0}, 20)));
}

TEST(BodyPrefix, IsRefusedAtEveryTruncation) {
  std::string body = Body({Codec::kNone, 20, 5}, 20);
  ASSERT_OK(DecodeBodyPrefix(body));
  for (size_t n = 0; n < body.size(); ++n) {
    EXPECT_THAT(DecodeBodyPrefix(body.substr(0, n)), StatusIs(absl::StatusCode::kInvalidArgument)) << n;
  }
}

TEST(BodyPrefix, IsRefusedWhenARuleIsBroken) {
  std::string body = Body({Codec::kNone, 20, 5}, 20);
  auto with = [&](size_t at, char c) {
    std::string s = body;
    s[at] = c;
    return s;
  };
  EXPECT_THAT(DecodeBodyPrefix(with(0, 2)), StatusIs(absl::StatusCode::kInvalidArgument, "codec"));
  EXPECT_THAT(DecodeBodyPrefix(with(1, 21)), StatusIs(absl::StatusCode::kInvalidArgument, "length"));
  EXPECT_THAT(DecodeBodyPrefix(with(5, 26)), StatusIs(absl::StatusCode::kInvalidArgument, "padding"));
  EXPECT_THAT(DecodeBodyPrefix(with(body.size() - 1, 1)), StatusIs(absl::StatusCode::kInvalidArgument, "not zero"));
  EXPECT_THAT(DecodeBodyPrefix(Body({Codec::kZstd, kChunkPlaintextBytesMax + 1, 0}, 20)),
              StatusIs(absl::StatusCode::kInvalidArgument, "too long"));
}

TEST(Padme, RoundsUpAsInThePaper) {
  // e = floor(log2 L), s = floor(log2 e) + 1: the last e - s bits become zero.
  EXPECT_EQ(PadmePadding(0), 0u);
  EXPECT_EQ(PadmePadding(1), 0u);
  EXPECT_EQ(PadmePadding(2), 0u);
  EXPECT_EQ(PadmePadding(8), 0u);
  EXPECT_EQ(PadmePadding(9), 1u);  // e 3, s 2: one bit
  EXPECT_EQ(PadmePadding(10), 0u);
  EXPECT_EQ(PadmePadding(1023), 1u);   // e 9, s 4: five bits
  EXPECT_EQ(PadmePadding(1025), 63u);  // e 10, s 4: six bits
  EXPECT_EQ(PadmePadding(1u << 20), 0u);
  EXPECT_EQ(PadmePadding((1u << 20) + 1), (1u << 15) - 1);  // e 20, s 5
}

TEST(Padme, NeverAddsMoreThanAnEighth) {
  for (uint32_t n = 9; n < kChunkPlaintextBytesMax; n += 1 + n / 37) {
    uint32_t padded = n + PadmePadding(n);
    EXPECT_LE(PadmePadding(n), n / 8 + 1) << n;
    EXPECT_EQ(PadmePadding(padded), 0u) << n;
  }
}

}  // namespace
}  // namespace holdfast
