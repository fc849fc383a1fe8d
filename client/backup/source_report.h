// What went wrong with the source, from the walk and from reading: told to the observer, counted, and noted for the
// manifest. An unreadable file becomes an incomplete snapshot (and exit code 1) here; a machine that is short of
// something ends the backup.
#ifndef HOLDFAST_CLIENT_BACKUP_SOURCE_REPORT_H_
#define HOLDFAST_CLIENT_BACKUP_SOURCE_REPORT_H_

#include <cstdint>
#include <string_view>

#include "client/backup/backup_observer.h"
#include "client/backup/manifest_draft.h"
#include "client/scan/scanner.h"
#include "core/base/status.h"

namespace holdfast {

// One thread.
class SourceReport : public ScanObserver {
 public:
  // Both borrowed.
  SourceReport(ManifestDraft& draft, BackupObserver& observer) : draft_(draft), observer_(observer) {}

  void OnError(const SourceError& error) override;
  void OnSkipped(std::string_view path, SkipReason reason) override;
  void OnVanished(std::string_view path) override;

  // Not OK: the machine, not a file, is why reading failed. Such errors are nobody's failure.
  const absl::Status& machine_status() const { return machine_status_; }
  uint64_t vanished() const { return vanished_; }
  uint64_t skipped() const { return skipped_; }

 private:
  ManifestDraft& draft_;
  BackupObserver& observer_;
  absl::Status machine_status_;
  uint64_t vanished_ = 0, skipped_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_SOURCE_REPORT_H_
