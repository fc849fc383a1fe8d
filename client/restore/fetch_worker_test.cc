#include "client/restore/fetch_worker.h"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Gives what a test says, whatever it was asked for.
class ScriptedSource : public ChunkSource {
 public:
  absl::Status Fetch(absl::Span<const ChunkRef> refs, ChunkSink& sink) override {
    for (const ChunkRef& ref : refs) asked.push_back(ref.id.bytes[0]);
    return script ? script(sink) : absl::OkStatus();
  }
  std::function<absl::Status(ChunkSink& sink)> script;
  std::vector<int> asked;
};

OpenedChunk Data(std::string bytes) {
  OpenedChunk chunk;
  chunk.type = ChunkType::kData;
  chunk.plaintext = std::move(bytes);
  return chunk;
}

class FetchWorkerTest : public TargetTest {
 protected:
  void SetUp() override {
    Open();
    links_.emplace(*run_, *directories_, *files_, 1 << 20);
    writer_.emplace(*run_, *directories_, *files_, *links_, nullptr);
    worker_.emplace(*run_, source_, *writer_);
  }
  void TearDown() override {
    batch_.reset();
    links_->Close();
  }
  // The next chunk of the batch.
  WantedChunk& Want() {
    batch_->chunks.push_back(std::make_unique<WantedChunk>());
    batch_->chunks.back()->ref.id.bytes[0] = static_cast<uint8_t>(batch_->chunks.size());
    return *batch_->chunks.back();
  }
  void Fill(FileTask& task, const std::string& name, uint64_t size) {
    task.dir = root_;
    task.name = name;
    task.metadata = Mine(0640);
    task.size = size;
  }
  SliceTask& AddSlice(WantedChunk& chunk, const std::string& name, uint64_t offset, uint64_t length) {
    SliceTask& task = chunk.slices.emplace_back();
    Fill(task, name, length);
    task.offset = offset;
    task.length = length;
    return task;
  }
  std::shared_ptr<ChunkedFile> NewChunked(const std::string& name, uint64_t size, int parts) {
    auto file = std::make_shared<ChunkedFile>();
    Fill(file->task, name, size);
    file->parts = parts;
    return file;
  }
  // All that a worker does with the batch.
  void Work() {
    FetchQueue queue(1);
    queue.Push(std::exchange(batch_, std::make_unique<FetchBatch>()));
    queue.Close();
    worker_->Work(queue);
    queue.WaitUntilIdle();
  }
  std::vector<std::string> Lost() const { return observer_.Said(RestoreProblemKind::kRepository); }
  std::string Why() const { return std::string(observer_.problems.at(0).status.message()); }

  ScriptedSource source_;
  std::optional<HardLinks> links_;
  std::optional<FileWriter> writer_;
  std::optional<FetchWorker> worker_;
  std::unique_ptr<FetchBatch> batch_ = std::make_unique<FetchBatch>();
};

TEST_F(FetchWorkerTest, HandsEachFileItsBytes) {
  WantedChunk& bundle = Want();
  AddSlice(bundle, "begin", 0, 3);
  AddSlice(bundle, "end", 7, 3);
  AddSlice(bundle, "none", 10, 0);
  auto file = NewChunked("pieces", 8, 2);
  Want().pieces.push_back({file, 4, 4});
  Want().pieces.push_back({file, 0, 4});
  Fill(batch_->without_chunk.emplace_back(), "inline", 2);
  batch_->without_chunk.back().bytes = "in";
  source_.script = [](ChunkSink& sink) {
    EXPECT_OK(sink.OnChunk(2, Data("abcd")));
    EXPECT_OK(sink.OnChunk(0, Data("0123456789")));
    return sink.OnChunk(1, Data("efgh"));
  };
  Work();
  EXPECT_THAT(observer_.problems, IsEmpty());
  EXPECT_THAT(source_.asked, ElementsAre(1, 2, 3));
  EXPECT_EQ(Read("begin"), "012");
  EXPECT_EQ(Read("end"), "789");
  EXPECT_EQ(Read("none"), "");
  EXPECT_EQ(Read("pieces"), "abcdefgh");
  EXPECT_EQ(Read("inline"), "in");
  EXPECT_EQ(run_->stats().files, 5u);
}

