#include "server/daemon/monitoring.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "absl/strings/str_split.h"
#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "core/format/manifest.h"
#include "core/format/record.h"
#include "core/io/posix.h"
#include "nlohmann/json.hpp"
#include "server/repository/memory_registry.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using Json = nlohmann::json;

// An intact blob (docs/format.md, sections 1, 3 and 4).
std::string Blob(std::string_view magic) {
  std::string bytes = absl::StrCat(AbslView(magic), std::string(1, '\0'), std::string(64, 'k'));
  return bytes + std::string(Blake3Digest(bytes).view());
}

NewRepository Request(std::string name) {
  NewRepository request;
  request.id.bytes.fill(7);
  request.settings = Blob("HFREPO1");
  request.key_slots = Blob("HFSLOT1");
  request.keyring = Blob("HFRING1");
  request.name = std::move(name);
  return request;
}

// Whatever a test puts into it.
class ListOnly : public RepositoryRegistry {
 public:
  absl::Status Create(const NewRepository&) override { return absl::UnimplementedError("not here"); }
  absl::StatusOr<std::shared_ptr<HostedRepository>> Find(std::string_view) override {
    return absl::UnimplementedError("not here");
  }
  std::vector<std::shared_ptr<HostedRepository>> List() override { return repositories; }
  void AddBroken(std::string name, absl::Status error) {
    HostedRepository::Parts parts;
    parts.name = std::move(name);
    parts.error = std::move(error);
    repositories.push_back(std::make_shared<HostedRepository>(std::move(parts)));
  }

  std::vector<std::shared_ptr<HostedRepository>> repositories;
};

HttpReply Get(RepositoryRegistry& registry, const std::string& path) {
  for (const HttpRoute& route : MonitoringRoutes(registry, "1.2.3")) {
    if (route.method == "GET" && route.path == path) return route.handler({});
  }
  ADD_FAILURE() << "no route " << path;
  return {};
}

class MonitoringTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/monitoring_XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    registry_.emplace(PosixIo(), folder_ + "/spool");
  }
  void TearDown() override {
    registry_.reset();
    std::filesystem::remove_all(folder_);
  }

  Repository& Create(const std::string& name) {
    EXPECT_OK(registry_->Create(Request(name)));
    return (*registry_->Find(name))->engine();
  }

  std::string folder_;
  std::optional<MemoryRegistry> registry_;
};

TEST_F(MonitoringTest, ServesThreePathsAndOnlyByGet) {
  std::vector<std::string> routes;
  for (const HttpRoute& route : MonitoringRoutes(*registry_, "1.2.3"))
    routes.push_back(route.method + " " + route.path);
  EXPECT_THAT(routes, ElementsAre("GET /healthz", "GET /version", "GET /metrics"));
}

TEST_F(MonitoringTest, TellsNameAndVersion) {
  const HttpReply reply = Get(*registry_, "/version");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.content_type, "application/json");
  EXPECT_EQ(reply.body, "{\"name\":\"holdfastd\",\"version\":\"1.2.3\"}\n");
}

TEST_F(MonitoringTest, IsHealthyWhileEveryRepositoryIs) {
  for (int repositories = 0; repositories < 2; ++repositories) {
    const HttpReply reply = Get(*registry_, "/healthz");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.content_type, "application/json");
    EXPECT_EQ(reply.body, "{\"status\":\"ok\",\"healthy\":true}\n");
    Create("photos");
  }
}

TEST_F(MonitoringTest, HealthNamesEveryRepositoryThatIsNotUsableAndWhy) {
  ListOnly list;
  list.AddBroken("a", absl::UnavailableError("the disk is away"));
  Create("good");
  list.repositories.push_back(*registry_->Find("good"));
  list.AddBroken("z", absl::DataLossError("the config is damaged"));
  const HttpReply reply = Get(list, "/healthz");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.content_type, "application/json");
  EXPECT_EQ(Json::parse(reply.body),
            Json({{"status", "a repository is not usable"},
                  {"healthy", false},
                  {"repositories", {{"a", "the disk is away"}, {"z", "the config is damaged"}}}}));
}

TEST_F(MonitoringTest, ARepositoryWhoseKeysAreLostIsNotHealthy) {
  Create("photos");
  for (const char* copy : {"keys/ring-00000001-0", "keys/ring-00000001-1"}) {
    ASSERT_OK(registry_->blobs("photos").Delete(BlobName::FromTrusted(copy)));
  }
  registry_->Restart();
  const HttpReply reply = Get(*registry_, "/healthz");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(Json::parse(reply.body)["repositories"], Json({{"photos", "the repository has no keyring"}}));
}

TEST_F(MonitoringTest, AMessageThatIsNoUtf8IsStillJson) {
  ListOnly list;
  list.AddBroken("photos", absl::UnavailableError("/srv/\xff is away"));
  const HttpReply reply = Get(list, "/healthz");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(Json::parse(reply.body)["repositories"]["photos"], "/srv/\xef\xbf\xbd is away");
}

// --- Metrics --------------------------------------------------------------------------------------------------------

std::vector<std::string> Lines(const std::string& text) { return absl::StrSplit(text, '\n', absl::SkipEmpty()); }

