// From what a look at an object said to the entry that stands for it. Content and attributes are not its business.
#ifndef HOLDFAST_CLIENT_BACKUP_ENTRY_MAKER_H_
#define HOLDFAST_CLIENT_BACKUP_ENTRY_MAKER_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "client/owners/owner_names.h"
#include "client/scan/scanner.h"
#include "core/tree/entry.h"

namespace holdfast {

// One thread.
class EntryMaker {
 public:
  Entry Make(const SourceEntry& source);
  // What may change while a file is read: owner, mode, times and so on, but not the size.
  void SetMetadata(const SourceStat& stat, Entry& entry);

 private:
  OwnerNames owners_;
  absl::flat_hash_map<uint64_t, uint32_t> devices_;  // st_dev, in the order in which they were met
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_ENTRY_MAKER_H_
