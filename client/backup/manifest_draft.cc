#include "client/backup/manifest_draft.h"

#include <algorithm>

#include "core/base/utf8.h"

namespace holdfast {
namespace {

constexpr size_t kTextBytesMax = 4096;

// Protobuf strings are UTF-8, and a manifest with other text would not open.
std::string TextForProto(std::string_view raw) { return EscapeInvalidUtf8(raw.substr(0, kTextBytesMax)); }

}  // namespace

void ManifestDraft::AddFailure(const SourceError& error) {
  core_.set_errors(core_.errors() + 1);
  failure_bytes_ += error.path.size();
  if (static_cast<size_t>(sealed_.failures_size()) >= kFailuresNamedMax || failure_bytes_ > kFailuresBytesMax) {
    sealed_.set_failures_not_named(sealed_.failures_not_named() + 1);
    return;
  }
  pb::SourceFailure* f = sealed_.add_failures();
  f->set_path(error.path);
  f->set_operation(error.operation);
  f->set_error_number(error.error_number);
}

void ManifestDraft::AddEntry(const Entry& e) {
  if (e.content.kind == Content::Kind::kSlice) {
    BundleUse& use = bundles_[e.content.ref.id];
    use.live += e.content.length;
    use.end = std::max(use.end, e.content.offset + e.content.length);
  }
}

void ManifestDraft::AddSparseBundles() {
  for (const auto& [id, use] : bundles_) {
    if (static_cast<size_t>(sealed_.sparse_bundles_size()) >= kSparseBundlesMax) return;
    if (use.live * 2 < use.end) sealed_.add_sparse_bundles(std::string(id.view()));
  }
}

absl::StatusOr<std::string> ManifestDraft::Seal(const Facts& facts, const ManifestKeys& keys, Random& random) {
  core_.set_repository_id(std::string(keys.repository.view()));
  core_.set_source(facts.source);
  core_.set_agent(keys.agent);
  core_.set_sequence(facts.sequence);
  core_.set_previous_manifest(facts.previous_manifest);
  core_.set_root_id(std::string(facts.root.ref.id.view()));
  core_.set_root_level(facts.root.level);
  const TreeSums& sums = facts.root.sums;
  core_.set_files(sums.files);
  core_.set_directories(sums.directories);
  core_.set_others(sums.entries - sums.files - sums.directories);
  core_.set_bytes(sums.bytes);
  core_.set_key_epoch(facts.key_epoch);
  core_.set_started_unix_ns(absl::ToUnixNanos(facts.started));
  core_.set_finished_unix_ns(absl::ToUnixNanos(facts.finished));
  core_.set_complete(core_.errors() == 0);

  AddSparseBundles();
  sealed_.set_description(TextForProto(facts.description));
  sealed_.set_root_path(facts.root_path);
  sealed_.set_platform(1);
  for (const std::string& pattern : facts.excludes) sealed_.add_excludes(TextForProto(pattern));
  statistics().set_duration_ns(absl::ToInt64Nanoseconds(facts.finished - facts.started));
  return SealManifest(core_, sealed_, facts.root.ref, keys, random);
}

}  // namespace holdfast
