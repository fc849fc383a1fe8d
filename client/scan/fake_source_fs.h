// A source in memory that fails and changes on request, for tests of what reads one.
#ifndef HOLDFAST_CLIENT_SCAN_FAKE_SOURCE_FS_H_
#define HOLDFAST_CLIENT_SCAN_FAKE_SOURCE_FS_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/scan/scanner.h"
#include "core/base/status.h"
#include "core/tree/entry.h"

namespace holdfast {

// Thread-safe. Directories and files that were opened see what is there now, as on a real machine.
class FakeSourceFs : public SourceFs {
 public:
  struct Object {
    SourceStat stat;
    std::string bytes;   // of a file
    std::string target;  // of a link
    std::vector<Xattr> xattrs;
    // Of a file: where it has data; nothing: everywhere.
    std::optional<std::vector<SourceFile::Range>> data;
    // By operation: "open", "read", "stat", "map" (NextData), "attributes", "link".
    std::map<std::string, absl::Status> errors;
  };

  FakeSourceFs();  // with a root

  // Paths are relative to the root, "" is the root itself; parents must exist. All objects get times long ago, so that
  // they are not taken for changing.
  void AddFile(const std::string& path, std::string bytes);
  void AddDirectory(const std::string& path);
  void AddLink(const std::string& path, std::string target);
  void AddHardLink(const std::string& path, const std::string& existing);
  void Remove(const std::string& path);
  // Bytes, size and times.
  void Write(const std::string& path, std::string bytes);
  // Under the lock.
  void Change(const std::string& path, const std::function<void(Object&)>& change);
  void Fail(const std::string& path, const std::string& operation, int error_number);

  // Called before every operation on an object (as in `errors`), without the lock: may change things.
  using Hook = std::function<void(std::string_view path, std::string_view operation)>;
  void SetHook(Hook hook);
  // Told to the observer of every scan, before its first entry.
  void AddScanError(SourceError error);
  uint64_t opens() const;  // of files, so far

  absl::StatusOr<std::unique_ptr<Scanner>> Scan(const ScanOptions& options, ScanObserver* observer) override;

 private:
  class Directory;
  class File;
  class Walk;
  struct Node {
    Components directory;
    std::string name;
    std::shared_ptr<Object> object;
  };
  void Add(const std::string& path, EntryType type, std::shared_ptr<Object> object);
  static std::string KeyOf(const std::string& path);
  // The object, after its hook was called; its error, if it has one for the operation.
  absl::StatusOr<std::shared_ptr<Object>> Begin(const std::string& path, std::string_view operation);
  absl::Status Begin(const Object& object, const std::string& path, std::string_view operation);

  mutable absl::Mutex mu_;
  std::map<std::string, Node> nodes_ ABSL_GUARDED_BY(mu_);  // by entry key
  std::shared_ptr<const Hook> hook_ ABSL_GUARDED_BY(mu_);
  std::vector<SourceError> scan_errors_ ABSL_GUARDED_BY(mu_);
  uint64_t next_inode_ ABSL_GUARDED_BY(mu_) = 100;
  int64_t next_time_ ABSL_GUARDED_BY(mu_) = 1'000'000'000;
  uint64_t opens_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SCAN_FAKE_SOURCE_FS_H_
