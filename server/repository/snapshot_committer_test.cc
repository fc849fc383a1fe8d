#include "server/repository/snapshot_committer.h"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_testing.h"
#include "server/repository/test_engine.h"

namespace holdfast {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kAborted = absl::StatusCode::kAborted;
constexpr absl::StatusCode kUnavailable = absl::StatusCode::kUnavailable;
constexpr absl::StatusCode kPrecondition = absl::StatusCode::kFailedPrecondition;

class SnapshotCommitterTest : public testing::Test {
 protected:
  SnapshotCommitterTest() {
    engine_.OpenIndex();
    engine_.OpenLog();
    committer_.emplace(engine_.key.repository,
                       SnapshotCommitter::Parts{engine_.io().clock, sessions_,
                                                [this] {
                                                  Step("store-all");
                                                  return store_all_();
                                                },
                                                engine_.index, engine_.manifests, *engine_.log, engine_.catalog,
                                                engine_.warnings, [this](std::string_view step) { Step(step); }});
  }

  // What was stored when the step was reached.
  void Step(std::string_view step) {
    steps_.push_back(absl::StrCat(std::string(step), ": ", engine_.Count("packs/"), " packs, ",
                                  engine_.Count("snapshots/"), " manifests, ", slots(), " slots"));
    if (step == "manifest-put") manifest_put_();
  }
  size_t slots() { return engine_.Count("log/"); }

  SessionId Open(std::string_view source = "home", uint32_t agent = 1) {
    auto opened = sessions_.Open(anna_, source, agent, std::nullopt);
    EXPECT_OK(opened);
    EXPECT_EQ(opened->unsettled, nullptr);
    return opened->id;
  }
  // They wait for store_all.
  void Upload(const SessionId& id, const std::vector<TestChunk>& chunks) {
    std::vector<IncomingRecord> records;
    for (const TestChunk& c : chunks) records.push_back({c.header, c.header_bytes, {c.body}});
    ASSERT_OK(sessions_.Accept(anna_, id, records, std::vector<SessionTable::Copies>(records.size())));
    ASSERT_OK(sessions_.NoteUploaded(anna_, id, records));
    for (const TestChunk& c : chunks) {
      (c.header.type == ChunkType::kTree ? waiting_tree_ : waiting_data_).push_back(c);
    }
  }
  absl::Status StoreWaiting() {
    for (std::vector<TestChunk>* waiting : {&waiting_data_, &waiting_tree_}) {
      if (!waiting->empty()) engine_.StoreAndIndex(*waiting);
      waiting->clear();
    }
    return absl::OkStatus();
  }
  absl::StatusOr<CommitResult> Commit(const SessionId& id, std::string_view manifest) {
    missing_.clear();
    return committer_->Commit(anna_, id, manifest, &missing_);
  }
  // A first snapshot of "home".
  ManifestId CommitFirst(const SessionId& id) {
    Upload(id, {root_});
    const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
    EXPECT_OK(Commit(id, manifest));
    return ManifestIdOf(manifest);
  }

  const Principal anna_{"anna"};
  const TestChunk root_ = TestPage(1, {});
  TestEngine engine_;
  SessionTable sessions_{engine_.io(), {}};
  std::function<absl::Status()> store_all_ = [this] { return StoreWaiting(); };
  std::function<void()> manifest_put_ = [] {};
  std::optional<SnapshotCommitter> committer_;
  std::vector<TestChunk> waiting_data_, waiting_tree_;
  std::vector<std::string> steps_;
  std::vector<ChunkId> missing_;
};

// --- The order of writes --------------------------------------------------------------------------------------------

TEST_F(SnapshotCommitterTest, StoresTheChunksThenTheManifestThenTheSlot) {
  const SessionId id = Open();
  const TestChunk data = TestData(1), page = TestPage(2, {data});
  Upload(id, {data, page});
  const std::string manifest = engine_.Manifest("home", 1, nullptr, page.id());
  ASSERT_OK_AND_ASSIGN(CommitResult result, Commit(id, manifest));
  EXPECT_THAT(steps_, ElementsAre("store-all: 0 packs, 0 manifests, 1 slots",       // W2
                                  "manifest-put: 2 packs, 1 manifests, 1 slots",    // W3
                                  "log-put-before: 2 packs, 1 manifests, 1 slots",  //
                                  "log-put-after: 2 packs, 1 manifests, 2 slots"));
  EXPECT_EQ(result.id, ManifestIdOf(manifest));
  EXPECT_THAT(engine_.manifests.Get(result.id), IsOkAndHolds(manifest));
  auto found = engine_.catalog.Find(result.id);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->source, "home");
  EXPECT_EQ(found->sequence, 1u);
  EXPECT_EQ(found->agent, 1u);
  EXPECT_EQ(found->session, HexEncode(id.view()));
  EXPECT_EQ(found->core, ParseManifest(manifest)->manifest.core());
  EXPECT_EQ(found->server_time, result.server_time);
}