TEST_F(FetchWorkerTest, ABatchWithoutChunksAsksForNone) {
  Fill(batch_->without_chunk.emplace_back(), "empty", 0);
  source_.script = [](ChunkSink&) { return absl::UnavailableError("was asked"); };
  Work();
  EXPECT_THAT(source_.asked, IsEmpty());
  EXPECT_TRUE(Exists("empty"));
  EXPECT_OK(run_->failure());
}

TEST_F(FetchWorkerTest, ASliceBehindOrOverTheEndOfItsBundleIsDamage) {
  WantedChunk& bundle = Want();
  AddSlice(bundle, "behind", 11, 0);
  AddSlice(bundle, "over", 8, 3);
  AddSlice(bundle, "wraps", 8, ~0ull);
  AddSlice(bundle, "within", 8, 2);
  source_.script = [](ChunkSink& sink) { return sink.OnChunk(0, Data("0123456789")); };
  Work();
  EXPECT_THAT(Lost(), ElementsAre("/in/behind: fetch", "/in/over: fetch", "/in/wraps: fetch"));
  EXPECT_THAT(Why(), HasSubstr("behind the end of its bundle"));
  EXPECT_FALSE(Exists("over"));
  EXPECT_EQ(Read("within"), "89");
}

TEST_F(FetchWorkerTest, ContentOfAnotherDigestIsDamage) {
  WantedChunk& bundle = Want();
  AddSlice(bundle, "right", 0, 3).digest = SliceDigest("012");
  AddSlice(bundle, "wrong", 3, 3).digest = SliceDigest("012");
  source_.script = [](ChunkSink& sink) { return sink.OnChunk(0, Data("012345")); };
  Work();
  EXPECT_THAT(Lost(), ElementsAre("/in/wrong: fetch"));
  EXPECT_THAT(Why(), HasSubstr("digest"));
  EXPECT_EQ(Read("right"), "012");
  EXPECT_FALSE(Exists("wrong"));
}

TEST_F(FetchWorkerTest, APieceThatIsLongerOrShorterThanItsFileSaysIsDamage) {
  Want().pieces.push_back({NewChunked("longer", 4, 1), 0, 4});
  Want().pieces.push_back({NewChunked("shorter", 4, 1), 0, 4});
  Want().pieces.push_back({NewChunked("right", 4, 1), 0, 4});
  source_.script = [](ChunkSink& sink) {
    EXPECT_OK(sink.OnChunk(0, Data("12345")));
    EXPECT_OK(sink.OnChunk(1, Data("123")));
    return sink.OnChunk(2, Data("1234"));
  };
  Work();
  EXPECT_THAT(Lost(), ElementsAre("/in/longer: fetch", "/in/shorter: fetch"));
  EXPECT_THAT(Why(), HasSubstr("another length"));
  EXPECT_FALSE(Exists("longer"));
  EXPECT_FALSE(Exists("shorter"));
  EXPECT_EQ(Read("right"), "1234");
}

