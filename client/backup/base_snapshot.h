// The previous snapshot of the source: what a backup compares with. Whether a file has to be read is decided here.
#ifndef HOLDFAST_CLIENT_BACKUP_BASE_SNAPSHOT_H_
#define HOLDFAST_CLIENT_BACKUP_BASE_SNAPSHOT_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "client/backup/previous_version.h"
#include "client/rpc/repository_client.h"
#include "client/scan/scanner.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/manifest.h"
#include "core/format/record_sealer.h"
#include "core/tree/chunk_source.h"
#include "core/tree/entry.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {

// True when the file is still what `old` describes, so that it need not be read.
bool IsUnchanged(const Entry& old, const SourceStat& now);
// The same for what is no file: link target and attributes need not be read.
bool IsSameObject(const Entry& old, const SourceStat& now);
// True when a change after this look may leave the times as they are. A time in the future does not: a write sets it to
// now.
bool MayChangeUnseen(const SourceStat& stat, absl::Time started);

// One thread.
class BaseSnapshot {
 public:
  using Note = std::function<void(std::string_view message)>;

  // The snapshot `id`, if this agent can read it; null, with a note why, if not: that costs time, not correctness.
  // UNAVAILABLE: the server went away. `client` and `sealing` are borrowed by what is returned.
  static absl::StatusOr<std::unique_ptr<BaseSnapshot>> Open(RepositoryClient& client, const std::string& repository,
                                                            const ManifestId& id, const ManifestKeys& keys,
                                                            const SealingKeys& sealing, const Note& note);
  BaseSnapshot(std::unique_ptr<ChunkSource> source, OpenedManifest manifest);

  const pb::ManifestCore& core() const { return manifest_.core; }

  // The entry of this key, or null. Keys of consecutive calls ascend. Valid until the next call; what of the snapshot
  // is damaged counts as not there. Fails only when the repository cannot be reached.
  absl::StatusOr<const Entry*> Find(std::string_view key);
  size_t gaps() const { return entries_->gaps().size(); }  // damaged places met so far

  // Is it unchanged, and its chunk worth keeping? A bundle that is mostly dead is not: the rest of it is stored anew.
  bool MayReuse(const Entry& old, const SourceStat& now) const;
  // Where the chunks of a large file were. Hints are worth a try, no more: empty when they cannot be had.
  PreviousVersion PreviousPieces(const Entry& old) const;

 private:
  absl::Status Advance();

  const std::unique_ptr<ChunkSource> source_;
  const OpenedManifest manifest_;
  const SnapshotReader reader_;
  absl::flat_hash_set<ChunkId> sparse_bundles_;
  // The walk through it.
  const std::unique_ptr<EntryIterator> entries_;
  EntryKeyCursor keys_;
  bool began_ = false, at_entry_ = false;
  std::string key_;  // of the entry that the iterator is at
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_BASE_SNAPSHOT_H_