TEST_F(SnapshotCommitterTest, PutsNothingWhenTheChunksCannotBeStored) {
  const SessionId id = Open();
  Upload(id, {root_});
  store_all_ = [] { return absl::ResourceExhaustedError("disk full"); };
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  EXPECT_THAT(Commit(id, manifest), StatusIs(absl::StatusCode::kResourceExhausted, "disk full"));
  EXPECT_EQ(engine_.Count("snapshots/"), 0u);
  EXPECT_EQ(slots(), 1u);
  store_all_ = [this] { return StoreWaiting(); };
  EXPECT_OK(Commit(id, manifest));
}

TEST_F(SnapshotCommitterTest, PutsNothingWhenChunksOfTheSessionWereLostMeanwhile) {
  const SessionId id = Open();
  Upload(id, {root_});
  store_all_ = [this] {
    sessions_.FailAll(absl::InternalError("bad disk"));
    return StoreWaiting();
  };
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 1, nullptr, root_.id())),
              StatusIs(absl::StatusCode::kInternal, "bad disk"));
  EXPECT_EQ(engine_.Count("snapshots/"), 0u);
  EXPECT_EQ(slots(), 1u);
}

TEST_F(SnapshotCommitterTest, WritesNoSlotWhenTheManifestCannotBePut) {
  const SessionId id = Open();
  Upload(id, {root_});
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  engine_.Outage(BlobOperation::kPut, "snapshots/", 1);
  EXPECT_THAT(Commit(id, manifest), StatusIs(kUnavailable, "storing the manifest"));
  EXPECT_EQ(slots(), 1u);
  EXPECT_FALSE(engine_.catalog.Find(ManifestIdOf(manifest)).has_value());
  EXPECT_FALSE(engine_.IsMarked(root_));
  EXPECT_OK(Commit(id, manifest));
}

