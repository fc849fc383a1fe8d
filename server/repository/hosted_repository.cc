#include "server/repository/hosted_repository.h"

namespace holdfast {

absl::Status HostedRepository::Health() const {
  RETURN_IF_ERROR(parts_.error);
  RETURN_IF_ERROR(parts_.keys_status);
  return parts_.engine->status();
}

std::vector<std::string> HostedRepository::Warnings() const {
  std::vector<std::string> warnings = parts_.warnings;
  if (parts_.error.ok()) {
    for (std::string& w : parts_.engine->warnings()) warnings.push_back(std::move(w));
  }
  return warnings;
}

RepositoryStatistics HostedRepository::Statistics() const {
  return parts_.error.ok() ? parts_.engine->statistics() : RepositoryStatistics();
}

}  // namespace holdfast
