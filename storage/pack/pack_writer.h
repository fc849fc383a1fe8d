// Writes a pack (docs/format.md, section 9). A pack is written as a local spool file, made durable by Sync (barriers)
// or Finish, and then put into the storage, which may take the file by rename. The server holds the catalog key only;
// bodies stay sealed.
#ifndef HOLDFAST_STORAGE_PACK_PACK_WRITER_H_
#define HOLDFAST_STORAGE_PACK_PACK_WRITER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/record.h"
#include "core/io/io.h"
#include "storage/pack/pack.h"

namespace holdfast {

// One thread at a time. The destructor closes the file and leaves it in the spool (it may hold what a client was told
// is durable).
class PackWriter {
 public:
  // Creates the spool file `spool_directory`/<pack id hex>.<d|t>.
  static absl::StatusOr<std::unique_ptr<PackWriter>> Create(Io io, std::string spool_directory, PackKind kind,
                                                            const CatalogKey& key);
  ~PackWriter();
  // `header_bytes` is the encoded header; the body comes in parts of together header.sealed_length bytes. Hashes the
  // body, seals the header, appends; the body is not copied. After an error of the file the writer is broken and says
  // so at every later call. A record that does not fit its header or this pack is INVALID_ARGUMENT, a pack at its
  // limits RESOURCE_EXHAUSTED: both leave the writer as it was.
  absl::StatusOr<PackEntry> Append(const RecordHeader& header, std::string_view header_bytes,
                                   absl::Span<const std::string_view> body);
  absl::Status Sync();  // everything appended so far survives power loss
  // Writes trailer and footer, fsyncs file and directory, closes. The writer is done.
  absl::StatusOr<PackSummary> Finish();
  uint64_t bytes() const;
  uint32_t record_count() const;
  bool IsFull() const;  // reached the target size or the record limit
  const PackId& id() const;
  PackKind kind() const;
  const std::string& spool_path() const;

 private:
  struct Impl;
  explicit PackWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_PACK_PACK_WRITER_H_
