#include "client/backup/entry_queue.h"

#include <set>

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EntryQueueTest : public testing::Test {
 protected:
  void Push(const std::string& name) { Push(name, directory_); }
  void Push(const std::string& name, std::shared_ptr<const Components> directory) {
    PendingEntry pending;
    pending.directory = std::move(directory);
    pending.entry.name = name;
    queue_.Push(std::move(pending));
  }
  // Waiting makes the front ready.
  absl::Status Drain(EntryQueue::Until until) {
    return queue_.Drain(
        until,
        [&](PendingEntry& front) -> absl::StatusOr<bool> {
          RETURN_IF_ERROR(finish_status_);
          if (busy_.contains(front.entry.name)) return false;
          finished_.push_back(front.entry.name);
          return true;
        },
        [&](const std::function<bool()>& ready) -> absl::Status {
          ++waits_;
          RETURN_IF_ERROR(wait_status_);
          while (true) {
            if (ready()) return absl::OkStatus();
            if (busy_.empty()) return absl::InternalError("waits for what is ready");
            if (fails_when_ready_) finish_status_ = absl::DataLossError("broken");
            busy_.erase(busy_.begin());
          }
        });
  }

  EntryQueue queue_{/*entries_max=*/3, /*components_max=*/10};
  std::shared_ptr<const Components> directory_ = std::make_shared<const Components>(Components{"a"});
  std::set<std::string> busy_;
  std::vector<std::string> finished_;
  int waits_ = 0;
  bool fails_when_ready_ = false;
  absl::Status finish_status_, wait_status_;
};

TEST_F(EntryQueueTest, FinishesInOrderUntilOneHasToWait) {
  busy_ = {"2"};
  for (const char* name : {"1", "2", "3"}) Push(name);
  EXPECT_OK(Drain(EntryQueue::Until::kNotFull));
  EXPECT_THAT(finished_, ElementsAre("1"));
  EXPECT_EQ(waits_, 0);
  busy_.clear();
  EXPECT_OK(Drain(EntryQueue::Until::kNotFull));
  EXPECT_THAT(finished_, ElementsAre("1", "2", "3"));
}

TEST_F(EntryQueueTest, WaitsOnlyWhileThereAreTooMany) {
  busy_ = {"1", "2", "3", "4", "5"};
  for (const char* name : {"1", "2", "3"}) Push(name);
  EXPECT_OK(Drain(EntryQueue::Until::kNotFull));
  EXPECT_EQ(waits_, 0) << "as many as may wait";
  Push("4");
  Push("5");
  EXPECT_OK(Drain(EntryQueue::Until::kNotFull));
  EXPECT_EQ(waits_, 2);
  EXPECT_THAT(finished_, ElementsAre("1", "2"));
}

TEST_F(EntryQueueTest, WaitsForAllAtTheEnd) {
  busy_ = {"1", "2"};
  for (const char* name : {"1", "2", "3"}) Push(name);
  EXPECT_OK(Drain(EntryQueue::Until::kEmpty));
  EXPECT_THAT(finished_, ElementsAre("1", "2", "3"));
  EXPECT_OK(Drain(EntryQueue::Until::kEmpty));
  EXPECT_EQ(finished_.size(), 3u) << "nothing is left";
}

TEST_F(EntryQueueTest, DeepPathsCountByTheirLengthOncePerDirectory) {
  busy_ = {"1", "2"};
  auto deep = std::make_shared<const Components>(Components(10, "d"));
  Push("1", deep);
  Push("2", deep);
  EXPECT_OK(Drain(EntryQueue::Until::kNotFull));
  EXPECT_EQ(waits_, 0) << "ten components in all";
  Push("3");
  EXPECT_OK(Drain(EntryQueue::Until::kNotFull));
  EXPECT_EQ(waits_, 1);
  EXPECT_THAT(finished_, ElementsAre("1")) << "the first of the directory took its components along";
}

TEST_F(EntryQueueTest, PassesErrorsOn) {
  busy_ = {"1"};
  Push("1");
  wait_status_ = absl::CancelledError("enough");
  EXPECT_THAT(Drain(EntryQueue::Until::kEmpty), StatusIs(absl::StatusCode::kCancelled));
  wait_status_ = absl::OkStatus();
  fails_when_ready_ = true;
  EXPECT_THAT(Drain(EntryQueue::Until::kEmpty), StatusIs(absl::StatusCode::kDataLoss)) << "while waiting";
  EXPECT_THAT(Drain(EntryQueue::Until::kNotFull), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(finished_, IsEmpty());
  finish_status_ = absl::OkStatus();
  EXPECT_OK(Drain(EntryQueue::Until::kEmpty));
  EXPECT_THAT(finished_, ElementsAre("1")) << "it has stayed";
}

TEST(PendingEntryTest, ShowsTheResultThatItWaitsFor) {
  PendingEntry pending;
  EXPECT_EQ(pending.result(), nullptr);
  pending.small = std::make_shared<FileResult>();
  EXPECT_EQ(pending.result(), pending.small.get());
}

}  // namespace
}  // namespace holdfast
