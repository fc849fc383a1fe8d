#include "client/backup/worker_pool.h"

#include <cerrno>

#include "absl/synchronization/notification.h"
#include "client/scan/fake_source_fs.h"
#include "client/upload/fake_upload_transport.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

class WorkerPoolTest : public testing::Test {
 protected:
  void Start(int workers) {
    std::vector<std::unique_ptr<UploadTransport>> transports;
    for (int i = 0; i < workers; ++i) {
      auto transport = std::make_unique<FakeUploadTransport>();
      transport->send_status = send_status_;
      transports_.push_back(transport.get());
      transports.push_back(std::move(transport));
    }
    options_.cancel = &cancel_;
    pool_ = std::make_unique<WorkerPool>(std::move(transports), keys_, offered_, counters_, options_);
  }
  std::shared_ptr<SourceDirectory> Root() {
    auto scanner = fs_.Scan({}, nullptr);
    SourceEntry entry;
    EXPECT_TRUE(*(*scanner)->Next(&entry));
    return entry.directory;
  }
  std::shared_ptr<FileResult> AddSmall(const std::string& name) {
    auto result = std::make_shared<FileResult>();
    BundleJob job;
    job.files.push_back({Root(), name, result});
    status_ = pool_->Add(std::move(job));
    return result;
  }
  size_t Sent() const {
    size_t n = 0;
    for (FakeUploadTransport* t : transports_) n += t->sent.size();
    return n;
  }

  FakeSourceFs fs_;
  SealingKeys keys_;
  OfferedIds offered_;
  UploadCounters counters_;
  WorkerPool::Options options_;
  std::atomic<bool> cancel_{false};
  absl::Status send_status_, status_;
  std::vector<FakeUploadTransport*> transports_;
  Chunker chunker_{Key128(), {.min_bytes = 16 << 10, .max_bytes = 64 << 10, .mask_bits = 13}};
  std::unique_ptr<WorkerPool> pool_;
};

TEST_F(WorkerPoolTest, ReadsAndSendsWhatIsAdded) {
  Start(3);
  std::vector<std::shared_ptr<FileResult>> results;
  for (int i = 0; i < 100; ++i) {
    fs_.AddFile(absl::StrCat("f", i), std::string(1000 + i, 'x'));
    results.push_back(AddSmall(absl::StrCat("f", i)));
    ASSERT_OK(status_);
  }
  fs_.AddFile("large", std::string(400'000, 'l'));
  auto large = std::make_shared<LargeFileJob>(Root(), "large", PreviousVersion(), chunker_, 1);
  ASSERT_OK(pool_->Add(large));
  for (const auto& r : results) {
    ASSERT_OK(pool_->Wait([&] { return r->ready.load(); }));
    EXPECT_EQ(r->outcome, FileResult::Outcome::kStored);
  }
  std::vector<ChunkPiece> pieces;
  ASSERT_OK(pool_->Wait([&] { return large->Take(&pieces); }));
  ASSERT_OK(pool_->Flush());
  EXPECT_EQ(Sent(), counters_.chunks_new);
  EXPECT_GT(Sent(), 100u);
  EXPECT_OK(pool_->status());
}

TEST_F(WorkerPoolTest, FlushSendsWhatWorkersHold) {
  Start(1);
  fs_.AddFile("f", std::string(1000, 'x'));
  auto result = AddSmall("f");
  ASSERT_OK(pool_->Wait([&] { return result->ready.load(); }));
  ASSERT_OK(pool_->Flush());
  EXPECT_EQ(Sent(), 1u);
  ASSERT_OK(pool_->Flush()) << "again";
}

TEST_F(WorkerPoolTest, TheFirstFailureStopsAllAndIsTheAnswerToEverything) {
  send_status_ = absl::UnavailableError("gone");
  Start(2);
  fs_.AddFile("f", std::string(1000, 'x'));
  auto result = AddSmall("f");
  ASSERT_OK(pool_->Wait([&] { return result->ready.load(); }));
  ASSERT_THAT(pool_->Flush(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(pool_->status(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(pool_->Wait([] { return false; }), StatusIs(absl::StatusCode::kUnavailable));
  AddSmall("f");
  EXPECT_THAT(status_, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(pool_->Add(std::make_shared<LargeFileJob>(Root(), "f", PreviousVersion(), chunker_, 1)),
              StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(WorkerPoolTest, WaitingEndsWhenCancelled) {
  Start(1);
  cancel_ = true;
  EXPECT_THAT(pool_->Wait([] { return false; }), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_OK(pool_->status()) << "the pool itself is well";
}

TEST_F(WorkerPoolTest, AddingWaitsWhileTooMuchIsWaiting) {
  Start(1);
  absl::Notification go;
  fs_.AddFile("f", "x");
  fs_.SetHook([&](std::string_view, std::string_view operation) {
    if (operation == "open") go.WaitForNotification();
  });
  for (int i = 0; i < 33; ++i) AddSmall("f");  // one is at work, 32 wait
  cancel_ = true;
  AddSmall("f");
  AddSmall("f");
  EXPECT_THAT(status_, StatusIs(absl::StatusCode::kCancelled));
  go.Notify();
  pool_.reset();  // its jobs use `go`
}

}  // namespace
}  // namespace holdfast
