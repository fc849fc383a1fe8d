#include "server/log/catalog.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/codec.h"

namespace holdfast {
namespace {

constexpr size_t kPrefixHexDigitsMin = 4;
constexpr size_t kCandidatesShown = 5;
constexpr int kPageMax = 1000;

}  // namespace

Catalog::OrderKey Catalog::KeyOf(const CatalogSnapshot& s) { return {absl::ToUnixNanos(s.server_time), s.slot, s.id}; }

void Catalog::Insert(CatalogSnapshot snapshot) {
  const ManifestId id = snapshot.id;
  auto it = by_id_.find(id);
  if (it != by_id_.end()) {  // replaces a stub
    by_time_.erase(KeyOf(it->second));
    it->second = std::move(snapshot);
  } else {
    it = by_id_.emplace(id, std::move(snapshot)).first;
  }
  const CatalogSnapshot& s = it->second;
  by_time_[KeyOf(s)] = &s;
  if (s.sequence != 0) by_source_[s.source][{s.sequence, KeyOf(s)}] = &s;
}

CatalogSnapshot& Catalog::Stub(const ManifestId& id, const LogRecord& record) {
  auto it = by_id_.find(id);
  if (it == by_id_.end()) {
    CatalogSnapshot stub;
    stub.id = id;
    stub.server_time = record.time;
    stub.recovered = true;
    Insert(std::move(stub));
    it = by_id_.find(id);
  }
  return it->second;
}

void Catalog::Apply(const LogRecord& record) {
  absl::MutexLock lock(&mu_);
  if (const auto* c = std::get_if<CommittedRecord>(&record.payload)) {
    CatalogSnapshot s;
    auto it = by_id_.find(c->manifest);
    if (it != by_id_.end()) {
      if (it->second.sequence != 0) return;
      s = it->second;  // keeps what is known about its deletion
    }
    s.id = c->manifest;
    s.source = c->source;
    s.sequence = c->sequence;
    s.agent = c->agent;
    s.session = c->session;
    s.core = c->core;
    s.server_time = record.time;
    s.slot = record.slot;
    s.recovered = false;
    Insert(std::move(s));
  } else if (const auto* d = std::get_if<DeletedRecord>(&record.payload)) {
    CatalogSnapshot& s = Stub(d->manifest, record);
    if (!s.deleted) ++deleted_count_;
    s.deleted = true;
    s.deleted_time = record.time;
    s.deleted_slot = record.slot;
    s.deleted_reason = d->reason;
    s.deleted_actor = d->actor;
    if (s.core.empty()) s.core = d->core;
  } else if (const auto* u = std::get_if<UndeletedRecord>(&record.payload)) {
    CatalogSnapshot& s = Stub(u->manifest, record);
    if (s.deleted) --deleted_count_;
    s.deleted = false;
    s.deleted_slot = 0;
    s.deleted_time = absl::Time();
    s.deleted_reason.clear();
    s.deleted_actor.clear();
  } else if (const auto* r = std::get_if<SessionRevokedRecord>(&record.payload)) {
    revoked_.insert(r->session);
  }
}

void Catalog::AddRecovered(CatalogSnapshot snapshot) {
  absl::MutexLock lock(&mu_);
  snapshot.recovered = true;
  auto it = by_id_.find(snapshot.id);
  if (it != by_id_.end()) {
    const CatalogSnapshot& known = it->second;
    if (known.sequence != 0) return;
    snapshot.deleted = known.deleted;
    snapshot.deleted_time = known.deleted_time;
    snapshot.deleted_slot = known.deleted_slot;
    snapshot.deleted_reason = known.deleted_reason;
    snapshot.deleted_actor = known.deleted_actor;
  } else if (snapshot.deleted) {
    ++deleted_count_;
  }
  Insert(std::move(snapshot));
}

std::optional<CatalogSnapshot> Catalog::Find(const ManifestId& id) const {
  absl::ReaderMutexLock lock(&mu_);
  auto it = by_id_.find(id);
  if (it == by_id_.end()) return std::nullopt;
  return it->second;
}

absl::StatusOr<CatalogSnapshot> Catalog::FindByPrefix(std::string_view hex) const {
  if (hex.size() < kPrefixHexDigitsMin || hex.size() > 2 * ManifestId::kSizeInBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a snapshot id needs ", kPrefixHexDigitsMin, " to ",
                                                   2 * ManifestId::kSizeInBytes, " hexadecimal digits"));
  }
  std::string wanted;
  for (char c : hex) {
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
    if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) {
      return absl::InvalidArgumentError(absl::StrCat("\"", AbslView(hex), "\" is not a snapshot id"));
    }
    wanted.push_back(c);
  }
  std::string padded = wanted;
  padded.resize(2 * ManifestId::kSizeInBytes, '0');
  ASSIGN_OR_RETURN(std::string low, HexDecode(padded));
  ASSIGN_OR_RETURN(ManifestId from, ManifestId::FromBytes(low));

  absl::ReaderMutexLock lock(&mu_);
  std::vector<const CatalogSnapshot*> found;
  for (auto it = by_id_.lower_bound(from); it != by_id_.end() && found.size() <= kCandidatesShown; ++it) {
    if (HexEncode(it->first.view()).compare(0, wanted.size(), wanted) != 0) break;
    found.push_back(&it->second);
  }
  if (found.empty()) return absl::NotFoundError(absl::StrCat("no snapshot ", wanted));
  if (found.size() == 1) return *found.front();
  std::vector<std::string> names;
  for (const CatalogSnapshot* s : found) {
    names.push_back(names.size() == kCandidatesShown ? "..." : HexEncode(s->id.view()).substr(0, wanted.size() + 8));
  }
  return absl::InvalidArgumentError(absl::StrCat("snapshot ", wanted, " is ambiguous: ", absl::StrJoin(names, ", ")));
}

