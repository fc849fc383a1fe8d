#include "client/backup/entry_queue.h"

#include <utility>

namespace holdfast {

PendingEntry& EntryQueue::Push(PendingEntry pending) {
  Queued queued;
  if (entries_.empty() || entries_.back().pending.directory != pending.directory) {
    queued.components = pending.directory->size();
  }
  components_ += queued.components;
  queued.pending = std::move(pending);
  return entries_.emplace_back(std::move(queued)).pending;
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
