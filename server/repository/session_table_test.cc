#include "server/repository/session_table.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "core/base/status_testing.h"
#include "core/io/sim/sim_world.h"
#include "server/repository/test_chunks.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

using Copies = SessionTable::Copies;
using Turn = SessionTable::Turn;

constexpr HaveAnswer kNone = HaveAnswer::kNone, kOwn = HaveAnswer::kOwn, kForeign = HaveAnswer::kForeign;
constexpr absl::StatusCode kAborted = absl::StatusCode::kAborted;
constexpr absl::StatusCode kPrecondition = absl::StatusCode::kFailedPrecondition;
constexpr absl::StatusCode kExhausted = absl::StatusCode::kResourceExhausted;
constexpr absl::StatusCode kExists = absl::StatusCode::kAlreadyExists;

ManifestId Manifest(uint8_t number) {
  ManifestId id;
  id.bytes.fill(number);
  return id;
}

ChunkLocation CopyOf(const TestChunk& chunk, bool committed = false, bool damaged = false) {
  ChunkLocation l;
  l.type = chunk.header.type;
  l.uploader = chunk.header.uploader;
  l.committed = committed;
  l.damaged = damaged;
  return l;
}

// Refers to the chunks.
std::vector<IncomingRecord> Incoming(const std::vector<TestChunk>& chunks) {
  std::vector<IncomingRecord> records;
  for (const TestChunk& c : chunks) records.push_back({c.header, c.header_bytes, {c.body}});
  return records;
}

class SessionTableTest : public testing::Test {
 protected:
  explicit SessionTableTest(SessionLimits limits = {}, uint64_t seed = 1)
      : world_(seed), limits_(limits), table_(world_.io(), limits) {}

  static constexpr bool NotCommitted() { return false; }

  SessionId Open(std::string_view source, uint32_t agent = 1) {
    auto opened = table_.Open(anna_, source, agent, std::nullopt);
    EXPECT_OK(opened);
    return opened.ok() ? opened->id : SessionId();
  }
  absl::Status TryOpen(std::string_view source) { return table_.Open(anna_, source, 1, std::nullopt).status(); }
  absl::StatusOr<AcceptedRecords> Accept(const SessionId& id, const std::vector<TestChunk>& chunks) {
    return table_.Accept(anna_, id, Incoming(chunks), std::vector<Copies>(chunks.size()));
  }
  absl::Status Upload(const SessionId& id, const std::vector<TestChunk>& chunks) {
    RETURN_IF_ERROR(Accept(id, chunks).status());
    return table_.NoteUploaded(anna_, id, Incoming(chunks));
  }
  absl::StatusOr<HaveAnswer> Promise(const SessionId& id, const TestChunk& chunk, const Copies& copies,
                                     std::optional<uint32_t> pending = std::nullopt) {
    const ChunkId ids[] = {chunk.id()};
    ASSIGN_OR_RETURN(std::vector<HaveAnswer> answers, table_.Promise(anna_, id, ids, {&copies, 1}, {&pending, 1}));
    EXPECT_EQ(answers.size(), 1u);
    return answers.at(0);
  }
  absl::StatusOr<std::unique_ptr<Turn>> BeginCommit(const SessionId& id) {
    return table_.BeginCommit(anna_, id, NotCommitted);
  }
  std::unique_ptr<Turn> MustBegin(const SessionId& id) {
    auto turn = BeginCommit(id);
    EXPECT_OK(turn);
    return turn.ok() ? *std::move(turn) : nullptr;
  }
  void EndStream(const SessionId& id) {
    EXPECT_OK(table_.StreamBegan(anna_, id));
    table_.StreamEnded(id);
  }
  // Leaves a commit of the session with an unknown outcome.
  void LeaveUnsettled(const SessionId& id, uint8_t manifest) {
    CommittedRecord record;
    record.manifest = Manifest(manifest);
    MustBegin(id)->unsettled() = record;
  }
  // Until no other thread can go on.
  void LetOthersRun() {
    world_.io().threads.NewEvent()->WaitUntil(world_.io().clock.Monotonic() + absl::Milliseconds(1));
  }

