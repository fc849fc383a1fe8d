#include "server/repository/spool_recovery.h"

#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "storage/pack/spool_file.h"

namespace holdfast {

absl::Status RecoverSpool(Io io, BlobStore& store, const CatalogKey& key, const std::string& directory,
                          Warnings& warnings) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, io.files.List(directory));
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(directory, "/", name);
    if (!ParseSpoolFileName(name)) continue;  // not ours to judge; set-aside files among them
    absl::StatusOr<std::optional<PackSummary>> summary = RecoverSpoolFile(io, path, key);
    absl::Status status = summary.status();
    if (status.ok() && summary->has_value()) status = PutPack(store, io, path, **summary);
    if (status.ok()) continue;
    // Nothing that was committed is in the spool, so nothing there may keep the repository closed. The file stays for
    // the next start, unless it takes the room that everything else needs.
    warnings.Add(absl::StrCat("spool file ", name, " cannot be used: ", status.message()));
    if (absl::IsResourceExhausted(status)) (void)io.files.Unlink(path);
  }
  return absl::OkStatus();
}

}  // namespace holdfast
