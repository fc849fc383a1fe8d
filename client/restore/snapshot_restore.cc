#include "client/restore/restore.h"

namespace holdfast {
namespace {

class SnapshotInput : public RestoreInput {
 public:
  explicit SnapshotInput(const SnapshotReader& reader) : reader_(reader) {}
  absl::StatusOr<Entry> LookupPath(const Components& path) override { return reader_.LookupPath(path); }
  std::unique_ptr<EntryIterator> ScanSubtree(const Components& directory) override {
    return reader_.ScanSubtree(directory);
  }
  absl::Status ForEachPiece(const Content& content,
                            const std::function<absl::Status(const ChunkPiece&)>& visit) override {
    return reader_.ForEachPiece(content, visit);
  }
  absl::Status ResolveSideChunks(Entry& entry) override { return reader_.ResolveSideChunks(entry); }
  ChunkSource& source() override { return reader_.source(); }

 private:
  const SnapshotReader& reader_;
};

}  // namespace

absl::StatusOr<RestoreStats> Restore(const SnapshotReader& snapshot, const Components& path_inside,
                                     const RestoreOptions& options, RestoreObserver& observer) {
  SnapshotInput input(snapshot);
  return Restore(input, path_inside, options, observer);
}

}  // namespace holdfast
