// --include and --exclude of a restore: patterns of .gitignore, relative to the root of the snapshot.
#ifndef HOLDFAST_CLIENT_CLI_PATH_FILTER_H_
#define HOLDFAST_CLIENT_CLI_PATH_FILTER_H_

#include <string>
#include <vector>

#include "client/restore/restore_options.h"
#include "client/scan/ignore_rules.h"
#include "core/tree/entry.h"

namespace holdfast {

// Immutable after construction; any thread.
class PathFilter {
 public:
  // No includes: everything is included.
  PathFilter(const std::vector<std::string>& includes, const std::vector<std::string>& excludes) {
    for (const std::string& line : includes) includes_.AddLine(line);
    for (const std::string& line : excludes) excludes_.AddLine(line);
  }

  // Directories above `path` were not left out.
  FilterResult Match(const Components& path, bool is_directory) const {
    std::string joined;
    size_t name_offset = 0;
    bool included = includes_.empty();
    for (size_t i = 0; i < path.size(); ++i) {
      if (i > 0) joined += '/';
      name_offset = joined.size();
      joined += path[i];
      const bool is_last = i + 1 == path.size();
      // What is inside of something included is included, too.
      included = included || includes_.Match(joined, name_offset, is_directory || !is_last) == IgnoreVerdict::kExclude;
    }
    if (!path.empty() && excludes_.Match(joined, name_offset, is_directory) == IgnoreVerdict::kExclude) {
      return FilterResult::kLeaveOut;
    }
    if (included) return FilterResult::kRestore;
    return is_directory ? FilterResult::kDescend : FilterResult::kLeaveOut;
  }

 private:
  IgnoreList includes_, excludes_;  // both say kExclude where they match
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_PATH_FILTER_H_
