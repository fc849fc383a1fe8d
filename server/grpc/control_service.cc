#include "server/grpc/control_service.h"

#include <algorithm>

#include "server/grpc/principal.h"
#include "server/grpc/status_conversion.h"
#include "server/grpc/transfer_service.h"

namespace holdfast {
namespace {

constexpr uint32_t kProtocolVersion = 1;

// The lambda returns absl::Status.
template <typename F>
grpc::Status Answer(F body) {
  return ToGrpcStatus(body());
}

v1::SnapshotInfo ToProto(const CatalogSnapshot& s) {
  v1::SnapshotInfo info;
  info.set_id(std::string(s.id.view()));
  info.set_core(s.core);
  info.set_server_time_unix_ns(absl::ToUnixNanos(s.server_time));
  info.set_log_slot(s.slot);
  return info;
}

}  // namespace

std::string MissingChunksDetails(const std::vector<ChunkId>& missing) {
  v1::MissingChunks details;
  const size_t named = std::min(missing.size(), kMissingNamedMax);
  for (size_t i = 0; i < named; ++i) details.add_ids(std::string(missing[i].view()));
  return details.SerializeAsString();
}

grpc::Status ControlService::GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest*,
                                           v1::GetServerInfoReply* reply) {
  reply->set_version(version_);
  reply->set_protocol(kProtocolVersion);
  return grpc::Status::OK;
}

grpc::Status ControlService::CreateRepository(grpc::ServerContext*, const v1::CreateRepositoryRequest* request,
                                              v1::CreateRepositoryReply*) {
  return Answer([&]() -> absl::Status {
    NewRepository repository;
    repository.name = request->name();
    ASSIGN_OR_RETURN(repository.id, RepositoryId::FromBytes(request->repository_id()));
    if (request->aead() != 1 && request->aead() != 2) return absl::InvalidArgumentError("unknown AEAD");
    repository.aead = static_cast<AeadAlgorithm>(request->aead());
    repository.settings = request->settings();
    repository.key_slots = request->key_slots();
    repository.keyring = request->keyring();
    if (request->catalog_key().size() != 32) return absl::InvalidArgumentError("a catalog key has 32 bytes");
    repository.catalog_key = Key256(reinterpret_cast<const uint8_t*>(request->catalog_key().data()));
    return registry_.Create(repository);
  });
}

grpc::Status ControlService::ListRepositories(grpc::ServerContext*, const v1::ListRepositoriesRequest*,
                                              v1::ListRepositoriesReply* reply) {
  for (const auto& hosted : registry_.List()) {
    v1::RepositoryInfo* info = reply->add_repositories();
    info->set_name(hosted->name());
    info->set_repository_id(std::string(hosted->id().view()));
    info->set_storage(hosted->storage());
    if (absl::Status s = hosted->Health(); !s.ok()) info->set_error(std::string(s.message()));
    for (std::string& w : hosted->Warnings()) info->add_warnings(std::move(w));
    const RepositoryStatistics s = hosted->Statistics();
    info->set_snapshots(s.snapshots);
    info->set_packs(s.packs);
    info->set_stored_bytes(s.stored_bytes);
    info->set_chunks(s.chunks);
  }
  return grpc::Status::OK;
}

grpc::Status ControlService::GetKeys(grpc::ServerContext*, const v1::GetKeysRequest* request, v1::GetKeysReply* reply) {
  return Answer([&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto hosted, registry_.Find(request->repository()));
    ASSIGN_OR_RETURN(StoredKeys::Contents keys, hosted->keys().Get());
    reply->set_repository_id(std::string(hosted->id().view()));
    reply->set_settings(std::move(keys.settings));
    reply->set_key_slots(std::move(keys.key_slots.bytes));
    reply->set_key_slots_generation(keys.key_slots.generation);
    reply->set_keyring(std::move(keys.keyring.bytes));
    reply->set_keyring_generation(keys.keyring.generation);
    return absl::OkStatus();
  });
}

grpc::Status ControlService::PutKeys(grpc::ServerContext*, const v1::PutKeysRequest* request, v1::PutKeysReply*) {
  return Answer([&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto hosted, registry_.Find(request->repository()));
    return hosted->keys().Put({request->key_slots(), request->keyring(), request->generation()});
  });
}