  const Principal anna_{"anna"}, bert_{"bert"};
  SimWorld world_;
  const SessionLimits limits_;
  SessionTable table_;
};

// --- S1 -------------------------------------------------------------------------------------------------------------

TEST_F(SessionTableTest, FailsEveryOpenSessionWhenUploadedChunksAreLost) {
  const SessionId home = Open("home"), mail = Open("mail");
  const TestChunk a = TestData(1);
  ASSERT_THAT(Promise(home, a, {CopyOf(a)}), IsOkAndHolds(kOwn));
  table_.FailAll(absl::UnavailableError("disk full"));
  for (const SessionId& id : {home, mail}) {
    const auto fails = StatusIs(absl::StatusCode::kUnavailable, "were lost before they were stored");
    EXPECT_THAT(table_.Check(anna_, id), fails);
    EXPECT_THAT(Promise(id, a, {CopyOf(a)}), fails);
    EXPECT_THAT(Accept(id, {a}), fails);
    EXPECT_THAT(table_.NoteUploaded(anna_, id, {}), fails);
    EXPECT_THAT(BeginCommit(id), fails);
  }
  table_.FailAll(absl::InternalError("another"));
  EXPECT_THAT(table_.Check(anna_, home), StatusIs(absl::StatusCode::kUnavailable, "disk full")) << "not the first";
  EXPECT_OK(BeginCommit(Open("photos"))) << "one that was promised nothing of it";
}

