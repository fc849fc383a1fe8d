// Who watches a backup: hears of what went wrong with the source, shows progress, may cancel.
#ifndef HOLDFAST_CLIENT_BACKUP_BACKUP_OBSERVER_H_
#define HOLDFAST_CLIENT_BACKUP_BACKUP_OBSERVER_H_

#include <atomic>
#include <cstdint>
#include <string_view>

#include "client/scan/scanner.h"

namespace holdfast {

enum class BackupPhase { kScanning, kCommitting };

struct BackupObserver {
  virtual ~BackupObserver() = default;
  // From one thread.
  virtual void OnSourceError(const SourceError& error) {}
  virtual void OnSkipped(std::string_view path, SkipReason reason) {}
  virtual void OnVanished(std::string_view path) {}
  virtual void OnNote(std::string_view message) {}  // e.g. reading everything again, and why

  // Progress, readable at any time.
  std::atomic<uint64_t> files_seen{0}, bytes_seen{0};  // by the walk
  std::atomic<uint64_t> files_done{0}, bytes_done{0};  // stored or found unchanged
  std::atomic<uint64_t> bytes_sent{0};
  std::atomic<uint64_t> files_expected{0}, bytes_expected{0};  // from the previous snapshot; 0 = not known
  std::atomic<BackupPhase> phase{BackupPhase::kScanning};
  std::atomic<bool> cancel{false};
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_BACKUP_OBSERVER_H_
