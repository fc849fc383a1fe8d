// Blobs as files of a local file system: `root`/<name>, mode 0600 in directories of mode 0700. Temporary files live in
// `root`/.tmp, so no blob name may begin with ".tmp". Symbolic links below the root are never followed: they and
// whatever else is no blob are left out of lists and read as absent.
//
// Thread-safe. Several processes may share a root. Durable beyond the interface: what Get, Stat or List showed is
// durable too, even if another thread's Put of it has not returned, or its process was killed on the way. Cost: a Put
// of a spool file on the same file system is a rename and two fsyncs of directories; another Put writes the bytes once.
// The first use of a directory in a process syncs it once. List reads each directory it needs whole.
#ifndef HOLDFAST_STORAGE_FILE_FILE_BLOB_STORE_H_
#define HOLDFAST_STORAGE_FILE_FILE_BLOB_STORE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "core/io/io.h"
#include "storage/blob_store.h"

namespace holdfast {

struct FileBlobStoreOptions {
  // Nothing is created, synced, tidied or changed: Put and Delete get PERMISSION_DENIED. For restores from media that
  // must not or cannot be written.
  bool read_only = false;
};

class FileBlobStore : public BlobStore {
 public:
  // Creates `root` when it is missing (unless read_only: NOT_FOUND). Removes temporary files older than a day.
  static absl::StatusOr<std::unique_ptr<FileBlobStore>> Open(Io io, std::string root,
                                                             FileBlobStoreOptions options = {});

  Capabilities capabilities() const override;
  absl::Status Put(const BlobName& name, BlobSource& source, PutMode mode) override;
  absl::Status Get(const BlobName& name, uint64_t offset, absl::Span<char> out) override;
  absl::StatusOr<BlobInfo> Stat(const BlobName& name) override;
  absl::StatusOr<std::vector<BlobInfo>> List(std::string_view prefix, std::string_view after, int limit) override;
  absl::Status Delete(const BlobName& name) override;

 private:
  // What is known of the names in one directory. It is settled, every name in it is durable, when !unsynced and
  // puts == 0.
  struct Directory {
    bool unsynced = true;  // a name may be there that no sync of the directory has covered
    int puts = 0;          // between their rename and the end of their sync
    uint64_t version = 0;  // counts renames that began
  };

  FileBlobStore(Io io, std::string root, FileBlobStoreOptions options)
      : io_(io), root_(std::move(root)), options_(options) {}

  std::string PathOf(std::string_view relative) const;
  // The directory `relative` ("" = root) exists, is no symbolic link, nor is one above it, and its name is durable.
  // With `create` it is made; otherwise NOT_FOUND.
  absl::Status CheckDirectory(std::string_view relative, bool create);
  // Every name that was seen in `relative` before the call is durable when this returns OK.
  absl::Status Settle(const std::string& relative);
  absl::Status Rename(const std::string& from, const BlobName& to, PutMode mode);
  absl::Status Copy(BlobSource& source, const std::string& path);
  absl::StatusOr<FileInfo> StatBlob(const BlobName& name);
  absl::Status ListDirectory(const std::string& relative, std::string_view prefix, std::string_view after, size_t limit,
                             std::vector<BlobInfo>& out);
  void RemoveOldTemporaryFiles();

  // Constant after construction.
  const Io io_;
  const std::string root_;
  const FileBlobStoreOptions options_;

  absl::Mutex mu_;                                                 // never held across a file call
  absl::flat_hash_set<std::string> checked_ ABSL_GUARDED_BY(mu_);  // CheckDirectory succeeded
  absl::flat_hash_map<std::string, Directory> directories_ ABSL_GUARDED_BY(mu_);
};

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_FILE_FILE_BLOB_STORE_H_
