#include "client/upload/chunk_uploader.h"

#include <random>

#include "client/upload/fake_upload_transport.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ChunkUploaderTest : public testing::Test {
 protected:
  ChunkUploaderTest() { keys_.data_key.MutableBytes()[0] = 1; }
  static std::string RandomBytes(size_t size, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string out;
    while (out.size() < size) out += static_cast<char>(random());
    return out;
  }
  ChunkRef Offer(std::string_view bytes) {
    absl::StatusOr<char*> room = uploader_.Room();
    EXPECT_OK(room);
    bytes.copy(*room, bytes.size());
    return uploader_.Offer(bytes.size(), 1);
  }
  std::vector<ChunkId> SentIds() const {
    std::vector<ChunkId> out;
    for (const RecordHeader& h : transport_.sent) out.push_back(h.id);
    return out;
  }

  SealingKeys keys_;
  FakeUploadTransport transport_;
  OfferedIds offered_;
  SealVerifier verifier_{keys_};
  UploadCounters counters_;
  ChunkUploader uploader_{transport_, keys_, offered_, verifier_, counters_};
};

TEST_F(ChunkUploaderTest, SendsWhatTheServerLacksAndOnlyThat) {
  const ChunkRef known = ComputeChunkRef(keys_, ChunkType::kData, {}, "known");
  transport_.stored.insert(known.id);
  const ChunkRef a = Offer("a");
  EXPECT_EQ(Offer("known"), known);
  const ChunkRef b = Offer("b");
  EXPECT_THAT(transport_.questions, IsEmpty()) << "nothing is asked one by one";
  ASSERT_OK(uploader_.Flush());
  EXPECT_THAT(transport_.questions, ElementsAre(ElementsAre(a.id, known.id, b.id)));
  EXPECT_THAT(SentIds(), ElementsAre(a.id, b.id));
  EXPECT_EQ(counters_.chunks_new, 2u);
  EXPECT_EQ(counters_.chunks_known, 1u);
  EXPECT_EQ(counters_.plaintext_offered, 7u);
  EXPECT_EQ(counters_.bytes_sent, transport_.records[0].size() + transport_.records[1].size());
  RecordOpener opener(keys_.repository);
  auto opened = opener.Open(b, transport_.records[1]);
  ASSERT_OK(opened);
  EXPECT_EQ(opened->plaintext, "b");
  EXPECT_THAT(transport_.answers, IsEmpty()) << "all was taken";
}

TEST_F(ChunkUploaderTest, TheSameChunkIsAskedForOnceByAllWorkers) {
  ChunkUploader other(transport_, keys_, offered_, verifier_, counters_);
  const ChunkRef a = Offer("a");
  EXPECT_EQ(Offer("a"), a);
  absl::StatusOr<char*> room = other.Room();
  ASSERT_OK(room);
  **room = 'a';
  EXPECT_EQ(other.Offer(1, 1), a);
  ASSERT_OK(uploader_.Flush());
  ASSERT_OK(other.Flush());
  EXPECT_THAT(transport_.questions, SizeIs(1));
  EXPECT_THAT(SentIds(), ElementsAre(a.id));
  EXPECT_EQ(counters_.chunks_known, 2u);
}

TEST_F(ChunkUploaderTest, AsksAheadOfSending) {
  // Chunks of two MiB: two to an arena.
  for (int i = 0; i < 4; ++i) Offer(RandomBytes(2u << 20, i));
  EXPECT_THAT(transport_.questions, SizeIs(1));
  EXPECT_THAT(transport_.sent, IsEmpty());
  Offer(RandomBytes(2u << 20, 4));
  EXPECT_THAT(transport_.questions, SizeIs(2));
  EXPECT_THAT(transport_.sent, SizeIs(2));
  ASSERT_OK(uploader_.Flush());
  EXPECT_THAT(transport_.sent, SizeIs(5));
}

TEST_F(ChunkUploaderTest, KeepsWithinTheCredit) {
  transport_.credit = 3u << 20;
  for (int i = 0; i < 40; ++i) Offer(RandomBytes(700'000, i));
  ASSERT_OK(uploader_.Flush());
  EXPECT_THAT(transport_.sent, SizeIs(40));
  EXPECT_LE(transport_.held_max, 3u << 20);
  EXPECT_GE(transport_.held_max, 2u << 20) << "and makes use of it";
}

TEST_F(ChunkUploaderTest, KeepsWithinItsOwnMemoryWhenTheCreditIsLarger) {
  transport_.credit = 100u << 20;
  for (int i = 0; i < 40; ++i) Offer(RandomBytes(700'000, i));
  ASSERT_OK(uploader_.Flush());
  EXPECT_LE(transport_.held_max, 6u << 20);
}

TEST_F(ChunkUploaderTest, AMessageAboveTheCreditGoesAlone) {
  transport_.credit = 1000;
  for (int i = 0; i < 3; ++i) Offer(RandomBytes(100'000, i));
  ASSERT_OK(uploader_.Flush());
  EXPECT_THAT(transport_.sent, SizeIs(3));
}

TEST_F(ChunkUploaderTest, SmallRecordsShareMessages) {
  for (int i = 0; i < 100; ++i) Offer(RandomBytes(1000, i));
  ASSERT_OK(uploader_.Flush());
  EXPECT_EQ(transport_.messages, 1);
}

TEST_F(ChunkUploaderTest, ASampleIsOpenedAgainBeforeItIsSent) {
  SealingKeys others = keys_;
  others.repository.bytes[3] ^= 1;
  SealVerifier broken(others);  // as if memory were bad
  ChunkUploader uploader(transport_, keys_, offered_, broken, counters_);
  ASSERT_OK(uploader.Room());
  uploader.Offer(10, 1);
  EXPECT_THAT(uploader.Flush(), StatusIs(absl::StatusCode::kInternal, "does not open right after it was sealed"));
  EXPECT_THAT(transport_.sent, IsEmpty());
}

TEST_F(ChunkUploaderTest, AnAnswerToAnotherQuestionEndsIt) {
  transport_.short_answers = true;
  Offer("a");
  EXPECT_THAT(uploader_.Flush(), StatusIs(absl::StatusCode::kInternal, "another number of chunks"));
}

TEST_F(ChunkUploaderTest, ARecordThatWasNotTakenWholeEndsIt) {
  Offer("a");
  // Only the second answer is wrong.
  class Lying : public FakeUploadTransport {
   public:
    absl::Status SendRecords(std::unique_ptr<RecordBuffer> buffer, size_t bytes) override {
      short_answers = true;
      return FakeUploadTransport::SendRecords(std::move(buffer), bytes);
    }
  } lying;
  OfferedIds offered;
  ChunkUploader uploader(lying, keys_, offered, verifier_, counters_);
  ASSERT_OK(uploader.Room());
  uploader.Offer(10, 1);
  EXPECT_THAT(uploader.Flush(), StatusIs(absl::StatusCode::kInternal, "another number of bytes"));
}

TEST_F(ChunkUploaderTest, AStreamThatBrokeEndsIt) {
  transport_.send_status = absl::UnavailableError("gone");
  Offer("a");
  EXPECT_THAT(uploader_.Flush(), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace holdfast
