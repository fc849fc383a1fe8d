#include "server/repository/record_server.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status_testing.h"
#include "server/repository/test_engine.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Answer = absl::StatusOr<std::string>;  // the sealed body

const auto kNotFound = StatusIs(absl::StatusCode::kNotFound);
const auto kLost = StatusIs(absl::StatusCode::kDataLoss);
const auto kOutage = StatusIs(absl::StatusCode::kUnavailable);

class Answers : public RecordReadSink {
 public:
  absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
    Answer body = record.ok() ? Answer(std::string(record->body)) : Answer(record.status());
    EXPECT_TRUE(answers.emplace(index, std::move(body)).second) << "answered twice";
    return answers.size() == ends_after ? absl::CancelledError("the reader has gone") : absl::OkStatus();
  }
  std::map<size_t, Answer> answers;
  size_t ends_after = 0;
};

class RecordServerTest : public testing::Test {
 protected:
  RecordServerTest() { engine_.OpenIndex(); }

  std::vector<Answer> ReadAll(const std::vector<ChunkId>& ids, bool verify = false) {
    Answers sink;
    EXPECT_OK(server_.Read(ids, verify, sink));
    EXPECT_EQ(sink.answers.size(), ids.size());
    std::vector<Answer> out;
    for (auto& [index, body] : sink.answers) out.push_back(body);
    return out;
  }
  Answer Read(const TestChunk& chunk, bool verify = false) { return ReadAll({chunk.id()}, verify).at(0); }
  bool IsNotedAsDamaged(const TestChunk& chunk) {
    auto found = engine_.Find(chunk.id());
    return found && found->damaged;
  }
  // A change that only the digest of the body shows.
  void DamageBody(const PackSummary& pack, const TestChunk& chunk) { engine_.Damage(pack, chunk.body); }
  // A change that every read of it shows: in the sealed header of the pack's only record.
  void DamageHeader(const PackSummary& pack, const TestChunk& chunk) {
    const std::string blob = engine_.Blob(PackBlobName(pack.kind, pack.id));
    const size_t body = blob.find(chunk.body);
    ASSERT_NE(body, std::string::npos);
    engine_.Damage(pack, std::string_view(blob).substr(body - 30, 30));
  }

  TestEngine engine_;
  RecordServer server_{engine_.reader, engine_.index, engine_.warnings};
  // Of two agents, so that their bodies differ.
  const TestChunk older_ = TestData(1, 1), newer_ = TestData(1, 2);
};

