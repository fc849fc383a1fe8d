#include "server/grpc/transfer_service.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/ids.h"
#include "core/base/status_testing.h"
#include "core/format/record.h"
#include "proto/holdfast/v1/message_layout.h"
#include "proto/holdfast/v1/raw_messages.h"
#include "proto/holdfast/v1/service.pb.h"
#include "server/grpc/test_services.h"
#include "server/repository/repository.h"
#include "server/repository/test_chunks.h"
#include "storage/blob_store.h"
#include "storage/wrappers/faulty_blob_store.h"

namespace holdfast {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAreArray;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kAborted = absl::StatusCode::kAborted;
constexpr auto kNotFound = absl::StatusCode::kNotFound;
constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

std::string Bytes(const TestChunk& chunk) { return chunk.header_bytes + chunk.body; }
std::string IdBytes(const std::vector<TestChunk>& chunks) {
  std::string bytes;
  for (const TestChunk& c : chunks) bytes += c.id().view();
  return bytes;
}
TestChunk LargeData(int number, uint32_t size) {
  TestChunk chunk = TestData(number);
  chunk.header.sealed_length = size;
  chunk.header_bytes = EncodeRecordHeader(chunk.header);
  chunk.body.resize(size, static_cast<char>(number));
  return chunk;
}

std::string AttachMessage(const std::string& repository, const std::string& session) {
  v1::UploadRequest request;
  request.mutable_attach()->set_repository(repository);
  request.mutable_attach()->set_session(session);
  return request.SerializeAsString();
}
std::string HaveMessage(const std::vector<TestChunk>& chunks) {
  return FieldHeader(v1::UploadRequest::kHaveIdsFieldNumber, 32 * chunks.size()) + IdBytes(chunks);
}
std::string RecordsMessage(const std::vector<TestChunk>& chunks) {
  v1::UploadRequest request;
  for (const TestChunk& c : chunks) *request.mutable_records() += Bytes(c);
  return request.SerializeAsString();
}
v1::ReadRequest Question(const std::vector<TestChunk>& chunks) {
  v1::ReadRequest request;
  request.set_repository(TestServices::kRepository);
  request.set_ids(IdBytes(chunks));
  return request;
}

struct Answers {
  std::vector<std::string> records;
  std::map<ChunkId, v1::ReadFailure> failures;
  std::vector<size_t> message_bytes;
};

class TransferServiceTest : public testing::Test {
 protected:
  std::string OpenSession(const std::string& source = "home", uint32_t agent = 1) {
    auto session = server_.OpenSession(source, agent);
    EXPECT_OK(session);
    return session.value_or("");
  }
  // The server hears of a client's end some time later.
  absl::StatusOr<std::string> OpenSessionOnceFree() {
    const absl::Time deadline = absl::Now() + absl::Minutes(1);
    absl::StatusOr<std::string> session = server_.OpenSession();
    while (absl::IsAlreadyExists(session.status()) && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(1));
      session = server_.OpenSession();
    }
    return session;
  }
  std::unique_ptr<TestStream> NewUpload() { return server_.NewStream(kUploadMethod); }
  std::unique_ptr<TestStream> NewRead() { return server_.NewStream(kReadMethod); }
  std::unique_ptr<TestStream> Attach(const std::string& session) {
    auto stream = NewUpload();
    EXPECT_TRUE(Answer(*stream, AttachMessage(TestServices::kRepository, session)).has_attached());
    return stream;
  }
  static v1::UploadReply Answer(TestStream& stream, std::string_view message) {
    EXPECT_TRUE(stream.Write(message));
    return NextReply(stream);
  }
  static v1::UploadReply NextReply(TestStream& stream) {
    const auto bytes = stream.Read();
    v1::UploadReply reply;
    if (!bytes) {
      ADD_FAILURE() << "no answer: " << stream.Finish();
      return reply;
    }
    EXPECT_TRUE(reply.ParseFromString(*bytes));
    return reply;
  }
  // What becomes of a stream whose last message this is.
  static absl::Status EndAfter(TestStream& stream, std::string_view message) {
    (void)stream.Write(message);
    EXPECT_EQ(stream.Read(), std::nullopt) << "an answer to what has none";
    return stream.Finish();
  }
  // In packs, which the server finishes when it stops. Ends every session.
  void Store(const std::vector<TestChunk>& chunks, const std::string& source = "other", uint32_t agent = 1) {
    auto stream = Attach(OpenSession(source, agent));
    for (const TestChunk& c : chunks) EXPECT_EQ(Answer(*stream, RecordsMessage({c})).appended().records(), 1u);
    EXPECT_OK(stream->Finish());
    server_.registry().Restart();
  }
  // Replies up to the one that says it is the last.
  static Answers ReadAnswers(TestStream& stream) {
    Answers answers;
    v1::ReadReply reply;
    do {
      const auto bytes = stream.Read();
      if (!bytes || !reply.ParseFromString(*bytes)) {
        ADD_FAILURE() << "no end: " << stream.Finish();
        return answers;
      }
      answers.message_bytes.push_back(bytes->size());
      for (const std::string& r : reply.records()) answers.records.push_back(r);
      for (const v1::ReadFailure& f : reply.failures()) {
        EXPECT_TRUE(answers.failures.emplace(*ChunkId::FromBytes(f.id()), f).second) << "answered twice";
      }
    } while (!reply.end());
    return answers;
  }
  Answers Ask(const v1::ReadRequest& question) {
    auto stream = NewRead();
    EXPECT_TRUE(stream->Write(question.SerializeAsString()));
    Answers answers = ReadAnswers(*stream);
    EXPECT_OK(stream->Finish());
    return answers;
  }
  // Changes its first byte in the pack.
  void DamageBody(const TestChunk& chunk) {
    MemoryBlobStore& blobs = server_.registry().blobs(TestServices::kRepository);
    auto all = ListAll(blobs, "");
    ASSERT_OK(all);
    for (const BlobInfo& blob : *all) {
      const BlobName name = BlobName::FromTrusted(blob.name);
      std::string bytes = *GetWholeBlob(blobs, name, 1u << 30);
      const size_t at = bytes.find(chunk.body);
      if (at == bytes.npos) continue;
      bytes[at] ^= 1;
      ASSERT_OK(blobs.Delete(name));
      ASSERT_OK(PutBytes(blobs, name, bytes, PutMode::kIfAbsent));
      return;
    }
    FAIL() << "not stored";
  }

