#include "storage/pack/spool_file.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "storage/pack/byte_range.h"
#include "storage/pack/frame_reader.h"
#include "storage/pack/pack_ends.h"
#include "storage/pack/pack_layout.h"

namespace holdfast {
namespace {

constexpr std::string_view kUnreadableSuffix = ".unreadable";

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
absl::StatusOr<bool> SeemsToHoldARecord(const ReadRange& read, uint64_t bytes) {
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
  ReadRange read = FileRange(*file);
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
  RETURN_IF_ERROR(FinishPackFile(io, *file, path, sealer, header_bytes, summary));
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
    return FileRange(*file_)(offset, out);
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

}  // namespace holdfast
