#include "client/backup/base_snapshot.h"

#include "absl/time/clock.h"
#include "client/rpc/test_server.h"
#include "client/upload/page_uploader.h"
#include "core/base/status_testing.h"
#include "core/io/posix.h"
#include "core/tree/file_content.h"
#include "core/tree/tree_builder.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Timestamp At(absl::Time t) { return {absl::ToUnixSeconds(t), 0}; }

SourceStat Stat() {
  SourceStat stat;
  stat.identity = {1, 77};
  stat.mode = 0644;
  stat.size = 1000;
  stat.mtime = {100, 1};
  stat.ctime = {200, 2};
  return stat;
}
Entry EntryOf(const SourceStat& stat) {
  Entry e;
  e.name = "f";
  e.type = stat.type;
  e.inode = stat.identity.inode;
  e.mode = stat.mode;
  e.size = stat.size;
  e.mtime = stat.mtime;
  e.ctime = stat.ctime;
  return e;
}

// --- Is it unchanged? ------------------------------------------------------------------------------------------------

TEST(IsUnchangedTest, TheSameStatIsUnchanged) { EXPECT_TRUE(IsUnchanged(EntryOf(Stat()), Stat())); }

TEST(IsUnchangedTest, EveryFieldCounts) {
  const Entry old = EntryOf(Stat());
  const std::vector<std::pair<const char*, std::function<void(SourceStat&)>>> changes = {
      {"type", [](SourceStat& s) { s.type = EntryType::kFifo; }},
      {"size", [](SourceStat& s) { s.size++; }},
      {"mtime", [](SourceStat& s) { s.mtime.nanos++; }},
      {"mtime, seconds", [](SourceStat& s) { s.mtime.seconds++; }},
      {"ctime", [](SourceStat& s) { s.ctime.nanos++; }},
      {"inode", [](SourceStat& s) { s.identity.inode++; }},
      {"mode", [](SourceStat& s) { s.mode = 0600; }},
  };
  for (const auto& [name, change] : changes) {
    SourceStat now = Stat();
    change(now);
    EXPECT_FALSE(IsUnchanged(old, now)) << name;
  }
}

TEST(IsUnchangedTest, WhatDoesNotSurviveARebootDoesNotCount) {
  SourceStat now = Stat();
  now.identity.device = 99;
  EXPECT_TRUE(IsUnchanged(EntryOf(Stat()), now));
}

TEST(IsUnchangedTest, WhatMayHaveChangedUnseenOrIsIncompleteIsReadAgain) {
  for (uint32_t flag : {kEntryRacy, kEntryChangedWhileRead, kEntryReadFailed}) {
    Entry old = EntryOf(Stat());
    old.flags = flag;
    EXPECT_FALSE(IsUnchanged(old, Stat())) << flag;
  }
  Entry old = EntryOf(Stat());
  old.flags = kEntryNotDescended;
  EXPECT_TRUE(IsUnchanged(old, Stat()));
}

TEST(IsSameObjectTest, LooksAtWhatChangesWithAnObjectThatIsNoFile) {
  SourceStat stat = Stat();
  stat.type = EntryType::kDirectory;
  const Entry old = EntryOf(stat);
  EXPECT_TRUE(IsSameObject(old, stat));
  SourceStat now = stat;
  now.mtime.seconds++;  // never without the other time
  EXPECT_TRUE(IsSameObject(old, now));
  now = stat;
  now.ctime.nanos++;
  EXPECT_FALSE(IsSameObject(old, now));
  now = stat;
  now.identity.inode++;
  EXPECT_FALSE(IsSameObject(old, now));
  now = stat;
  now.type = EntryType::kSymlink;
  EXPECT_FALSE(IsSameObject(old, now));
  for (uint32_t flag : {kEntryRacy, kEntryReadFailed}) {
    Entry flagged = old;
    flagged.flags = flag;
    EXPECT_FALSE(IsSameObject(flagged, stat)) << flag;
  }
}

