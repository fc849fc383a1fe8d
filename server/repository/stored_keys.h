// What the server keeps of one repository's keys: settings, key slots and keyring, each the newest of its generations.
// The server cannot open them; clients read all three and write key slots or keyring. Thread-safe; blocks on the
// storage.
#ifndef HOLDFAST_SERVER_REPOSITORY_STORED_KEYS_H_
#define HOLDFAST_SERVER_REPOSITORY_STORED_KEYS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "core/base/status.h"
#include "server/repository/key_blobs.h"
#include "storage/blob_store.h"

namespace holdfast {

class StoredKeys {
 public:
  struct Contents {
    std::string settings;
    KeyBlob key_slots, keyring;
  };
  // One of the two is not empty, and is what to write.
  struct Change {
    std::string_view key_slots, keyring;
    uint64_t generation = 0;
  };

  explicit StoredKeys(BlobStore& store) : store_(store) {}  // borrowed

  // The first generation of all three. ALREADY_EXISTS when the storage has keys; INVALID_ARGUMENT when one is not
  // intact. What was written before an error stays.
  absl::Status Create(std::string_view settings, std::string_view key_slots, std::string_view keyring);
  // All of them: for what is left of a repository that never came to be.
  absl::Status Remove();
  // Looks at all three and puts the copies that are missing, as after a crash between two of them. The first error;
  // damaged copies are named in `warnings`.
  absl::Status Check(std::vector<std::string>* warnings);
  // NOT_FOUND: one was never written; DATA_LOSS: no copy of one is intact.
  absl::StatusOr<Contents> Get();
  // INVALID_ARGUMENT unless exactly one is given, and intact; ABORTED when the generation is not the newest plus one;
  // UNAVAILABLE: whether it was written is not known.
  absl::Status Put(const Change& change);

 private:
  BlobStore& store_;
  absl::Mutex mu_;  // one writer at a time, and no reader meanwhile: a write removes old generations
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_STORED_KEYS_H_
