// Catalog: the snapshots of a repository, as the log tells. Fed by RepositoryLog's observer. It keeps deleted ones as
// stubs, so that a source's chain has no gaps. Thread-safe, no I/O. Memory: a core (some hundred bytes) per snapshot.
#ifndef HOLDFAST_SERVER_LOG_CATALOG_H_
#define HOLDFAST_SERVER_LOG_CATALOG_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "server/log/log_record.h"

namespace holdfast {

struct CatalogSnapshot {
  ManifestId id;
  std::string source;
  uint64_t sequence = 0;
  uint32_t agent = 0;
  std::string session;
  std::string core;        // serialized ManifestCore
  absl::Time server_time;  // of the commit; of a stub: of the record that left it
  uint64_t slot = 0;       // of the commit; 0 = not known
  bool deleted = false;
  absl::Time deleted_time;  // these four: of the last deletion
  uint64_t deleted_slot = 0;
  std::string deleted_reason;
  std::string deleted_actor;
};

struct CatalogFilter {
  std::optional<std::string> source;
  bool include_deleted = false;
  std::string id_prefix = "";  // hexadecimal digits of either case; what cannot begin an id fits none
};

struct CatalogPage {
  std::vector<CatalogSnapshot> snapshots;
  std::string next;  // pass as `after` to go on; empty: this was the last page
};

class Catalog {
 public:
  static constexpr int kPageMax = 1000;

  // Records come in slot order. A second commit of the same manifest changes nothing. A deletion of an unknown manifest
  // leaves a stub without source, which its commit completes.
  void Apply(const LogRecord& record);

  std::optional<CatalogSnapshot> Find(const ManifestId& id) const;
  // What the next snapshot of the source must name as its previous one: highest sequence, deleted ones included.
  std::optional<CatalogSnapshot> Head(std::string_view source) const;
  // All of a source by sequence, deleted ones included.
  std::vector<CatalogSnapshot> Chain(std::string_view source) const;
  // By server time, oldest first; at most `limit` per page, which is kPageMax when it is 0 or less, or more than that.
  // INVALID_ARGUMENT for an `after` that no page gave. Cost: a look at every snapshot behind `after`.
  absl::StatusOr<CatalogPage> List(const CatalogFilter& filter, std::string_view after, int limit) const;
  // Every id that is not deleted: the roots.
  std::vector<ManifestId> LiveIds() const;
  bool IsSessionRevoked(std::string_view session) const;
  size_t live_count() const;
  size_t deleted_count() const;

 private:
  using OrderKey = std::tuple<int64_t, uint64_t, ManifestId>;  // time in ns, slot, id
  static OrderKey KeyOf(const CatalogSnapshot& s);
  void Insert(CatalogSnapshot snapshot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  CatalogSnapshot& Stub(const ManifestId& id, const LogRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  std::map<ManifestId, CatalogSnapshot> by_id_ ABSL_GUARDED_BY(mu_);
  std::map<OrderKey, const CatalogSnapshot*> by_time_ ABSL_GUARDED_BY(mu_);
  // sequence, then order of commit
  std::map<std::string, std::map<std::tuple<uint64_t, OrderKey>, const CatalogSnapshot*>, std::less<>> by_source_
      ABSL_GUARDED_BY(mu_);
  absl::flat_hash_set<std::string> revoked_ ABSL_GUARDED_BY(mu_);
  size_t deleted_count_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_LOG_CATALOG_H_