TEST(MayChangeUnseenTest, TimesNearTheStartMay) {
  const absl::Time start = absl::Now();
  SourceStat stat = Stat();
  EXPECT_FALSE(MayChangeUnseen(stat, start)) << "long ago";
  stat.mtime = At(start);
  EXPECT_TRUE(MayChangeUnseen(stat, start)) << "data just now";
  stat.mtime = At(start - absl::Seconds(10));
  EXPECT_FALSE(MayChangeUnseen(stat, start));
  stat.mtime = At(start + absl::Hours(1));
  EXPECT_FALSE(MayChangeUnseen(stat, start)) << "a write would set it to now";
  stat.mtime = {100, 1};
  stat.ctime = At(start);
  EXPECT_TRUE(MayChangeUnseen(stat, start)) << "the inode just now";
  stat.ctime = At(start + absl::Hours(1));
  EXPECT_TRUE(MayChangeUnseen(stat, start)) << "nobody can set this time";
  stat.ctime = At(start - absl::Seconds(10));
  EXPECT_FALSE(MayChangeUnseen(stat, start));
}

// --- The snapshot ----------------------------------------------------------------------------------------------------

class BaseSnapshotTest : public testing::Test {
 protected:
  BaseSnapshotTest() {
    manifest_keys_.repository = TestServer::Id();
    manifest_keys_.agent = 1;
  }
  static Entry File(const std::string& name) {
    Entry e = EntryOf(Stat());
    e.name = name;
    e.size = 0;
    return e;
  }
  // Commits a tree of these entries, in key order.
  ManifestId Commit(const std::vector<std::pair<Components, Entry>>& entries, pb::ManifestSealed sealed = {},
                    uint32_t epoch = 1) {
    v1::OpenSessionRequest open;
    open.set_repository(TestServer::kRepository);
    open.set_source("s");
    open.set_agent(1);
    auto session = server_.client().OpenSession(open);
    EXPECT_OK(session);
    TreeRoot root;
    {
      auto transport = server_.client().NewUploadTransport(TestServer::kRepository, *session);
      EXPECT_OK(transport);
      PageUploader pages(**transport, keys_, counters_, [] { return absl::OkStatus(); });
      TreeBuilder tree(pages, Key256());
      Entry top;
      top.type = EntryType::kDirectory;
      EXPECT_OK(tree.Add({}, top));
      for (const auto& [directory, entry] : entries) EXPECT_OK(tree.Add(directory, entry));
      auto finished = tree.Finish();
      EXPECT_OK(finished);
      root = *finished;
      EXPECT_OK(pages.Flush());
    }
    pb::ManifestCore core;
    core.set_repository_id(std::string(TestServer::Id().view()));
    core.set_source("s");
    core.set_agent(1);
    core.set_sequence(session->head_sequence() + 1);
    core.set_previous_manifest(session->head());
    core.set_root_id(std::string(root.ref.id.view()));
    core.set_root_level(root.level);
    core.set_key_epoch(epoch);
    core.set_files(root.sums.files);
    core.set_directories(root.sums.directories);
    core.set_others(root.sums.entries - root.sums.files - root.sums.directories);
    core.set_bytes(root.sums.bytes);
    auto bytes = SealManifest(core, sealed, root.ref, manifest_keys_, PosixIo().random);
    EXPECT_OK(bytes);
    v1::CommitSnapshotRequest commit;
    commit.set_repository(TestServer::kRepository);
    commit.set_session(session->session());
    commit.set_manifest(*bytes);
    EXPECT_OK(server_.client().CommitSnapshot(commit, nullptr));
    EXPECT_OK(server_.client().CloseSession(TestServer::kRepository, session->session()));
    return ManifestIdOf(*bytes);
  }
  absl::StatusOr<std::unique_ptr<BaseSnapshot>> Open(const ManifestId& id) {
    notes_.clear();
    return BaseSnapshot::Open(server_.client(), TestServer::kRepository, id, manifest_keys_, keys_,
                              [&](std::string_view note) { notes_.emplace_back(note); });
  }
  std::unique_ptr<BaseSnapshot> MustOpen(const ManifestId& id) {
    auto base = Open(id);
    EXPECT_OK(base);
    EXPECT_NE(*base, nullptr);
    EXPECT_THAT(notes_, IsEmpty());
    return *std::move(base);
  }
  static std::string NameOf(const absl::StatusOr<const Entry*>& found) {
    if (!found.ok()) return found.status().ToString();
    return *found == nullptr ? "none" : (*found)->name;
  }

