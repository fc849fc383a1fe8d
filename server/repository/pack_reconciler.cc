#include "server/repository/pack_reconciler.h"

#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "storage/pack/stored_pack.h"

namespace holdfast {
namespace {

// No later attempt will read this pack as it was: damaged, gone, cut short, or on a bad sector.
bool IsLost(const absl::Status& s) {
  return IsDamage(s) || absl::IsNotFound(s) || absl::IsOutOfRange(s) || IsMediumError(s);
}

class BadRecords : public RecordReadSink {
 public:
  explicit BadRecords(size_t records) : bad(records) {}
  absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
    if (MayPass(record.status())) return record.status();
    bad[index] = !record.ok();
    return absl::OkStatus();
  }
  std::vector<bool> bad;
};

}  // namespace

PackReconciler::PackReconciler(BlobStore& store, PackReader& reader, CatalogKey key, Warnings& warnings,
                               CrashPoint crash_point)
    : store_(store), reader_(reader), key_(std::move(key)), warnings_(warnings), crash_point_(std::move(crash_point)) {}

absl::Status PackReconciler::Reconcile(ChunkIndex& index, bool* lost) {
  // Before the listing: a pack is stored before it is indexed (W1), so what is here now and not listed then is gone.
  const std::vector<IndexedPack> indexed = index.Packs();
  ASSIGN_OR_RETURN(std::vector<BlobInfo> blobs, ListAll(store_, "packs/"));
  absl::flat_hash_set<PackId> stored;
  for (const BlobInfo& blob : blobs) {
    auto parsed = ParsePackBlobName(blob.name);
    if (!parsed) {
      warnings_.Add(absl::StrCat(blob.name, " is not a pack's name"));
      continue;
    }
    const auto& [kind, id] = *parsed;
    stored.insert(id);
    if (index.HasPack(id)) continue;
    absl::StatusOr<PackSummary> summary = ReadPackTrailer(store_, kind, id, blob.size, key_);
    if (IsLost(summary.status())) {
      *lost = true;
      warnings_.Add(
          absl::StrCat(blob.name, " is damaged (", summary.status().message(), "): what can be read of it is kept"));
      summary = SalvagePack(store_, kind, id, blob.size, key_);
      if (MayPass(summary.status())) return summary.status();
      if (!summary.ok()) {
        warnings_.Add(absl::StrCat(blob.name, ": nothing can be read of it: ", summary.status().message()));
        continue;
      }
      RETURN_IF_ERROR(KeepReadable(*summary));
    }
    RETURN_IF_ERROR(summary.status());
    RETURN_IF_ERROR(index.AddPack(*summary));
    Reached(crash_point_, "index-write");
  }
  for (const IndexedPack& pack : indexed) {
    if (stored.contains(pack.id)) continue;
    warnings_.Add(absl::StrCat("pack ", HexEncode(pack.id.view()), " is missing from the storage"));
    *lost = true;
  }
  return absl::OkStatus();
}

// Leaves out of a salvaged pack what does not read: salvaging forgives more of a damaged header than reading does, and
// what cannot be read must not be promised.
absl::Status PackReconciler::KeepReadable(PackSummary& summary) {
  std::vector<RecordLocation> locations;
  for (const PackEntry& e : summary.entries) {
    RecordLocation l;
    l.kind = summary.kind;
    l.pack = summary.id;
    l.frame_number = e.frame_number;
    l.body_offset = e.body_offset;
    l.sealed_length = e.header.sealed_length;
    l.child_count = static_cast<uint32_t>(e.header.children.size());
    l.id = e.header.id;
    locations.push_back(l);
  }
  BadRecords sink(locations.size());
  RETURN_IF_ERROR(reader_.Read(locations, /*verify_digests=*/false, sink));
  std::vector<PackEntry> good;
  for (size_t i = 0; i < summary.entries.size(); ++i) {
    if (!sink.bad[i]) good.push_back(std::move(summary.entries[i]));
  }
  summary.entries = std::move(good);
  return absl::OkStatus();
}

}  // namespace holdfast
