#include "server/grpc/transfer_messages.h"

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/ids.h"
#include "core/base/status_testing.h"
#include "core/format/record.h"
#include "server/repository/test_chunks.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::string Varint(uint64_t v) {
  std::string out;
  AppendVarint(&out, v);
  return out;
}
std::string Field(uint64_t tag, std::string_view value) {
  return Varint(tag) + Varint(value.size()) + std::string(value);
}

constexpr uint64_t kAttachTag = 0x0A, kHaveTag = 0x12, kRecordsTag = 0x1A;
constexpr uint64_t kRepositoryTag = 0x0A, kIdsTag = 0x12, kVerifyTag = 0x18, kUnopenableTag = 0x20;

// As gRPC may cut them into slices.
MessageReader InParts(std::string_view bytes, size_t part_size) {
  std::vector<std::string_view> parts;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(part_size, bytes.size()))) {
    parts.push_back(bytes.substr(0, part_size));
  }
  return MessageReader(std::move(parts));
}

absl::StatusOr<UploadMessage> Upload(std::string_view bytes, size_t part_size = 1 << 20) {
  MessageReader message = InParts(bytes, part_size);
  return ParseUploadRequest(message, /*attached=*/true);
}
absl::StatusOr<UploadMessage> First(std::string_view bytes, size_t part_size = 1 << 20) {
  MessageReader message = InParts(bytes, part_size);
  return ParseUploadRequest(message, /*attached=*/false);
}
absl::StatusOr<ReadQuestion> Read(std::string_view bytes, size_t part_size = 1 << 20) {
  MessageReader message = InParts(bytes, part_size);
  return ParseReadRequest(message);
}

// What a good message holds.
template <typename T>
T Get(absl::StatusOr<UploadMessage> message) {
  EXPECT_OK(message);
  if (message.ok() && std::holds_alternative<T>(*message)) return std::get<T>(*std::move(message));
  ADD_FAILURE() << "not the message expected";
  return T();
}

std::string Ids(size_t n) {
  std::string ids(32 * n, '\0');
  for (size_t i = 0; i < ids.size(); i += 32) std::copy_n(std::to_string(i).c_str(), 4, &ids[i]);
  return ids;
}
std::string Bytes(const TestChunk& chunk) { return chunk.header_bytes + chunk.body; }
std::string AttachOf(const std::string& repository) {
  v1::AttachSession attach;
  attach.set_repository(repository);
  attach.set_session("0123456789abcdef");
  return attach.SerializeAsString();
}
std::string_view Joined(const std::vector<std::string_view>& parts, std::string* out) {
  out->clear();
  for (std::string_view part : parts) out->append(part);
  return *out;
}

const size_t kPartSizes[] = {1, 7, 33, 1 << 20};
// Numbers that do not end where they should, or nowhere.
const std::string kBrokenVarints[] = {
    "", "\x80", "\xff\xff\xff", std::string(9, '\xff'), std::string(10, '\xff'), std::string(40, '\x80')};

// --- Uploads ---------------------------------------------------------------------------------------------------------

TEST(UploadMessage, AttachesToASession) {
  const std::string bytes = Field(kAttachTag, AttachOf("r"));
  for (size_t part_size : kPartSizes) {
    auto message = First(bytes, part_size);
    EXPECT_EQ(Get<v1::AttachSession>(message).repository(), "r");
    EXPECT_EQ(Get<v1::AttachSession>(message).session(), "0123456789abcdef");
  }
}

TEST(UploadMessage, IsWhatAnyProtobufLibraryWrites) {
  v1::UploadRequest request;
  request.mutable_attach()->set_repository("r");
  EXPECT_EQ(Get<v1::AttachSession>(First(request.SerializeAsString())).repository(), "r");
  request.Clear();
  request.set_have_ids(Ids(3));
  EXPECT_THAT(Get<std::vector<ChunkId>>(Upload(request.SerializeAsString())), SizeIs(3));
  request.Clear();
  request.set_records(Bytes(TestData(1)));
  const std::string bytes = request.SerializeAsString();
  EXPECT_THAT(Get<RecordBatch>(Upload(bytes)).records, SizeIs(1));
}