  TestServer server_;
  const SealingKeys keys_ = TestServer::Keys();
  ManifestKeys manifest_keys_;
  UploadCounters counters_;
  std::vector<std::string> notes_;
};

TEST_F(BaseSnapshotTest, FindsEntriesByAscendingKeys) {
  auto base = MustOpen(Commit({{{}, File("b")}, {{}, File("d")}, {{"dir"}, File("a")}, {{"dir"}, File("z")}}));
  EXPECT_EQ(base->core().files(), 4u);
  EXPECT_EQ(NameOf(base->Find(EntryKey({}, ""))), "") << "the root";
  EXPECT_EQ(NameOf(base->Find(EntryKey({}, "a"))), "none") << "before the first";
  EXPECT_EQ(NameOf(base->Find(EntryKey({}, "b"))), "b");
  EXPECT_EQ(NameOf(base->Find(EntryKey({}, "c"))), "none") << "between two";
  EXPECT_EQ(NameOf(base->Find(EntryKey({}, "d"))), "d");
  EXPECT_EQ(NameOf(base->Find(EntryKey({"dir"}, "z"))), "z") << "with one left out";
  EXPECT_EQ(NameOf(base->Find(EntryKey({"dir"}, "zz"))), "none") << "behind the last";
  EXPECT_EQ(base->gaps(), 0u);
}

TEST_F(BaseSnapshotTest, FindsTheSameEntryAgain) {
  auto base = MustOpen(Commit({{{}, File("b")}}));
  EXPECT_EQ(NameOf(base->Find(EntryKey({}, "b"))), "b");
  EXPECT_EQ(NameOf(base->Find(EntryKey({}, "b"))), "b");
}