std::string ValueOf(const std::string& text, const std::string& name) {
  for (const std::string& line : Lines(text)) {
    if (line.starts_with(name + " ")) return line.substr(name.size() + 1);
  }
  ADD_FAILURE() << name << " has no line in\n" << text;
  return "";
}

TEST_F(MonitoringTest, EveryMetricHasItsLines) {
  const HttpReply reply = Get(*registry_, "/metrics");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.content_type, "text/plain; version=0.0.4; charset=utf-8");
  std::vector<std::string> expected;
  for (const auto& [name, help] : std::vector<std::pair<std::string, std::string>>{
           {"holdfast_appended_bytes", "Bytes of chunk records received since the start."},
           {"holdfast_chunks", "Distinct chunks."},
           {"holdfast_packs", "Packs in storage."},
           {"holdfast_read_bytes", "Bytes of chunk records sent since the start."},
           {"holdfast_repositories_unavailable", "Repositories that cannot be used."},
           {"holdfast_snapshots", "Snapshots that can be restored."},
           {"holdfast_stored_bytes", "Bytes of packs in storage."},
           {"holdfast_upload_sessions", "Upload sessions that are open."}}) {
    expected.push_back(absl::StrCat("# HELP ", name, " ", help));
    expected.push_back(absl::StrCat("# TYPE ", name, " gauge"));
    expected.push_back(absl::StrCat(name, " 0"));
  }
  EXPECT_THAT(Lines(reply.body), ElementsAreArray(expected));
}

class NoSink : public RecordReadSink {
 public:
  absl::Status OnRecord(size_t, absl::StatusOr<ReadRecord> record) override { return record.status(); }
};

// One page without children.
struct Page {
  RecordHeader header;
  std::string header_bytes, body = std::string(80, 'b');
  explicit Page(int number) {
    header.type = ChunkType::kTree;
    header.aead = 1;
    header.epoch = 1;
    header.uploader = 1;
    header.sealed_length = static_cast<uint32_t>(body.size());
    header.id.bytes = Blake3Digest(absl::StrCat(number)).bytes;
    header_bytes = EncodeRecordHeader(header);
  }
};

// A snapshot of `pages` pages, the last of which is its root; read once.
void BackUpAndRead(Repository& engine, int pages) {
  const Principal who{"anna"};
  auto session = engine.OpenSession(who, "laptop", 1, std::nullopt);
  ASSERT_OK(session);
  std::vector<ChunkId> ids;
  for (int number = 0; number < pages; ++number) {
    const Page page(number);
    const IncomingRecord record{page.header, page.header_bytes, {page.body}};
    ASSERT_OK(engine.Append(who, session->id, {&record, 1}));
    ids.push_back(page.header.id);
  }
  pb::ManifestCore core;
  core.set_repository_id(std::string(engine.id().view()));
  core.set_source("laptop");
  core.set_agent(1);
  core.set_sequence(1);
  core.set_root_id(std::string(ids.back().view()));
  core.set_root_level(1);
  core.set_key_epoch(1);
  ManifestKeys keys;
  keys.repository = engine.id();
  keys.agent = 1;
  auto manifest = SealManifest(core, pb::ManifestSealed(), ChunkRef(), keys, PosixIo().random);
  ASSERT_OK(manifest);
  std::vector<ChunkId> missing;
  ASSERT_OK(engine.Commit(who, session->id, *manifest, &missing));
  ASSERT_OK(engine.CloseSession(who, session->id));
  NoSink sink;
  ASSERT_OK(engine.Read(who, ids, /*verify=*/false, sink));
}

TEST_F(MonitoringTest, MetricsAreSumsOverTheRepositories) {
  Repository& photos = Create("photos");
  Repository& mail = Create("mail");
  BackUpAndRead(photos, 2);
  BackUpAndRead(mail, 3);
  ASSERT_OK(mail.OpenSession(Principal{"bert"}, "desktop", 2, std::nullopt));
  ListOnly list;
  list.repositories = registry_->List();
  list.AddBroken("broken", absl::UnavailableError("away"));
  list.AddBroken("broken2", absl::UnavailableError("away"));

  const std::string metrics = Get(list, "/metrics").body;
  const RepositoryStatistics a = photos.statistics(), b = mail.statistics();
  for (const uint64_t n : {a.bytes_appended, a.bytes_read, a.stored_bytes}) EXPECT_GT(n, 0u);
  EXPECT_EQ(ValueOf(metrics, "holdfast_appended_bytes"), absl::StrCat(a.bytes_appended + b.bytes_appended));
  EXPECT_EQ(ValueOf(metrics, "holdfast_read_bytes"), absl::StrCat(a.bytes_read + b.bytes_read));
  EXPECT_EQ(ValueOf(metrics, "holdfast_stored_bytes"), absl::StrCat(a.stored_bytes + b.stored_bytes));
  EXPECT_EQ(ValueOf(metrics, "holdfast_packs"), absl::StrCat(a.packs + b.packs));
  EXPECT_EQ(ValueOf(metrics, "holdfast_chunks"), "5");
  EXPECT_EQ(ValueOf(metrics, "holdfast_snapshots"), "2");
  EXPECT_EQ(ValueOf(metrics, "holdfast_upload_sessions"), "1");
  EXPECT_EQ(ValueOf(metrics, "holdfast_repositories_unavailable"), "2");
}

}  // namespace
}  // namespace holdfast
