// A server that keeps keys, and lists and gives out the snapshots that a test puts into it, true or not.
#ifndef HOLDFAST_CLIENT_SNAPSHOTS_FAKE_SNAPSHOT_SERVER_H_
#define HOLDFAST_CLIENT_SNAPSHOTS_FAKE_SNAPSHOT_SERVER_H_

#include <map>
#include <string>
#include <vector>

#include "client/keys/fake_key_server.h"
#include "core/base/ids.h"
#include "core/base/status.h"
#include "core/format/manifest.h"

namespace holdfast {

class FakeSnapshotServer : public FakeKeyServer {
 public:
  struct Snapshot {
    ManifestId id;
    std::string core;
  };

  // As it is listed: an id that begins with `id_hex`, with zeros behind it.
  void List(const std::string& id_hex, const std::string& source, uint64_t sequence) {
    pb::ManifestCore core;
    core.set_repository_id(std::string(16, 'r'));
    core.set_source(source);
    core.set_sequence(sequence);
    core.set_agent(1);
    core.set_root_id(std::string(32, 'i'));
    listed.push_back(
        {*ManifestId::FromBytes(*HexDecode(id_hex + std::string(64 - id_hex.size(), '0'))), core.SerializeAsString()});
  }

  // By the beginning of ids, `page` at a time.
  absl::StatusOr<v1::ListSnapshotsReply> ListSnapshots(const v1::ListSnapshotsRequest& request) override {
    if (!repositories.contains(request.repository())) return absl::NotFoundError("no such repository");
    v1::ListSnapshotsReply reply;
    size_t next = request.page_token().empty() ? 0 : std::stoul(request.page_token());
    for (; next < listed.size() && static_cast<size_t>(reply.snapshots_size()) < page; ++next) {
      const Snapshot& s = listed[next];
      if (filters && !HexEncode(s.id.view()).starts_with(request.id_prefix())) continue;
      v1::SnapshotInfo* info = reply.add_snapshots();
      info->set_id(std::string(s.id.view()));
      info->set_core(s.core);
    }
    if (next < listed.size()) reply.set_next_page_token(std::to_string(next));
    return reply;
  }
  absl::StatusOr<std::string> GetManifest(const std::string&, const ManifestId& id) override {
    auto it = manifests.find(HexEncode(id.view()));
    if (it == manifests.end()) return absl::NotFoundError("no such snapshot");
    return it->second;
  }

  std::vector<Snapshot> listed;
  bool filters = true;  // false: an id's beginning does not matter to it
  size_t page = 2;
  std::map<std::string, std::string> manifests;  // by id in hexadecimal
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SNAPSHOTS_FAKE_SNAPSHOT_SERVER_H_
