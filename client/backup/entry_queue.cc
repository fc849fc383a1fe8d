#include "client/backup/entry_queue.h"

#include <utility>

namespace holdfast {

PendingEntry& EntryQueue::Push(PendingEntry&& pending) {
  const bool same_directory = !entries_.empty() && entries_.back().pending.directory == pending.directory;
  const size_t components = same_directory ? 0 : pending.directory->size();
  components_ += components;
  // Half a kilobyte, for every entry of the source: moved this once.
  return entries_.emplace_back(std::move(pending), components).pending;
}

absl::StatusOr<bool> EntryQueue::FinishFront(Finish finish) {
  ASSIGN_OR_RETURN(bool finished, finish(entries_.front().pending));
  if (!finished) return false;
  components_ -= entries_.front().components;
  entries_.pop_front();
  return true;
}

absl::Status EntryQueue::Drain(Until until, Finish finish, Wait wait) {
  while (!entries_.empty()) {
    ASSIGN_OR_RETURN(bool finished, FinishFront(finish));
    if (finished) continue;
    if (until == Until::kNotFull && !IsFull()) return absl::OkStatus();
    absl::Status status;
    RETURN_IF_ERROR(wait([&] {
      absl::StatusOr<bool> again = FinishFront(finish);
      status = again.status();
      return !again.ok() || *again;
    }));
    RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

}  // namespace holdfast