TEST_F(SessionTableTest, FailsTheCommitThatIsUnderWayWhenUploadedChunksAreLost) {
  const TestChunk page = TestPage(1, {});
  const SessionId id = Open("home");
  ASSERT_OK(Upload(id, {page}));
  auto turn = MustBegin(id);
  table_.FailAll(absl::UnavailableError("disk full"));
  bool known = false;
  EXPECT_THAT(turn->NewPages(page.id(), &known), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(SessionTableTest, KnowsNoSessionOfAnotherRun) {
  SessionTable earlier(world_.io(), limits_);
  ASSERT_OK_AND_ASSIGN(auto opened, earlier.Open(anna_, "home", 1, std::nullopt));
  EXPECT_THAT(table_.Check(anna_, opened.id), StatusIs(kAborted));
  EXPECT_THAT(BeginCommit(opened.id), StatusIs(kAborted));
}

// --- S2 -------------------------------------------------------------------------------------------------------------

TEST_F(SessionTableTest, PromisesDataWhoeverUploadedIt) {
  const SessionId id = Open("home", 1);
  const TestChunk own = TestData(1, 1), foreign = TestData(1, 2);
  EXPECT_THAT(Promise(id, own, {}), IsOkAndHolds(kNone));
  EXPECT_THAT(Promise(id, own, {CopyOf(own)}), IsOkAndHolds(kOwn));
  EXPECT_THAT(Promise(id, own, {CopyOf(foreign)}), IsOkAndHolds(kForeign));
  EXPECT_THAT(Promise(id, own, {CopyOf(foreign), CopyOf(own)}), IsOkAndHolds(kOwn)) << "a later copy is as good";
  EXPECT_THAT(Promise(id, TestData(2), {}, 1), IsOkAndHolds(kOwn));
  EXPECT_THAT(Promise(id, TestData(3), {}, 2), IsOkAndHolds(kForeign));
}

TEST_F(SessionTableTest, PromisesAPageOnlyIfASnapshotReachesItOrTheSessionUploadedIt) {
  const SessionId home = Open("home"), mail = Open("mail");
  const TestChunk page = TestPage(1, {});
  ASSERT_OK(Upload(mail, {page}));
  EXPECT_THAT(Promise(home, page, {CopyOf(page, /*committed=*/false)}), IsOkAndHolds(kNone));
  EXPECT_THAT(Promise(mail, page, {CopyOf(page, /*committed=*/false)}), IsOkAndHolds(kOwn));
  EXPECT_THAT(Promise(mail, page, {}), IsOkAndHolds(kOwn)) << "before it is indexed";
  EXPECT_THAT(Promise(home, page, {CopyOf(page, /*committed=*/true)}), IsOkAndHolds(kOwn));
  const SessionId of_other_agent = Open("photos", 2);
  EXPECT_THAT(Promise(of_other_agent, page, {CopyOf(page, /*committed=*/true)}), IsOkAndHolds(kForeign));
}

TEST_F(SessionTableTest, PromisesNothingDamagedUnlessItIsBeingSentAgain) {
  const SessionId id = Open("home");
  const TestChunk a = TestData(1), page = TestPage(1, {});
  EXPECT_THAT(Promise(id, a, {CopyOf(a, false, /*damaged=*/true)}), IsOkAndHolds(kNone));
  EXPECT_THAT(Promise(id, a, {CopyOf(a, false, /*damaged=*/true)}, 2), IsOkAndHolds(kForeign));
  EXPECT_THAT(Promise(id, page, {CopyOf(page, /*committed=*/true, /*damaged=*/true)}), IsOkAndHolds(kNone));
}

TEST_F(SessionTableTest, AcceptsAPageOnlyWithAllItsChildrenKnown) {
  const SessionId id = Open("home");
  const TestChunk uploaded = TestData(1), promised = TestData(2), unknown = TestData(3);
  ASSERT_OK(Upload(id, {uploaded}));
  ASSERT_THAT(Promise(id, promised, {CopyOf(promised)}), IsOkAndHolds(kOwn));
  ASSERT_THAT(Promise(id, unknown, {}), IsOkAndHolds(kNone));
  EXPECT_OK(Accept(id, {TestPage(1, {uploaded, promised})}));
  EXPECT_THAT(Accept(id, {TestPage(2, {uploaded, promised, unknown})}), StatusIs(kPrecondition, "neither uploaded"));
  const SessionId other = Open("mail");
  EXPECT_THAT(Accept(other, {TestPage(1, {uploaded})}), StatusIs(kPrecondition)) << "what another session knows";
}

TEST_F(SessionTableTest, AcceptsAPageBehindItsChildrenInOneMessage) {
  const SessionId id = Open("home");
  const TestChunk a = TestData(1), page = TestPage(1, {a});
  EXPECT_THAT(Accept(id, {page, a}), StatusIs(kPrecondition));
  EXPECT_OK(Accept(id, {a, page}));
  EXPECT_THAT(Accept(id, {page}), StatusIs(kPrecondition)) << "accepted is not yet uploaded";
  ASSERT_OK(table_.NoteUploaded(anna_, id, Incoming({a})));
  EXPECT_OK(Accept(id, {page}));
}

TEST_F(SessionTableTest, TellsTheNewPagesOfACommitLowerOnesFirst) {
  const SessionId id = Open("home");
  const TestChunk a = TestData(1), old_page = TestPage(9, {});
  const TestChunk low = TestPage(1, {a}), left = TestPage(2, {low, old_page}), right = TestPage(3, {low});
  const TestChunk root = TestPage(4, {left, right}), unrelated = TestPage(5, {a});
  ASSERT_THAT(Promise(id, old_page, {CopyOf(old_page, /*committed=*/true)}), IsOkAndHolds(kOwn));
  ASSERT_OK(Upload(id, {a, low, left, right, root, unrelated}));
  ASSERT_OK(Upload(id, {low})) << "again";
  auto turn = MustBegin(id);
  bool known = false;
  ASSERT_OK_AND_ASSIGN(std::vector<ChunkId> pages, turn->NewPages(root.id(), &known));
  EXPECT_TRUE(known);
  ASSERT_EQ(pages.size(), 4u);
  EXPECT_EQ(pages.front(), low.id());
  EXPECT_THAT(pages, UnorderedElementsAre(root.id(), left.id(), right.id(), low.id()));
  EXPECT_EQ(pages.back(), root.id());
  EXPECT_THAT(turn->NewPages(old_page.id(), &known), IsOkAndHolds(IsEmpty()));
  EXPECT_TRUE(known) << "promised";
  EXPECT_THAT(turn->NewPages(TestPage(6, {}).id(), &known), IsOkAndHolds(IsEmpty()));
  EXPECT_FALSE(known);
}

TEST_F(SessionTableTest, TellsAPageThatIsOnSeveralLevelsBeforeAllThatLeadToIt) {
  const SessionId id = Open("home");
  std::vector<TestChunk> pages = {TestPage(1, {})};
  for (int i = 2; i <= 9; ++i) pages.push_back(TestPage(i, pages));  // each over all before it
  ASSERT_OK(Upload(id, pages));
  bool known = false;
  EXPECT_THAT(MustBegin(id)->NewPages(pages.back().id(), &known), IsOkAndHolds(IdsOf(pages)));
}

// --- S3 -------------------------------------------------------------------------------------------------------------

TEST_F(SessionTableTest, PinsTheBaseThatTheClientNamedOrElseTheHeadItWasTold) {
  ASSERT_OK_AND_ASSIGN(auto named, table_.Open(anna_, "home", 1, Manifest(1)));
  const SessionId told = Open("mail"), fresh = Open("photos");
  table_.PinHead(named.id, Manifest(2));
  table_.PinHead(told, Manifest(3));
  EXPECT_THAT(table_.PinnedSnapshots(), UnorderedElementsAre(Manifest(1), Manifest(3)));
  table_.Close(anna_, named.id);
  table_.PinHead(named.id, Manifest(4));
  EXPECT_THAT(table_.PinnedSnapshots(), ElementsAre(Manifest(3)));
  EXPECT_OK(table_.Check(anna_, fresh));
}

// --- S4 -------------------------------------------------------------------------------------------------------------

TEST_F(SessionTableTest, AsksWhetherTheManifestIsCommittedBeforeItAsksForTheSession) {
  const auto committed = [] { return true; };
  const SessionId id = Open("home");
  EXPECT_THAT(table_.BeginCommit(anna_, id, committed), IsOkAndHolds(testing::IsNull()));
  EXPECT_THAT(table_.BeginCommit(anna_, SessionId(), committed), IsOkAndHolds(testing::IsNull()));
  MustBegin(id)->Fail(absl::InternalError("broken"));
  EXPECT_THAT(table_.BeginCommit(anna_, id, committed), IsOkAndHolds(testing::IsNull()));
}

TEST_F(SessionTableTest, AsksAgainAfterTheCommitItWaitedFor) {
  const SessionId id = Open("home");
  auto turn = MustBegin(id);
  bool is_committed = false;
  int got = -1;
  auto second = world_.io().threads.Spawn("second", [&] {
    auto begun = table_.BeginCommit(anna_, id, [&] { return is_committed; });
    EXPECT_OK(begun);
    got = begun.ok() && *begun == nullptr;
  });
  LetOthersRun();
  EXPECT_EQ(got, -1) << "did not wait for the turn";
  is_committed = true;
  turn.reset();
  second.reset();
  EXPECT_EQ(got, 1);
}

// --- S5 -------------------------------------------------------------------------------------------------------------

TEST_F(SessionTableTest, LetsNoFailedClosedOrReplacedSessionCommit) {
  const SessionId failed = Open("failed");
  MustBegin(failed)->Fail(absl::InternalError("broken"));
  EXPECT_THAT(BeginCommit(failed), StatusIs(absl::StatusCode::kInternal, "broken"));
  const SessionId closed = Open("closed");
  table_.Close(anna_, closed);
  EXPECT_THAT(BeginCommit(closed), StatusIs(kAborted));
  const SessionId replaced = Open("home");
  EndStream(replaced);
  const SessionId replacing = Open("home");
  EXPECT_NE(replaced, replacing);
  EXPECT_THAT(BeginCommit(replaced), StatusIs(kAborted));
  EXPECT_OK(BeginCommit(replacing));
}

TEST(SessionTableThreads, LetsNoSessionCommitThatWasClosedWhileItWaitedForItsTurn) {
  const Principal anna{"anna"};
  std::set<std::vector<std::string>> seen;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    SimWorld world(seed);
    SessionTable table(world.io(), {});
    ASSERT_OK_AND_ASSIGN(auto opened, table.Open(anna, "home", 1, std::nullopt));
    const SessionId id = opened.id;
    const auto no = [] { return false; };
    ASSERT_OK_AND_ASSIGN(auto turn, table.BeginCommit(anna, id, no));
    std::vector<std::string> log;
    auto closing = world.io().threads.Spawn("close", [&] {
      table.Close(anna, id);
      log.push_back("closed");
    });
    auto committing = world.io().threads.Spawn("commit", [&] {
      auto begun = table.BeginCommit(anna, id, no);
      log.push_back(begun.ok() ? "begun" : "refused");
      if (!begun.ok()) {
        EXPECT_THAT(begun, StatusIs(kAborted));
      }
    });
    world.io().threads.NewEvent()->WaitUntil(world.io().clock.Monotonic() + absl::Milliseconds(1));
    EXPECT_THAT(log, IsEmpty()) << "did not wait";
    turn.reset();
    closing.reset();
    committing.reset();
    seen.insert(log);
  }
  EXPECT_THAT(seen, UnorderedElementsAre(std::vector<std::string>{"closed", "refused"},
                                         std::vector<std::string>{"begun", "closed"}));
}

// --- S6 -------------------------------------------------------------------------------------------------------------

TEST_F(SessionTableTest, TellsAnotherPrincipalThatThereIsNoSuchSession) {
  const SessionId id = Open("home");
  const TestChunk a = TestData(1);
  const std::vector<ChunkId> ids = {a.id()};
  const std::vector<Copies> copies(1);
  const std::vector<std::optional<uint32_t>> pending(1);
  const auto aborted = StatusIs(kAborted, "is gone");
  EXPECT_THAT(table_.StreamBegan(bert_, id), aborted);
  EXPECT_THAT(table_.Check(bert_, id), aborted);
  EXPECT_THAT(table_.Promise(bert_, id, ids, copies, pending), aborted);
  EXPECT_THAT(table_.Accept(bert_, id, Incoming({a}), copies), aborted);
  EXPECT_THAT(table_.NoteUploaded(bert_, id, Incoming({a})), aborted);
  EXPECT_THAT(table_.BeginCommit(bert_, id, NotCommitted), aborted);
  table_.Close(bert_, id);
  EXPECT_OK(table_.Check(anna_, id));
  EXPECT_EQ(table_.counters().records_uploaded, 0u);
}

// --- Turns ----------------------------------------------------------------------------------------------------------

TEST_F(SessionTableTest, PromisesAndTakesNothingWhileItsCommitIsUnderWay) {
  const SessionId id = Open("home", 7);
  EndStream(id);
  const TestChunk a = TestData(1, 7);
  auto turn = MustBegin(id);
  EXPECT_EQ(turn->id(), id);
  EXPECT_EQ(turn->source(), "home");
  EXPECT_EQ(turn->agent(), 7u);
  EXPECT_THAT(Promise(id, a, {CopyOf(a)}), StatusIs(kPrecondition, "under way"));
  EXPECT_THAT(Accept(id, {a}), StatusIs(kPrecondition, "under way"));
  world_.Advance(absl::Hours(2));
  EXPECT_THAT(TryOpen("home"), StatusIs(kExists)) << "replaced";
  turn.reset();
  EXPECT_THAT(Promise(id, a, {CopyOf(a)}), IsOkAndHolds(kOwn));
  EXPECT_OK(Accept(id, {a}));
}

TEST_F(SessionTableTest, HandsACommitOfUnknownOutcomeOnToTheNextSessionOfTheSource) {
  const SessionId first = Open("home");
  LeaveUnsettled(first, 5);
  EndStream(first);
  ASSERT_OK_AND_ASSIGN(auto second, table_.Open(anna_, "home", 1, std::nullopt));
  ASSERT_NE(second.unsettled, nullptr);
  ASSERT_TRUE(second.unsettled->unsettled().has_value());
  EXPECT_EQ(second.unsettled->unsettled()->manifest, Manifest(5));
  EXPECT_THAT(Accept(second.id, {TestData(1)}), StatusIs(kPrecondition)) << "before it is settled";
  second.unsettled->unsettled().reset();
  second.unsettled.reset();
  EXPECT_OK(Accept(second.id, {TestData(1)}));
  EndStream(second.id);
  ASSERT_OK_AND_ASSIGN(auto third, table_.Open(anna_, "home", 1, std::nullopt));
  EXPECT_EQ(third.unsettled, nullptr);
}

TEST_F(SessionTableTest, KeepsACommitOfUnknownOutcomeOfASessionThatIsClosed) {
  const SessionId first = Open("home");
  LeaveUnsettled(first, 5);
  table_.Close(anna_, first);
  EXPECT_THAT(table_.Check(anna_, first), StatusIs(kAborted, "closed"));
  EXPECT_THAT(BeginCommit(first), StatusIs(kAborted));
  ASSERT_OK_AND_ASSIGN(auto second, table_.Open(anna_, "home", 1, std::nullopt));
  ASSERT_NE(second.unsettled, nullptr);
  EXPECT_EQ(second.unsettled->unsettled()->manifest, Manifest(5));
}

// --- Replacement and room -------------------------------------------------------------------------------------------

TEST_F(SessionTableTest, ReplacesASessionWhoseStreamsHaveEnded) {
  const SessionId id = Open("home");
  ASSERT_OK(table_.StreamBegan(anna_, id));
  ASSERT_OK(table_.StreamBegan(anna_, id));
  table_.StreamEnded(id);
  world_.Advance(absl::Hours(2));
  EXPECT_THAT(TryOpen("home"), StatusIs(kExists, "another backup of home is running"));
  table_.StreamEnded(id);
  EXPECT_OK(TryOpen("home"));
  EXPECT_THAT(table_.Check(anna_, id), StatusIs(kAborted));
  EXPECT_EQ(table_.counters().sessions, 1u);
  table_.StreamEnded(id);  // of a session that is gone
}

TEST_F(SessionTableTest, WaitsForTheFirstStreamOfASessionBeforeItIsReplaced) {
  const SessionId id = Open("home");
  world_.Advance(limits_.idle - absl::Seconds(1));
  EXPECT_THAT(TryOpen("home"), StatusIs(kExists));
  EXPECT_OK(TryOpen("mail")) << "another source";
  world_.Advance(absl::Seconds(1));
  EXPECT_OK(TryOpen("home"));
  EXPECT_THAT(table_.Check(anna_, id), StatusIs(kAborted));
}

TEST_F(SessionTableTest, ReplacesAFailedSessionAtOnce) {
  const SessionId id = Open("home");
  ASSERT_OK(table_.StreamBegan(anna_, id));
  table_.FailAll(absl::UnavailableError("disk full"));
  EXPECT_THAT(TryOpen("home"), StatusIs(kExists)) << "while a stream is at work";
  table_.StreamEnded(id);
  EXPECT_OK(TryOpen("home"));
  table_.FailAll(absl::UnavailableError("disk full"));
  EXPECT_OK(TryOpen("home")) << "without any stream";
}

TEST_F(SessionTableTest, ForgetsSessionsOfDeadClientsAfterAnHour) {
  const SessionId dead = Open("dead"), at_work = Open("at work"), committing = Open("committing"),
                  unsettled = Open("unsettled"), recent = Open("recent");
  ASSERT_OK(table_.StreamBegan(anna_, at_work));
  auto turn = MustBegin(committing);
  LeaveUnsettled(unsettled, 5);
  world_.Advance(absl::Minutes(59));
  EndStream(recent);
  Open("other 1");
  EXPECT_OK(table_.Check(anna_, dead));
  world_.Advance(absl::Minutes(1));
  Open("other 2");
  EXPECT_THAT(table_.Check(anna_, dead), StatusIs(kAborted));
  for (const SessionId& id : {at_work, committing, unsettled, recent}) EXPECT_OK(table_.Check(anna_, id));
}

struct FewSessions : SessionTableTest {
  FewSessions() : SessionTableTest({.sessions_max = 2}) {}
};

TEST_F(FewSessions, OpensNoMoreThanTheLimitAndMakesRoomByForgettingIdleOnes) {
  const SessionId idle = Open("idle"), at_work = Open("at work");
  ASSERT_OK(table_.StreamBegan(anna_, at_work));
  EXPECT_THAT(TryOpen("third"), StatusIs(kExhausted, "too many upload sessions"));
  EXPECT_OK(table_.Check(anna_, idle));
  world_.Advance(limits_.idle);
  EXPECT_OK(TryOpen("third"));
  EXPECT_THAT(table_.Check(anna_, idle), StatusIs(kAborted));
  EXPECT_OK(table_.Check(anna_, at_work));
  EXPECT_EQ(table_.counters().sessions, 2u);
}

TEST_F(FewSessions, ReplacesOneAtTheLimit) {
  EndStream(Open("home"));
  Open("mail");
  EXPECT_OK(TryOpen("home"));
}

// --- Limits of ids --------------------------------------------------------------------------------------------------

std::vector<TestChunk> Datas(int first, int count) {
  std::vector<TestChunk> chunks;
  for (int i = 0; i < count; ++i) chunks.push_back(TestData(first + i));
  return chunks;
}

struct FewIds : SessionTableTest {
  FewIds() : SessionTableTest({.weight_max = 4, .all_weight_max = 6}) {}
};

TEST_F(FewIds, FailsASessionThatHoldsTooManyIds) {
  const SessionId id = Open("home");
  ASSERT_OK(Upload(id, Datas(1, 3)));
  ASSERT_OK(Upload(id, Datas(1, 3))) << "the same ones again";
  ASSERT_THAT(Promise(id, TestData(4), {CopyOf(TestData(4))}), IsOkAndHolds(kOwn));
  EXPECT_THAT(Promise(id, TestData(5), {CopyOf(TestData(5))}), StatusIs(kExhausted, "back up in parts"));
  EXPECT_THAT(table_.Check(anna_, id), StatusIs(kExhausted));
  EXPECT_THAT(BeginCommit(id), StatusIs(kExhausted, "back up in parts"));
}

TEST_F(FewIds, FailsTheSessionThatMakesAllTogetherHoldTooManyAndTakesItsIdsBack) {
  const SessionId home = Open("home"), mail = Open("mail");
  ASSERT_OK(Upload(home, Datas(1, 3)));
  ASSERT_OK(Upload(mail, Datas(1, 3)));
  EXPECT_THAT(Upload(mail, Datas(4, 1)), StatusIs(kExhausted, "try again later"));
  EXPECT_OK(Upload(home, Datas(4, 1)));
  EXPECT_OK(Upload(Open("photos"), Datas(1, 2)));
  EXPECT_THAT(Upload(Open("music"), Datas(1, 1)), StatusIs(kExhausted, "try again later"));
}

TEST_F(FewIds, TakesTheIdsOfAClosedOrReplacedSessionBack) {
  const SessionId home = Open("home"), mail = Open("mail");
  ASSERT_OK(Upload(home, Datas(1, 3)));
  ASSERT_OK(Upload(mail, Datas(1, 3)));
  table_.Close(anna_, home);
  ASSERT_OK(Upload(Open("photos"), Datas(1, 3)));
  EndStream(mail);
  ASSERT_OK(Upload(Open("mail"), Datas(1, 3)));
  EXPECT_THAT(Upload(Open("music"), Datas(1, 1)), StatusIs(kExhausted)) << "now all are held";
}

TEST_F(FewIds, CountsNothingForASessionThatWasClosedWhileItsRecordsWereWritten) {
  for (int i = 0; i < 4; ++i) {
    const SessionId id = Open("home");
    const std::vector<TestChunk> chunks = Datas(10 * i, 3);
    ASSERT_OK(Accept(id, chunks));
    table_.Close(anna_, id);
    EXPECT_THAT(table_.NoteUploaded(anna_, id, Incoming(chunks)), StatusIs(absl::StatusCode::kAborted));
  }
  // Three of six, had they been counted for ever, would leave no room by now.
  EXPECT_OK(Upload(Open("home"), Datas(1, 3)));
}

TEST_F(FewIds, ForgetsIdleSessionsEarlyWhenHalfOfAllIdsAreHeld) {
  const SessionId few = Open("few");
  ASSERT_OK(Upload(few, Datas(1, 3)));
  world_.Advance(limits_.idle);
  const SessionId more = Open("more");
  EXPECT_OK(table_.Check(anna_, few)) << "half of them is not above half";
  ASSERT_OK(Upload(more, Datas(1, 1)));
  Open("other");
  EXPECT_THAT(table_.Check(anna_, few), StatusIs(kAborted));
  EXPECT_OK(table_.Check(anna_, more));
}

struct FewPages : SessionTableTest {
  FewPages() : SessionTableTest({.weight_max = 12}) {}
};

TEST_F(FewPages, CountsNewPagesAndTheLinksBetweenThemForWhatTheyTake) {
  const auto exhausted = StatusIs(kExhausted, "back up in parts");
  const TestChunk low = TestPage(1, {});
  const SessionId apart = Open("home"), linked = Open("mail");
  ASSERT_OK(Upload(apart, {low, TestPage(2, {})}));  // five ids each
  ASSERT_OK(Upload(apart, Datas(1, 2)));
  EXPECT_THAT(Upload(apart, Datas(3, 1)), exhausted);
  ASSERT_OK(Upload(linked, {low, TestPage(2, {low})}));  // and two for the link
  ASSERT_OK(Upload(linked, {low})) << "again";
  EXPECT_THAT(Upload(linked, Datas(1, 1)), exhausted);
}

// --- Records --------------------------------------------------------------------------------------------------------

TEST_F(SessionTableTest, StoresOwnCopiesOnceAndForeignOrDamagedOnesAgain) {
  const SessionId id = Open("home", 1);
  const std::vector<TestChunk> chunks = {TestData(1), TestData(2),     TestData(3),
                                         TestData(4), TestPage(5, {}), TestPage(6, {})};
  const std::vector<Copies> copies = {{},
                                      {CopyOf(chunks[1])},
                                      {CopyOf(TestData(3, 2))},
                                      {CopyOf(chunks[3], false, /*damaged=*/true)},
                                      {CopyOf(TestPage(5, {}, 2)), CopyOf(chunks[4])},
                                      {CopyOf(TestPage(6, {}, 2))}};
  const std::vector<IncomingRecord> records = Incoming(chunks);
  ASSERT_OK_AND_ASSIGN(AcceptedRecords accepted, table_.Accept(anna_, id, records, copies));
  EXPECT_EQ(accepted.agent, 1u);
  auto ids = [](const std::vector<PoolRecord>& pool) {
    std::vector<ChunkId> out;
    for (const PoolRecord& r : pool) out.push_back(r.header->id);
    return out;
  };
  EXPECT_THAT(ids(accepted.data), ElementsAre(chunks[0].id(), chunks[2].id(), chunks[3].id()));
  EXPECT_THAT(ids(accepted.tree), ElementsAre(chunks[5].id()));
  ASSERT_OK(table_.NoteUploaded(anna_, id, records));
  EXPECT_EQ(table_.counters().records_uploaded, 6u);
  EXPECT_EQ(table_.counters().bytes_uploaded, 6u * 80u);
}

TEST_F(SessionTableTest, RefusesRecordsOfAnotherAgentOrAnUnknownAead) {
  const SessionId id = Open("home", 1);
  EXPECT_THAT(Accept(id, {TestData(1, 2)}), StatusIs(absl::StatusCode::kInvalidArgument, "another agent"));
  TestChunk future = TestData(1, 1);
  future.header.aead = 200;
  EXPECT_THAT(Accept(id, {future}), StatusIs(absl::StatusCode::kInvalidArgument, "unknown AEAD"));
}

TEST_F(SessionTableTest, RefusesASessionWithoutSourceOrAgent) {
  const auto invalid = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(table_.Open(anna_, "", 1, std::nullopt), invalid);
  EXPECT_THAT(table_.Open(anna_, "home", 0, std::nullopt), invalid);
  EXPECT_THAT(table_.Open(anna_, std::string(4097, 'a'), 1, std::nullopt), invalid);
  EXPECT_OK(table_.Open(anna_, std::string(4096, 'a'), 1, std::nullopt));
  EXPECT_EQ(table_.counters().sessions, 1u);
}

}  // namespace
}  // namespace holdfast