TEST_F(RecordServerTest, AnswersEveryIdOnce) {
  const std::vector<TestChunk> data = {TestData(1), TestData(2)};
  const TestChunk page = TestPage(1, data);
  engine_.StoreAndIndex(data);
  engine_.StoreAndIndex({page});
  const std::vector<Answer> answers = ReadAll({page.id(), TestData(9).id(), data[1].id(), data[0].id()});
  EXPECT_THAT(answers,
              ElementsAre(IsOkAndHolds(page.body), kNotFound, IsOkAndHolds(data[1].body), IsOkAndHolds(data[0].body)));
  EXPECT_EQ(server_.read().records, 4u);
  EXPECT_EQ(server_.read().bytes, 3u * 80u);
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(RecordServerTest, GivesTheOldestCopyAtFirstAndTheNewestOnVerify) {
  engine_.StoreAndIndex({older_});
  engine_.StoreAndIndex({newer_});
  EXPECT_THAT(Read(older_), IsOkAndHolds(older_.body));
  EXPECT_THAT(Read(older_, /*verify=*/true), IsOkAndHolds(newer_.body));
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(RecordServerTest, GivesTheSecondCopyWhenTheFirstIsDamaged) {
  const PackSummary first = engine_.StoreAndIndex({older_});
  engine_.StoreAndIndex({newer_});
  DamageHeader(first, older_);
  EXPECT_THAT(Read(older_), IsOkAndHolds(newer_.body));
  EXPECT_THAT(engine_.warnings.All(), Not(IsEmpty()));
  EXPECT_FALSE(IsNotedAsDamaged(older_));
}

TEST_F(RecordServerTest, GivesTheSecondCopyWhenTheFirstIsOnABadSector) {
  const PackSummary first = engine_.StoreAndIndex({older_});
  engine_.StoreAndIndex({newer_});
  engine_.store.AddBadSector(PackBlobName(first.kind, first.id).str(), first.entries[0].body_offset, 1);
  for (const bool verify : {false, true}) EXPECT_THAT(Read(older_, verify), IsOkAndHolds(newer_.body));
  EXPECT_FALSE(IsNotedAsDamaged(older_));
}

TEST_F(RecordServerTest, GivesNoOtherCopyThatIsDamagedItself) {
  const PackSummary first = engine_.StoreAndIndex({older_});
  const PackSummary second = engine_.StoreAndIndex({newer_});
  const TestChunk third = TestData(1, 3);
  engine_.StoreAndIndex({third});
  DamageHeader(first, older_);
  DamageBody(second, newer_);
  EXPECT_THAT(Read(older_), IsOkAndHolds(third.body));
}

TEST_F(RecordServerTest, GivesTheNewestIntactCopyOnVerify) {
  engine_.StoreAndIndex({older_});
  const PackSummary second = engine_.StoreAndIndex({newer_});
  DamageBody(second, newer_);
  EXPECT_THAT(Read(older_, /*verify=*/true), IsOkAndHolds(older_.body));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr(HexEncode(second.id.view()))));
  EXPECT_FALSE(IsNotedAsDamaged(older_));
}

TEST_F(RecordServerTest, SaysDataLossOnceAndNotesItWhenNoCopyIsGood) {
  for (const bool verify : {false, true}) {
    const int number = verify ? 11 : 12;
    const TestChunk a = TestData(number, 1), b = TestData(number, 2), intact = TestData(number + 10);
    const PackSummary first = engine_.StoreAndIndex({a});
    const PackSummary second = engine_.StoreAndIndex({b});
    engine_.StoreAndIndex({intact});
    DamageHeader(first, a);
    DamageBody(second, b);
    EXPECT_FALSE(IsNotedAsDamaged(a));
    EXPECT_THAT(ReadAll({a.id(), intact.id()}, verify), ElementsAre(kLost, IsOkAndHolds(intact.body)));
    EXPECT_TRUE(IsNotedAsDamaged(a));
    EXPECT_FALSE(IsNotedAsDamaged(intact));
  }
}

TEST_F(RecordServerTest, SaysDataLossOfASingleCopyAndLooksAtItsDigestOnVerify) {
  const PackSummary pack = engine_.StoreAndIndex({older_});
  DamageBody(pack, older_);
  EXPECT_THAT(Read(older_), IsOkAndHolds(Not(older_.body))) << "it is the client that sees it";
  EXPECT_FALSE(IsNotedAsDamaged(older_));
  EXPECT_THAT(Read(older_, /*verify=*/true), kLost);
  EXPECT_TRUE(IsNotedAsDamaged(older_));
}

