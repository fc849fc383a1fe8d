#include "storage/pack/pack.h"

#include <atomic>
#include <cstring>
#include <utility>

#include "core/crypto/blake3.h"
#include "storage/pack/frame_reader.h"
#include "storage/pack/pack_layout.h"

namespace holdfast {
namespace {

constexpr uint64_t kWritebackStepBytes = 8u << 20;
constexpr std::string_view kUnreadableSuffix = ".unreadable";

char KindLetter(PackKind kind) { return kind == PackKind::kData ? 'd' : 't'; }

std::string SpoolFileName(PackKind kind, const PackId& id) {
  return absl::StrCat(HexEncode(id.view()), ".", std::string(1, KindLetter(kind)));
}

// Damage is DATA_LOSS here, whatever the layer below calls it.
absl::Status Damaged(std::string_view what, const absl::Status& cause) {
  return absl::DataLossError(absl::StrCat(AbslView(what), ": ", cause.message()));
}

absl::Status ReadExactly(File& file, uint64_t offset, absl::Span<char> out) {
  ASSIGN_OR_RETURN(size_t n, file.ReadAt(offset, out));
  if (n != out.size()) return absl::OutOfRangeError("the pack's file is shorter than it was");
  return absl::OkStatus();
}

FrameReader::ReadRange FileRange(File& file) {
  return [&file](uint64_t offset, absl::Span<char> out) { return ReadExactly(file, offset, out); };
}

FrameReader::ReadRange BlobRange(BlobStore& store, const BlobName& name) {
  return [&store, &name](uint64_t offset, absl::Span<char> out) -> absl::Status {
    absl::Status status = store.Get(name, offset, out);
    if (absl::IsOutOfRange(status)) return Damaged("the pack is shorter than it was", status);
    return status;
  };
}

absl::StatusOr<std::string> ReadString(const FrameReader::ReadRange& read, uint64_t offset, uint64_t size) {
  std::string out(size, '\0');
  RETURN_IF_ERROR(read(offset, absl::MakeSpan(out)));
  return out;
}

// A trailer and what it was sealed with.
struct OpenedPack {
  PackHeader header;
  std::vector<PackEntry> entries;
};

// Trailer and footer of a whole pack. DATA_LOSS: damaged or not there. PERMISSION_DENIED: undamaged, but of another
// key. FAILED_PRECONDITION: a version of the future.
absl::StatusOr<OpenedPack> OpenTrailer(const FrameReader::ReadRange& read, uint64_t bytes, const CatalogKey& key) {
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

// Appends trailer and footer and makes the file durable. `summary.bytes` is where the frames end; then the whole size.
absl::Status FinishFile(Io io, File& file, const std::string& path, const PackSealer& sealer,
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

}  // namespace

BlobName PackBlobName(PackKind kind, const PackId& id) {
  std::string hex = HexEncode(id.view());
  return BlobName::FromTrusted(
      absl::StrCat("packs/", std::string(1, KindLetter(kind)), "/", hex.substr(0, 2), "/", hex));
}

std::optional<std::pair<PackKind, PackId>> ParsePackBlobName(std::string_view name) {
  constexpr std::string_view kPrefix = "packs/";
  constexpr size_t kHexBytes = 2 * PackId::kSizeInBytes;
  // packs/d/00/<hex>
  if (name.size() != kPrefix.size() + 2 + 3 + kHexBytes || !name.starts_with(kPrefix)) {
    return std::nullopt;
  }
  auto raw = HexDecode(name.substr(name.size() - kHexBytes));
  if (!raw.ok()) return std::nullopt;
  auto id = PackId::FromBytes(*raw);
  if (!id.ok()) return std::nullopt;
  PackKind kind = name[kPrefix.size()] == 'd' ? PackKind::kData : PackKind::kTree;
  if (PackBlobName(kind, *id).str() != name) return std::nullopt;  // spelled otherwise
  return std::make_pair(kind, *id);
}

std::optional<std::pair<PackKind, PackId>> ParseSpoolFileName(std::string_view name) {
  constexpr size_t kHexBytes = 2 * PackId::kSizeInBytes;
  if (name.size() != kHexBytes + 2) return std::nullopt;
  auto raw = HexDecode(name.substr(0, kHexBytes));
  if (!raw.ok()) return std::nullopt;
  auto id = PackId::FromBytes(*raw);
  if (!id.ok()) return std::nullopt;
  PackKind kind = name.back() == 'd' ? PackKind::kData : PackKind::kTree;
  if (SpoolFileName(kind, *id) != name) return std::nullopt;
  return std::make_pair(kind, *id);
}

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

  std::unique_ptr<File> file;      // null when done
  std::atomic<uint64_t> bytes{0};  // whole frames; ReadBody looks at it from other threads
  absl::Status broken;             // of the first failure of the file, or "finished"
  std::vector<PackEntry> entries;
  uint64_t trailer_bytes = 0;  // that the entries will take
  uint64_t writeback_at = kWritebackStepBytes;
  bool name_synced = false;
  std::string frame;                    // scratch: length and sealed header
  std::vector<std::string_view> parts;  // scratch
};

PackWriter::PackWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PackWriter::~PackWriter() = default;
uint64_t PackWriter::bytes() const { return impl_->bytes.load(); }
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
  const uint64_t end = w.bytes.load(std::memory_order_relaxed) + frame_bytes;
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
  w.bytes.store(end);
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
  summary.bytes = w.bytes.load();
  summary.entries = std::move(w.entries);
  w.entries.clear();
  absl::Status status = FinishFile(w.io, *w.file, w.path, w.sealer, w.header_bytes, summary);
  w.file.reset();
  w.broken =
      status.ok() ? absl::FailedPreconditionError("the pack is finished") : Annotate(status, "the pack is broken");
  RETURN_IF_ERROR(status);
  return summary;
}

absl::Status PackWriter::ReadBody(uint64_t offset, absl::Span<char> out) const {
  const uint64_t bytes = impl_->bytes.load();
  if (offset > bytes || out.size() > bytes - offset) {
    return absl::OutOfRangeError("not (yet) in the pack");
  }
  if (impl_->file == nullptr) return absl::FailedPreconditionError("the pack is finished");
  return ReadExactly(*impl_->file, offset, out);
}

namespace {

// The good frames from the beginning of a file.
absl::StatusOr<PackSummary> ReadGoodFrames(FrameReader& frames, const PackHeader& header) {
  PackSummary summary;
  summary.id = header.id;
  summary.kind = header.kind;
  summary.bytes = kPackHeaderBytes;
  while (summary.entries.size() < kPackRecordsMax) {
    ASSIGN_OR_RETURN(auto frame, frames.Read(summary.bytes, summary.entries.size()));
    if (!frame.has_value() || !frame->body_good) break;
    summary.bytes = frame->end;
    summary.entries.push_back(std::move(frame->entry));
  }
  return summary;
}

// Whether a whole first record stands behind the header: then a crash is not why it does not open.
absl::StatusOr<bool> SeemsToHoldARecord(const FrameReader::ReadRange& read, uint64_t bytes) {
  if (bytes < kPackHeaderBytes + kFrameLengthBytes) return false;
  uint32_t length;
  RETURN_IF_ERROR(read(kPackHeaderBytes, absl::MakeSpan(reinterpret_cast<char*>(&length), sizeof(length))));
  return IsPlausibleFrameLength(length) &&
         bytes - kPackHeaderBytes - kFrameLengthBytes >= uint64_t{length} + kSealedBytesMin;
}

}  // namespace

absl::StatusOr<std::optional<PackSummary>> RecoverSpoolFile(Io io, std::string_view path_view, const CatalogKey& key) {
  const std::string path(path_view);
  if (path_view.ends_with(kUnreadableSuffix)) return std::nullopt;  // set aside before
  ASSIGN_OR_RETURN(auto file, io.files.Open(path, OpenMode::kAppendExisting));
  ASSIGN_OR_RETURN(uint64_t bytes, file->Size());
  FrameReader::ReadRange read = FileRange(*file);
  auto remove = [&]() -> absl::StatusOr<std::optional<PackSummary>> {
    file.reset();
    RETURN_IF_ERROR(io.files.Unlink(path));
    return std::nullopt;
  };

  if (bytes < kPackHeaderBytes) return remove();
  ASSIGN_OR_RETURN(std::string header_bytes, ReadString(read, 0, kPackHeaderBytes));
  auto header = DecodePackHeader(header_bytes);
  if (absl::IsDataLoss(header.status())) return remove();  // the header was never written back
  RETURN_IF_ERROR(Annotate(header.status(), path));
  if (header->aead != key.aead) {
    return absl::PermissionDeniedError(absl::StrCat(path, ": of a repository with another AEAD"));
  }

  const PackSealer sealer(key, *header);
  FrameReader frames(read, bytes, sealer, header->kind);
  ASSIGN_OR_RETURN(PackSummary summary, ReadGoodFrames(frames, *header));

  // Finished already? The trailer has to say exactly what the frames say: after a crash in the middle of Finish the
  // footer may be on disk and a body before it not.
  auto opened = OpenTrailer(read, bytes, key);
  if (absl::IsPermissionDenied(opened.status())) return Annotate(opened.status(), path);
  if (opened.ok() && EncodeTrailer(opened->entries) == EncodeTrailer(summary.entries)) {
    summary.bytes = bytes;
    // Durable again from here on, whoever wrote it.
    RETURN_IF_ERROR(file->Sync());
    RETURN_IF_ERROR(io.files.SyncDirectory(ParentDirectory(path)));
    return summary;
  }

  if (summary.entries.empty()) {
    ASSIGN_OR_RETURN(auto first, frames.Read(kPackHeaderBytes, 0));
    ASSIGN_OR_RETURN(bool seems_whole, SeemsToHoldARecord(read, bytes));
    // A first record whose header opens was of this key: its body is what the crash took.
    if (first.has_value() || !seems_whole) return remove();
    file.reset();
    RETURN_IF_ERROR(io.files.Rename(path, absl::StrCat(path, AbslView(kUnreadableSuffix))));
    return std::nullopt;
  }
  RETURN_IF_ERROR(file->Truncate(summary.bytes));
  RETURN_IF_ERROR(FinishFile(io, *file, path, sealer, header_bytes, summary));
  return summary;
}

namespace {

class SpoolFileSource : public BlobSource {
 public:
  SpoolFileSource(Io io, std::string path, uint64_t size) : io_(io), path_(std::move(path)), size_(size) {}
  uint64_t size() const override { return size_; }
  absl::Status ReadAt(uint64_t offset, absl::Span<char> out) override {
    if (file_ == nullptr) {
      ASSIGN_OR_RETURN(file_, io_.files.Open(path_, OpenMode::kRead));
    }
    return ReadExactly(*file_, offset, out);
  }
  std::optional<std::string> spool_path() const override { return path_; }

