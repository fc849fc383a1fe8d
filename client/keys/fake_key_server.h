// A server that keeps keys and nothing else, for tests; what more a test needs it overrides.
#ifndef HOLDFAST_CLIENT_KEYS_FAKE_KEY_SERVER_H_
#define HOLDFAST_CLIENT_KEYS_FAKE_KEY_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/rpc/repository_client.h"
#include "core/base/ids.h"
#include "core/base/status.h"

namespace holdfast {

// Keeps the key blobs of repositories as the server does: generations, of which a reader gets the newest. One thread.
class FakeKeyServer : public RepositoryClient {
 public:
  struct Repository {
    std::string id, settings;
    std::map<uint64_t, std::string> slots, keyring;  // by generation; two are kept
  };

  absl::StatusOr<v1::GetKeysReply> GetKeys(const std::string& repository) override {
    auto it = repositories.find(repository);
    if (it == repositories.end()) return absl::NotFoundError("no such repository");
    const Repository& r = it->second;
    v1::GetKeysReply reply;
    reply.set_repository_id(r.id);
    reply.set_settings(r.settings);
    reply.set_key_slots(r.slots.rbegin()->second);
    reply.set_key_slots_generation(r.slots.rbegin()->first);
    reply.set_keyring(r.keyring.rbegin()->second);
    reply.set_keyring_generation(r.keyring.rbegin()->first);
    return reply;
  }
  absl::Status PutKeys(const v1::PutKeysRequest& request) override {
    ++puts;
    if (auto hook = std::exchange(before_put, nullptr)) hook();
    Repository& r = repositories.at(request.repository());
    auto& blobs = request.key_slots().empty() ? r.keyring : r.slots;
    if (request.generation() != blobs.rbegin()->first + 1) return absl::AbortedError("not the next");
    blobs[request.generation()] = request.key_slots().empty() ? request.keyring() : request.key_slots();
    while (blobs.size() > 2) blobs.erase(blobs.begin());
    return absl::OkStatus();
  }

  absl::StatusOr<v1::GetServerInfoReply> GetServerInfo() override { return Other(); }
  absl::Status CreateRepository(const v1::CreateRepositoryRequest&) override { return Other(); }
  absl::StatusOr<v1::ListRepositoriesReply> ListRepositories() override { return Other(); }
  absl::StatusOr<v1::ListSnapshotsReply> ListSnapshots(const v1::ListSnapshotsRequest&) override { return Other(); }
  absl::StatusOr<std::string> GetManifest(const std::string&, const ManifestId&) override { return Other(); }
  absl::Status DeleteSnapshot(const std::string&, const ManifestId&, const std::string&) override { return Other(); }
  absl::StatusOr<v1::OpenSessionReply> OpenSession(const v1::OpenSessionRequest&) override { return Other(); }
  absl::StatusOr<v1::CommitSnapshotReply> CommitSnapshot(const v1::CommitSnapshotRequest&,
                                                         std::vector<ChunkId>*) override {
    return Other();
  }
  absl::Status CloseSession(const std::string&, const std::string&) override { return Other(); }
  absl::StatusOr<std::unique_ptr<UploadTransport>> NewUploadTransport(const std::string&,
                                                                      const v1::OpenSessionReply&) override {
    return Other();
  }
  std::unique_ptr<RecordStream> NewRecordStream() override { return nullptr; }

  std::map<std::string, Repository> repositories;
  std::function<void()> before_put;  // once
  int puts = 0;

 private:
  static absl::Status Other() { return absl::UnimplementedError("keys only"); }
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_KEYS_FAKE_KEY_SERVER_H_