TEST(UploadMessage, AsksForIdsInOrder) {
  const std::string bytes =
      Field(kHaveTag, std::string(TestData(1).id().view()) + std::string(TestData(2).id().view()));
  for (size_t part_size : kPartSizes) {
    auto message = Upload(bytes, part_size);
    EXPECT_THAT(Get<std::vector<ChunkId>>(message), ElementsAre(TestData(1).id(), TestData(2).id()));
  }
  EXPECT_THAT(Get<std::vector<ChunkId>>(Upload(Field(kHaveTag, ""))), IsEmpty());
}

TEST(UploadMessage, BringsRecordsWithHeadersAndBodiesAsTheyCame) {
  const TestChunk data = TestData(1), page = TestPage(2, {TestData(1), TestData(3)});
  const std::string bytes = Field(kRecordsTag, Bytes(data) + Bytes(page));
  for (size_t part_size : kPartSizes) {
    auto message = Upload(bytes, part_size);
    const RecordBatch batch = Get<RecordBatch>(std::move(message));  // moved: what it views stays
    EXPECT_EQ(batch.bytes, Bytes(data).size() + Bytes(page).size());
    ASSERT_THAT(batch.records, SizeIs(2));
    const TestChunk* const sent[] = {&data, &page};
    for (size_t i = 0; i < 2; ++i) {
      std::string body;
      EXPECT_EQ(batch.records[i].header_bytes, sent[i]->header_bytes);
      EXPECT_EQ(batch.records[i].header.id, sent[i]->id());
      EXPECT_EQ(batch.records[i].header.children, sent[i]->header.children);
      EXPECT_EQ(Joined(batch.records[i].body, &body), sent[i]->body);
    }
  }
  EXPECT_THAT(Get<RecordBatch>(Upload(Field(kRecordsTag, ""))).records, IsEmpty());
}

TEST(UploadMessage, RefersToBodiesWithoutACopy) {
  const std::string bytes = Field(kRecordsTag, Bytes(TestData(1)));
  auto message = Upload(bytes);
  ASSERT_OK(message);
  const std::vector<std::string_view>& body = std::get<RecordBatch>(*message).records[0].body;
  ASSERT_THAT(body, SizeIs(1));
  EXPECT_EQ(body[0].data() + body[0].size(), bytes.data() + bytes.size());
}

TEST(UploadMessage, IsRefusedWhenItIsCutAnywhere) {
  const std::string attach = Field(kAttachTag, AttachOf("r")), have = Field(kHaveTag, Ids(2)),
                    records = Field(kRecordsTag, Bytes(TestData(1)));
  for (size_t n = 0; n < attach.size(); ++n) EXPECT_THAT(First(attach.substr(0, n)), StatusIs(kInvalid)) << n;
  for (size_t n = 0; n < have.size(); ++n) EXPECT_THAT(Upload(have.substr(0, n)), StatusIs(kInvalid)) << n;
  for (size_t n = 0; n < records.size(); ++n) EXPECT_THAT(Upload(records.substr(0, n)), StatusIs(kInvalid)) << n;
}

TEST(UploadMessage, IsRefusedWhenSomethingFollowsIt) {
  EXPECT_THAT(First(Field(kAttachTag, AttachOf("r")) + "x"), StatusIs(kInvalid, "malformed upload message"));
  EXPECT_THAT(Upload(Field(kHaveTag, Ids(1)) + Field(kHaveTag, Ids(1))), StatusIs(kInvalid));
}

TEST(UploadMessage, RecordsAreRefusedWhenTheLastIsCutAtAnyLength) {
  const TestChunk data = TestData(1), page = TestPage(2, {TestData(1), TestData(3)});
  const std::string records = Bytes(data) + Bytes(page);
  for (size_t n = 1; n < records.size(); ++n) {
    const auto message = Upload(Field(kRecordsTag, records.substr(0, n)), 1 + n % 50);
    if (n == Bytes(data).size()) {
      EXPECT_THAT(Get<RecordBatch>(message).records, SizeIs(1));
    } else {
      EXPECT_THAT(message, StatusIs(kInvalid, "malformed record")) << n;
    }
  }
}