  TestServices server_;
};

// --- Attaching -------------------------------------------------------------------------------------------------------

TEST_F(TransferServiceTest, TheFirstMessageAttachesAndNothingElse) {
  for (const std::string& message : {HaveMessage({TestData(1)}), RecordsMessage({TestData(1)})}) {
    auto stream = NewUpload();
    EXPECT_THAT(EndAfter(*stream, message), StatusIs(absl::StatusCode::kFailedPrecondition, "the first message"));
  }
  EXPECT_EQ(server_.engine().statistics().records_appended, 0u);
}

TEST_F(TransferServiceTest, AStreamAttachesOnce) {
  auto stream = Attach(OpenSession());
  EXPECT_THAT(EndAfter(*stream, AttachMessage("r", OpenSession("other"))), StatusIs(kInvalid, "malformed attach"));
}

TEST_F(TransferServiceTest, AttachesToOpenSessionsOnly) {
  const std::string session = OpenSession();
  EXPECT_THAT(EndAfter(*NewUpload(), AttachMessage("absent", session)), StatusIs(kNotFound, "absent"));
  EXPECT_THAT(EndAfter(*NewUpload(), AttachMessage("r", session.substr(1))), StatusIs(kInvalid, "15 bytes"));
  EXPECT_THAT(EndAfter(*NewUpload(), AttachMessage("r", std::string(16, 'x'))), StatusIs(kAborted, "gone"));
}

TEST_F(TransferServiceTest, AStreamThatEndsWithoutAttachingIsFine) {
  EXPECT_OK(NewUpload()->Finish());
  EXPECT_OK(NewRead()->Finish());
}

// --- Uploads ---------------------------------------------------------------------------------------------------------