TEST_F(BaseSnapshotTest, AServerThatGoesAwayIsNotAnEmptySnapshot) {
  const ManifestId id = Commit({{{}, File("b")}});
  server_.client().SetHook(
      [](std::string_view call) { return call == "Read" ? absl::UnavailableError("gone") : absl::OkStatus(); });
  auto base = Open(id);
  ASSERT_OK(base);
  EXPECT_THAT((*base)->Find(EntryKey({}, "b")), StatusIs(absl::StatusCode::kUnavailable));
  server_.client().SetHook(
      [](std::string_view call) { return call == "GetManifest" ? absl::UnavailableError("gone") : absl::OkStatus(); });
  EXPECT_THAT(Open(id), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(BaseSnapshotTest, ASnapshotThatIsGoneIsNoneWithoutANote) {
  auto base = Open(ManifestId());
  ASSERT_OK(base);
  EXPECT_EQ(*base, nullptr);
  EXPECT_THAT(notes_, IsEmpty());
}

TEST_F(BaseSnapshotTest, SaysWhyItCannotBeUsed) {
  const ManifestId id = Commit({{{}, File("b")}});
  auto expect_none = [&](std::string_view note) {
    auto base = Open(id);
    ASSERT_OK(base);
    EXPECT_EQ(*base, nullptr);
    EXPECT_THAT(notes_, ElementsAre(HasSubstr(std::string(note))));
  };
  manifest_keys_.agent_mac_key.MutableBytes()[0] ^= 1;
  expect_none("the previous snapshot cannot be used");
  manifest_keys_.agent_mac_key.MutableBytes()[0] ^= 1;
  manifest_keys_.agent = 2;
  expect_none("made by another agent");
  manifest_keys_.agent = 1;
  server_.client().SetHook(
      [](std::string_view call) { return call == "GetManifest" ? absl::DataLossError("damaged") : absl::OkStatus(); });
  expect_none("the previous snapshot cannot be used: damaged");
}

TEST_F(BaseSnapshotTest, AnotherKeyEpochIsNoBase) {
  auto base = Open(Commit({{{}, File("b")}}, {}, /*epoch=*/2));
  ASSERT_OK(base);
  EXPECT_EQ(*base, nullptr);
}

TEST_F(BaseSnapshotTest, WhatIsInASparseBundleIsNotReused) {
  pb::ManifestSealed sealed;
  sealed.add_sparse_bundles(std::string(32, 's'));
  sealed.add_sparse_bundles("not an id");
  auto base = MustOpen(Commit({{{}, File("b")}}, sealed));
  Entry old = EntryOf(Stat());
  EXPECT_TRUE(base->MayReuse(old, Stat()));
  old.content.kind = Content::Kind::kSlice;
  old.content.ref.id.bytes.fill('x');
  EXPECT_TRUE(base->MayReuse(old, Stat()));
  old.content.ref.id.bytes.fill('s');
  EXPECT_FALSE(base->MayReuse(old, Stat()));
  old.content.kind = Content::Kind::kChunks;
  EXPECT_TRUE(base->MayReuse(old, Stat())) << "not a bundle";
  SourceStat changed = Stat();
  changed.size++;
  EXPECT_FALSE(base->MayReuse(old, changed));
}

TEST_F(BaseSnapshotTest, GivesThePiecesOfALargeFileAroundItsLargeHoles) {
  auto base = MustOpen(Commit({{{}, File("b")}}));
  Entry old = EntryOf(Stat());
  EXPECT_THAT(base->PreviousPieces(old).pieces, IsEmpty());
  old.content.kind = Content::Kind::kChunks;
  for (int i = 0; i < 3; ++i) {
    ChunkPiece piece;
    piece.ref.id.bytes.fill(static_cast<uint8_t>(i));
    piece.length = 1000;
    old.content.chunks.push_back(piece);
  }
  constexpr uint64_t kHole = 2 * kLargeHoleBytes;
  old.holes = {{0, kHole}, {kHole + 100, 50}, {kHole + 2000, kHole}};
  old.size = 2 * kHole + 3000;
  const PreviousVersion previous = base->PreviousPieces(old);
  ASSERT_EQ(previous.pieces.size(), 3u);
  EXPECT_EQ(previous.pieces[0].offset, kHole);
  EXPECT_FALSE(previous.pieces[0].last_of_run);
  EXPECT_EQ(previous.pieces[1].offset, kHole + 1000);
  EXPECT_TRUE(previous.pieces[1].last_of_run) << "a large hole follows";
  EXPECT_EQ(previous.pieces[2].offset, 2 * kHole + 2000);
  EXPECT_TRUE(previous.pieces[2].last_of_run) << "the end";
  EXPECT_EQ(previous.refs[2].id, old.content.chunks[2].ref.id);
  old.type = EntryType::kFifo;
  EXPECT_THAT(base->PreviousPieces(old).pieces, IsEmpty());
}

TEST_F(BaseSnapshotTest, HintsThatCannotBeReadAreNone) {
  auto base = MustOpen(Commit({{{}, File("b")}}));
  Entry old = EntryOf(Stat());
  old.content.kind = Content::Kind::kList;
  old.content.list_levels = 1;
  EXPECT_THAT(base->PreviousPieces(old).pieces, IsEmpty()) << "the list is not there";
  old.content.kind = Content::Kind::kChunks;
  old.content.chunks.resize(1);
  old.hole_chunk.emplace();
  EXPECT_THAT(base->PreviousPieces(old).pieces, IsEmpty()) << "the holes are not there";
  old.hole_chunk.reset();
  old.content.chunks[0].length = old.size = 1000;
  EXPECT_THAT(base->PreviousPieces(old).pieces, SizeIs(1));
  old.holes = {{2000, kLargeHoleBytes}};
  EXPECT_THAT(base->PreviousPieces(old).pieces, IsEmpty()) << "the holes contradict the size";
}

}  // namespace
}  // namespace holdfast