TEST_F(RecordServerTest, NotesDamageAlsoWhenTheReaderGoesMeanwhile) {
  const PackSummary pack = engine_.StoreAndIndex({older_});
  DamageHeader(pack, older_);
  Answers sink;
  sink.ends_after = 1;
  const ChunkId id = older_.id();
  EXPECT_THAT(server_.Read({&id, 1}, false, sink), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(IsNotedAsDamaged(older_));
}

TEST_F(RecordServerTest, NotesAllThatIsLostWhereverTheReaderGoes) {
  // The intact one is answered first, as the others have to be looked for elsewhere.
  for (size_t ends_after = 1; ends_after <= 4; ++ends_after) {
    SCOPED_TRACE(ends_after);
    const int number = static_cast<int>(10 * ends_after);
    const TestChunk lost = TestData(number), cured = TestData(number + 1), last = TestData(number + 2);
    const TestChunk intact = TestData(number + 3);
    const PackSummary pack = engine_.StoreAndIndex({lost, cured, last, intact});
    for (const TestChunk& chunk : {lost, cured, last}) DamageHeader(pack, chunk);
    engine_.StoreAndIndex({TestData(number + 1, /*agent=*/2)});
    Answers sink;
    sink.ends_after = ends_after;
    EXPECT_THAT(server_.Read(IdsOf({lost, cured, last, intact}), false, sink), StatusIs(absl::StatusCode::kCancelled));
    EXPECT_EQ(sink.answers.size(), ends_after) << "told more although it had gone";
    EXPECT_TRUE(IsNotedAsDamaged(lost));
    EXPECT_TRUE(IsNotedAsDamaged(last));
    EXPECT_FALSE(IsNotedAsDamaged(cured));
    EXPECT_FALSE(IsNotedAsDamaged(intact));
  }
}

TEST_F(RecordServerTest, TakesAnOutageForNoDamage) {
  engine_.StoreAndIndex({older_});
  engine_.Outage(BlobOperation::kGet, "packs/");
  EXPECT_THAT(Read(older_), kOutage);
  EXPECT_THAT(Read(older_, /*verify=*/true), kOutage);
  engine_.store.ClearFaults();
  EXPECT_FALSE(IsNotedAsDamaged(older_));
  EXPECT_THAT(Read(older_), IsOkAndHolds(older_.body));
}

TEST_F(RecordServerTest, TakesADamagedCopyBesideAnOutageForNoLoss) {
  const PackSummary first = engine_.StoreAndIndex({older_});
  const PackSummary second = engine_.StoreAndIndex({newer_});
  DamageHeader(first, older_);
  engine_.Outage(BlobOperation::kGet, PackBlobName(second.kind, second.id).str());
  for (const bool verify : {false, true}) {
    EXPECT_THAT(Read(older_, verify), kOutage);
    EXPECT_FALSE(IsNotedAsDamaged(older_));
  }
  // The other way round: the one that may be good is looked at first.
  engine_.store.ClearFaults();
  engine_.Outage(BlobOperation::kGet, PackBlobName(first.kind, first.id).str());
  DamageBody(second, newer_);
  EXPECT_THAT(Read(older_, /*verify=*/true), kOutage);
  EXPECT_FALSE(IsNotedAsDamaged(older_));
}

TEST_F(RecordServerTest, MakesADamagedIndexAnewAndReads) {
  engine_.StoreAndIndex({older_});
  for (const std::string& key : std::vector<std::string>(engine_.kv.written)) {
    KvBatch garbage;
    garbage.Put(key, "garbage");
    ASSERT_OK(engine_.kv.content->Write(garbage));
  }
  EXPECT_THAT(Read(older_), IsOkAndHolds(older_.body));
  EXPECT_EQ(engine_.kv.destroyed, 1);
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("has been rebuilt")));
}

// --- Reports of readers ---------------------------------------------------------------------------------------------

TEST_F(RecordServerTest, TakesAReadersWordForASingleCopyAndNamesTheReader) {
  engine_.StoreAndIndex({older_});
  const ChunkId ids[] = {older_.id(), TestData(9).id()};
  EXPECT_OK(server_.NoteUnopenable({"anna"}, ids));
  EXPECT_TRUE(IsNotedAsDamaged(older_));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("anna reports chunks that it cannot open")));
}

TEST_F(RecordServerTest, KeepsAChunkOfSeveralCopiesWhateverAReaderSays) {
  engine_.StoreAndIndex({older_});
  engine_.StoreAndIndex({newer_});
  const ChunkId ids[] = {older_.id()};
  EXPECT_OK(server_.NoteUnopenable({"anna"}, ids));
  EXPECT_FALSE(IsNotedAsDamaged(older_));
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

}  // namespace
}  // namespace holdfast