TEST_F(SnapshotCommitterTest, CommitsNothingWhenTheSlotCertainlyIsNotWritten) {
  const SessionId id = Open();
  Upload(id, {root_});
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  engine_.store.AddFault({.operation = BlobOperation::kPut, .fault = BlobFault::kNoSpace, .prefix = "log/"});
  EXPECT_THAT(Commit(id, manifest), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(slots(), 1u);
  EXPECT_FALSE(engine_.catalog.Find(ManifestIdOf(manifest)).has_value());
  EXPECT_FALSE(engine_.IsMarked(root_));
  ASSERT_OK_AND_ASSIGN(auto turn, sessions_.BeginCommit(anna_, id, [] { return false; }));
  EXPECT_FALSE(turn->unsettled().has_value());
}

// --- Outcomes that are not known ------------------------------------------------------------------------------------

TEST_F(SnapshotCommitterTest, SettlesACommitOfUnknownOutcomeWhenItIsAskedForAgain) {
  for (const BlobFault fault : {BlobFault::kFailBefore, BlobFault::kFailAfter}) {
    SCOPED_TRACE(static_cast<int>(fault));
    const size_t before = slots();
    const std::string source = absl::StrCat("source ", before);
    const SessionId id = Open(source);
    Upload(id, {root_});
    const std::string manifest = engine_.Manifest(source, 1, nullptr, root_.id());
    engine_.store.AddFault({.operation = BlobOperation::kPut, .fault = fault, .prefix = "log/", .count = 1'000'000});
    engine_.Outage(BlobOperation::kGet, "log/");
    EXPECT_THAT(Commit(id, manifest), StatusIs(kUnavailable));
    EXPECT_THAT(Commit(id, manifest), StatusIs(kUnavailable, "settling an earlier commit"));
    engine_.store.ClearFaults();
    ASSERT_OK_AND_ASSIGN(CommitResult result, Commit(id, manifest));
    EXPECT_EQ(engine_.catalog.Find(result.id)->server_time, result.server_time);
    EXPECT_EQ(slots(), before + 1);
    sessions_.Close(anna_, id);
    EXPECT_THAT(sessions_.Check(anna_, id), StatusIs(kAborted, "is gone")) << "it is still unsettled";
  }
}

TEST_F(SnapshotCommitterTest, SettlesACommitOfUnknownOutcomeBeforeAnotherOfTheSource) {
  const SessionId id = Open();
  Upload(id, {root_});
  const std::string first = engine_.Manifest("home", 1, nullptr, root_.id());
  const std::string second = engine_.Manifest("home", 1, nullptr, root_.id());
  engine_.Outage(BlobOperation::kPut, "log/");
  ASSERT_THAT(Commit(id, first), StatusIs(kUnavailable));
  engine_.store.ClearFaults();
  EXPECT_THAT(Commit(id, second), StatusIs(kAborted, "another snapshot of home"));
  EXPECT_TRUE(engine_.catalog.Find(ManifestIdOf(first)).has_value());
  EXPECT_EQ(slots(), 2u);
}

TEST_F(SnapshotCommitterTest, SettlesTheCommitThatANewSessionInherits) {
  const SessionId id = Open();
  Upload(id, {root_});
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  engine_.Outage(BlobOperation::kPut, "log/");
  ASSERT_THAT(Commit(id, manifest), StatusIs(kUnavailable));
  sessions_.Close(anna_, id);
  ASSERT_OK_AND_ASSIGN(auto opened, sessions_.Open(anna_, "home", 1, std::nullopt));
  ASSERT_NE(opened.unsettled, nullptr);
  EXPECT_THAT(committer_->Settle(*opened.unsettled), StatusIs(kUnavailable, "settling an earlier commit"));
  EXPECT_TRUE(opened.unsettled->unsettled().has_value());
  engine_.store.ClearFaults();
  EXPECT_OK(committer_->Settle(*opened.unsettled));
  EXPECT_FALSE(opened.unsettled->unsettled().has_value());
  EXPECT_EQ(engine_.catalog.Head("home")->id, ManifestIdOf(manifest));
  EXPECT_EQ(slots(), 2u);
  EXPECT_OK(committer_->Settle(*opened.unsettled));
  EXPECT_EQ(slots(), 2u) << "nothing was left to settle";
}

TEST_F(SnapshotCommitterTest, WritesNoSecondSlotForACommitThatTheLogHasSeenMeanwhile) {
  const SessionId id = Open();
  Upload(id, {root_});
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  engine_.store.AddFault({.operation = BlobOperation::kPut, .fault = BlobFault::kFailAfter, .prefix = "log/"});
  engine_.Outage(BlobOperation::kGet, "log/");
  ASSERT_THAT(Commit(id, manifest), StatusIs(kUnavailable));
  engine_.store.ClearFaults();
  ASSERT_OK(engine_.log->Append(UndeletedRecord{}));  // settles what is pending, too
  ASSERT_TRUE(engine_.catalog.Find(ManifestIdOf(manifest)).has_value());
  const size_t before = slots();
  sessions_.Close(anna_, id);
  ASSERT_OK_AND_ASSIGN(auto opened, sessions_.Open(anna_, "home", 1, std::nullopt));
  EXPECT_OK(committer_->Settle(*opened.unsettled));
  EXPECT_EQ(slots(), before);
}

TEST_F(SnapshotCommitterTest, TakesNoRecordAboutASnapshotForItsCommit) {
  const SessionId id = Open();
  Upload(id, {root_});
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  ASSERT_OK(engine_.log->Append(UndeletedRecord{ManifestIdOf(manifest), "admin"}));
  ASSERT_TRUE(engine_.catalog.Find(ManifestIdOf(manifest)).has_value());
  engine_.Outage(BlobOperation::kPut, "log/");
  EXPECT_THAT(Commit(id, manifest), StatusIs(kUnavailable));
  engine_.store.ClearFaults();
  sessions_.Close(anna_, id);
  ASSERT_OK_AND_ASSIGN(auto opened, sessions_.Open(anna_, "home", 1, std::nullopt));
  ASSERT_NE(opened.unsettled, nullptr);
  EXPECT_OK(committer_->Settle(*opened.unsettled));
  ASSERT_TRUE(engine_.catalog.Head("home").has_value());
  EXPECT_EQ(engine_.catalog.Head("home")->id, ManifestIdOf(manifest));
}

// --- What is committed ----------------------------------------------------------------------------------------------

TEST_F(SnapshotCommitterTest, AnswersTheSameWhenItIsAskedAgain) {
  const SessionId id = Open();
  Upload(id, {root_});
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  ASSERT_OK_AND_ASSIGN(CommitResult first, Commit(id, manifest));
  steps_.clear();
  engine_.world.Advance(absl::Hours(1));
  for (const SessionId& asks : {id, SessionId()}) {
    ASSERT_OK_AND_ASSIGN(CommitResult again, Commit(asks, manifest));
    EXPECT_EQ(again.id, first.id);
    EXPECT_EQ(again.server_time, first.server_time);
  }
  EXPECT_EQ(slots(), 2u);
  EXPECT_THAT(steps_, IsEmpty());
}

TEST_F(SnapshotCommitterTest, DoesNotTakeADeletedSnapshotForCommitted) {
  const SessionId id = Open();
  Upload(id, {root_});
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  ASSERT_OK_AND_ASSIGN(CommitResult first, Commit(id, manifest));
  DeletedRecord deleted;
  deleted.manifest = first.id;
  ASSERT_OK(engine_.log->Append(deleted));
  EXPECT_THAT(Commit(id, manifest), StatusIs(kAborted));
}

TEST_F(SnapshotCommitterTest, RefusesAManifestOfAnotherRepositorySourceOrAgent) {
  const SessionId id = Open("home", 1);
  Upload(id, {root_});
  auto core = engine_.Core("home", 1, nullptr, root_.id());
  core.set_repository_id(std::string(16, 'x'));
  const auto refused = StatusIs(kInvalid, "another repository, source or agent");
  EXPECT_THAT(Commit(id, engine_.Seal(core)), refused);
  EXPECT_THAT(Commit(id, engine_.Manifest("mail", 1, nullptr, root_.id())), refused);
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 1, nullptr, root_.id(), /*agent=*/2)), refused);
  EXPECT_THAT(Commit(id, "nonsense"), StatusIs(kInvalid));
  EXPECT_THAT(steps_, IsEmpty());
  EXPECT_OK(Commit(id, engine_.Manifest("home", 1, nullptr, root_.id())));
}

