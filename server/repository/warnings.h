// What people should hear of a repository and no caller can be told: damaged objects met on the way, hints that were
// lost. Thread-safe, no I/O. Each message is kept once; behind the first kWarningsMax further ones are dropped.
#ifndef HOLDFAST_SERVER_REPOSITORY_WARNINGS_H_
#define HOLDFAST_SERVER_REPOSITORY_WARNINGS_H_

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace holdfast {

inline constexpr size_t kWarningsMax = 1000;

class Warnings {
 public:
  void Add(std::string message);
  std::vector<std::string> All() const;  // oldest first

 private:
  mutable absl::Mutex mu_;
  std::vector<std::string> messages_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_WARNINGS_H_
