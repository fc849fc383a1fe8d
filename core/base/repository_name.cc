#include "core/base/repository_name.h"

namespace holdfast {

absl::Status CheckRepositoryName(std::string_view name) {
  auto is_alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  bool good = !name.empty() && name.size() <= 64 && is_alnum(name[0]);
  for (char c : name) good = good && (is_alnum(c) || c == '-' || c == '_');
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "a repository's name has 1 to 64 of the characters a-z, 0-9, - and _, and begins with a letter or digit");
}

}  // namespace holdfast