TEST(UploadMessage, RefusesNumbersThatDoNotEnd) {
  for (const std::string& number : kBrokenVarints) {
    EXPECT_THAT(First(number), StatusIs(kInvalid, "malformed upload message"));
    EXPECT_THAT(First(Varint(kAttachTag) + number), StatusIs(kInvalid, "malformed upload message"));
    EXPECT_THAT(Upload(Varint(kRecordsTag) + number, 1), StatusIs(kInvalid, "malformed upload message"));
  }
}

TEST(UploadMessage, RefusesLengthsThatItDoesNotHave) {
  for (uint64_t length : {uint64_t{31}, uint64_t{33}, uint64_t{1} << 32 | 32, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_THAT(Upload(Varint(kHaveTag) + Varint(length) + Ids(1)), StatusIs(kInvalid, "malformed upload message"));
  }
}

TEST(UploadMessage, RefusesFieldsOfOtherKinds) {
  for (uint64_t field : {1, 2, 3, 4}) {
    for (uint64_t wire_type : {0, 1, 3, 4, 5, 6, 7}) {
      EXPECT_THAT(Upload(Field(field << 3 | wire_type, Ids(1))), StatusIs(kInvalid, "malformed upload message"));
      EXPECT_THAT(First(Field(field << 3 | wire_type, AttachOf("r"))), StatusIs(kInvalid, "malformed upload message"));
    }
  }
}

TEST(UploadMessage, RefusesUnknownFields) {
  EXPECT_THAT(Upload(Field(0x22, "")), StatusIs(kInvalid, "malformed upload message: unknown field"));
  EXPECT_THAT(Upload(Field(0x02, "")), StatusIs(kInvalid, "malformed upload message: unknown field"));
}

TEST(UploadMessage, DoesNotTakeATagForTheFieldThatItsLowBitsName) {
  for (uint64_t high : {uint64_t{1} << 35, uint64_t{1} << 40, uint64_t{1} << 63}) {
    EXPECT_THAT(First(Field(high | kAttachTag, AttachOf("r"))), StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(Upload(Field(high | kHaveTag, Ids(1))), StatusIs(kInvalid, "malformed upload message: unknown field"));
    EXPECT_THAT(Upload(Field(high | kRecordsTag, Bytes(TestData(1)))),
                StatusIs(kInvalid, "malformed upload message: unknown field"));
  }
}

TEST(UploadMessage, TheFirstAttachesWhateverElseItsBytesAre) {
  for (const std::string& bytes :
       {Field(kHaveTag, Ids(1)), Field(kHaveTag, "x"), Field(kRecordsTag, Bytes(TestData(1))),
        Field(kRecordsTag, "not a record"), Field(0x22, "")}) {
    EXPECT_THAT(First(bytes), StatusIs(absl::StatusCode::kFailedPrecondition,
                                       "the first message of an upload attaches to a session"));
  }
}

TEST(UploadMessage, OnlyTheFirstAttaches) {
  EXPECT_THAT(Upload(Field(kAttachTag, AttachOf("r"))), StatusIs(kInvalid, "malformed attach"));
}

TEST(UploadMessage, RefusesAnAttachThatIsNoMessage) {
  EXPECT_THAT(First(Field(kAttachTag, "\x0a\x7f")), StatusIs(kInvalid, "malformed attach"));
}

TEST(UploadMessage, AttachHasAtMost64KiB) {
  const std::string most(kAttachBytesMax - AttachOf(std::string(60000, 'r')).size() + 60000, 'r');
  ASSERT_EQ(AttachOf(most).size(), 65536u);
  EXPECT_OK(First(Field(kAttachTag, AttachOf(most))));
  EXPECT_THAT(First(Field(kAttachTag, AttachOf(most + "r"))), StatusIs(kInvalid, "malformed attach"));
}

TEST(UploadMessage, AsksForWholeIds) {
  for (size_t bytes : {1, 31, 33, 63, 65}) {
    EXPECT_THAT(Upload(Field(kHaveTag, std::string(bytes, 'i'))), StatusIs(kInvalid, "malformed list of ids"));
  }
}

TEST(UploadMessage, AsksForAtMost65536Ids) {
  EXPECT_THAT(Get<std::vector<ChunkId>>(Upload(Field(kHaveTag, Ids(65536)))), SizeIs(65536));
  EXPECT_THAT(Upload(Field(kHaveTag, Ids(65537))), StatusIs(kInvalid, "malformed list of ids"));
}

TEST(UploadMessage, BringsAtMost16384Records) {
  const std::string record = Bytes(TestData(1));
  std::string records;
  for (int i = 0; i < 16384; ++i) records += record;
  const std::string bytes = Field(kRecordsTag, records);
  EXPECT_THAT(Get<RecordBatch>(Upload(bytes)).records, SizeIs(16384));
  EXPECT_THAT(Upload(Field(kRecordsTag, records + record)),
              StatusIs(kInvalid, "malformed records: too many in a message"));
}

TEST(UploadMessage, RefusesHeadersThatBreakTheFormat) {
  std::string version = Bytes(TestData(1));
  version[0] = 9;
  EXPECT_THAT(Upload(Field(kRecordsTag, version)), StatusIs(kInvalid, "version"));
  TestChunk page = TestPage(2, {TestData(1), TestData(3)});
  std::swap_ranges(page.header_bytes.end() - 64, page.header_bytes.end() - 32, page.header_bytes.end() - 32);
  EXPECT_THAT(Upload(Field(kRecordsTag, Bytes(page))), StatusIs(kInvalid, "malformed chunk record"));
}

TEST(UploadMessage, AnyBytesAreAMessageOrInvalid) {
  const std::string originals[] = {Field(kHaveTag, Ids(2)),
                                   Field(kRecordsTag, Bytes(TestData(1)) + Bytes(TestPage(2, {TestData(1)})))};
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  int valid = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = originals[i % 2];
    for (uint32_t changes = random() % 3; changes > 0; --changes) bytes[random() % bytes.size()] ^= 1 << random() % 8;
    const auto message = Upload(bytes, 1 + random() % 100);
    if (!message.ok()) {
      ASSERT_THAT(message, StatusIs(kInvalid)) << HexEncode(bytes);
      continue;
    }
    ++valid;
    if (const RecordBatch* batch = std::get_if<RecordBatch>(&*message)) {
      uint64_t total = 0;
      for (const IncomingRecord& r : batch->records) total += r.header_bytes.size() + r.header.sealed_length;
      ASSERT_EQ(total, batch->bytes) << HexEncode(bytes);
    }
  }
  EXPECT_GT(valid, 5000);
}

// --- Reading ---------------------------------------------------------------------------------------------------------

TEST(ReadRequest, HasRepositoryIdsAndWishesInAnyOrder) {
  const std::string repository = Field(kRepositoryTag, "r"), ids = Field(kIdsTag, TestData(1).id().view()),
                    verify = Varint(kVerifyTag) + Varint(1), unopenable = Varint(kUnopenableTag) + Varint(1);
  for (const std::string& bytes : {repository + ids + verify + unopenable, unopenable + verify + ids + repository}) {
    for (size_t part_size : kPartSizes) {
      auto question = Read(bytes, part_size);
      ASSERT_OK(question);
      EXPECT_EQ(question->repository, "r");
      EXPECT_THAT(question->ids, ElementsAre(TestData(1).id()));
      EXPECT_TRUE(question->verify);
      EXPECT_TRUE(question->unopenable);
    }
  }
}

TEST(ReadRequest, WishesAreApartAndOffUnlessAsked) {
  auto question = Read(Field(kRepositoryTag, "r"));
  ASSERT_OK(question);
  EXPECT_FALSE(question->verify || question->unopenable);
  question = Read(Varint(kVerifyTag) + Varint(1));
  EXPECT_TRUE(question->verify && !question->unopenable);
  question = Read(Varint(kUnopenableTag) + Varint(1));
  EXPECT_TRUE(!question->verify && question->unopenable);
  question = Read(Varint(kVerifyTag) + Varint(0) + Varint(kUnopenableTag) + Varint(0));
  EXPECT_FALSE(question->verify || question->unopenable);
}

TEST(ReadRequest, IsWhatAnyProtobufLibraryWrites) {
  v1::ReadRequest request;
  request.set_repository("r");
  request.set_ids(Ids(3));
  request.set_verify(true);
  request.set_unopenable(true);
  auto question = Read(request.SerializeAsString());
  ASSERT_OK(question);
  EXPECT_EQ(question->repository, "r");
  EXPECT_THAT(question->ids, SizeIs(3));
  EXPECT_TRUE(question->verify && question->unopenable);
}

TEST(ReadRequest, IsRefusedWhenItIsCutWithinAField) {
  const std::string repository = Field(kRepositoryTag, "repository"), ids = Field(kIdsTag, Ids(2)),
                    verify = Varint(kVerifyTag) + Varint(1);
  const std::string bytes = repository + ids + verify;
  for (size_t n = 0; n <= bytes.size(); ++n) {
    const bool between = n == 0 || n == repository.size() || n == repository.size() + ids.size() || n == bytes.size();
    EXPECT_THAT(Read(bytes.substr(0, n), 1 + n % 40), StatusIs(between ? absl::StatusCode::kOk : kInvalid)) << n;
  }
}

TEST(ReadRequest, RefusesNumbersThatDoNotEnd) {
  for (const std::string& number : kBrokenVarints) {
    if (!number.empty()) {
      EXPECT_THAT(Read(number), StatusIs(kInvalid, "malformed read request"));
    }
    for (uint64_t tag : {kRepositoryTag, kIdsTag, kVerifyTag, kUnopenableTag, uint64_t{0x2A}}) {
      EXPECT_THAT(Read(Varint(tag) + number), StatusIs(kInvalid, "malformed read request")) << tag;
    }
  }
}

TEST(ReadRequest, RefusesLengthsThatItDoesNotHave) {
  for (uint64_t length : {uint64_t{64}, uint64_t{1} << 32, uint64_t{1} << 62, ~uint64_t{0}}) {
    for (uint64_t tag : {kRepositoryTag, kIdsTag}) {
      EXPECT_THAT(Read(Varint(tag) + Varint(length) + Ids(1)), StatusIs(kInvalid, "malformed read request"));
    }
  }
}

TEST(ReadRequest, RefusesUnknownFieldsAndFieldsOfOtherKinds) {
  for (uint64_t tag : {0x02, 0x2A, 0x28, 0x08, 0x10, 0x1A, 0x22, 0x0D}) {
    EXPECT_THAT(Read(Field(tag, "")), StatusIs(kInvalid, "malformed read request: unknown field")) << tag;
  }
  for (uint64_t tag : {kRepositoryTag, kIdsTag, kVerifyTag, kUnopenableTag}) {
    EXPECT_THAT(Read(Field(uint64_t{1} << 35 | tag, "")), StatusIs(kInvalid, "malformed read request: unknown field"));
  }
}

TEST(ReadRequest, AsksForWholeIdsAndAtMost4096) {
  for (size_t bytes : {1, 31, 33}) {
    EXPECT_THAT(Read(Field(kIdsTag, std::string(bytes, 'i'))), StatusIs(kInvalid, "malformed list of ids"));
  }
  auto question = Read(Field(kIdsTag, Ids(4096)));
  ASSERT_OK(question);
  EXPECT_THAT(question->ids, SizeIs(4096));
  EXPECT_THAT(Read(Field(kIdsTag, Ids(4097))), StatusIs(kInvalid, "malformed list of ids"));
}

TEST(ReadRequest, RefusesARepositoryThatIsFarTooLong) {
  EXPECT_OK(Read(Field(kRepositoryTag, std::string(65536, 'r'))));
  EXPECT_THAT(Read(Field(kRepositoryTag, std::string(65537, 'r'))), StatusIs(kInvalid));
}

}  // namespace
}  // namespace holdfast
