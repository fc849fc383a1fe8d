#include "client/restore/content_planner.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/restore/fake_snapshot.h"
#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// With nobody who writes: what is wanted stands in the queue.
class ContentPlannerTest : public TargetTest {
 protected:
  void SetUp() override {
    Open();
    links_.emplace(*run_, *directories_, *files_, 1 << 20);
    writer_.emplace(*run_, *directories_, *files_, *links_, nullptr);
    planner_.emplace(snapshot_, *run_, window_, *writer_, pinned_);
  }
  void TearDown() override {
    Wanted();  // what holds directories
    pinned_.Release();
    links_->Close();
  }
  void Plan(const Entry& entry, std::optional<LinkKey> link = std::nullopt) {
    planner_->Plan(root_, entry, Mine(entry.mode), false, link);
  }
  // Everything wanted so far.
  std::vector<std::unique_ptr<FetchBatch>> Wanted() {
    window_.DispatchAll();
    queue_.Close();
    std::vector<std::unique_ptr<FetchBatch>> out;
    while (std::unique_ptr<FetchBatch> batch = queue_.Pop()) out.push_back(std::move(batch));
    return out;
  }
  void ExpectDamage(const Entry& entry, const std::string& operation, const std::string& why) {
    observer_.problems.clear();
    Plan(entry);
    // Pieces that were wanted before it came to light.
    for (const auto& batch : Wanted()) {
      EXPECT_THAT(batch->without_chunk, IsEmpty());
      for (const auto& chunk : batch->chunks) {
        EXPECT_THAT(chunk->slices, IsEmpty());
        for (const PieceTask& piece : chunk->pieces) {
          EXPECT_TRUE(piece.file->failed);
          writer_->WritePiece(piece, "", pinned_);
        }
      }
    }
    EXPECT_THAT(observer_.Said(RestoreProblemKind::kRepository), ElementsAre("/in/" + entry.name + ": " + operation));
    ASSERT_FALSE(observer_.problems.empty());
    EXPECT_THAT(observer_.problems[0].status, StatusIs(absl::StatusCode::kDataLoss, why));
    EXPECT_FALSE(Exists(entry.name));
    EXPECT_OK(run_->failure());
  }
  static constexpr char kContradiction[] = "the size of the entry and its content disagree";

  FakeSnapshot snapshot_;
  FetchQueue queue_{1000};
  FetchWindow window_{1 << 20, queue_, [] { return 0; }};
  std::optional<HardLinks> links_;
  std::optional<FileWriter> writer_;
  PinnedDir pinned_;
  std::optional<ContentPlanner> planner_;
};

TEST_F(ContentPlannerTest, WantsTheSliceOfItsBundle) {
  snapshot_.PutInBundle("before", "01234");
  const Entry& e = snapshot_.PutInBundle("f", "content");
  const ChunkRef bundle = snapshot_.EndBundle();
  Plan(e, LinkKey{1, 2});
  const auto wanted = Wanted();
  ASSERT_EQ(wanted.size(), 1u);
  ASSERT_EQ(wanted[0]->chunks.size(), 1u);
  EXPECT_EQ(wanted[0]->chunks[0]->ref, bundle);
  ASSERT_EQ(wanted[0]->chunks[0]->slices.size(), 1u);
  const SliceTask& task = wanted[0]->chunks[0]->slices[0];
  EXPECT_EQ(task.name, "f");
  EXPECT_EQ(task.offset, 5u);
  EXPECT_EQ(task.length, 7u);
  EXPECT_EQ(task.size, 7u);
  EXPECT_EQ(task.map, nullptr);
  EXPECT_EQ(task.link, (LinkKey{1, 2}));
  EXPECT_EQ(task.digest, std::nullopt) << "nobody asked for it to be checked";
  EXPECT_FALSE(task.replace);
}

TEST_F(ContentPlannerTest, WantsNoChunkForWhatIsInTheEntry) {
  Plan(snapshot_.Put("none", EntryType::kFile, 0644));
  Entry& e = snapshot_.Put("inline", EntryType::kFile, 0644);
  e.content.kind = Content::Kind::kInline;
  e.content.inline_bytes = "bytes";
  e.size = 5;
  Plan(e);
  const auto wanted = Wanted();
  ASSERT_EQ(wanted.size(), 1u);
  EXPECT_THAT(wanted[0]->chunks, IsEmpty());
  ASSERT_EQ(wanted[0]->without_chunk.size(), 2u);
  EXPECT_EQ(wanted[0]->without_chunk[0].length, 0u);
  EXPECT_EQ(wanted[0]->without_chunk[1].bytes, "bytes");
  EXPECT_EQ(wanted[0]->without_chunk[1].length, 5u);
}