std::optional<CatalogSnapshot> Catalog::Head(std::string_view source) const {
  absl::ReaderMutexLock lock(&mu_);
  auto it = by_source_.find(source);
  if (it == by_source_.end()) return std::nullopt;
  return *it->second.rbegin()->second;
}

std::vector<CatalogSnapshot> Catalog::Chain(std::string_view source) const {
  absl::ReaderMutexLock lock(&mu_);
  std::vector<CatalogSnapshot> out;
  auto it = by_source_.find(source);
  if (it == by_source_.end()) return out;
  for (const auto& [key, snapshot] : it->second) out.push_back(*snapshot);
  return out;
}

std::vector<CatalogSource> Catalog::Sources() const {
  absl::ReaderMutexLock lock(&mu_);
  std::vector<CatalogSource> out;
  for (const auto& [source, chain] : by_source_) {
    CatalogSource s;
    s.source = source;
    for (const auto& [key, snapshot] : chain) ++(snapshot->deleted ? s.deleted : s.live);
    s.head = chain.rbegin()->second->id;
    out.push_back(std::move(s));
  }
  return out;
}

absl::StatusOr<CatalogPage> Catalog::List(const CatalogFilter& filter, std::string_view after, int limit) const {
  if (limit < 1 || limit > kPageMax) {
    return absl::InvalidArgumentError(absl::StrCat("a page has 1 to ", kPageMax, " snapshots"));
  }
  absl::ReaderMutexLock lock(&mu_);
  auto it = by_time_.begin();
  if (!after.empty()) {
    // hex(time, slot, id) of the last one given.
    absl::StatusOr<std::string> raw = HexDecode(after);
    if (!raw.ok() || raw->size() != 16 + ManifestId::kSizeInBytes) {
      return absl::InvalidArgumentError("not a page token");
    }
    ByteReader r(*raw);
    const int64_t time = static_cast<int64_t>(r.U64());
    const uint64_t slot = r.U64();
    ASSIGN_OR_RETURN(ManifestId id, ManifestId::FromBytes(r.Bytes(ManifestId::kSizeInBytes)));
    it = by_time_.upper_bound({time, slot, id});
  }
  CatalogPage page;
  OrderKey last;
  for (; it != by_time_.end(); ++it) {
    const CatalogSnapshot& s = *it->second;
    if (s.deleted && !filter.include_deleted) continue;
    if (filter.source.has_value() && s.source != *filter.source) continue;
    if (page.snapshots.size() == static_cast<size_t>(limit)) {
      std::string raw;
      ByteWriter w(&raw);
      w.U64(static_cast<uint64_t>(std::get<0>(last)));
      w.U64(std::get<1>(last));
      w.Bytes(std::get<2>(last).view());
      page.next = HexEncode(raw);
      break;
    }
    page.snapshots.push_back(s);
    last = it->first;
  }
  return page;
}

std::vector<ManifestId> Catalog::LiveIds() const {
  absl::ReaderMutexLock lock(&mu_);
  std::vector<ManifestId> out;
  out.reserve(by_id_.size() - deleted_count_);
  for (const auto& [id, snapshot] : by_id_) {
    if (!snapshot.deleted) out.push_back(id);
  }
  return out;
}

bool Catalog::IsSessionRevoked(std::string_view session) const {
  absl::ReaderMutexLock lock(&mu_);
  return revoked_.contains(AbslView(session));
}

size_t Catalog::live_count() const {
  absl::ReaderMutexLock lock(&mu_);
  return by_id_.size() - deleted_count_;
}

size_t Catalog::deleted_count() const {
  absl::ReaderMutexLock lock(&mu_);
  return deleted_count_;
}

}  // namespace holdfast
