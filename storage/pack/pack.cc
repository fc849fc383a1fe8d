#include "storage/pack/pack.h"

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

char KindLetter(PackKind kind) { return kind == PackKind::kData ? 'd' : 't'; }

}  // namespace

BlobName PackBlobName(PackKind kind, const PackId& id) {
  std::string hex = HexEncode(id.view());
  return BlobName::FromTrusted(
      absl::StrCat("packs/", std::string(1, KindLetter(kind)), "/", hex.substr(0, 2), "/", hex));
}

std::optional<std::pair<PackKind, PackId>> ParsePackBlobName(std::string_view name) {
  constexpr std::string_view kPrefix = "packs/";
  constexpr size_t kHexBytes = 2 * PackId::kSizeInBytes;
  // packs/d/00/<hex>
  if (name.size() != kPrefix.size() + 2 + 3 + kHexBytes || !name.starts_with(kPrefix)) {
    return std::nullopt;
  }
  auto raw = HexDecode(name.substr(name.size() - kHexBytes));
  if (!raw.ok()) return std::nullopt;
  auto id = PackId::FromBytes(*raw);
  if (!id.ok()) return std::nullopt;
  PackKind kind = name[kPrefix.size()] == 'd' ? PackKind::kData : PackKind::kTree;
  if (PackBlobName(kind, *id).str() != name) return std::nullopt;  // spelled otherwise
  return std::make_pair(kind, *id);
}

std::string SpoolFileName(PackKind kind, const PackId& id) {
  return absl::StrCat(HexEncode(id.view()), ".", std::string(1, KindLetter(kind)));
}

std::optional<std::pair<PackKind, PackId>> ParseSpoolFileName(std::string_view name) {
  constexpr size_t kHexBytes = 2 * PackId::kSizeInBytes;
  if (name.size() != kHexBytes + 2) return std::nullopt;
  auto raw = HexDecode(name.substr(0, kHexBytes));
  if (!raw.ok()) return std::nullopt;
  auto id = PackId::FromBytes(*raw);
  if (!id.ok()) return std::nullopt;
  PackKind kind = name.back() == 'd' ? PackKind::kData : PackKind::kTree;
  if (SpoolFileName(kind, *id) != name) return std::nullopt;
  return std::make_pair(kind, *id);
}

}  // namespace holdfast