TEST_F(FetchWorkerTest, AChunkThatIsLostOrPassedOverOrOfAnotherTypeTakesOnlyItsOwnFilesAway) {
  AddSlice(Want(), "lost", 0, 1);
  WantedChunk& passed_over = Want();
  AddSlice(passed_over, "passed over", 0, 1);
  passed_over.pieces.push_back({NewChunked("passed over, too", 4, 1), 0, 4});
  WantedChunk& page = Want();
  AddSlice(page, "page", 0, 1);
  page.pieces.push_back({NewChunked("page, too", 4, 1), 0, 4});
  AddSlice(Want(), "good", 0, 1);
  source_.script = [](ChunkSink& sink) {
    EXPECT_OK(sink.OnChunk(0, absl::DataLossError("damaged")));
    OpenedChunk other = Data("1234");
    other.type = ChunkType::kTree;
    EXPECT_OK(sink.OnChunk(2, other));
    return sink.OnChunk(3, Data("1"));
  };
  Work();
  EXPECT_THAT(Lost(), ElementsAre("/in/lost: fetch", "/in/page: fetch", "/in/page, too: fetch",
                                  "/in/passed over: fetch", "/in/passed over, too: fetch"));
  EXPECT_THAT(Why(), HasSubstr("chunk 01000000")) << "says which";
  EXPECT_THAT(observer_.problems[3].status, StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(Read("good"), "1");
  EXPECT_EQ(run_->stats().files, 1u);
  EXPECT_OK(run_->failure());
}

TEST_F(FetchWorkerTest, AnIndexThatNobodyAskedForIsAFaultOfTheSource) {
  AddSlice(Want(), "f", 0, 1);
  source_.script = [](ChunkSink& sink) { return sink.OnChunk(1, Data("1")); };
  Work();
  EXPECT_THAT(run_->failure(), StatusIs(absl::StatusCode::kInternal));
  EXPECT_FALSE(Exists("f"));
}

TEST_F(FetchWorkerTest, SoIsOneThatComesTwice) {
  AddSlice(Want(), "f", 0, 1);
  source_.script = [](ChunkSink& sink) {
    EXPECT_OK(sink.OnChunk(0, Data("1")));
    return sink.OnChunk(0, Data("2"));
  };
  Work();
  EXPECT_THAT(run_->failure(), StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(Read("f"), "1");
}

TEST_F(FetchWorkerTest, ASourceThatIsGoneInTheMiddleEndsTheRestoreAndLeavesNothingHalf) {
  auto file = NewChunked("pieces", 8, 2);
  Want().pieces.push_back({file, 0, 4});
  Want().pieces.push_back({file, 4, 4});
  AddSlice(Want(), "slice", 0, 1);
  source_.script = [&](ChunkSink& sink) {
    EXPECT_OK(sink.OnChunk(0, Data("1234")));
    EXPECT_TRUE(Exists("pieces"));
    return absl::UnavailableError("gone");
  };
  Work();
  EXPECT_THAT(run_->failure(), StatusIs(absl::StatusCode::kUnavailable, "fetch chunks"));
  EXPECT_THAT(observer_.problems, IsEmpty()) << "of no one file";
  EXPECT_FALSE(Exists("pieces"));
  EXPECT_FALSE(Exists("slice"));
}

TEST_F(FetchWorkerTest, WhenItIsCancelledTheFetchEndsWithTheNextChunk) {
  auto file = NewChunked("pieces", 8, 2);
  Want().pieces.push_back({file, 0, 4});
  Want().pieces.push_back({file, 4, 4});
  source_.script = [&](ChunkSink& sink) {
    EXPECT_OK(sink.OnChunk(0, Data("1234")));
    observer_.cancel = true;
    const absl::Status status = sink.OnChunk(1, Data("5678"));
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled));
    return status;
  };
  Work();
  EXPECT_THAT(run_->failure(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(observer_.problems, IsEmpty());
  EXPECT_FALSE(Exists("pieces"));
}

TEST_F(FetchWorkerTest, WhatComesAfterAFailureIsDropped) {
  run_->Fail(absl::UnavailableError("gone"));
  Fill(batch_->without_chunk.emplace_back(), "inline", 0);
  auto file = NewChunked("pieces", 4, 1);
  Want().pieces.push_back({file, 0, 4});
  Work();
  EXPECT_THAT(source_.asked, IsEmpty());
  EXPECT_FALSE(Exists("inline"));
  EXPECT_FALSE(Exists("pieces"));
  EXPECT_EQ(file->parts, 0);
}

}  // namespace
}  // namespace holdfast