TEST_F(SnapshotCommitterTest, RefusesAManifestWhoseCoreIsTooLarge) {
  const SessionId id = Open();
  Upload(id, {root_});
  // With a field of the future, of 8,192 bytes.
  pb::ManifestCore core;
  ASSERT_TRUE(core.ParseFromString(engine_.Core("home", 1, nullptr, root_.id()).SerializeAsString() +
                                   "\xa2\x06\x80\x40" + std::string(8192, 'x')));
  EXPECT_THAT(Commit(id, engine_.Seal(core)), StatusIs(kInvalid, "core is too large"));
}

TEST_F(SnapshotCommitterTest, CommitsOnlyTheNextSnapshotOfTheSource) {
  const SessionId id = Open();
  const auto aborted = StatusIs(kAborted, "another snapshot of home was committed meanwhile");
  const ManifestId unknown{};
  ManifestId other;
  other.bytes.fill(9);
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 2, nullptr, root_.id())), aborted);
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 1, &unknown, root_.id())), aborted);
  EXPECT_THAT(steps_, IsEmpty()) << "before anything is stored";
  const ManifestId first = CommitFirst(id);
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 1, nullptr, root_.id())), aborted);
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 2, nullptr, root_.id())), aborted);
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 2, &other, root_.id())), aborted);
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 1, &first, root_.id())), aborted);
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 3, &first, root_.id())), aborted);
  EXPECT_OK(Commit(id, engine_.Manifest("home", 2, &first, root_.id())));
}

TEST_F(SnapshotCommitterTest, NamesARootThatTheSessionDoesNotKnow) {
  const SessionId id = Open();
  engine_.StoreAndIndex({root_});  // by somebody else
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 1, nullptr, root_.id())), StatusIs(kPrecondition));
  EXPECT_THAT(missing_, ElementsAre(root_.id()));
  EXPECT_EQ(engine_.Count("snapshots/"), 0u);
  EXPECT_EQ(slots(), 1u);
}

TEST_F(SnapshotCommitterTest, NamesNewPagesThatAreNotStored) {
  const SessionId id = Open();
  const TestChunk low = TestPage(2, {}), high = TestPage(3, {low});
  Upload(id, {low, high});
  std::erase_if(waiting_tree_, [&](const TestChunk& c) { return c.id() == low.id(); });
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 1, nullptr, high.id())), StatusIs(kPrecondition, "not stored"));
  EXPECT_THAT(missing_, ElementsAre(low.id()));
  EXPECT_EQ(engine_.Count("snapshots/"), 0u);
  EXPECT_EQ(slots(), 1u);
}

TEST_F(SnapshotCommitterTest, NamesAPromisedRootThatIsGone) {
  const SessionId id = Open();
  const ChunkId ids[] = {root_.id()};
  ChunkLocation copy;
  copy.type = ChunkType::kTree;
  copy.uploader = 1;
  copy.committed = true;
  const SessionTable::Copies copies(1, copy);
  const std::optional<uint32_t> pending;
  ASSERT_OK(sessions_.Promise(anna_, id, ids, {&copies, 1}, {&pending, 1}));
  EXPECT_THAT(Commit(id, engine_.Manifest("home", 1, nullptr, root_.id())), StatusIs(kPrecondition));
  EXPECT_THAT(missing_, ElementsAre(root_.id()));
}

