#include "server/log/log_record.h"

#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/codec.h"
#include "core/crypto/aead.h"
#include "core/keys/catalog_key.h"
#include "proto/holdfast/format/v1/log.pb.h"

namespace holdfast {
namespace {

namespace pb = ::holdfast::format::v1;

constexpr std::string_view kMagic("HFLOG1\0\0", 8);
constexpr uint8_t kVersion = 1;
constexpr size_t kSaltBytes = 32;
constexpr size_t kHeaderBytes = 56;  // magic, version, AEAD, 6 zero bytes, slot, salt
constexpr std::string_view kNamePrefix = "log/";
constexpr size_t kNameHexDigits = 16;

Key256 SlotKey(const CatalogKey& key, std::string_view salt, uint64_t slot) {
  return DeriveLogKey(key.key, salt, key.repository, slot);
}

std::string Bytes(std::string_view view) { return std::string(view); }

void PayloadToProto(const LogPayload& payload, pb::LogSlot* out) {
  std::visit(
      [out](const auto& r) {
        using T = std::decay_t<decltype(r)>;
        if constexpr (std::is_same_v<T, TakeoverRecord>) {
          out->mutable_takeover()->set_epoch(r.epoch);
          out->mutable_takeover()->set_server_id(r.server_id);
        } else if constexpr (std::is_same_v<T, CommittedRecord>) {
          pb::LogCommitted* p = out->mutable_committed();
          p->set_manifest_id(Bytes(r.manifest.view()));
          p->set_source(r.source);
          p->set_sequence(r.sequence);
          p->set_agent(r.agent);
          p->set_session_id(r.session);
          p->set_core(r.core);
        } else if constexpr (std::is_same_v<T, DeletedRecord>) {
          pb::LogDeleted* p = out->mutable_deleted();
          p->set_manifest_id(Bytes(r.manifest.view()));
          p->set_core(r.core);
          p->set_reason(r.reason);
          p->set_actor(r.actor);
        } else if constexpr (std::is_same_v<T, UndeletedRecord>) {
          out->mutable_undeleted()->set_manifest_id(Bytes(r.manifest.view()));
          out->mutable_undeleted()->set_actor(r.actor);
        } else if constexpr (std::is_same_v<T, SessionRevokedRecord>) {
          out->mutable_session_revoked()->set_session_id(r.session);
          out->mutable_session_revoked()->set_reason(r.reason);
        } else if constexpr (std::is_same_v<T, PurgeIntentRecord>) {
          out->mutable_purge_intent()->set_purge_id(r.purge_id);
          for (const PackId& id : r.packs) {
            out->mutable_purge_intent()->add_pack_ids(Bytes(id.view()));
          }
        } else {
          static_assert(std::is_same_v<T, CheckpointRecord>);
          out->mutable_checkpoint()->set_through_slot(r.through_slot);
          out->mutable_checkpoint()->set_blob_name(r.blob_name);
          out->mutable_checkpoint()->set_digest(Bytes(r.digest.view()));
        }
      },
      payload);
}

absl::StatusOr<LogPayload> PayloadFromProto(const pb::LogSlot& in) {
  switch (in.payload_case()) {
    case pb::LogSlot::kTakeover:
      return TakeoverRecord{in.takeover().epoch(), in.takeover().server_id()};
    case pb::LogSlot::kCommitted: {
      const pb::LogCommitted& p = in.committed();
      ASSIGN_OR_RETURN(ManifestId id, ManifestId::FromBytes(p.manifest_id()));
      return CommittedRecord{id, p.source(), p.sequence(), p.agent(), p.session_id(), p.core()};
    }
    case pb::LogSlot::kDeleted: {
      const pb::LogDeleted& p = in.deleted();
      ASSIGN_OR_RETURN(ManifestId id, ManifestId::FromBytes(p.manifest_id()));
      return DeletedRecord{id, p.core(), p.reason(), p.actor()};
    }
    case pb::LogSlot::kUndeleted: {
      ASSIGN_OR_RETURN(ManifestId id, ManifestId::FromBytes(in.undeleted().manifest_id()));
      return UndeletedRecord{id, in.undeleted().actor()};
    }
    case pb::LogSlot::kSessionRevoked:
      return SessionRevokedRecord{in.session_revoked().session_id(), in.session_revoked().reason()};
    case pb::LogSlot::kPurgeIntent: {
      PurgeIntentRecord out;
      out.purge_id = in.purge_intent().purge_id();
      for (const std::string& raw : in.purge_intent().pack_ids()) {
        ASSIGN_OR_RETURN(PackId id, PackId::FromBytes(raw));
        out.packs.push_back(id);
      }
      return out;
    }
    case pb::LogSlot::kCheckpoint: {
      ASSIGN_OR_RETURN(Digest digest, Digest::FromBytes(in.checkpoint().digest()));
      return CheckpointRecord{in.checkpoint().through_slot(), in.checkpoint().blob_name(), digest};
    }
    case pb::LogSlot::PAYLOAD_NOT_SET:
      break;
  }
  return absl::FailedPreconditionError("a newer server wrote it");
}

}  // namespace

BlobName LogSlotBlobName(uint64_t slot) {
  std::string name(kNamePrefix);
  for (int shift = 60; shift >= 0; shift -= 4) name.push_back("0123456789abcdef"[slot >> shift & 15]);
  return BlobName::FromTrusted(std::move(name));
}

std::optional<uint64_t> ParseLogSlotBlobName(std::string_view name) {
  if (name.size() != kNamePrefix.size() + kNameHexDigits || name.substr(0, kNamePrefix.size()) != kNamePrefix) {
    return std::nullopt;
  }
  uint64_t slot = 0;
  for (char c : name.substr(kNamePrefix.size())) {
    if (c >= '0' && c <= '9') {
      slot = slot << 4 | static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      slot = slot << 4 | static_cast<uint64_t>(c - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  if (slot == 0 || slot > kLogSlotNumberMax) return std::nullopt;
  return slot;
}

absl::StatusOr<std::string> SealLogRecord(const LogRecord& record, const CatalogKey& key,
                                          const std::array<uint8_t, 32>& salt) {
  pb::LogSlot slot;
  slot.set_server_epoch(record.server_epoch);
  if (!record.previous.IsZero()) slot.set_previous_digest(Bytes(record.previous.view()));
  slot.set_time_unix_ns(absl::ToUnixNanos(record.time));
  PayloadToProto(record.payload, &slot);
  if (slot.ByteSizeLong() > kLogSlotBytesMax - kHeaderBytes - kAeadTagSizeInBytes) {
    return absl::ResourceExhaustedError("repository log: a record is too large for a slot");
  }
  const std::string_view salt_view(reinterpret_cast<const char*>(salt.data()), salt.size());
  std::string blob;
  ByteWriter w(&blob);
  w.Bytes(kMagic);
  w.U8(kVersion);
  w.U8(static_cast<uint8_t>(key.aead));
  for (int i = 0; i < 6; ++i) w.U8(0);
  w.U64(record.slot);
  w.Bytes(salt_view);
  Aead aead(key.aead, SlotKey(key, salt_view, record.slot));
  blob += aead.Seal(AeadNonce{}, blob, slot.SerializeAsString());
  return blob;
}

absl::StatusOr<LogRecord> OpenLogRecord(std::string_view blob, uint64_t slot, const CatalogKey& key) {
  const std::string where = absl::StrCat("log slot ", slot);
  auto damaged = [&where](std::string_view what) {
    return absl::DataLossError(absl::StrCat(where, ": ", AbslView(what)));
  };
  if (blob.size() < kHeaderBytes + kAeadTagSizeInBytes) return damaged("is too short");
  ByteReader r(blob);
  if (r.Bytes(kMagic.size()) != kMagic) return damaged("does not begin as a log slot");
  const uint8_t version = r.U8();
  const uint8_t algorithm = r.U8();
  const std::string_view zeros = r.Bytes(6);
  const uint64_t written_as = r.U64();
  const std::string_view salt = r.Bytes(kSaltBytes);
  if (version != kVersion) {
    // A newer server's, or a damaged byte? With the right byte, a slot of version 1 still
    // authenticates.
    std::string repaired(blob);
    repaired[kMagic.size()] = static_cast<char>(kVersion);
    if (OpenLogRecord(repaired, slot, key).ok()) return damaged("has a damaged version byte");
    return absl::FailedPreconditionError(absl::StrCat(where, " has version ", version, ": a newer server wrote it"));
  }
  if (algorithm != static_cast<uint8_t>(key.aead)) return damaged("is sealed with another AEAD");
  if (zeros != std::string_view("\0\0\0\0\0\0", 6)) return damaged("has a malformed header");
  if (written_as != slot) return damaged(absl::StrCat("holds slot ", written_as));
  Aead aead(key.aead, SlotKey(key, salt, slot));
  absl::StatusOr<std::string> plain = aead.Open(AeadNonce{}, blob.substr(0, kHeaderBytes), blob.substr(kHeaderBytes));
  if (!plain.ok()) return damaged("does not authenticate");
  pb::LogSlot in;
  if (!in.ParseFromString(*plain)) return damaged("does not parse");

  LogRecord record;
  record.slot = slot;
  record.server_epoch = in.server_epoch();
  record.time = absl::FromUnixNanos(in.time_unix_ns());
  if (!in.previous_digest().empty()) {
    absl::StatusOr<Digest> previous = Digest::FromBytes(in.previous_digest());
    if (!previous.ok()) return damaged(StdView(previous.status().message()));
    record.previous = *previous;
  }
  absl::StatusOr<LogPayload> payload = PayloadFromProto(in);
  if (!payload.ok()) {
    if (absl::IsFailedPrecondition(payload.status())) return Annotate(payload.status(), where);
    return damaged(StdView(payload.status().message()));
  }
  record.payload = *std::move(payload);
  return record;
}

}  // namespace holdfast