TEST_F(TransferServiceTest, AnswersEveryMessageInOrder) {
  auto stream = Attach(OpenSession());
  ASSERT_TRUE(stream->Write(HaveMessage({TestData(1), TestData(2)})));
  ASSERT_TRUE(stream->Write(RecordsMessage({TestData(1), TestData(2)})));
  ASSERT_TRUE(stream->Write(HaveMessage({TestData(1), TestData(2), TestData(3)})));
  EXPECT_EQ(NextReply(*stream).have(), std::string("\0\0", 2));
  const v1::UploadReply appended = NextReply(*stream);
  EXPECT_EQ(appended.appended().records(), 2u);
  EXPECT_EQ(appended.appended().bytes(), Bytes(TestData(1)).size() + Bytes(TestData(2)).size());
  EXPECT_EQ(NextReply(*stream).have(), std::string("\1\1\0", 3));
  EXPECT_OK(stream->Finish());
}

TEST_F(TransferServiceTest, AnswersMessagesOfNothing) {
  auto stream = Attach(OpenSession());
  const v1::UploadReply have = Answer(*stream, FieldHeader(v1::UploadRequest::kHaveIdsFieldNumber, 0));
  EXPECT_EQ(have.have(), "");
  const v1::UploadReply appended = Answer(*stream, FieldHeader(v1::UploadRequest::kRecordsFieldNumber, 0));
  EXPECT_TRUE(appended.has_appended());
  EXPECT_EQ(appended.appended().records(), 0u);
  EXPECT_OK(stream->Finish());
}

TEST_F(TransferServiceTest, TellsOwnChunksFromThoseOfOthers) {
  Store({TestData(1)}, "a", /*agent=*/1);
  Store({TestData(2, /*agent=*/2)}, "b", /*agent=*/2);
  auto stream = Attach(OpenSession("c", /*agent=*/2));
  EXPECT_EQ(Answer(*stream, HaveMessage({TestData(1), TestData(2), TestData(3)})).have(), std::string("\2\1\0", 3));
}

TEST_F(TransferServiceTest, TakesRecordsOfPages) {
  auto stream = Attach(OpenSession());
  EXPECT_EQ(Answer(*stream, RecordsMessage({TestData(1), TestPage(2, {TestData(1)})})).appended().records(), 2u);
}

TEST_F(TransferServiceTest, StreamsOfASessionWorkBesideEachOther) {
  const std::string session = OpenSession();
  auto one = Attach(session), two = Attach(session);
  EXPECT_TRUE(Answer(*one, RecordsMessage({TestData(1)})).has_appended());
  EXPECT_TRUE(Answer(*two, RecordsMessage({TestPage(2, {TestData(1)})})).has_appended());
  EXPECT_OK(one->Finish());
  EXPECT_THAT(server_.OpenSession(), StatusIs(absl::StatusCode::kAlreadyExists)) << "one of them is at work";
  EXPECT_OK(two->Finish());
  EXPECT_OK(server_.OpenSession());
}

TEST_F(TransferServiceTest, WhatTheEngineRefusesEndsTheStream) {
  EXPECT_THAT(EndAfter(*Attach(OpenSession()), RecordsMessage({TestPage(2, {TestData(1)})})),
              StatusIs(absl::StatusCode::kFailedPrecondition, "neither uploaded nor was promised"));
  EXPECT_THAT(EndAfter(*Attach(OpenSession()), RecordsMessage({TestData(1, /*agent=*/2)})),
              StatusIs(kInvalid, "another agent"));
}

TEST_F(TransferServiceTest, NothingComesIntoASessionThatWasClosed) {
  const std::string session = OpenSession();
  auto have = Attach(session), append = Attach(session);
  EXPECT_OK(server_.engine().CloseSession(Principal{"local"}, *SessionId::FromBytes(session)));
  EXPECT_THAT(EndAfter(*have, HaveMessage({TestData(1)})), StatusIs(kAborted));
  EXPECT_THAT(EndAfter(*append, RecordsMessage({TestData(1)})), StatusIs(kAborted));
}

TEST_F(TransferServiceTest, MalformedMessagesEndTheStreamAndWithItTheWork) {
  const std::string messages[] = {
      "",
      std::string(20, '\xff'),
      "not a message",
      FieldHeader(v1::UploadRequest::kHaveIdsFieldNumber, 33) + std::string(33, 'i'),
      FieldHeader(v1::UploadRequest::kRecordsFieldNumber, ~uint64_t{0} >> 1),
      RecordsMessage({TestData(1)}) + "more",
      FieldHeader(v1::UploadRequest::kRecordsFieldNumber, 60) + Bytes(TestData(1)).substr(0, 60),
      FieldHeader(9, 0),
  };
  for (const std::string& message : messages) {
    auto stream = Attach(OpenSession());  // replaces the one before: nobody is at work there any more
    EXPECT_THAT(EndAfter(*stream, message), StatusIs(kInvalid)) << HexEncode(message);
  }
  EXPECT_EQ(server_.engine().statistics().records_appended, 0u);
}

