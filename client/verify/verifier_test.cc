#include "client/verify/verifier.h"

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/verify/memory_snapshot.h"
#include "core/base/status_testing.h"
#include "core/io/posix.h"

namespace holdfast {
namespace {

using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::StartsWith;

constexpr uint64_t kMiB = 1 << 20;

class VerifierTest : public testing::Test {
 protected:
  // What was named: one problem per path.
  absl::StatusOr<VerifyResult> Verify() {
    problems_.clear();
    const std::unique_ptr<SnapshotReader> reader = snapshot_.Build();
    return verifier_.Verify(*reader);
  }
  // The message about the only file of a snapshot that has `entry`.
  std::string ProblemOf(Entry entry) {
    entry.name = "file";
    snapshot_.Put({}, entry);
    absl::StatusOr<VerifyResult> result = Verify();
    if (!result.ok()) return "not verified: " + std::string(result.status().message());
    EXPECT_EQ(result->damaged, problems_.size());
    return problems_.contains("/file") ? problems_["/file"] : "";
  }

  Verifier NewVerifier() {
    return Verifier(
        [this](const std::string& path, const absl::Status& status) {
          EXPECT_TRUE(problems_.emplace(path, status.message()).second) << path << " twice";
        },
        io_, cancel_);
  }

  Io io_ = PosixIo();
  MemorySnapshot snapshot_;
  std::atomic<bool> cancel_{false};
  std::map<std::string, std::string> problems_;
  Verifier verifier_ = NewVerifier();
};

TEST_F(VerifierTest, ASoundSnapshotIsCountedAndNothingIsNamed) {
  const ChunkRef bundle = snapshot_.AddChunk("onetwo");
  snapshot_.Put({}, snapshot_.File("empty", 0));
  snapshot_.Put({}, snapshot_.Inline("inline", "abc"));
  snapshot_.Put({}, snapshot_.Slice("one", bundle, 0, "one"));
  snapshot_.Put({"d"}, snapshot_.Slice("two", bundle, 3, "two"));
  snapshot_.Put({}, snapshot_.Chunked("chunks", {"aaaa", "bb"}));
  std::vector<std::string> many;
  for (int i = 0; i < 200; ++i) many.push_back("piece " + std::to_string(i));
  Entry list = snapshot_.Chunked("list", many);
  ASSERT_EQ(list.content.kind, Content::Kind::kList);
  snapshot_.Put({}, list);
  const Entry sparse = snapshot_.Chunked("sparse", {"data"}, {{4, kMiB}});
  snapshot_.Put({}, sparse);
  Entry link = snapshot_.File("link", 0);
  link.type = EntryType::kSymlink;
  link.symlink_target = "x";
  snapshot_.Put({}, link);
  Entry unread = snapshot_.File("unread", 77);
  unread.flags = kEntryReadFailed;
  snapshot_.Put({}, unread);
  ASSERT_OK_AND_ASSIGN(VerifyResult result, Verify());
  EXPECT_THAT(problems_, IsEmpty());
  EXPECT_EQ(result.entries, 10u);
  EXPECT_EQ(result.files, 8u);
  EXPECT_EQ(result.bytes, 3 + 3 + 3 + 6 + list.size + sparse.size + 77);
  EXPECT_EQ(result.damaged, 0u);
  EXPECT_EQ(result.not_in_snapshot, 1u);
  EXPECT_EQ(verifier_.chunks_fetched.load(), 1u + 2 + 200 + 1);
  EXPECT_EQ(verifier_.files_done.load(), 8u);
}

TEST_F(VerifierTest, ADamagedChunkIsNamedForEveryFileThatNeedsItAndForNoOther) {
  const ChunkRef bundle = snapshot_.AddChunk("onetwo");
  snapshot_.Put({}, snapshot_.Slice("one", bundle, 0, "one"));
  snapshot_.Put({"d"}, snapshot_.Slice("two", bundle, 3, "two"));
  snapshot_.Put({}, snapshot_.Chunked("sound", {"aaaa", "bb"}));
  snapshot_.Put({}, snapshot_.Chunked("torn", {"cc", "cc", "dd"}));
  snapshot_.damaged = {bundle.id, snapshot_.AddChunk("cc").id};
  ASSERT_OK_AND_ASSIGN(VerifyResult result, Verify());
  EXPECT_THAT(problems_, ElementsAre(Pair("/d/two", _), Pair("/one", "the chunk is damaged"), Pair("/torn", _)));
  EXPECT_EQ(result.damaged, 3u);
}

TEST_F(VerifierTest, AMissingChunkIsDamage) {
  Entry file = snapshot_.Chunked("file", {"aaaa"});
  snapshot_.chunks.erase(file.content.chunks[0].ref.id);
  EXPECT_EQ(ProblemOf(file), "no such chunk");
}

TEST_F(VerifierTest, ContentThatIsNotWhatItsDigestWasMadeOfIsDamage) {
  Entry slice = snapshot_.Slice("file", snapshot_.AddChunk("one"), 0, "one");
  slice.digest = SliceDigest("two");
  EXPECT_THAT(ProblemOf(slice), HasSubstr("digest"));
  Entry chunked = snapshot_.Chunked("file", {"aaaa", "bb"});
  chunked.digest = snapshot_.Chunked("file", {"bb", "aaaa"}).digest;
  EXPECT_THAT(ProblemOf(chunked), HasSubstr("the chunks are not those"));
  chunked.digest.reset();  // of an older writer: nothing to compare with
  EXPECT_EQ(ProblemOf(chunked), "");
}

TEST_F(VerifierTest, SizesThatContradictTheContentAreDamage) {
  EXPECT_THAT(ProblemOf(snapshot_.File("file", 1)), HasSubstr("contradicts the size"));
  Entry inline_file = snapshot_.Inline("file", "abc");
  inline_file.size = 4;
  EXPECT_THAT(ProblemOf(inline_file), HasSubstr("contradicts the size"));
  Entry slice = snapshot_.Slice("file", snapshot_.AddChunk("onetwo"), 0, "one");
  slice.size = 2;
  EXPECT_THAT(ProblemOf(slice), HasSubstr("contradicts the size"));
  for (int64_t difference : {-1, 1}) {
    Entry chunked = snapshot_.Chunked("file", {"aaaa", "bb"});
    chunked.size += difference;
    EXPECT_THAT(ProblemOf(chunked), HasSubstr("contradicts the size"));
  }
  Entry hole = snapshot_.Chunked("file", {"data"});
  hole.holes = {{4, kMiB}};
  EXPECT_THAT(ProblemOf(hole), HasSubstr("holes of the entry contradict"));
}

TEST_F(VerifierTest, AChunkOrASliceThatIsNotAsLongAsTheFileSaysIsDamage) {
  Entry chunked = snapshot_.Chunked("file", {"aaaa", "bb"});
  chunked.content.chunks[0].length = 3;
  chunked.content.chunks[1].length = 3;
  chunked.digest.reset();
  EXPECT_THAT(ProblemOf(chunked), HasSubstr("another length"));
  const ChunkRef bundle = snapshot_.AddChunk("onetwo");
  EXPECT_THAT(ProblemOf(snapshot_.Slice("file", bundle, 4, "two")), HasSubstr("not within its bundle"));
  EXPECT_THAT(ProblemOf(snapshot_.Slice("file", bundle, 7, "two")), HasSubstr("not within its bundle"));
}

TEST_F(VerifierTest, AChunkThatIsNoDataIsDamage) {
  Entry chunked = snapshot_.Chunked("chunked", {"aaaa", "bb"});
  Entry slice = snapshot_.Slice("slice", snapshot_.AddChunk("onetwo"), 0, "one");
  for (const ChunkRef& ref : {chunked.content.chunks[1].ref, slice.content.ref}) {
    snapshot_.chunks[ref.id].type = ChunkType::kTree;
  }
  snapshot_.Put({}, chunked);
  snapshot_.Put({}, slice);
  for (const char* when : {"fetched", "known"}) {
    ASSERT_OK_AND_ASSIGN(VerifyResult result, Verify());
    EXPECT_EQ(result.damaged, 2u) << when;
    EXPECT_THAT(problems_,
                ElementsAre(Pair("/chunked", HasSubstr("another type")), Pair("/slice", HasSubstr("another type"))))
        << when;
  }
}

TEST_F(VerifierTest, TheKeyIsPartOfWhatNamesAChunk) {
  const Entry chunked = snapshot_.Chunked("chunked", {"aaaa"});
  const Entry slice = snapshot_.Slice("slice", snapshot_.AddChunk("one"), 0, "one");
  Entry wrong_chunked = chunked, wrong_slice = slice;
  wrong_chunked.content.chunks[0].ref.key = wrong_slice.content.ref.key = Key256();
  auto put_right = [&](MemorySnapshot& snapshot) {
    for (const Entry& entry : {chunked, slice}) snapshot.Put({"a"}, entry);
  };
  auto put_wrong = [&](MemorySnapshot& snapshot) {
    for (const Entry& entry : {wrong_chunked, wrong_slice}) snapshot.Put({"z"}, entry);
  };
  const auto only_wrong_ones = ElementsAre(Pair("/z/chunked", _), Pair("/z/slice", _));
  // A page has one key of a chunk: in between is enough for several pages.
  put_right(snapshot_);
  for (int i = 0; i < 9000; ++i) snapshot_.Put({"d"}, snapshot_.File(std::to_string(10000 + i), 0));
  put_wrong(snapshot_);
  ASSERT_OK(Verify());
  EXPECT_THAT(problems_, only_wrong_ones) << "in one batch";
  for (bool right_first : {true, false}) {
    MemorySnapshot right, wrong;
    right.chunks = wrong.chunks = snapshot_.chunks;
    put_right(right);
    put_wrong(wrong);
    problems_.clear();
    Verifier verifier = NewVerifier();
    for (MemorySnapshot* snapshot : {right_first ? &right : &wrong, right_first ? &wrong : &right}) {
      ASSERT_OK(verifier.Verify(*snapshot->Build()));
    }
    EXPECT_THAT(problems_, only_wrong_ones) << "one after the other, right first: " << right_first;
  }
}

TEST_F(VerifierTest, AChunkThatTheSourcePassesOverIsDamage) {
  const Entry file = snapshot_.Chunked("file", {"aaaa", "bb"});
  snapshot_.Put({}, snapshot_.Chunked("sound", {"bb"}));
  snapshot_.passed_over = {file.content.chunks[0].ref.id};
  EXPECT_THAT(ProblemOf(file), HasSubstr("passed the chunk over"));
  EXPECT_FALSE(problems_.contains("/sound"));
}

TEST_F(VerifierTest, ASourceThatGivesAChunkTwiceIsNotBelieved) {
  const Entry file = snapshot_.Chunked("file", {"aaaa"});
  snapshot_.Put({}, file);
  snapshot_.given_twice = {file.content.chunks[0].ref.id};
  EXPECT_THAT(Verify(), StatusIs(absl::StatusCode::kInternal, "nobody asked for"));
}

TEST_F(VerifierTest, ALostListOfHolesIsDamage) {
  Entry sparse = snapshot_.Chunked("file", {"data"});
  sparse.hole_chunk = snapshot_.AddChunk(EncodeHoles(std::vector<Hole>{{0, 2}}));
  EXPECT_EQ(ProblemOf(sparse), "");
  snapshot_.damaged.insert(sparse.hole_chunk->id);
  EXPECT_NE(ProblemOf(sparse), "");
}

TEST_F(VerifierTest, AChunkThatWasSeenIsNotFetchedAgain) {
  const ChunkRef good = snapshot_.AddChunk("aaaa"), bad = snapshot_.AddChunk("bbbb"),
                 bundle = snapshot_.AddChunk("one");
  snapshot_.damaged.insert(bad.id);
  snapshot_.Put({}, snapshot_.Chunked("good", {"aaaa"}));
  snapshot_.Put({}, snapshot_.Chunked("bad", {"bbbb"}));
  snapshot_.Put({}, snapshot_.Slice("slice", bundle, 0, "one"));
  ASSERT_OK(Verify().status());
  ASSERT_OK_AND_ASSIGN(VerifyResult again, Verify());
  EXPECT_EQ(again.damaged, 1u);
  EXPECT_THAT(problems_, ElementsAre(Pair("/bad", "the chunk is damaged")));
  EXPECT_EQ(snapshot_.TimesFetched(good), 1);
  EXPECT_EQ(snapshot_.TimesFetched(bad), 1);
  EXPECT_EQ(snapshot_.TimesFetched(bundle), 1);
  // Another slice of it, or another digest, is looked at.
  snapshot_.Put({}, snapshot_.Slice("slice", bundle, 0, "on"));
  ASSERT_OK(Verify().status());
  EXPECT_EQ(snapshot_.TimesFetched(bundle), 2);
}

TEST_F(VerifierTest, AKnownChunkOfAnotherLengthIsLookedAtAgain) {
  snapshot_.Put({}, snapshot_.Chunked("file", {"aaaa"}));
  ASSERT_OK(Verify().status());
  Entry longer = snapshot_.Chunked("file", {"aaaa"});
  longer.size = longer.content.chunks[0].length = 5;
  longer.digest.reset();
  EXPECT_THAT(ProblemOf(longer), HasSubstr("another length"));
}

TEST_F(VerifierTest, ADamagedPageIsNamedAsARangeAndTheRestIsChecked) {
  for (int i = 0; i < 9000; ++i) snapshot_.Put({"d"}, snapshot_.File(std::to_string(10000 + i), 0));
  snapshot_.Put({}, snapshot_.Inline("inline", "abc"));
  snapshot_.Build();
  ASSERT_GE(snapshot_.pages.size(), 3u);
  snapshot_.damaged.insert(snapshot_.pages[1].id);
  ASSERT_OK_AND_ASSIGN(VerifyResult result, Verify());
  EXPECT_EQ(result.damaged, 1u);
  EXPECT_THAT(problems_, ElementsAre(Pair(StartsWith("all entries from /d/"), _)));
  EXPECT_GT(result.files, 0u);
  EXPECT_LT(result.files, 9001u);
}

TEST_F(VerifierTest, AServerThatWentAwayIsNoDamage) {
  std::vector<std::string> many;
  for (int i = 0; i < 100; ++i) many.push_back("piece " + std::to_string(i));
  const Entry chunked = snapshot_.Chunked("chunked", {"aaaa"}), list = snapshot_.Chunked("list", many);
  ASSERT_EQ(list.content.kind, Content::Kind::kList);
  Entry holes = snapshot_.Chunked("holes", {"data"}), xattrs = snapshot_.Inline("xattrs", "abc");
  holes.hole_chunk = snapshot_.AddChunk(EncodeHoles(std::vector<Hole>{{0, 2}}));
  xattrs.xattr_chunk = snapshot_.AddChunk(EncodeXattrs(std::vector<Xattr>{{"user.a", "b"}}));
  for (const Entry& file : {chunked, list, holes, xattrs}) snapshot_.Put({}, file);
  ASSERT_OK_AND_ASSIGN(VerifyResult sound, Verify());
  EXPECT_EQ(sound.damaged, 0u);
  const ChunkRef root = snapshot_.pages.back();
  for (auto code : {absl::StatusCode::kUnavailable, absl::StatusCode::kInternal, absl::StatusCode::kResourceExhausted,
                    absl::StatusCode::kDeadlineExceeded, absl::StatusCode::kPermissionDenied,
                    absl::StatusCode::kAborted, absl::StatusCode::kUnauthenticated, absl::StatusCode::kUnknown}) {
    for (const ChunkRef& ref :
         {chunked.content.chunks[0].ref, list.content.ref, *holes.hole_chunk, *xattrs.xattr_chunk, root}) {
      snapshot_.unreachable = {{ref.id, absl::Status(code, "gone")}};
      problems_.clear();
      Verifier fresh = NewVerifier();
      const std::unique_ptr<SnapshotReader> reader = snapshot_.Build();
      EXPECT_THAT(fresh.Verify(*reader), StatusIs(code, "gone"));
      EXPECT_THAT(problems_, IsEmpty()) << absl::StatusCodeToString(code);
    }
  }
}

TEST_F(VerifierTest, NorIsOneThatCannotGiveAChunkNow) {
  const Entry file = snapshot_.Chunked("file", {"aaaa"});
  snapshot_.Put({}, file);
  snapshot_.refused = {{file.content.chunks[0].ref.id, absl::ResourceExhaustedError("busy")}};
  EXPECT_THAT(Verify(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(problems_, IsEmpty());
}

TEST_F(VerifierTest, StopsWhenItIsCancelled) {
  snapshot_.Put({}, snapshot_.Chunked("file", {"aaaa"}));
  cancel_ = true;
  EXPECT_THAT(Verify(), StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace holdfast
