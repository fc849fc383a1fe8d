#include "client/backup/manifest_draft.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace holdfast {
namespace {

constexpr size_t kTextBytesMax = 4096;

// Bytes of the UTF-8 character that `s` begins with; 0: with none.
size_t CharacterLength(std::string_view s) {
  const auto byte = [&](size_t i) -> uint32_t { return i < s.size() ? static_cast<uint8_t>(s[i]) : 0; };
  const auto follows = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const uint32_t first = byte(0), second = byte(1);
  if (first < 0x80) return 1;
  if (first < 0xc2 || !follows(1)) return 0;
  if (first < 0xe0) return 2;
  if (first < 0xf0) {
    const bool overlong = first == 0xe0 && second < 0xa0, surrogate = first == 0xed && second >= 0xa0;
    return !overlong && !surrogate && follows(2) ? 3 : 0;
  }
  const bool overlong = first == 0xf0 && second<0x90, too_large = first> 0xf4 || (first == 0xf4 && second >= 0x90);
  return !overlong && !too_large && follows(2) && follows(3) ? 4 : 0;
}

// Protobuf strings are UTF-8, and a manifest with other text would not open: other bytes become \xNN.
std::string EscapeForProto(std::string_view raw) {
  std::string text;
  for (raw = raw.substr(0, kTextBytesMax); !raw.empty();) {
    const size_t n = CharacterLength(raw);
    if (n == 0) {
      absl::StrAppendFormat(&text, "\\x%02x", static_cast<uint8_t>(raw[0]));
    } else {
      text.append(raw.substr(0, n));
    }
    raw.remove_prefix(std::max<size_t>(n, 1));
  }
  return text;
}

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
  switch (e.type) {
    case EntryType::kFile:
      core_.set_files(core_.files() + 1);
      core_.set_bytes(core_.bytes() + e.size);
      break;
    case EntryType::kDirectory:
      core_.set_directories(core_.directories() + 1);
      break;
    default:
      core_.set_others(core_.others() + 1);
  }
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
  core_.set_key_epoch(facts.key_epoch);
  core_.set_started_unix_ns(absl::ToUnixNanos(facts.started));
  core_.set_finished_unix_ns(absl::ToUnixNanos(facts.finished));
  core_.set_complete(core_.errors() == 0);

  AddSparseBundles();
  sealed_.set_description(EscapeForProto(facts.description));
  sealed_.set_root_path(facts.root_path);
  sealed_.set_platform(1);
  for (const std::string& pattern : facts.excludes) sealed_.add_excludes(EscapeForProto(pattern));
  statistics().set_duration_ns(absl::ToInt64Nanoseconds(facts.finished - facts.started));
  return SealManifest(core_, sealed_, facts.root.ref.key, keys, random);
}

}  // namespace holdfast
