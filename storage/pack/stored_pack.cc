#include "storage/pack/stored_pack.h"

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/pack/byte_range.h"
#include "storage/pack/frame_reader.h"
#include "storage/pack/pack_ends.h"
#include "storage/pack/pack_layout.h"

namespace holdfast {
namespace {

// Damage is DATA_LOSS here, whatever the layer below calls it.
absl::Status Damaged(std::string_view what, const absl::Status& cause) {
  return absl::DataLossError(absl::StrCat(AbslView(what), ": ", cause.message()));
}

}  // namespace

absl::StatusOr<PackSummary> ReadPackTrailer(BlobStore& store, PackKind kind, const PackId& id, uint64_t blob_bytes,
                                            const CatalogKey& key) {
  const BlobName name = PackBlobName(kind, id);
  auto opened = OpenTrailer(BlobRange(store, name), blob_bytes, key);
  if (absl::IsPermissionDenied(opened.status())) return Damaged(name.str(), opened.status());
  RETURN_IF_ERROR(Annotate(opened.status(), name.str()));
  if (opened->header.id != id || opened->header.kind != kind || opened->header.aead != key.aead) {
    return absl::DataLossError(absl::StrCat(name.str(), ": holds another pack"));
  }
  PackSummary summary;
  summary.id = id;
  summary.kind = kind;
  summary.bytes = blob_bytes;
  summary.entries = std::move(opened->entries);
  return summary;
}

absl::StatusOr<PackSummary> SalvagePack(BlobStore& store, PackKind kind, const PackId& id, uint64_t blob_bytes,
                                        const CatalogKey& key) {
  const BlobName name = PackBlobName(kind, id);
  ReadRange read = BlobRange(store, name);
  if (blob_bytes < kPackHeaderBytes) {
    return absl::DataLossError(absl::StrCat(name.str(), ": too short for a pack"));
  }
  ASSIGN_OR_RETURN(std::string header_bytes, ReadString(read, 0, kPackHeaderBytes));
  auto header = DecodePackHeader(header_bytes);
  // Of the header only the salt is not known from elsewhere.
  PackHeader expected;
  expected.kind = kind;
  expected.aead = key.aead;
  expected.id = id;
  std::memcpy(expected.salt.data(), header_bytes.data() + kPackHeaderBytes - kPackSaltBytes, kPackSaltBytes);

  const PackSealer sealer(key, expected);
  FrameReader frames(read, blob_bytes, sealer, kind);
  PackSummary summary;
  summary.id = id;
  summary.kind = kind;
  summary.bytes = blob_bytes;
  uint64_t offset = kPackHeaderBytes;
  uint64_t number = 0;
  bool any = false;
  while (number < kPackRecordsMax) {
    ASSIGN_OR_RETURN(auto frame, frames.Read(offset, number));
    if (!frame.has_value()) {
      ++offset;  // at least the first bytes of frame `number` are lost
      ++number;
      ASSIGN_OR_RETURN(bool found, frames.FindNext(&offset, &number));
      if (!found) break;
      continue;
    }
    any = true;
    ++number;
    offset = frame->end;
    if (frame->body_good) summary.entries.push_back(std::move(frame->entry));
  }
  if (!any && !header.ok()) return Damaged(name.str(), header.status());
  return summary;
}

absl::Status VerifyPack(BlobStore& store, const PackSummary& summary, const CatalogKey& key) {
  constexpr size_t kNamedMax = 10;
  const BlobName name = PackBlobName(summary.kind, summary.id);
  ReadRange read = BlobRange(store, name);
  ASSIGN_OR_RETURN(std::string header_bytes, ReadString(read, 0, kPackHeaderBytes));
  auto header = DecodePackHeader(header_bytes);
  RETURN_IF_ERROR(Annotate(header.status(), name.str()));
  if (header->id != summary.id || header->kind != summary.kind || header->aead != key.aead) {
    return absl::DataLossError(absl::StrCat(name.str(), ": holds another pack"));
  }
  const PackSealer sealer(key, *header);
  FrameReader frames(read, summary.bytes, sealer, summary.kind);
  std::string damaged;
  size_t count = 0;
  for (size_t i = 0; i < summary.entries.size(); ++i) {
    const PackEntry& entry = summary.entries[i];
    const uint64_t before = kFrameLengthBytes + SealedFrameHeaderBytes(entry.header);
    if (entry.body_offset < kPackHeaderBytes + before) {
      return absl::InvalidArgumentError("a summary that is not this pack's");
    }
    ASSIGN_OR_RETURN(auto frame, frames.Read(entry.body_offset - before, i));
    if (frame.has_value() && frame->body_good && frame->entry.digest == entry.digest &&
        frame->entry.body_offset == entry.body_offset && frame->entry.header.id == entry.header.id) {
      continue;
    }
    if (count < kNamedMax) absl::StrAppend(&damaged, count == 0 ? "" : ", ", i);
    ++count;
  }
  if (count == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(name.str(), ": ", count, " of ", summary.entries.size(),
                                          " records damaged: ", damaged, count > kNamedMax ? ", ..." : ""));
}

}  // namespace holdfast
