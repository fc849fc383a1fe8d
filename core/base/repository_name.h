// What a repository may be called, on both sides of the wire.
#ifndef HOLDFAST_CORE_BASE_REPOSITORY_NAME_H_
#define HOLDFAST_CORE_BASE_REPOSITORY_NAME_H_

#include <string_view>

#include "core/base/status.h"

namespace holdfast {

// OK for [a-z0-9][a-z0-9_-]{0,63}, so that it may stand in a file name; otherwise INVALID_ARGUMENT with the rule.
absl::Status CheckRepositoryName(std::string_view name);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_BASE_REPOSITORY_NAME_H_
