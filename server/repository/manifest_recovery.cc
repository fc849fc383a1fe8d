#include "server/repository/manifest_recovery.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/format/manifest.h"
#include "server/repository/manifest_blob.h"

namespace holdfast {
namespace {

absl::StatusOr<ParsedManifest> Read(const ManifestStore& manifests, const ManifestId& id) {
  ASSIGN_OR_RETURN(std::string bytes, manifests.Get(id));
  return ParseManifest(bytes);
}

// The readable ones that no readable slot mentions, each after those that it may build on.
absl::StatusOr<std::vector<ParsedManifest>> Candidates(const ManifestStore& manifests, const Catalog& catalog,
                                                       Warnings& warnings) {
  ASSIGN_OR_RETURN(std::vector<ManifestId> ids, manifests.List());
  std::vector<ParsedManifest> candidates;
  for (const ManifestId& id : ids) {
    std::optional<CatalogSnapshot> known = catalog.Find(id);
    if (known && (known->deleted || !known->source.empty())) continue;
    absl::StatusOr<ParsedManifest> parsed = Read(manifests, id);
    if (MayPass(parsed.status())) return parsed.status();
    if (parsed.ok()) {
      candidates.push_back(*std::move(parsed));
    } else {
      warnings.Add(absl::StrCat(ManifestBlobName(id).str(),
                                " is in no readable log slot and cannot be recovered: ", parsed.status().message()));
    }
  }
  std::sort(candidates.begin(), candidates.end(), [](const ParsedManifest& a, const ParsedManifest& b) {
    return std::make_pair(a.core.sequence(), a.id) < std::make_pair(b.core.sequence(), b.id);
  });
  return candidates;
}

}  // namespace

absl::Status RecoverManifests(const ManifestStore& manifests, const Catalog& catalog, bool log_has_holes,
                              RepositoryLog& log, Warnings& warnings) {
  ASSIGN_OR_RETURN(std::vector<ParsedManifest> candidates, Candidates(manifests, catalog, warnings));
  for (const ParsedManifest& candidate : candidates) {
    std::optional<CatalogSnapshot> head = catalog.Head(candidate.core.source());
    const bool next = candidate.core.sequence() == (head ? head->sequence : 0) + 1 &&
                      candidate.core.previous_manifest() == (head ? head->id.view() : std::string_view());
    if (!next && !log_has_holes) continue;
    CommittedRecord record;
    record.manifest = candidate.id;
    record.source = candidate.core.source();
    record.sequence = candidate.core.sequence();
    record.agent = candidate.core.agent();
    record.core = candidate.manifest.core();
    RETURN_IF_ERROR(log.Append(std::move(record)).status());
    warnings.Add(absl::StrCat("snapshot ", ShortHex(candidate.id), " was recovered from its manifest"));
  }
  return absl::OkStatus();
}

}  // namespace holdfast
