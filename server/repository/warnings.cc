#include "server/repository/warnings.h"

#include <algorithm>
#include <utility>

namespace holdfast {

void Warnings::Add(std::string message) {
  absl::MutexLock lock(&mu_);
  if (messages_.size() >= kWarningsMax) return;
  if (std::find(messages_.begin(), messages_.end(), message) != messages_.end()) return;
  messages_.push_back(std::move(message));
}

std::vector<std::string> Warnings::All() const {
  absl::MutexLock lock(&mu_);
  return messages_;
}

}  // namespace holdfast
