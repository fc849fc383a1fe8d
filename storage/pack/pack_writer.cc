#include "storage/pack/pack_writer.h"

#include <cstring>
#include <utility>
#include <vector>

#include "core/crypto/blake3.h"
#include "storage/pack/pack_ends.h"
#include "storage/pack/pack_layout.h"

namespace holdfast {
namespace {

constexpr uint64_t kWritebackStepBytes = 8u << 20;

}  // namespace

struct PackWriter::Impl {
  Impl(Io io_in, std::string path_in, const PackHeader& header_in, const CatalogKey& key)
      : io(io_in),
        path(std::move(path_in)),
        header(header_in),
        header_bytes(EncodePackHeader(header_in)),
        sealer(key, header_in) {}

  // Constant after creation.
  const Io io;
  const std::string path;
  const PackHeader header;
  const std::string header_bytes;
  const PackSealer sealer;

  std::unique_ptr<File> file;  // null when done
  uint64_t bytes = 0;          // whole frames
  absl::Status broken;         // of the first failure of the file, or "finished"
  std::vector<PackEntry> entries;
  uint64_t trailer_bytes = 0;  // that the entries will take
  uint64_t writeback_at = kWritebackStepBytes;
  bool name_synced = false;
  std::string frame;                    // scratch: length and sealed header
  std::vector<std::string_view> parts;  // scratch
};

PackWriter::PackWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PackWriter::~PackWriter() = default;
uint64_t PackWriter::bytes() const { return impl_->bytes; }
uint32_t PackWriter::record_count() const { return static_cast<uint32_t>(impl_->entries.size()); }
bool PackWriter::IsFull() const {
  // The trailer repeats the headers: records of many children may need more room there than their bodies do here.
  return bytes() >= kPackBytesTarget || record_count() >= kPackRecordsMax ||
         impl_->trailer_bytes >= kPackTrailerBytesTarget;
}
const PackId& PackWriter::id() const { return impl_->header.id; }
PackKind PackWriter::kind() const { return impl_->header.kind; }
const std::string& PackWriter::spool_path() const { return impl_->path; }

absl::StatusOr<std::unique_ptr<PackWriter>> PackWriter::Create(Io io, std::string spool_directory, PackKind kind,
                                                               const CatalogKey& key) {
  PackHeader header;
  header.kind = kind;
  header.aead = key.aead;
  io.random.Fill(absl::MakeSpan(header.id.bytes));
  io.random.Fill(absl::MakeSpan(header.salt));
  std::string path = absl::StrCat(spool_directory, "/", SpoolFileName(kind, header.id));
  auto impl = std::make_unique<Impl>(io, std::move(path), header, key);
  ASSIGN_OR_RETURN(impl->file, io.files.Open(impl->path, OpenMode::kCreateNew));
  if (absl::Status s = impl->file->Append({impl->header_bytes}); !s.ok()) {
    impl->file.reset();
    io.files.Unlink(impl->path).IgnoreError();
    return s;
  }
  impl->bytes = kPackHeaderBytes;
  return std::unique_ptr<PackWriter>(new PackWriter(std::move(impl)));
}

absl::StatusOr<PackEntry> PackWriter::Append(const RecordHeader& header, std::string_view header_bytes,
                                             absl::Span<const std::string_view> body) {
  Impl& w = *impl_;
  RETURN_IF_ERROR(w.broken);
  // What is checked here once need not be believed by every later reader.
  if (static_cast<uint8_t>(header.type) != static_cast<uint8_t>(w.header.kind)) {
    return absl::InvalidArgumentError("record of another kind than its pack");
  }
  if (header_bytes.size() != header.encoded_size()) {
    return absl::InvalidArgumentError("record header and its encoding differ");
  }
  uint64_t body_bytes = 0;
  for (std::string_view part : body) body_bytes += part.size();
  if (body_bytes != header.sealed_length || body_bytes < kSealedBytesMin || body_bytes > kChunkSealedBytesMax ||
      header.children.size() > kChunkChildrenMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("record body of ", body_bytes, " bytes where ", header.sealed_length, " are said"));
  }
  const size_t sealed_bytes = SealedFrameHeaderBytes(header);
  const uint64_t frame_bytes = kFrameLengthBytes + sealed_bytes + body_bytes;
  const uint64_t trailer_bytes = 8 + kDigestBytes + header.encoded_size();
  const uint64_t end = w.bytes + frame_bytes;
  if (w.entries.size() >= kPackRecordsMax ||
      end + w.trailer_bytes + trailer_bytes + kAeadTagSizeInBytes + kPackFooterBytes > kPackBytesMax) {
    return absl::ResourceExhaustedError("the pack is full");
  }

  PackEntry entry;
  entry.frame_number = static_cast<uint32_t>(w.entries.size());
  entry.header = header;
  entry.body_offset = end - body_bytes;
  Blake3 hash;
  for (std::string_view part : body) hash.Update(part);
  entry.digest = hash.Finish();

  w.frame.resize(kFrameLengthBytes + sealed_bytes);
  const uint32_t length = static_cast<uint32_t>(sealed_bytes);
  char* p = w.frame.data();
  std::memcpy(p, &length, kFrameLengthBytes);
  p += kFrameLengthBytes;
  std::memcpy(p, entry.digest.bytes.data(), kDigestBytes);
  EncodeRecordHeader(header, p + kDigestBytes);
  if (std::memcmp(p + kDigestBytes, header_bytes.data(), header_bytes.size()) != 0) {
    return absl::InvalidArgumentError("record header and its encoding differ");
  }
  w.sealer.SealFrameHeader(w.entries.size(), absl::MakeSpan(p, sealed_bytes));

  w.parts.clear();
  w.parts.push_back(w.frame);
  w.parts.insert(w.parts.end(), body.begin(), body.end());
  if (absl::Status s = w.file->Append(w.parts); !s.ok()) {
    w.broken = Annotate(s, "the pack is broken");
    return w.broken;
  }
  w.entries.push_back(entry);
  w.trailer_bytes += trailer_bytes;
  w.bytes = end;
  if (end >= w.writeback_at) {
    w.file->StartWriteback();
    w.writeback_at = end + kWritebackStepBytes;
  }
  return entry;
}

absl::Status PackWriter::Sync() {
  Impl& w = *impl_;
  RETURN_IF_ERROR(w.broken);
  absl::Status status = w.file->Sync();
  if (status.ok() && !w.name_synced) status = w.io.files.SyncDirectory(ParentDirectory(w.path));
  if (!status.ok()) {
    w.broken = Annotate(status, "the pack is broken");
    return w.broken;
  }
  w.name_synced = true;
  return absl::OkStatus();
}

absl::StatusOr<PackSummary> PackWriter::Finish() {
  Impl& w = *impl_;
  RETURN_IF_ERROR(w.broken);
  PackSummary summary;
  summary.id = w.header.id;
  summary.kind = w.header.kind;
  summary.bytes = w.bytes;
  summary.entries = std::move(w.entries);
  w.entries.clear();
  absl::Status status = FinishPackFile(w.io, *w.file, w.path, w.sealer, w.header_bytes, summary);
  w.file.reset();
  w.broken =
      status.ok() ? absl::FailedPreconditionError("the pack is finished") : Annotate(status, "the pack is broken");
  RETURN_IF_ERROR(status);
  return summary;
}

}  // namespace holdfast