 private:
  const Io io_;
  const std::string path_;
  const uint64_t size_;
  std::unique_ptr<File> file_;  // opened when a store reads instead of renaming
};

}  // namespace

absl::Status PutPack(BlobStore& store, Io io, std::string_view spool_path, const PackSummary& summary) {
  const BlobName name = PackBlobName(summary.kind, summary.id);
  {
    SpoolFileSource source(io, std::string(spool_path), summary.bytes);
    absl::Status status = store.Put(name, source, PutMode::kIfAbsent);
    // An earlier try whose outcome was unknown may have stored it, and may have taken the spool file as well. Pack ids
    // are random: whatever has this name and size is this pack.
    if (absl::IsAlreadyExists(status) || absl::IsNotFound(status)) {
      auto info = store.Stat(name);
      if (absl::IsNotFound(info.status())) {
        return absl::DataLossError(absl::StrCat(name.str(), ": neither stored nor in the spool"));
      }
      RETURN_IF_ERROR(info.status());
      if (info->size != summary.bytes) {
        return absl::DataLossError(
            absl::StrCat(name.str(), ": stored with ", info->size, " bytes instead of ", summary.bytes));
      }
      status = absl::OkStatus();
    }
    RETURN_IF_ERROR(status);
  }
  absl::Status status = io.files.Unlink(spool_path);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

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
  FrameReader::ReadRange read = BlobRange(store, name);
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
  FrameReader::ReadRange read = BlobRange(store, name);
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