TEST_F(SnapshotCommitterTest, PutsNothingWhileTheIndexIsNotComplete) {
  const SessionId id = Open();
  Upload(id, {root_});
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  engine_.index.Note(absl::DataLossError("broken")).IgnoreError();
  engine_.Outage(BlobOperation::kList, "packs/");
  store_all_ = [this] {
    EXPECT_THAT(engine_.index.RenewIfBroken(), StatusIs(kUnavailable));
    return absl::OkStatus();
  };
  EXPECT_THAT(Commit(id, manifest), StatusIs(kUnavailable));
  EXPECT_EQ(engine_.Count("snapshots/"), 0u);
}

// --- Marks ----------------------------------------------------------------------------------------------------------

TEST_F(SnapshotCommitterTest, MarksItsPagesAndNoOthers) {
  const SessionId id = Open();
  const TestChunk low = TestPage(2, {}), middle = TestPage(3, {low}), high = TestPage(4, {middle});
  const TestChunk unrelated = TestPage(5, {});
  Upload(id, {low, middle, high, unrelated});
  ASSERT_OK(Commit(id, engine_.Manifest("home", 1, nullptr, high.id())));
  for (const TestChunk& page : {low, middle, high}) EXPECT_TRUE(engine_.IsMarked(page));
  EXPECT_FALSE(engine_.IsMarked(unrelated));
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(SnapshotCommitterTest, LeavesNoMarkAboveAnUnmarkedPageWhereverItsWritesEnd) {
  const TestChunk data = TestData(1);
  const std::vector<TestChunk> tree = TestTree(10, 5000, data);  // of more than one batch
  int writes = -1;
  while ((writes < 0 || !engine_.IsMarked(tree.back())) && !HasFailure()) {
    SCOPED_TRACE(++writes);
    const std::string source = absl::StrCat("source ", writes);
    const SessionId id = Open(source);
    Upload(id, {data});
    Upload(id, tree);
    store_all_ = [&] {
      absl::Status stored = StoreWaiting();
      EXPECT_OK((*engine_.index.Get())->UnmarkCommitted(IdsOf(tree)));
      engine_.kv.writes_left = writes;
      return stored;
    };
    EXPECT_OK(Commit(id, engine_.Manifest(source, 1, nullptr, tree.back().id())));
    engine_.kv.writes_left = -1;
    EXPECT_THAT(engine_.UnmarkedBelowMarked(tree), IsEmpty());
  }
  EXPECT_GE(writes, 2);
}

TEST_F(SnapshotCommitterTest, HoldsNoIndexWhileItWritesAndMarksNothingInANewOne) {
  const SessionId id = Open();
  const TestChunk data = TestData(1), page = TestPage(2, {data});
  Upload(id, {data, page});
  const PackSummary pack = engine_.StoreAndIndex({data});
  waiting_data_.clear();
  manifest_put_ = [&] {
    ASSERT_OK(engine_.blobs.Delete(PackBlobName(pack.kind, pack.id)));
    engine_.index.Note(absl::DataLossError("broken")).IgnoreError();
    EXPECT_OK(engine_.index.RenewIfBroken());
  };
  const std::string manifest = engine_.Manifest("home", 1, nullptr, page.id());
  EXPECT_OK(Commit(id, manifest));
  ASSERT_EQ(engine_.kv.destroyed, 1);
  EXPECT_FALSE(engine_.IsMarked(page)) << "what it lacks would never be sent again";
  EXPECT_THAT(engine_.warnings.All(), Contains("marking pages: the index was made anew meanwhile"));
}

TEST_F(SnapshotCommitterTest, IsCommittedAlsoWhenMarkingFails) {
  const SessionId id = Open();
  Upload(id, {root_});
  store_all_ = [this] {
    absl::Status stored = StoreWaiting();
    engine_.kv.content->FailWrites(absl::UnavailableError("bad disk"));
    return stored;
  };
  const std::string manifest = engine_.Manifest("home", 1, nullptr, root_.id());
  EXPECT_OK(Commit(id, manifest));
  EXPECT_TRUE(engine_.catalog.Find(ManifestIdOf(manifest)).has_value());
  EXPECT_FALSE(engine_.IsMarked(root_));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("marking pages: ")));
}

}  // namespace
}  // namespace holdfast