TEST_F(TransferServiceTest, ATagIsNotTakenForTheFieldThatItsLowBitsName) {
  std::string tag;
  AppendVarint(&tag, uint64_t{1} << 35 | BytesTag(v1::UploadRequest::kAttachFieldNumber));
  const std::string message = tag + AttachMessage("r", OpenSession()).substr(1);
  EXPECT_THAT(EndAfter(*NewUpload(), message), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(TransferServiceTest, AClientThatDiesLeavesWhatItSentAndMakesRoom) {
  const std::string session = OpenSession();
  auto stream = Attach(session);
  EXPECT_TRUE(Answer(*stream, RecordsMessage({TestData(1)})).has_appended());
  EXPECT_THAT(server_.OpenSession(), StatusIs(absl::StatusCode::kAlreadyExists));
  (void)stream->Cancel();
  const absl::StatusOr<std::string> next = OpenSessionOnceFree();
  ASSERT_OK(next);
  EXPECT_EQ(Answer(*Attach(*next), HaveMessage({TestData(1)})).have(), std::string(1, '\1'));
}

TEST_F(TransferServiceTest, AClientThatDiesWithAnswersUnreadDoesNotHoldItsSession) {
  auto stream = Attach(OpenSession());
  for (int i = 0; i < 20; ++i) (void)stream->Write(HaveMessage(std::vector<TestChunk>(2000, TestData(1))));
  (void)stream->Cancel();
  EXPECT_OK(OpenSessionOnceFree());
}

// --- Reading ---------------------------------------------------------------------------------------------------------

TEST_F(TransferServiceTest, GivesRecordsAsTheyWereSent) {
  const std::vector<TestChunk> chunks{TestData(1), TestPage(2, {TestData(1)}), TestData(3)};
  Store(chunks);
  for (bool verify : {false, true}) {
    v1::ReadRequest question = Question(chunks);
    question.set_verify(verify);
    const Answers answers = Ask(question);
    EXPECT_THAT(answers.records, UnorderedElementsAreArray({Bytes(chunks[0]), Bytes(chunks[1]), Bytes(chunks[2])}));
    EXPECT_THAT(answers.failures, IsEmpty());
    EXPECT_THAT(answers.message_bytes, SizeIs(1));
  }
}

TEST_F(TransferServiceTest, NamesWhatIsNotHere) {
  Store({TestData(1)});
  const Answers answers = Ask(Question({TestData(7), TestData(1), TestData(8)}));
  EXPECT_THAT(answers.records, ElementsAre(Bytes(TestData(1))));
  ASSERT_THAT(answers.failures, SizeIs(2));
  for (int number : {7, 8}) {
    const auto failure = answers.failures.find(TestData(number).id());
    ASSERT_NE(failure, answers.failures.end());
    EXPECT_EQ(failure->second.code(), static_cast<uint32_t>(kNotFound));
    EXPECT_NE(failure->second.message(), "");
  }
}

TEST_F(TransferServiceTest, NamesWhatIsDamagedAndGivesTheRest) {
  Store({TestData(1), TestData(2)});
  DamageBody(TestData(1));
  v1::ReadRequest question = Question({TestData(1), TestData(2)});
  EXPECT_THAT(Ask(question).records, SizeIs(2)) << "bodies are compared only on demand";
  question.set_verify(true);
  const Answers answers = Ask(question);
  EXPECT_THAT(answers.records, ElementsAre(Bytes(TestData(2))));
  ASSERT_THAT(answers.failures, SizeIs(1));
  EXPECT_EQ(answers.failures.begin()->first, TestData(1).id());
  EXPECT_EQ(answers.failures.begin()->second.code(), static_cast<uint32_t>(kDataLoss));
}

TEST_F(TransferServiceTest, AStorageThatIsAwayFailsTheQuestionAndNoChunk) {
  Store({TestData(1)});
  server_.registry().faults("r").AddFault({.operation = BlobOperation::kGet, .count = 1'000'000});
  EXPECT_THAT(EndAfter(*NewRead(), Question({TestData(1)}).SerializeAsString()), StatusIs(kUnavailable));
  server_.registry().faults("r").ClearFaults();
  EXPECT_THAT(Ask(Question({TestData(1)})).records, SizeIs(1));
}

TEST_F(TransferServiceTest, TakesChunksAgainThatAReaderCannotOpen) {
  Store({TestData(1), TestData(2)});
  v1::ReadRequest question = Question({TestData(1)});
  question.set_unopenable(true);
  EXPECT_THAT(Ask(question).records, SizeIs(1)) << "it is given all the same";
  EXPECT_EQ(Answer(*Attach(OpenSession()), HaveMessage({TestData(1), TestData(2)})).have(), std::string("\0\1", 2));
}

TEST_F(TransferServiceTest, AnswersQuestionsOfNothing) {
  const Answers answers = Ask(Question({}));
  EXPECT_THAT(answers.records, IsEmpty());
  EXPECT_THAT(answers.failures, IsEmpty());
}

TEST_F(TransferServiceTest, AnswersQuestionAfterQuestionOnOneStream) {
  Store({TestData(1), TestData(2)});
  auto stream = NewRead();
  for (int number : {1, 2, 1}) {
    ASSERT_TRUE(stream->Write(Question({TestData(number)}).SerializeAsString()));
    EXPECT_THAT(ReadAnswers(*stream).records, ElementsAre(Bytes(TestData(number))));
  }
  EXPECT_OK(stream->Finish());
}

TEST_F(TransferServiceTest, GivesMuchInMessagesOfAboutAMebibyte) {
  std::vector<TestChunk> chunks;
  std::vector<std::string> sent;
  for (int i = 0; i < 9; ++i) {
    chunks.push_back(LargeData(i, 400u << 10));
    sent.push_back(Bytes(chunks.back()));
  }
  Store(chunks);
  const Answers answers = Ask(Question(chunks));
  EXPECT_THAT(answers.records, UnorderedElementsAreArray(sent));
  ASSERT_THAT(answers.message_bytes, SizeIs(4)) << "three of them, and the end";
  const std::vector<size_t> full(answers.message_bytes.begin(), answers.message_bytes.end() - 1);
  EXPECT_THAT(full, Each(AllOf(Ge(1u << 20), testing::Lt(3u << 19))));
}

TEST_F(TransferServiceTest, MalformedQuestionsEndTheStream) {
  const std::string messages[] = {
      std::string(20, '\xff'),
      "not a question",
      FieldHeader(v1::ReadRequest::kIdsFieldNumber, 33) + std::string(33, 'i'),
      FieldHeader(v1::ReadRequest::kIdsFieldNumber, ~uint64_t{0} >> 1),
      Question({TestData(1)}).SerializeAsString() + "\x18",
  };
  for (const std::string& message : messages) {
    EXPECT_THAT(EndAfter(*NewRead(), message), StatusIs(kInvalid)) << HexEncode(message);
  }
}

TEST_F(TransferServiceTest, QuestionsNameARepositoryThatIsThere) {
  v1::ReadRequest question = Question({TestData(1)});
  question.set_repository("absent");
  EXPECT_THAT(EndAfter(*NewRead(), question.SerializeAsString()), StatusIs(kNotFound, "absent"));
  EXPECT_THAT(EndAfter(*NewRead(), ""), StatusIs(kNotFound)) << "in every message";
}

TEST_F(TransferServiceTest, AReaderThatDiesIsLeftAlone) {
  std::vector<TestChunk> chunks;
  for (int i = 0; i < 4; ++i) chunks.push_back(LargeData(i, 2u << 20));
  Store(chunks);
  auto stream = NewRead();
  ASSERT_TRUE(stream->Write(Question(chunks).SerializeAsString()));
  ASSERT_TRUE(stream->Read());
  (void)stream->Cancel();
  EXPECT_THAT(Ask(Question(chunks)).records, SizeIs(4));
}

}  // namespace
}  // namespace holdfast