TEST_F(ContentPlannerTest, PiecesStandOneAfterTheOtherInTheContent) {
  for (bool as_list : {false, true}) {
    Plan(snapshot_.PutChunked(as_list ? "listed" : "chunked", {"one", "three", "x"}, 0644, as_list));
  }
  const auto wanted = Wanted();
  ASSERT_EQ(wanted.size(), 1u);
  ASSERT_EQ(wanted[0]->chunks.size(), 3u) << "the same ones";
  std::vector<uint64_t> offsets, lengths;
  for (const auto& chunk : wanted[0]->chunks) {
    ASSERT_EQ(chunk->pieces.size(), 2u);
    EXPECT_EQ(chunk->pieces[0].content_offset, chunk->pieces[1].content_offset);
    offsets.push_back(chunk->pieces[0].content_offset);
    lengths.push_back(chunk->pieces[0].length);
    EXPECT_EQ(chunk->pieces[0].file->parts, 3) << "the planner let go of its own";
  }
  EXPECT_THAT(offsets, ElementsAre(0, 3, 8));
  EXPECT_THAT(lengths, ElementsAre(3, 5, 1));
  EXPECT_THAT(observer_.problems, IsEmpty());
}

TEST_F(ContentPlannerTest, ALargeHoleIsNotInTheContent) {
  const uint64_t large = kLargeHoleBytes;
  Entry& e = snapshot_.PutChunked("f", {"012", "34567"});
  e.holes = {{4, large}};
  e.size += large;
  Plan(e);
  const auto wanted = Wanted();
  ASSERT_EQ(wanted.size(), 1u);
  ASSERT_EQ(wanted[0]->chunks.size(), 2u);
  const PieceTask& second = wanted[0]->chunks[1]->pieces.at(0);
  EXPECT_EQ(second.content_offset, 3u);
  ASSERT_NE(second.file->task.map, nullptr);
  EXPECT_EQ(second.file->task.map->content_length(), 8u);
  EXPECT_EQ(second.file->task.map->FileOffset(5), 5 + large);
  EXPECT_EQ(second.file->task.size, 8 + large);
  EXPECT_THAT(observer_.problems, IsEmpty());
}

TEST_F(ContentPlannerTest, AFileThatIsAllHoleWantsNothing) {
  Entry& e = snapshot_.Put("f", EntryType::kFile, 0644);
  e.size = 1ull << 40;
  e.holes = {{0, 1ull << 40}};
  Plan(e);
  const auto wanted = Wanted();
  ASSERT_EQ(wanted.size(), 1u);
  ASSERT_EQ(wanted[0]->without_chunk.size(), 1u);
  EXPECT_EQ(wanted[0]->without_chunk[0].length, 0u);
  EXPECT_EQ(wanted[0]->without_chunk[0].size, 1ull << 40);
}

TEST_F(ContentPlannerTest, ASizeThatIsNotThatOfTheContentIsDamage) {
  for (int difference : {-1, 1}) {
    Entry& slice = snapshot_.PutInBundle("slice", "content");
    snapshot_.EndBundle();
    slice.size += difference;
    ExpectDamage(slice, "read entry", kContradiction);
    Entry& chunked = snapshot_.PutChunked("chunked", {"one", "two"});
    chunked.size += difference;
    ExpectDamage(chunked, "read entry", kContradiction);
    Entry& in_entry = snapshot_.Put("inline", EntryType::kFile, 0644);
    in_entry.content.kind = Content::Kind::kInline;
    in_entry.content.inline_bytes = "bytes";
    in_entry.size = 5 + difference;
    ExpectDamage(in_entry, "read entry", kContradiction);
    // Only its end tells what a list holds.
    Entry& listed = snapshot_.PutChunked("listed", {"one", "two"}, 0644, true);
    listed.size += difference;
    ExpectDamage(listed, "fetch", kContradiction);
  }
  Entry& none = snapshot_.Put("none", EntryType::kFile, 0644);
  none.size = 1;
  ExpectDamage(none, "read entry", kContradiction);
}

TEST_F(ContentPlannerTest, HolesThatContradictTheSizeOrTheContentAreDamage) {
  const uint64_t large = kLargeHoleBytes;
  Entry& within = snapshot_.PutChunked("within", {"0123456789"});
  within.holes = {{4, large}};
  ExpectDamage(within, "read entry", "");  // the hole ends behind the file
  within.size = large + 9;
  ExpectDamage(within, "read entry", kContradiction);
  // A small one is in the content as zeros.
  Entry& small = snapshot_.PutChunked("small", {"0123456789"});
  small.holes = {{4, 4096}};
  small.size += 4096;
  ExpectDamage(small, "read entry", kContradiction);
}

TEST_F(ContentPlannerTest, ALengthThatWrapsIsDamage) {
  Entry& e = snapshot_.PutChunked("listed", {"one", "two", "end"}, 0644, true);
  // 3 - 1 + 7 is what it should be.
  snapshot_.lists.at(e.content.ref.id)[1].length = ~0ull;
  snapshot_.lists.at(e.content.ref.id)[2].length = 7;
  ExpectDamage(e, "fetch", kContradiction);
}

