#include "server/log/catalog.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/codec.h"

namespace holdfast {
namespace {

// The beginning of ids, by half bytes.
class IdPrefix {
 public:
  explicit IdPrefix(std::string_view hex) {
    const bool odd = hex.size() % 2 != 0;
    absl::StatusOr<std::string> bytes = HexDecode(absl::StrCat(AbslView(hex), odd ? "0" : ""));
    fits_some_ = bytes.ok() && bytes->size() <= ManifestId::kSizeInBytes;
    if (!fits_some_) return;
    whole_ = bytes->substr(0, hex.size() / 2);
    if (odd) half_ = static_cast<uint8_t>(bytes->back()) >> 4;
  }
  bool Fits(const ManifestId& id) const {
    return fits_some_ && id.view().substr(0, whole_.size()) == whole_ &&
           (!half_ || id.bytes[whole_.size()] >> 4 == *half_);
  }

 private:
  bool fits_some_ = false;
  std::string whole_;
  std::optional<int> half_;
};

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

std::optional<CatalogSnapshot> Catalog::Find(const ManifestId& id) const {
  absl::ReaderMutexLock lock(&mu_);
  auto it = by_id_.find(id);
  if (it == by_id_.end()) return std::nullopt;
  return it->second;
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

absl::StatusOr<CatalogPage> Catalog::List(const CatalogFilter& filter, std::string_view after, int limit) const {
  if (limit <= 0 || limit > kPageMax) limit = kPageMax;
  const IdPrefix prefix(filter.id_prefix);
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
    if (!prefix.Fits(s.id)) continue;
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
