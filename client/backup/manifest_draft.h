// What a manifest will say, collected while the backup runs: failures, bundles that are mostly dead. What it counts
// comes from the tree: readers compare the two.
#ifndef HOLDFAST_CLIENT_BACKUP_MANIFEST_DRAFT_H_
#define HOLDFAST_CLIENT_BACKUP_MANIFEST_DRAFT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "client/scan/scanner.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/manifest.h"
#include "core/io/io.h"
#include "core/tree/entry.h"
#include "core/tree/tree_builder.h"

namespace holdfast {

// One thread. Memory: the failures that are named, and an entry per bundle.
class ManifestDraft {
 public:
  // Of failures, by number and by bytes of their paths: they are part of the manifest. The rest is only counted.
  static constexpr size_t kFailuresNamedMax = 10000;
  static constexpr size_t kFailuresBytesMax = 4u << 20;
  static constexpr size_t kSparseBundlesMax = 4096;

  void AddFailure(const SourceError& error);
  // As it goes into the tree: how much of its bundle is in use.
  void AddEntry(const Entry& entry);
  pb::BackupStatistics& statistics() { return *sealed_.mutable_statistics(); }

  struct Facts {
    std::string source;
    TreeRoot root;
    std::string previous_manifest;  // or empty
    uint64_t sequence = 0;
    uint32_t key_epoch = 0;
    absl::Time started, finished;
    std::string description;
    std::string root_path;
    std::vector<std::string> excludes;
  };
  // The bytes to commit. Once.
  absl::StatusOr<std::string> Seal(const Facts& facts, const ManifestKeys& keys, Random& random);
  // Complete after Seal.
  const pb::ManifestCore& core() const { return core_; }
  const pb::ManifestSealed& sealed() const { return sealed_; }

 private:
  struct BundleUse {
    uint64_t live = 0, end = 0;
  };
  void AddSparseBundles();

  pb::ManifestCore core_;
  pb::ManifestSealed sealed_;
  size_t failure_bytes_ = 0;
  absl::flat_hash_map<ChunkId, BundleUse> bundles_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_MANIFEST_DRAFT_H_