TEST_F(ContentPlannerTest, ADigestOfOtherChunksIsDamage) {
  options_.verify = true;
  for (const std::string suffix : {"", "-listed"}) {
    Plan(snapshot_.PutChunked("right" + suffix, {"one", "two"}, 0644, !suffix.empty()));
    Entry& wrong = snapshot_.PutChunked("wrong" + suffix, {"one", "two"}, 0644, !suffix.empty());
    wrong.digest->at(0) ^= 1;
    Plan(wrong);
  }
  for (const auto& batch : Wanted()) {
    for (const auto& chunk : batch->chunks) {
      const std::string& content = snapshot_.chunks.at(chunk->ref.id);
      for (const PieceTask& piece : chunk->pieces) writer_->WritePiece(piece, content, pinned_);
    }
  }
  EXPECT_EQ(Read("right"), "onetwo");
  EXPECT_EQ(Read("right-listed"), "onetwo");
  EXPECT_FALSE(Exists("wrong"));
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kRepository),
              ElementsAre("/in/wrong: fetch", "/in/wrong-listed: fetch"));
  ASSERT_FALSE(observer_.problems.empty());
  EXPECT_THAT(std::string(observer_.problems[0].status.message()), HasSubstr("digest"));
}

TEST_F(ContentPlannerTest, TheDigestOfASliceIsForWhoFetchesIt) {
  for (bool verify : {false, true}) {
    options_.verify = verify;
    Plan(snapshot_.PutInBundle(verify ? "checked" : "unchecked", "content"));
  }
  for (const auto& batch : Wanted()) {
    for (const auto& chunk : batch->chunks) {
      ASSERT_EQ(chunk->slices.size(), 2u);
      EXPECT_EQ(chunk->slices[0].digest, std::nullopt);
      EXPECT_EQ(chunk->slices[1].digest, SliceDigest("content"));
    }
  }
}

TEST_F(ContentPlannerTest, ADamagedListIsOfItsFileAlone) {
  Entry& e = snapshot_.PutChunked("listed", {"one", "two"}, 0644, true);
  snapshot_.damaged.insert(e.content.ref.id);
  ExpectDamage(e, "fetch", "damaged");
}

TEST_F(ContentPlannerTest, AListThatCannotBeHadAtTheMomentEndsTheRestore) {
  struct Gone : FakeSnapshot {
    absl::Status ForEachPiece(const Content& content,
                              const std::function<absl::Status(const ChunkPiece&)>& visit) override {
      EXPECT_OK(visit(lists.at(content.ref.id).at(0)));
      return absl::UnavailableError("gone");
    }
  } gone;
  ContentPlanner planner(gone, *run_, window_, *writer_, pinned_);
  const Entry& e = gone.PutChunked("listed", {"one", "two"}, 0644, true);
  planner.Plan(root_, e, Mine(0644), false, std::nullopt);
  EXPECT_THAT(run_->failure(), StatusIs(absl::StatusCode::kUnavailable, "the list of a file's chunks"));
  for (const auto& batch : Wanted()) {
    for (const auto& chunk : batch->chunks) {
      for (const PieceTask& piece : chunk->pieces) writer_->AbandonPiece(piece, pinned_);
    }
  }
  EXPECT_THAT(observer_.problems, IsEmpty());
  EXPECT_FALSE(Exists("listed"));
}

TEST_F(ContentPlannerTest, AFileThatFailedIsNotWalkedFurther) {
  struct Endless : FakeSnapshot {
    absl::Status ForEachPiece(const Content& content,
                              const std::function<absl::Status(const ChunkPiece&)>& visit) override {
      for (const ChunkPiece& piece : lists.at(content.ref.id)) {
        RETURN_IF_ERROR(visit(piece));
        after_piece();
      }
      return absl::OkStatus();
    }
    std::function<void()> after_piece;
  } endless;
  const Entry& e = endless.PutChunked("listed", std::vector<std::string>(100, "one"), 0644, true);
  int walked = 0;
  std::vector<std::unique_ptr<FetchBatch>> taken;
  endless.after_piece = [&] {
    if (++walked != 10) return;
    window_.DispatchAll();
    taken.push_back(queue_.Pop());
    writer_->FailFile(*taken[0]->chunks[0]->pieces[0].file, RestoreProblemKind::kTarget,
                      absl::InternalError("refused"));
  };
  ContentPlanner planner(endless, *run_, window_, *writer_, pinned_);
  planner.Plan(root_, e, Mine(0644), false, std::nullopt);
  EXPECT_EQ(walked, 10);
  for (const auto& chunk : taken.at(0)->chunks) {
    for (const PieceTask& piece : chunk->pieces) writer_->WritePiece(piece, "one", pinned_);
  }
  queue_.Close();
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget), ElementsAre("/in/listed: write")) << "by who failed";
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kRepository), IsEmpty());
}

TEST_F(ContentPlannerTest, TellsTheHardLinksOfAFirstNameThatCannotBe) {
  Entry& e = snapshot_.Put("a", EntryType::kFile, 0644);
  e.size = 1;
  e.link_count = 2;
  ASSERT_EQ(links_->RoleOf(e), LinkRole::kFirst);
  Plan(e, LinkKey{e.device, e.inode});
  e.name = "b";
  EXPECT_EQ(links_->RoleOf(e), LinkRole::kFirst) << "in its place";
}

}  // namespace
}  // namespace holdfast
