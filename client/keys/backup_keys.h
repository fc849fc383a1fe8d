// What a backup writes with: made from a password or from credentials (repository_access.h), used by client/backup.
#ifndef HOLDFAST_CLIENT_KEYS_BACKUP_KEYS_H_
#define HOLDFAST_CLIENT_KEYS_BACKUP_KEYS_H_

#include "core/chunking/chunker.h"
#include "core/crypto/types.h"
#include "core/format/manifest.h"
#include "core/format/record_sealer.h"

namespace holdfast {

// Immutable.
struct BackupKeys {
  SealingKeys sealing;
  ManifestKeys manifest;
  Key128 cut_key;
  Key256 name_cut_key;
  ChunkerParams chunker;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_KEYS_BACKUP_KEYS_H_
