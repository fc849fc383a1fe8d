#include "storage/pack/pack_ends.h"

#include <utility>

namespace holdfast {

absl::StatusOr<OpenedPack> OpenTrailer(const ReadRange& read, uint64_t bytes, const CatalogKey& key) {
  if (bytes < kPackHeaderBytes + kPackFooterBytes) return absl::DataLossError("too short for a pack");
  ASSIGN_OR_RETURN(std::string footer_bytes, ReadString(read, bytes - kPackFooterBytes, kPackFooterBytes));
  ASSIGN_OR_RETURN(PackFooter footer, DecodePackFooter(footer_bytes, bytes));
  ASSIGN_OR_RETURN(std::string header_bytes, ReadString(read, 0, kPackHeaderBytes));
  ASSIGN_OR_RETURN(std::string sealed, ReadString(read, footer.trailer_offset, footer.trailer_bytes));
  if (!IsPackFooterDigestRight(footer_bytes, header_bytes, sealed)) {
    return absl::DataLossError("header, trailer or footer of the pack is damaged");
  }
  OpenedPack out;
  ASSIGN_OR_RETURN(out.header, DecodePackHeader(header_bytes));
  auto trailer = PackSealer(key, out.header).OpenTrailer(sealed, footer.record_count, header_bytes);
  if (!trailer.ok()) {
    return absl::PermissionDeniedError("the pack is sealed with another key");
  }
  ASSIGN_OR_RETURN(out.entries, DecodeTrailer(*trailer, footer.record_count));
  RETURN_IF_ERROR(CheckPackLayout(out.entries, out.header.kind, footer.trailer_offset));
  return out;
}

absl::Status FinishPackFile(Io io, File& file, const std::string& path, const PackSealer& sealer,
                            std::string_view header_bytes, PackSummary& summary) {
  const uint32_t count = static_cast<uint32_t>(summary.entries.size());
  std::string sealed = sealer.SealTrailer(EncodeTrailer(summary.entries), count, header_bytes);
  PackFooter footer;
  footer.trailer_offset = summary.bytes;
  footer.trailer_bytes = static_cast<uint32_t>(sealed.size());
  footer.record_count = count;
  std::string footer_bytes = EncodePackFooter(footer, header_bytes, sealed);
  RETURN_IF_ERROR(file.Append({sealed, footer_bytes}));
  RETURN_IF_ERROR(file.Sync());
  RETURN_IF_ERROR(io.files.SyncDirectory(ParentDirectory(path)));
  summary.bytes += sealed.size() + footer_bytes.size();
  return absl::OkStatus();
}

}  // namespace holdfast
