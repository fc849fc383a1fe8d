// BlobStore: immutable named blobs, the one interface of every storage. Thread-safe, blocking. A backend tries once:
// who calls decides what is worth another try.
//
// Guarantees a caller may rely on, checked for every backend by storage/conformance:
//  - Put is atomic: afterwards the blob is whole and durable, or absent. A blob's bytes never change.
//  - With PutMode::kIfAbsent (where capabilities().put_if_absent) exactly one of several concurrent puts of a name
//    wins; the others get ALREADY_EXISTS.
//  - Get, Stat and List see every Put that returned OK before they were called.
//  - Errors: NOT_FOUND; ALREADY_EXISTS; INVALID_ARGUMENT (name or range is nonsense); OUT_OF_RANGE (the range ends
//    behind the blob); RESOURCE_EXHAUSTED (full); PERMISSION_DENIED; UNAVAILABLE = outcome unknown, ask again. Never
//    DATA_LOSS: readers verify.
//  - No name may be a directory of another ("a" and "a/b"): a store may refuse the second with FAILED_PRECONDITION.
#ifndef HOLDFAST_STORAGE_BLOB_STORE_H_
#define HOLDFAST_STORAGE_BLOB_STORE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "core/base/status.h"

namespace holdfast {

// A checked name: 1..255 bytes, components [a-z0-9._-]+ joined by single '/', no component "." or "..".
class BlobName {
 public:
  static absl::StatusOr<BlobName> Parse(std::string_view name);
  // For names that our own code builds: crashes on a malformed one.
  static BlobName FromTrusted(std::string name);
  const std::string& str() const { return name_; }
  bool operator==(const BlobName& o) const { return name_ == o.name_; }
  bool operator<(const BlobName& o) const { return name_ < o.name_; }

 private:
  explicit BlobName(std::string name) : name_(std::move(name)) {}
  std::string name_;
};

struct BlobInfo {
  std::string name;
  uint64_t size = 0;  // bytes
};

struct Capabilities {
  bool put_if_absent = false;  // without it, automatic takeover of a repository is refused
  bool object_lock = false;
  uint64_t max_blob_bytes = 0;  // largest blob it takes
};

enum class PutMode {
  kIfAbsent,   // ALREADY_EXISTS when the name is taken
  kOverwrite,  // only for names whose content is the same for every writer (content-addressed): replaces or keeps
};

// The bytes to put. Re-readable, so that a retry can send them again. Not thread-safe.
class BlobSource {
 public:
  virtual ~BlobSource() = default;
  virtual uint64_t size() const = 0;
  // Fills `out` (the range is inside size()) or fails.
  virtual absl::Status ReadAt(uint64_t offset, absl::Span<char> out) = 0;
  // A closed, already fsynced local file that holds exactly these bytes and that the store may take away (rename).
  // Stores for which this means nothing read instead. After an OK Put the file may be gone.
  virtual std::optional<std::string> spool_path() const { return std::nullopt; }
};

// Borrows the bytes.
class StringBlobSource : public BlobSource {
 public:
  explicit StringBlobSource(std::string_view bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  absl::Status ReadAt(uint64_t offset, absl::Span<char> out) override;

 private:
  std::string_view bytes_;
};

inline constexpr int kListLimitMax = 100'000;
// For implementations: INVALID_ARGUMENT unless `limit` is in 1..kListLimitMax and some name could begin with `prefix`.
absl::Status CheckListArguments(std::string_view prefix, int limit);
// For implementations: whether `size` bytes at `offset` are inside a blob of `blob_bytes`; else OUT_OF_RANGE.
absl::Status CheckRange(const BlobName& name, uint64_t blob_bytes, uint64_t offset, uint64_t size);

class BlobStore {
 public:
  virtual ~BlobStore() = default;
  virtual Capabilities capabilities() const = 0;
  virtual absl::Status Put(const BlobName& name, BlobSource& source, PutMode mode) = 0;
  // Fills `out` from `offset`, or fails. An empty `out` is OK for an existing blob when offset <= size.
  virtual absl::Status Get(const BlobName& name, uint64_t offset, absl::Span<char> out) = 0;
  virtual absl::StatusOr<BlobInfo> Stat(const BlobName& name) = 0;
  // At most `limit` (1..100,000) blobs whose names start with `prefix` and are > `after`, in byte order; fewer than
  // `limit` only when there are no more. The prefix need not end at a '/'.
  virtual absl::StatusOr<std::vector<BlobInfo>> List(std::string_view prefix, std::string_view after, int limit) = 0;
  // Absent is OK.
  virtual absl::Status Delete(const BlobName& name) = 0;
};

// The whole blob; OUT_OF_RANGE when it is larger than max_bytes (RESOURCE_EXHAUSTED is what this machine is short of).
absl::StatusOr<std::string> GetWholeBlob(BlobStore& store, const BlobName& name, uint64_t max_bytes);
absl::Status PutBytes(BlobStore& store, const BlobName& name, std::string_view bytes, PutMode mode);
// Every blob under the prefix, by as many List calls as it takes.
absl::StatusOr<std::vector<BlobInfo>> ListAll(BlobStore& store, std::string_view prefix);

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_BLOB_STORE_H_
