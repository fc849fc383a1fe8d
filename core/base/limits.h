// Named limits shared by the formats and the wire. Raising one is a format or protocol change: see docs/format.md.
#ifndef HOLDFAST_CORE_BASE_LIMITS_H_
#define HOLDFAST_CORE_BASE_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace holdfast {

inline constexpr uint32_t kChunkPlaintextBytesMax = 8u << 20;  // one-shot decryption in a browser
inline constexpr uint32_t kChunkSealedBytesMax = kChunkPlaintextBytesMax + (1u << 19);  // with padding
inline constexpr uint32_t kChunkChildrenMax = 16384;           // child ids in one record header
inline constexpr uint32_t kBundleThresholdBytes = 128u << 10;  // files below this size are bundled
inline constexpr uint32_t kBundleBytesMax = 1u << 20;          // forced bundle end
inline constexpr uint32_t kBundleFilesMax = 4096;
inline constexpr uint32_t kInlineContentBytesMax = 64;
inline constexpr uint32_t kNameBytesMax = 4096;      // one path component (255 on Linux)
inline constexpr uint32_t kPathDepthMax = 1u << 16;  // components below the root
inline constexpr uint32_t kTreeLevelsMax = 16;
inline constexpr uint32_t kManifestBytesMax = 10u << 20;
inline constexpr uint32_t kEntryKeyBytesMax = 64u << 10;  // directory and name: what a path may have
inline constexpr uint32_t kMessageBytesMax = 12u << 20;   // one gRPC message

}  // namespace holdfast

#endif  // HOLDFAST_CORE_BASE_LIMITS_H_
