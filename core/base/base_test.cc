#include "core/base/codec.h"
#include "core/base/ids.h"
#include "core/base/secret.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

TEST(Codec, RoundTripsEveryWidth) {
  std::string s;
  ByteWriter w(&s);
  w.U8(7);
  w.U16(65535);
  w.U32(0xdeadbeef);
  w.U64(~0ull);
  for (uint64_t v : {0ull, 127ull, 128ull, 300ull, ~0ull}) w.Varint(v);
  w.SignedVarint(INT64_MIN);
  w.SignedVarint(-1);
  w.LengthPrefixed("abc");
  ByteReader r(s);
  EXPECT_EQ(r.U8(), 7);
  EXPECT_EQ(r.U16(), 65535);
  EXPECT_EQ(r.U32(), 0xdeadbeef);
  EXPECT_EQ(r.U64(), ~0ull);
  for (uint64_t v : {0ull, 127ull, 128ull, 300ull, ~0ull}) EXPECT_EQ(r.Varint(), v);
  EXPECT_EQ(r.SignedVarint(), INT64_MIN);
  EXPECT_EQ(r.SignedVarint(), -1);
  EXPECT_EQ(r.LengthPrefixed(3), "abc");
  EXPECT_TRUE(r.ok());
  EXPECT_TRUE(r.AtEnd());
}

TEST(Codec, EveryTruncationFailsAndStaysFailed) {
  std::string s;
  ByteWriter w(&s);
  w.U32(1);
  w.Varint(1u << 20);
  w.LengthPrefixed("hello");
  for (size_t n = 0; n < s.size(); ++n) {
    ByteReader r(std::string_view(s).substr(0, n));
    r.U32();
    r.Varint();
    r.LengthPrefixed(100);
    EXPECT_FALSE(r.ok()) << n;
    EXPECT_EQ(r.U8(), 0);
  }
}

TEST(Codec, RefusesOverlongVarints) {
  ByteReader padded(std::string_view("\x80\x00", 2));
  padded.Varint();
  EXPECT_FALSE(padded.ok());
  ByteReader wide("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");
  wide.Varint();
  EXPECT_FALSE(wide.ok());
}

TEST(Ids, HexGoesBothWaysAndRefusesNonsense) {
  EXPECT_EQ(HexEncode(std::string_view("\x00\xff", 2)), "00ff");
  EXPECT_THAT(HexDecode("00FF"), IsOkAndHolds(std::string("\x00\xff", 2)));
  EXPECT_THAT(HexDecode("0"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(HexDecode("zz"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ChunkId::FromBytes("short"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Status, TellsAnOutageFromAMediumErrorAndDamageFromBoth) {
  absl::Status medium = absl::UnavailableError("pread: Input/output error");
  medium.SetPayload(kMediumErrorPayload, absl::Cord());
  EXPECT_TRUE(IsMediumError(medium));
  EXPECT_TRUE(IsMediumError(Annotate(medium, "reading")));
  EXPECT_FALSE(MayPass(medium));
  EXPECT_FALSE(IsDamage(medium));
  EXPECT_TRUE(MayPass(absl::UnavailableError("away")));
  EXPECT_FALSE(IsMediumError(absl::UnavailableError("away")));
  EXPECT_FALSE(IsDamage(absl::UnavailableError("away")));
  EXPECT_TRUE(IsDamage(absl::DataLossError("wrong bytes")));
  EXPECT_TRUE(IsDamage(absl::FailedPreconditionError("version 77")));
  for (const absl::Status& other : {absl::OkStatus(), absl::NotFoundError(""), absl::ResourceExhaustedError("full")}) {
    EXPECT_FALSE(MayPass(other)) << other;
    EXPECT_FALSE(IsDamage(other)) << other;
  }
  EXPECT_FALSE(MayPass(absl::DataLossError("")));
}

TEST(Status, AnErrorOfTheObjectIsNotOneOfTheServer) {
  for (const absl::Status& status :
       {absl::DataLossError("wrong bytes"), absl::NotFoundError("lost"), absl::FailedPreconditionError("version 77"),
        absl::InvalidArgumentError("nonsense"), absl::OutOfRangeError("ends early")}) {
    EXPECT_TRUE(IsOfTheObject(status)) << status;
  }
  for (const absl::Status& status :
       {absl::OkStatus(), absl::UnavailableError("away"), absl::InternalError("an answer that makes no sense"),
        absl::ResourceExhaustedError("full"), absl::DeadlineExceededError("slow"), absl::PermissionDeniedError("no"),
        absl::UnauthenticatedError("who?"), absl::AbortedError("revoked"), absl::CancelledError("enough"),
        absl::UnknownError("?")}) {
    EXPECT_FALSE(IsOfTheObject(status)) << status;
  }
}

TEST(Secret, ComparesByValueAndIsWipedOnMove) {
  SecretString a("hunter2");
  SecretString b(std::move(a));
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(b.ExposeView(), "hunter2");
}

}  // namespace
}  // namespace holdfast
