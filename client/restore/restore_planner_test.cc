#include "client/restore/restore_planner.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "client/restore/fake_snapshot.h"
#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A planner with nobody who writes: what it would have written stands in the queue.
class RestorePlannerTest : public TargetTest {
 protected:
  RestorePlannerTest() { snapshot_.Put("", EntryType::kDirectory, 0755); }
  void Begin(RestoreInput& input) {
    run_.emplace(options_, observer_);
    absl::StatusOr<std::unique_ptr<TargetDirectories>> opened = TargetDirectories::Open(*run_, "");
    ASSERT_OK(opened);
    directories_ = *std::move(opened);
    files_ = std::make_unique<TargetFiles>(*run_, *directories_);
    links_.emplace(*run_, *directories_, *files_, 1 << 20);
    writer_.emplace(*run_, *directories_, *files_, *links_, nullptr);
    planner_.emplace(PlannerParts{input, *run_, *directories_, *files_, *links_, window_, *writer_}, nullptr, 1 << 20);
  }
  // Names of the files whose content is wanted.
  std::vector<std::string> Wanted() {
    window_.DispatchAll();
    queue_.Close();
    std::vector<std::string> out;
    while (std::unique_ptr<FetchBatch> batch = queue_.Pop()) {
      for (const SliceTask& task : batch->without_chunk) out.push_back(task.name);
      for (const auto& chunk : batch->chunks) {
        for (const SliceTask& task : chunk->slices) out.push_back(task.name + (task.replace ? " (replace)" : ""));
      }
    }
    return out;
  }
  void TearDown() override {
    if (planner_.has_value()) planner_->Close();
    planner_.reset();
    links_.reset();
  }
  std::vector<std::string> Plan() {
    Begin(snapshot_);
    planner_->PlanTree({});
    std::vector<std::string> wanted = Wanted();
    planner_->Close();
    return wanted;
  }
  FakeSnapshot snapshot_;
  FetchQueue queue_{1000};
  FetchWindow window_{1 << 20, queue_, [] { return 0; }};
  std::optional<HardLinks> links_;
  std::optional<FileWriter> writer_;
  std::optional<RestorePlanner> planner_;
};

TEST_F(RestorePlannerTest, MakesDirectoriesAndLinksAndWantsTheContentOfFiles) {
  snapshot_.Put("d", EntryType::kDirectory, 0755);
  snapshot_.PutInBundle("d/f", "content");
  snapshot_.EndBundle();
  snapshot_.Put("d/l", EntryType::kSymlink, 0777).symlink_target = "f";
  snapshot_.Put("p", EntryType::kFifo, 0644);
  EXPECT_THAT(Plan(), ElementsAre("f"));
  EXPECT_EQ(std::filesystem::read_symlink(At("d/l")), "f");
  EXPECT_TRUE(S_ISFIFO(Stat("p").st_mode));
  EXPECT_FALSE(Exists("d/f"));
  EXPECT_EQ(run_->stats().others, 2u);
  EXPECT_EQ(observer_.entries_seen, 4u);
  EXPECT_THAT(observer_.problems, IsEmpty());
}

TEST_F(RestorePlannerTest, WhatIsThereDecides) {
  for (const char* name : {"changed", "same"}) snapshot_.PutInBundle(name, "content");
  snapshot_.EndBundle();
  Write("changed", "CONTENT");
  Write("same", "CONTENT");
  const Timestamp time = snapshot_.entries.at(EntryKey({}, "same")).second.mtime;
  const timespec times[2] = {{0, UTIME_OMIT}, {time.seconds, time.nanos}};
  ASSERT_EQ(::utimensat(AT_FDCWD, At("same").c_str(), times, 0), 0);
  options_.overwrite = OverwriteMode::kIfChanged;
  EXPECT_THAT(Plan(), ElementsAre("changed (replace)"));
  EXPECT_EQ(run_->stats().skipped, 1u);
}

TEST_F(RestorePlannerTest, RefusedNamesAreErrorsAndSkippedOnesAreNot) {
  for (const char* name : {"d", "f"}) snapshot_.PutInBundle(name, "content");
  snapshot_.EndBundle();
  Write("f", "mine");
  Write("d/x", "mine");
  EXPECT_THAT(Plan(), IsEmpty());
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget), ElementsAre("/d: create", "/f: create"));
  EXPECT_EQ(run_->stats().skipped, 0u);
}

TEST_F(RestorePlannerTest, AFirstNameThatIsLeftAloneSaysWhetherOthersMayBeLinkedToIt) {
  for (const char* name : {"a", "b"}) {
    Entry& e = snapshot_.PutInBundle(name, "content");
    e.inode = 9;
    e.link_count = 2;
  }
  snapshot_.EndBundle();
  Write("a", "mine");
  options_.overwrite = OverwriteMode::kSkip;
  EXPECT_THAT(Plan(), ElementsAre("b")) << "not linked to what was skipped";
  EXPECT_EQ(run_->stats().hard_links, 0u);
}

TEST_F(RestorePlannerTest, EntriesThatSayTheyAreNotWholeAreNamed) {
  snapshot_.Put("unread", EntryType::kFile, 0644).flags = kEntryReadFailed;
  snapshot_.Put("unread-dir", EntryType::kDirectory, 0755).flags = kEntryReadFailed;
  snapshot_.Put("changed", EntryType::kFile, 0644).flags = kEntryChangedWhileRead;
  snapshot_.Put("no-holes", EntryType::kFile, 0644).hole_chunk.emplace();
  snapshot_.Put("no-xattrs", EntryType::kFile, 0644).xattr_chunk.emplace();
  snapshot_.Put("no-xattrs-dir", EntryType::kDirectory, 0755).xattr_chunk.emplace();
  EXPECT_THAT(Plan(), ElementsAre("changed", "no-xattrs"));
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kRepository),
              ElementsAre("/no-holes: read side chunks of the entry", "/no-xattrs: read side chunks of the entry",
                          "/no-xattrs-dir: read extended attributes", "/unread: restore", "/unread-dir: restore"));
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kNote), ElementsAre("/changed: restore"));
  EXPECT_TRUE(S_ISDIR(Stat("no-xattrs-dir").st_mode));
}

