#include "client/restore/file_writer.h"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FileWriterTest : public TargetTest {
 protected:
  void SetUp() override {
    Open();
    links_.emplace(*run_, *directories_, *files_, 1 << 20);
    read_back_.emplace(*run_, *directories_, 1 << 20);
    writer_.emplace(*run_, *directories_, *files_, *links_, &*read_back_);
  }
  void TearDown() override {
    pinned_.Release();
    links_->Close();
  }
  template <typename Task>
  void Fill(Task& task, const std::string& name, uint64_t size) {
    task.dir = root_;
    task.name = name;
    task.metadata = Mine(0640);
    task.size = size;
  }
  std::shared_ptr<ChunkedFile> Chunked(const std::string& name, uint64_t size, int parts) {
    auto file = std::make_shared<ChunkedFile>();
    Fill(file->task, name, size);
    file->parts = parts;
    return file;
  }
  std::optional<HardLinks> links_;
  std::optional<ReadBack> read_back_;
  std::optional<FileWriter> writer_;
  PinnedDir pinned_;
};

TEST_F(FileWriterTest, WritesAWholeFile) {
  SliceTask task;
  Fill(task, "f", 7);
  writer_->WriteSlice(task, "content", pinned_);
  EXPECT_EQ(Read("f"), "content");
  EXPECT_EQ(Stat("f").st_mode & 07777, 0640u);
  EXPECT_EQ(run_->stats().files, 1u);
  EXPECT_EQ(run_->stats().bytes, 7u);
  EXPECT_EQ(observer_.bytes_done, 7u);
  read_back_->Run(1);
  EXPECT_EQ(run_->stats().verified, 1u);
}

TEST_F(FileWriterTest, PiecesInAnyOrderAndFromAnyThreadMakeOneFile) {
  constexpr int kPieces = 64;
  constexpr uint64_t kLength = 100'000;
  auto file = Chunked("f", kPieces * kLength, kPieces);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      PinnedDir pinned;
      for (int i = kPieces - 1 - t; i >= 0; i -= 4) {
        writer_->WritePiece({file, i * kLength, kLength}, std::string(kLength, static_cast<char>('!' + i)), pinned);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string found = Read("f");
  ASSERT_EQ(found.size(), kPieces * kLength);
  for (int i = 0; i < kPieces; ++i) EXPECT_EQ(found[i * kLength + 17], '!' + i);
  read_back_->Run(2);
  EXPECT_EQ(run_->stats().verified, 1u);
  EXPECT_THAT(observer_.problems, IsEmpty());
}

TEST_F(FileWriterTest, AFileWithoutPiecesIsMadeByItsLastPart) {
  auto file = Chunked("f", 0, 1);
  writer_->EndPart(*file, pinned_);
  EXPECT_EQ(Stat("f").st_size, 0);
}

TEST_F(FileWriterTest, OneLostPieceTakesTheFileAwayAndIsNamedOnce) {
  auto file = Chunked("f", 30, 3);
  writer_->WritePiece({file, 0, 10}, "0123456789", pinned_);
  EXPECT_TRUE(Exists("f"));
  writer_->GiveUpPiece({file, 10, 10}, absl::DataLossError("lost"), pinned_);
  writer_->GiveUpPiece({file, 20, 10}, absl::DataLossError("lost, too"), pinned_);
  EXPECT_FALSE(Exists("f"));
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kRepository), ElementsAre("/in/f: fetch"));
  EXPECT_EQ(observer_.problems.at(0).status, absl::DataLossError("lost")) << "what came first";
  EXPECT_EQ(run_->stats().files, 0u);
}

TEST_F(FileWriterTest, WhenTheRestoreStopsNoFileIsNamedAndNoneStaysHalf) {
  auto file = Chunked("f", 30, 3);
  writer_->WritePiece({file, 0, 10}, "0123456789", pinned_);
  run_->Fail(absl::UnavailableError("gone"));
  writer_->GiveUpPiece({file, 20, 10}, absl::DataLossError("lost"), pinned_);
  writer_->AbandonPiece({file, 10, 10}, pinned_);
  EXPECT_FALSE(Exists("f"));
  EXPECT_THAT(observer_.problems, IsEmpty());
}

TEST_F(FileWriterTest, WritesHolesAsTheOptionsSay) {
  const uint64_t large = kLargeHoleBytes;
  for (bool sparse : {true, false}) {
    options_.sparse = sparse;
    SliceTask task;
    Fill(task, sparse ? "sparse" : "full", large + 10);
    ASSERT_OK_AND_ASSIGN(ContentMap map, ContentMap::Make(large + 10, {{5, large}}));
    task.map = std::make_unique<ContentMap>(map);
    writer_->WriteSlice(task, "0123456789", pinned_);
    EXPECT_EQ(Read(task.name), "01234" + std::string(large, '\0') + "56789");
    EXPECT_EQ(Stat(task.name).st_blocks * 512 >= static_cast<int64_t>(large), !sparse);
  }
  EXPECT_THAT(observer_.problems, IsEmpty());
}

// A limit of the process on the size of files stands for whatever refuses a write.
TEST_F(FileWriterTest, AFileThatCannotBeWrittenIsRemovedAndNamed) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  SliceTask task;
  Fill(task, "slice", 2000);
  writer_->WriteSlice(task, std::string(2000, 'x'), pinned_);
  auto file = Chunked("chunked", 2000, 2);
  writer_->WritePiece({file, 0, 1000}, std::string(1000, 'x'), pinned_);
  writer_->WritePiece({file, 1000, 1000}, std::string(1000, 'x'), pinned_);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget), ElementsAre("/in/slice: write", "/in/chunked: write"));
  EXPECT_FALSE(Exists("slice"));
  EXPECT_FALSE(Exists("chunked"));
  EXPECT_FALSE(run_->stopping()) << "others may be smaller";
}

TEST_F(FileWriterTest, TellsTheHardLinksHowTheFirstNameWent) {
  Entry a, b;
  a.link_count = b.link_count = 2;
  b.name = "b";
  for (bool is_there : {false, true}) {
    a.inode = b.inode = is_there;
    SliceTask task;
    Fill(task, "a", 1);
    task.link = LinkKey{a.device, a.inode};
    ASSERT_EQ(links_->RoleOf(a), LinkRole::kFirst);
    ASSERT_EQ(links_->RoleOf(b), LinkRole::kFurther);
    ASSERT_EQ(links_->Place({root_, b, false}, pinned_), LinkPlacement::kDone);
    if (is_there) {
      writer_->WriteSlice(task, "x", pinned_);
    } else {
      writer_->GiveUpFile(task, "fetch", absl::DataLossError("lost"), pinned_);
    }
    EXPECT_EQ(Exists("b"), is_there);
    EXPECT_EQ(links_->TakeRetries().size(), is_there ? 0u : 1u);
  }
}

}  // namespace
}  // namespace holdfast