grpc::Status ControlService::ListSnapshots(grpc::ServerContext*, const v1::ListSnapshotsRequest* request,
                                           v1::ListSnapshotsReply* reply) {
  return Answer([&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto hosted, registry_.Find(request->repository()));
    CatalogFilter filter;
    if (!request->source().empty()) filter.source = request->source();
    filter.id_prefix = request->id_prefix();
    ASSIGN_OR_RETURN(CatalogPage page,
                     hosted->engine().catalog().List(filter, request->page_token(), request->page_size()));
    for (const CatalogSnapshot& s : page.snapshots) *reply->add_snapshots() = ToProto(s);
    reply->set_next_page_token(page.next);
    return absl::OkStatus();
  });
}

grpc::Status ControlService::GetManifest(grpc::ServerContext* context, const v1::GetManifestRequest* request,
                                         v1::GetManifestReply* reply) {
  return Answer([&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto hosted, registry_.Find(request->repository()));
    ASSIGN_OR_RETURN(ManifestId id, ManifestId::FromBytes(request->id()));
    ASSIGN_OR_RETURN(*reply->mutable_manifest(), hosted->engine().GetManifest(PrincipalOf(*context), id));
    return absl::OkStatus();
  });
}

grpc::Status ControlService::DeleteSnapshot(grpc::ServerContext* context, const v1::DeleteSnapshotRequest* request,
                                            v1::DeleteSnapshotReply*) {
  return Answer([&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto hosted, registry_.Find(request->repository()));
    ASSIGN_OR_RETURN(ManifestId id, ManifestId::FromBytes(request->id()));
    return hosted->engine().DeleteSnapshot(PrincipalOf(*context), id, request->reason());
  });
}

grpc::Status ControlService::OpenSession(grpc::ServerContext* context, const v1::OpenSessionRequest* request,
                                         v1::OpenSessionReply* reply) {
  return Answer([&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto hosted, registry_.Find(request->repository()));
    std::optional<ManifestId> base;
    if (!request->base().empty()) {
      ASSIGN_OR_RETURN(base, ManifestId::FromBytes(request->base()));
    }
    ASSIGN_OR_RETURN(SessionInfo info,
                     hosted->engine().OpenSession(PrincipalOf(*context), request->source(), request->agent(), base));
    reply->set_session(std::string(info.id.view()));
    if (info.head) reply->set_head(std::string(info.head->view()));
    reply->set_head_sequence(info.head_sequence);
    reply->set_credit_bytes(kUploadCreditBytes);
    return absl::OkStatus();
  });
}

grpc::Status ControlService::Barrier(grpc::ServerContext* context, const v1::BarrierRequest* request,
                                     v1::BarrierReply*) {
  return Answer([&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto hosted, registry_.Find(request->repository()));
    ASSIGN_OR_RETURN(SessionId session, SessionId::FromBytes(request->session()));
    return hosted->engine().Barrier(PrincipalOf(*context), session);
  });
}

grpc::Status ControlService::CommitSnapshot(grpc::ServerContext* context, const v1::CommitSnapshotRequest* request,
                                            v1::CommitSnapshotReply* reply) {
  std::vector<ChunkId> missing;
  absl::Status status = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto hosted, registry_.Find(request->repository()));
    ASSIGN_OR_RETURN(SessionId session, SessionId::FromBytes(request->session()));
    ASSIGN_OR_RETURN(CommitResult result,
                     hosted->engine().Commit(PrincipalOf(*context), session, request->manifest(), &missing));
    reply->set_id(std::string(result.id.view()));
    reply->set_server_time_unix_ns(absl::ToUnixNanos(result.server_time));
    return absl::OkStatus();
  }();
  return ToGrpcStatus(status, MissingChunksDetails(missing));
}

grpc::Status ControlService::CloseSession(grpc::ServerContext* context, const v1::CloseSessionRequest* request,
                                          v1::CloseSessionReply*) {
  return Answer([&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto hosted, registry_.Find(request->repository()));
    ASSIGN_OR_RETURN(SessionId session, SessionId::FromBytes(request->session()));
    return hosted->engine().CloseSession(PrincipalOf(*context), session);
  });
}

}  // namespace holdfast