TEST_F(RestorePlannerTest, ASnapshotThatCannotBeReadFurtherEndsTheRestore) {
  struct Broken : EntryIterator {
    bool Next() override { return false; }
    const Entry& entry() const override { return entry_; }
    const Components& directory() const override { return directory_; }
    absl::Status status() const override { return absl::UnavailableError("gone"); }
    const std::vector<KeyGap>& gaps() const override { return gaps_; }
    Entry entry_;
    Components directory_;
    std::vector<KeyGap> gaps_ = {{{}, absl::DataLossError("damaged")}};
  };
  struct Input : FakeSnapshot {
    std::unique_ptr<EntryIterator> ScanSubtree(const Components&) override { return std::make_unique<Broken>(); }
  } input;
  Begin(input);
  planner_->PlanTree({});
  EXPECT_THAT(run_->failure(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kRepository), ElementsAre("/: read directory entries"));
  planner_->Close();
  planner_.reset();  // before its input goes
}

TEST_F(RestorePlannerTest, TheFilterIsAskedBeforeAnythingIsMade) {
  for (const char* dir : {"drop", "maybe", "maybe/no", "maybe/yes"}) snapshot_.Put(dir, EntryType::kDirectory, 0755);
  for (const char* file : {"a.o", "drop/f", "maybe/yes/f"}) snapshot_.PutInBundle(file, "content");
  snapshot_.EndBundle();
  options_.filter = [](const Components& path, bool is_directory) {
    if (path[0] == "drop" || path[0] == "a.o") return FilterResult::kLeaveOut;
    return is_directory ? FilterResult::kDescend : FilterResult::kRestore;
  };
  EXPECT_THAT(Plan(), ElementsAre("f"));
  EXPECT_FALSE(Exists("drop"));
  EXPECT_FALSE(Exists("maybe/no"));
  EXPECT_TRUE(Exists("maybe/yes"));
  EXPECT_EQ(run_->stats().left_out, 2u) << "a directory once";
  EXPECT_EQ(run_->stats().directories, 2u);
}

TEST_F(RestorePlannerTest, HostileNamesAreErrorsOfTheTarget) {
  snapshot_.PutRaw({}, "..", EntryType::kFile, 0644);
  snapshot_.PutRaw({}, "a/b", EntryType::kDirectory, 0755);
  EXPECT_THAT(Plan(), IsEmpty());
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget), ElementsAre("/..: check name", "/a/b: check name"));
  EXPECT_EQ(run_->stats().directories, 0u);
}

TEST_F(RestorePlannerTest, WhatIsBelowADirectoryThatCannotBeIsNotReached) {
  snapshot_.Put("d", EntryType::kDirectory, 0755);
  for (const char* file : {"d/1", "d/2", "e"}) snapshot_.PutInBundle(file, "content");
  snapshot_.EndBundle();
  Write("d", "a file");
  EXPECT_THAT(Plan(), ElementsAre("e"));
  EXPECT_EQ(run_->stats().not_reached, 2u);
  EXPECT_EQ(observer_.Said(RestoreProblemKind::kTarget).size(), 1u);
}

TEST_F(RestorePlannerTest, OfSeveralNamesOnlyTheFirstAndThoseThatDifferAreWanted) {
  for (const char* name : {"a", "b", "differs"}) {
    Entry& e = snapshot_.PutInBundle(name, name[0] == 'd' ? "CONTENT" : "content");
    e.inode = 9;
    e.link_count = 3;
  }
  snapshot_.EndBundle();
  EXPECT_THAT(Plan(), ElementsAre("a", "differs"));
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kNote), ElementsAre("/differs: link"));
}

TEST_F(RestorePlannerTest, AFurtherNameWhosePlaceIsTakenIsRefused) {
  for (const char* name : {"a", "b"}) {
    Entry& e = snapshot_.PutInBundle(name, "content");
    e.inode = 9;
    e.link_count = 2;
  }
  snapshot_.EndBundle();
  Write("b", "mine");
  EXPECT_THAT(Plan(), ElementsAre("a"));
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget), ElementsAre("/b: create"));
  EXPECT_EQ(Read("b"), "mine");
}

TEST_F(RestorePlannerTest, FurtherNamesOfASpecialFileAreLinkedAtOnce) {
  for (const char* name : {"a", "b"}) {
    Entry& e = snapshot_.Put(name, EntryType::kFifo, 0644);
    e.inode = 9;
    e.link_count = 2;
  }
  EXPECT_THAT(Plan(), IsEmpty());
  EXPECT_EQ(Stat("a").st_ino, Stat("b").st_ino);
  EXPECT_EQ(run_->stats().others, 1u);
  EXPECT_EQ(run_->stats().hard_links, 1u);
}

TEST_F(RestorePlannerTest, OneEntryGoesIntoTheTarget) {
  Entry& e = snapshot_.Put("somewhere/l", EntryType::kSymlink, 0777);
  e.symlink_target = "x";
  Begin(snapshot_);
  planner_->PlanOne(e);
  EXPECT_EQ(std::filesystem::read_symlink(At("l")), "x");
}

}  // namespace
}  // namespace holdfast
