// Fixed-width identifiers. They are public values (never secrets), ordered by memcmp.
#ifndef HOLDFAST_CORE_BASE_IDS_H_
#define HOLDFAST_CORE_BASE_IDS_H_

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace holdfast {

// N bytes; the tag keeps kinds of id apart. All zeros = unset.
template <typename Tag, size_t N>
struct FixedId {
  static constexpr size_t kSizeInBytes = N;
  std::array<uint8_t, N> bytes{};

  static absl::StatusOr<FixedId> FromBytes(std::string_view raw) {
    if (raw.size() != N) {
      return absl::InvalidArgumentError(absl::StrCat("an id of ", raw.size(), " bytes where ", N, " are expected"));
    }
    FixedId id;
    std::memcpy(id.bytes.data(), raw.data(), N);
    return id;
  }
  std::string_view view() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
  bool IsZero() const { return *this == FixedId{}; }
  auto operator<=>(const FixedId& o) const { return std::memcmp(bytes.data(), o.bytes.data(), N) <=> 0; }
  bool operator==(const FixedId& o) const { return std::memcmp(bytes.data(), o.bytes.data(), N) == 0; }
  // All of it: honest ids are outputs of a PRF, but the wire may bring any number that begin alike.
  template <typename H>
  friend H AbslHashValue(H h, const FixedId& id) {
    return H::combine_contiguous(std::move(h), id.bytes.data(), N);
  }
};

using ChunkId = FixedId<struct ChunkIdTag, 32>;            // first half of the keyed hash of a chunk
using ManifestId = FixedId<struct ManifestIdTag, 32>;      // BLAKE3 of the manifest's bytes = the snapshot's id
using PackId = FixedId<struct PackIdTag, 16>;              // random
using RepositoryId = FixedId<struct RepositoryIdTag, 16>;  // random, chosen at creation
using Digest = FixedId<struct DigestTag, 32>;              // BLAKE3-256 of stored bytes

// Lower-case hexadecimal, both ways.
std::string HexEncode(std::string_view bytes);
absl::StatusOr<std::string> HexDecode(std::string_view hex);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_BASE_IDS_H_
