#include "core/format/record.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

// Persistent: docs/format.md, section 5.
constexpr uint8_t kRecordVersion = 1;
constexpr uint8_t kAeadMin = 1;
constexpr uint8_t kAeadMax = 2;
constexpr size_t kIdBytes = ChunkId::kSizeInBytes;
// Where the fields of a header are; the children follow the fixed part.
constexpr size_t kVersionAt = 0;
constexpr size_t kTypeAt = 1;
constexpr size_t kAeadAt = 2;
constexpr size_t kReservedAt = 3;
constexpr size_t kEpochAt = 4;
constexpr size_t kUploaderAt = 8;
constexpr size_t kSealedLengthAt = 12;
constexpr size_t kChildCountAt = 16;
static_assert(kRecordIdAt + kIdBytes == kRecordHeaderFixedBytes);
// And those of a body's prefix.
constexpr size_t kCodecAt = 0;
constexpr size_t kPlaintextLengthAt = 1;
constexpr size_t kPaddingLengthAt = 5;
static_assert(kPaddingLengthAt + 4 == kBodyPrefixBytes);

template <typename T>
void Put(char* p, T v) {
  std::memcpy(p, &v, sizeof(v));
}
template <typename T>
T Load(const char* p) {
  T v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("malformed chunk record: ", AbslView(what)));
}

// Every rule on the first 52 bytes.
absl::Status CheckFixedPart(std::string_view in) {
  const uint8_t version = static_cast<uint8_t>(in[kVersionAt]);
  const uint8_t type = static_cast<uint8_t>(in[kTypeAt]);
  const uint8_t aead = static_cast<uint8_t>(in[kAeadAt]);
  if (version != kRecordVersion) {
    return absl::InvalidArgumentError(absl::StrCat("chunk record of unknown version ", version));
  }
  if (type != static_cast<uint8_t>(ChunkType::kData) && type != static_cast<uint8_t>(ChunkType::kTree)) {
    return Malformed("unknown type");
  }
  if (aead < kAeadMin || aead > kAeadMax) return Malformed("unknown AEAD");
  if (in[kReservedAt] != 0) return Malformed("byte 3 is not zero");
  const uint32_t sealed_length = Load<uint32_t>(in.data() + kSealedLengthAt);
  if (sealed_length < kSealedBytesMin || sealed_length > kChunkSealedBytesMax) {
    return Malformed("sealed length out of range");
  }
  const uint32_t children = Load<uint32_t>(in.data() + kChildCountAt);
  if (children > kChunkChildrenMax) return Malformed("too many children");
  if (children != 0 && type == static_cast<uint8_t>(ChunkType::kData)) {
    return Malformed("a data chunk has no children");
  }
  return absl::OkStatus();
}

}  // namespace

void EncodeRecordHeader(const RecordHeader& header, char* out) {
  out[kVersionAt] = static_cast<char>(kRecordVersion);
  out[kTypeAt] = static_cast<char>(header.type);
  out[kAeadAt] = static_cast<char>(header.aead);
  out[kReservedAt] = 0;
  Put(out + kEpochAt, header.epoch);
  Put(out + kUploaderAt, header.uploader);
  Put(out + kSealedLengthAt, header.sealed_length);
  Put(out + kChildCountAt, static_cast<uint32_t>(header.children.size()));
  std::memcpy(out + kRecordIdAt, header.id.bytes.data(), kIdBytes);
  char* p = out + kRecordHeaderFixedBytes;
  for (const ChunkId& child : header.children) {
    std::memcpy(p, child.bytes.data(), kIdBytes);
    p += kIdBytes;
  }
}

std::string EncodeRecordHeader(const RecordHeader& header) {
  std::string out(header.encoded_size(), '\0');
  EncodeRecordHeader(header, out.data());
  return out;
}

absl::StatusOr<size_t> RecordHeaderSize(std::string_view first_52_bytes) {
  if (first_52_bytes.size() < kRecordHeaderFixedBytes) return Malformed("header too short");
  RETURN_IF_ERROR(CheckFixedPart(first_52_bytes));
  return kRecordHeaderFixedBytes + kIdBytes * size_t{Load<uint32_t>(first_52_bytes.data() + kChildCountAt)};
}

absl::StatusOr<RecordHeader> DecodeRecordHeader(std::string_view in) {
  ASSIGN_OR_RETURN(size_t size, RecordHeaderSize(in));
  if (in.size() != size) {
    return Malformed(in.size() < size ? "header too short" : "bytes behind the header");
  }
  RecordHeader header;
  header.type = static_cast<ChunkType>(in[kTypeAt]);
  header.aead = static_cast<uint8_t>(in[kAeadAt]);
  header.epoch = Load<uint32_t>(in.data() + kEpochAt);
  header.uploader = Load<uint32_t>(in.data() + kUploaderAt);
  header.sealed_length = Load<uint32_t>(in.data() + kSealedLengthAt);
  std::memcpy(header.id.bytes.data(), in.data() + kRecordIdAt, kIdBytes);
  header.children.resize((size - kRecordHeaderFixedBytes) / kIdBytes);
  const char* p = in.data() + kRecordHeaderFixedBytes;
  for (size_t i = 0; i < header.children.size(); ++i, p += kIdBytes) {
    std::memcpy(header.children[i].bytes.data(), p, kIdBytes);
    if (i > 0 && !(header.children[i - 1] < header.children[i])) {
      return Malformed("children are not strictly ascending");
    }
  }
  return header;
}

void EncodeBodyPrefix(const BodyPrefix& prefix, char out[kBodyPrefixBytes]) {
  out[kCodecAt] = static_cast<char>(prefix.codec);
  Put(out + kPlaintextLengthAt, prefix.plaintext_length);
  Put(out + kPaddingLengthAt, prefix.padding_length);
}

absl::StatusOr<BodyPrefix> DecodeBodyPrefix(std::string_view body) {
  if (body.size() < kBodyPrefixBytes) return Malformed("body too short");
  const uint8_t codec = static_cast<uint8_t>(body[kCodecAt]);
  if (codec > static_cast<uint8_t>(Codec::kZstd)) return Malformed("unknown codec");
  BodyPrefix prefix;
  prefix.codec = static_cast<Codec>(codec);
  prefix.plaintext_length = Load<uint32_t>(body.data() + kPlaintextLengthAt);
  prefix.padding_length = Load<uint32_t>(body.data() + kPaddingLengthAt);
  if (prefix.plaintext_length > kChunkPlaintextBytesMax) return Malformed("plaintext too long");
  const size_t rest = body.size() - kBodyPrefixBytes;
  if (prefix.padding_length > rest) return Malformed("padding is longer than the body");
  if (prefix.codec == Codec::kNone && rest - prefix.padding_length != prefix.plaintext_length) {
    return Malformed("stored payload does not have the plaintext's length");
  }
  for (char c : body.substr(body.size() - prefix.padding_length)) {
    if (c != 0) return Malformed("padding is not zero");
  }
  return prefix;
}

uint32_t PadmePadding(uint32_t length) {
  if (length < 2) return 0;
  const uint32_t e = static_cast<uint32_t>(std::bit_width(length)) - 1;
  const uint32_t s = static_cast<uint32_t>(std::bit_width(e));  // floor(log2 e) + 1
  const uint64_t mask = (uint64_t{1} << (e - s)) - 1;
  return static_cast<uint32_t>(((uint64_t{length} + mask) & ~mask) - length);
}

}  // namespace holdfast
