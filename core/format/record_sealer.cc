#include "core/format/record_sealer.h"

#include <cstring>

#include "core/base/limits.h"
#include "core/compression/probe.h"
#include "core/crypto/aead.h"
#include "core/crypto/blake3.h"

namespace holdfast {
namespace {

std::string_view IdBytes(absl::Span<const ChunkId> ids) {
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(ChunkId)};
}

}  // namespace

ContentDigest ComputeContentDigest(ChunkType type, absl::Span<const ChunkId> children, std::string_view plaintext) {
  static_assert(sizeof(ChunkId) == 32);
  char prefix[5] = {static_cast<char>(type)};
  const uint32_t count = static_cast<uint32_t>(children.size());
  std::memcpy(prefix + 1, &count, sizeof(count));
  ContentDigest digest;
  Blake3()
      .Update({prefix, sizeof(prefix)})
      .Update(IdBytes(children))
      .Update(plaintext)
      .Finish(digest.bytes.data(), digest.bytes.size());
  return digest;
}

ChunkRef ComputeChunkRef(const SealingKeys& keys, ChunkType type, absl::Span<const ChunkId> children,
                         std::string_view plaintext) {
  ChunkRef ref;
  ref.digest = ComputeContentDigest(type, children, plaintext);
  uint8_t out[64];
  Blake3(keys.name_key(type)).Update(ref.digest.view()).Finish(out, sizeof(out));
  std::memcpy(ref.id.bytes.data(), out, 32);
  ref.key = Key256(out + 32);
  WipeMemory(out, sizeof(out));
  return ref;
}

RecordSealer::RecordSealer(const SealingKeys& keys) : keys_(keys) {}

size_t RecordSealer::Seal(ChunkType type, const ChunkRef& ref, absl::Span<const ChunkId> children,
                          std::string_view plaintext, int level, bool headroom, char* out) {
  const size_t header_bytes = kRecordHeaderFixedBytes + 32 * children.size();
  char* nonce_out = out + header_bytes;
  char* body_out = nonce_out + kAeadNonceSizeInBytes;
  BodyPrefix prefix;
  prefix.plaintext_length = static_cast<uint32_t>(plaintext.size());
  // The compressed bytes go to their final place; sealing is in place.
  size_t payload = 0;
  if (level != 0 && !plaintext.empty() && !LooksIncompressible(plaintext)) {
    payload = compressor_.Compress(level, plaintext, body_out + kBodyPrefixBytes, CompressBound(plaintext.size()));
  }
  prefix.codec = payload != 0 ? Codec::kZstd : Codec::kNone;
  if (payload == 0) payload = plaintext.size();
  if (keys_.padding) {
    prefix.padding_length = PadmePadding(static_cast<uint32_t>(kBodyPrefixBytes + payload));
  }
  const size_t body_bytes = kBodyPrefixBytes + payload + prefix.padding_length;

  RecordHeader header;
  header.type = type;
  header.aead = static_cast<uint8_t>(keys_.aead);
  header.epoch = keys_.epoch;
  header.uploader = keys_.agent;
  header.sealed_length = static_cast<uint32_t>(kAeadNonceSizeInBytes + body_bytes + kAeadTagSizeInBytes);
  header.id = ref.id;
  header.children.assign(children.begin(), children.end());
  EncodeRecordHeader(header, out);
  std::string_view header_view(out, header_bytes);

  char prefix_bytes[kBodyPrefixBytes];
  EncodeBodyPrefix(prefix, prefix_bytes);
  Blake3 nonce_hash(keys_.nonce_key);
  nonce_hash.Update(header_view);
  nonce_hash.Update({prefix_bytes, kBodyPrefixBytes});
  // The id in the header fixes a stored payload; compressed bytes depend on the library as well.
  if (prefix.codec != Codec::kNone) {
    nonce_hash.Update({body_out + kBodyPrefixBytes, payload});
    if (prefix.padding_length > 0) nonce_hash.Update(std::string(prefix.padding_length, '\0'));
  }
  AeadNonce nonce;
  nonce_hash.Finish(nonce.data(), nonce.size());
  std::memcpy(nonce_out, nonce.data(), nonce.size());

  std::string aad;
  aad.reserve(16 + header_bytes);
  aad.append(keys_.repository.view());
  aad.append(header_view);
  Aead aead(keys_.aead, ref.key);
  if (prefix.codec == Codec::kNone && headroom && prefix.padding_length == 0) {
    char* before = const_cast<char*>(plaintext.data()) - kBodyPrefixBytes;
    char saved[kBodyPrefixBytes];
    std::memcpy(saved, before, kBodyPrefixBytes);
    std::memcpy(before, prefix_bytes, kBodyPrefixBytes);
    aead.Seal(nonce, aad, {before, body_bytes}, body_out);
    std::memcpy(before, saved, kBodyPrefixBytes);
  } else {
    std::memcpy(body_out, prefix_bytes, kBodyPrefixBytes);
    if (prefix.codec == Codec::kNone) std::memcpy(body_out + kBodyPrefixBytes, plaintext.data(), payload);
    std::memset(body_out + kBodyPrefixBytes + payload, 0, prefix.padding_length);
    aead.Seal(nonce, aad, {body_out, body_bytes}, body_out);
  }
  return header_bytes + header.sealed_length;
}

