#include "server/repository/key_blobs.h"

#include <algorithm>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "core/crypto/blake3.h"

namespace holdfast {
namespace {

constexpr uint64_t kKeyBlobBytesMax = 17u << 20;
constexpr KeyBlobKind kAllKinds[] = {KeyBlobKind::kSettings, KeyBlobKind::kSlots, KeyBlobKind::kKeyring};

struct KindRules {
  std::string_view prefix;
  std::string_view magic;
  int copies;
};
KindRules Rules(KeyBlobKind kind) {
  switch (kind) {
    case KeyBlobKind::kSettings:
      return {"format/", "HFREPO1", 2};
    case KeyBlobKind::kSlots:
      return {"keys/slots-", "HFSLOT1", 3};
    case KeyBlobKind::kKeyring:
      return {"keys/ring-", "HFRING1", 2};
  }
  return {};
}

BlobName CopyName(const KindRules& rules, uint64_t generation, int copy) {
  return BlobName::FromTrusted(absl::StrFormat("%s%08x-%d", std::string(rules.prefix), generation, copy));
}

// Magic and the BLAKE3 at the end.
bool IsIntact(const KindRules& rules, std::string_view bytes) {
  if (bytes.size() < 8 + 4 + 32 + 32 || bytes.substr(0, 7) != rules.magic || bytes[7] != '\0') return false;
  return Blake3Digest(bytes.substr(0, bytes.size() - 32)).view() == bytes.substr(bytes.size() - 32);
}

absl::StatusOr<std::map<uint64_t, int, std::greater<>>> ListGenerations(BlobStore& store, const KindRules& rules) {
  ASSIGN_OR_RETURN(std::vector<BlobInfo> blobs, ListAll(store, rules.prefix));
  std::map<uint64_t, int, std::greater<>> out;
  for (const BlobInfo& blob : blobs) {
    std::string_view rest = std::string_view(blob.name).substr(rules.prefix.size());
    uint64_t generation;
    if (rest.size() != 10 || rest[8] != '-' || !absl::SimpleHexAtoi(AbslView(rest.substr(0, 8)), &generation)) continue;
    ++out[generation];
  }
  return out;
}

}  // namespace

std::string_view KeyBlobKindName(KeyBlobKind kind) {
  switch (kind) {
    case KeyBlobKind::kSettings:
      return "settings";
    case KeyBlobKind::kSlots:
      return "key slots";
    case KeyBlobKind::kKeyring:
      return "keyring";
  }
  return "";
}

bool IsKeyBlob(std::string_view name) {
  return std::ranges::any_of(kAllKinds, [&](KeyBlobKind kind) { return name.starts_with(Rules(kind).prefix); });
}

absl::StatusOr<KeyBlob> ReadNewestKeyBlob(BlobStore& store, KeyBlobKind kind, std::vector<std::string>* warnings) {
  const KindRules rules = Rules(kind);
  ASSIGN_OR_RETURN(auto generations, ListGenerations(store, rules));
  if (generations.empty()) {
    return absl::NotFoundError(absl::StrCat("the repository has no ", AbslView(KeyBlobKindName(kind))));
  }
  for (const auto& [generation, count] : generations) {
    absl::Status unread;
    for (int copy = 0; copy < rules.copies; ++copy) {
      BlobName name = CopyName(rules, generation, copy);
      absl::StatusOr<std::string> bytes = GetWholeBlob(store, name, kKeyBlobBytesMax);
      if (bytes.ok() && IsIntact(rules, *bytes)) {
        // The highest number in use: the next generation comes after it even if this one is older.
        return KeyBlob{generations.begin()->first, *std::move(bytes)};
      }
      // A copy that the storage cannot read now may be read later: what it holds is not known to be lost.
      if (!bytes.ok() && !absl::IsNotFound(bytes.status()) && !absl::IsOutOfRange(bytes.status())) {
        unread = bytes.status();
      }
      if (warnings) {
        warnings->push_back(absl::StrCat(name.str(), bytes.ok() ? " is damaged" : " is missing or unreadable"));
      }
    }
    // An older generation may open to a password that was removed: it serves only when the newer one is lost for sure.
    RETURN_IF_ERROR(unread);
  }
  return absl::DataLossError(absl::StrCat("no copy of the ", AbslView(KeyBlobKindName(kind)),
                                          " is intact: restore them from a copy of the storage"));
}

absl::Status PutKeyBlob(BlobStore& store, KeyBlobKind kind, uint64_t generation, std::string_view bytes) {
  const KindRules rules = Rules(kind);
  if (!IsIntact(rules, bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("not intact ", AbslView(KeyBlobKindName(kind))));
  }
  ASSIGN_OR_RETURN(auto generations, ListGenerations(store, rules));
  const uint64_t newest = generations.empty() ? 0 : generations.begin()->first;
  if (generation != newest + 1) {
    return absl::AbortedError(absl::StrCat("the newest generation of the ", AbslView(KeyBlobKindName(kind)), " is ",
                                           newest, ", so ", generation, " cannot be next"));
  }
  for (int copy = 0; copy < rules.copies; ++copy) {
    BlobName name = CopyName(rules, generation, copy);
    absl::Status s = PutBytes(store, name, bytes, PutMode::kIfAbsent);
    // Copy 0 decides between two writers of the same generation.
    if (absl::IsAlreadyExists(s)) {
      return absl::AbortedError(absl::StrCat("another client wrote generation ", generation, " at the same time"));
    }
    if (!s.ok()) {
      // All or nothing: half a generation would already be the newest one, while its writer hears that it failed.
      for (int written = 0; written <= copy; ++written) {
        absl::Status removed = store.Delete(CopyName(rules, generation, written));
        if (!removed.ok()) {
          return absl::UnavailableError(
              absl::StrCat("the outcome is unknown: ", s.message(), "; then ", removed.message()));
        }
      }
      return s;
    }
  }
  for (int copy = 0; copy < rules.copies; ++copy) {
    BlobName name = CopyName(rules, generation, copy);
    ASSIGN_OR_RETURN(std::string read_back, GetWholeBlob(store, name, kKeyBlobBytesMax));
    if (read_back != bytes) {
      return absl::DataLossError(absl::StrCat(name.str(), " reads back differently from what was written"));
    }
  }
  // A removed password must stop opening anything we still store: two generations are kept, no more.
  for (const auto& [old, count] : generations) {
    if (old + 1 >= generation) continue;
    for (int copy = 0; copy < rules.copies; ++copy) RETURN_IF_ERROR(store.Delete(CopyName(rules, old, copy)));
  }
  return absl::OkStatus();
}

absl::Status RestoreKeyBlobCopies(BlobStore& store, KeyBlobKind kind) {
  const KindRules rules = Rules(kind);
  ASSIGN_OR_RETURN(auto generations, ListGenerations(store, rules));
  if (generations.empty()) return absl::OkStatus();
  const auto [newest, count] = *generations.begin();
  if (count == rules.copies) return absl::OkStatus();
  ASSIGN_OR_RETURN(KeyBlob blob, ReadNewestKeyBlob(store, kind, nullptr));
  for (int copy = 0; copy < rules.copies; ++copy) {
    absl::StatusOr<std::string> bytes = GetWholeBlob(store, CopyName(rules, newest, copy), kKeyBlobBytesMax);
    if (bytes.ok() && *bytes == blob.bytes) break;
    // The newest generation has no intact copy: its others must not be made from an older one.
    if (copy + 1 == rules.copies) return absl::OkStatus();
  }
  for (int copy = 0; copy < rules.copies; ++copy) {
    absl::Status s = PutBytes(store, CopyName(rules, newest, copy), blob.bytes, PutMode::kIfAbsent);
    if (!s.ok() && !absl::IsAlreadyExists(s)) return s;
  }
  return absl::OkStatus();
}

}  // namespace holdfast
