#include "server/repository/stored_keys.h"

#include <utility>

namespace holdfast {

absl::Status StoredKeys::Create(std::string_view settings, std::string_view key_slots, std::string_view keyring) {
  absl::MutexLock lock(&mu_);
  for (const auto& [kind, bytes] :
       {std::pair(KeyBlobKind::kSettings, settings), std::pair(KeyBlobKind::kSlots, key_slots),
        std::pair(KeyBlobKind::kKeyring, keyring)}) {
    absl::Status s = PutKeyBlob(store_, kind, 1, bytes);
    if (absl::IsAborted(s)) return absl::AlreadyExistsError(s.message());
    RETURN_IF_ERROR(s);
  }
  return absl::OkStatus();
}

absl::Status StoredKeys::Remove() {
  absl::MutexLock lock(&mu_);
  ASSIGN_OR_RETURN(std::vector<BlobInfo> blobs, ListAll(store_, ""));
  for (const BlobInfo& blob : blobs) {
    if (IsKeyBlob(blob.name)) RETURN_IF_ERROR(store_.Delete(BlobName::FromTrusted(blob.name)));
  }
  return absl::OkStatus();
}

absl::Status StoredKeys::Check(std::vector<std::string>* warnings) {
  absl::MutexLock lock(&mu_);
  absl::Status first;
  for (KeyBlobKind kind : {KeyBlobKind::kSettings, KeyBlobKind::kSlots, KeyBlobKind::kKeyring}) {
    absl::Status s = ReadNewestKeyBlob(store_, kind, warnings).status();
    if (s.ok()) s = RestoreKeyBlobCopies(store_, kind);
    if (first.ok()) first = s;
  }
  return first;
}

absl::StatusOr<StoredKeys::Contents> StoredKeys::Get() {
  absl::ReaderMutexLock lock(&mu_);
  Contents contents;
  ASSIGN_OR_RETURN(KeyBlob settings, ReadNewestKeyBlob(store_, KeyBlobKind::kSettings, nullptr));
  contents.settings = std::move(settings.bytes);
  ASSIGN_OR_RETURN(contents.key_slots, ReadNewestKeyBlob(store_, KeyBlobKind::kSlots, nullptr));
  ASSIGN_OR_RETURN(contents.keyring, ReadNewestKeyBlob(store_, KeyBlobKind::kKeyring, nullptr));
  return contents;
}

absl::Status StoredKeys::Put(const Change& change) {
  const bool slots = !change.key_slots.empty();
  if (slots == !change.keyring.empty()) {
    return absl::InvalidArgumentError("exactly one of key slots and keyring must be given");
  }
  absl::MutexLock lock(&mu_);
  return PutKeyBlob(store_, slots ? KeyBlobKind::kSlots : KeyBlobKind::kKeyring, change.generation,
                    slots ? change.key_slots : change.keyring);
}

}  // namespace holdfast