RecordOpener::RecordOpener(const RepositoryId& repository) : repository_(repository) {}

absl::StatusOr<OpenedChunk> RecordOpener::Open(const ChunkRef& ref, std::string_view record) {
  auto damaged = [&](std::string_view what) {
    return absl::DataLossError(absl::StrCat("chunk ", HexEncode(ref.id.view().substr(0, 8)), ": ", AbslView(what)));
  };
  if (record.size() < kRecordHeaderFixedBytes) return damaged("truncated record");
  absl::StatusOr<size_t> header_bytes = RecordHeaderSize(record.substr(0, kRecordHeaderFixedBytes));
  if (!header_bytes.ok() || *header_bytes > record.size()) return damaged("malformed record header");
  absl::StatusOr<RecordHeader> header = DecodeRecordHeader(record.substr(0, *header_bytes));
  if (!header.ok()) return damaged(StdView(header.status().message()));
  header_ = *std::move(header);
  std::string_view sealed = record.substr(*header_bytes);
  if (header_.id != ref.id) return damaged("another chunk's record");
  if (header_.sealed_length != sealed.size()) return damaged("a record of another length than its header says");
  if (!IsKnownAead(header_.aead)) return damaged("sealed with an algorithm this version does not know");
  AeadNonce nonce;
  std::memcpy(nonce.data(), sealed.data(), nonce.size());
  sealed.remove_prefix(nonce.size());
  std::string aad;
  aad.reserve(16 + *header_bytes);
  aad.append(repository_.view());
  aad.append(record.substr(0, *header_bytes));
  Aead aead(static_cast<AeadAlgorithm>(header_.aead), ref.key);
  if (body_.size() < sealed.size()) body_.resize(sealed.size());
  if (!aead.Open(nonce, aad, sealed, body_.data())) return damaged("does not authenticate");
  std::string_view body(body_.data(), sealed.size() - kAeadTagSizeInBytes);
  absl::StatusOr<BodyPrefix> prefix = DecodeBodyPrefix(body);
  if (!prefix.ok()) return damaged(StdView(prefix.status().message()));
  std::string_view payload = body.substr(kBodyPrefixBytes, body.size() - kBodyPrefixBytes - prefix->padding_length);
  OpenedChunk chunk;
  chunk.type = header_.type;
  chunk.children = header_.children;
  if (prefix->codec == Codec::kNone) {
    if (payload.size() != prefix->plaintext_length) return damaged("stored with another length than stated");
    chunk.plaintext = payload;
  } else {
    if (plaintext_.size() < prefix->plaintext_length) plaintext_.resize(prefix->plaintext_length);
    absl::Status s = decompressor_.Decompress(payload, plaintext_.data(), prefix->plaintext_length);
    if (!s.ok()) return damaged(StdView(s.message()));
    chunk.plaintext = {plaintext_.data(), prefix->plaintext_length};
  }
  if (ComputeContentDigest(header_.type, header_.children, chunk.plaintext) != ref.digest) {
    return damaged("its content is not what the snapshot says");
  }
  return chunk;
}

}  // namespace holdfast
