// Gives metadata to objects of the target. Everything goes through a descriptor of the object, so that nothing else can
// get it. What the target refuses is reported, and the rest is set all the same. Thread-safe.
#ifndef HOLDFAST_CLIENT_RESTORE_METADATA_WRITER_H_
#define HOLDFAST_CLIENT_RESTORE_METADATA_WRITER_H_

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "client/restore/metadata.h"
#include "client/restore/restore_run.h"

namespace holdfast {

inline constexpr char kDefaultAcl[] = "system.posix_acl_default";
inline constexpr char kAccessAcl[] = "system.posix_acl_access";

// The name of what `fd` is open on, also of a symbolic link: for calls that take no descriptor of O_PATH.
std::string ProcPath(int fd);

// What a file got when it was made.
struct CreatedAs {
  uint32_t mode = 0;
  uint32_t uid = 0, gid = 0;
};

class MetadataWriter {
 public:
  // Borrowed.
  explicit MetadataWriter(RestoreRun& run) : run_(run) {}

  // The path of the object in the snapshot; asked for only when there is something to report.
  using PathOf = absl::FunctionRef<std::string()>;

  // A new file, open for writing. `acl`: it may have got an access ACL that is not of the snapshot.
  void SetOnNewFile(int fd, CreatedAs created, bool acl, const Metadata& metadata, PathOf path);
  // A directory, open for reading.
  void SetOnDirectory(int fd, const Metadata& metadata, PathOf path);
  // An object of any type, open with O_PATH; `now` is what it is. `acl` as above.
  void SetOnObject(int path_fd, struct stat now, bool acl, const Metadata& metadata, PathOf path);

 private:
  void SetXattrs(int fd, bool through_proc, const std::vector<Xattr>& xattrs, PathOf path);
  void Report(std::string_view operation, std::string_view call, PathOf path);  // errno

  RestoreRun& run_;
  const uint32_t euid_ = geteuid();
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_METADATA_WRITER_H_
