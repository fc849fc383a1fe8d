// What every RepositoryClient does, whatever is between it and the server: the same tests for both.
#include "client/rpc/repository_client.h"

#include <map>
#include <random>

#include "client/rpc/grpc_repository_client.h"
#include "client/rpc/remote_chunk_source.h"
#include "client/rpc/test_server.h"
#include "core/base/status_testing.h"
#include "core/format/manifest.h"
#include "core/format/record_sealer.h"
#include "core/io/posix.h"
#include "server/grpc/grpc_server.h"

namespace holdfast {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kRepository[] = "r";

enum class Way { kInProcess, kGrpc };

class RepositoryClientTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (GetParam() == Way::kInProcess) return;
    auto listening = GrpcServer::Start(server_.SocketPath(), server_.registry(), "1.2.3");
    ASSERT_OK(listening);
    grpc_server_ = *std::move(listening);
    auto connected = ConnectToServer("unix:" + server_.SocketPath());
    ASSERT_OK(connected);
    grpc_client_ = *std::move(connected);
  }
  RepositoryClient& client() { return grpc_client_ ? *grpc_client_ : server_.client(); }

  v1::OpenSessionReply Open(const std::string& source = "anna@laptop:/home") {
    v1::OpenSessionRequest request;
    request.set_repository(kRepository);
    request.set_source(source);
    request.set_agent(1);
    auto session = client().OpenSession(request);
    EXPECT_OK(session);
    return session.ok() ? *session : v1::OpenSessionReply();
  }
  std::unique_ptr<UploadTransport> Attach(const v1::OpenSessionReply& session) {
    auto transport = client().NewUploadTransport(kRepository, session);
    EXPECT_OK(transport);
    return *std::move(transport);
  }
  ChunkRef Ref(std::string_view plaintext, ChunkType type = ChunkType::kData, std::vector<ChunkId> children = {}) {
    return ComputeChunkRef(keys_, type, children, plaintext);
  }
  std::string Record(std::string_view plaintext, ChunkType type = ChunkType::kData,
                     const std::vector<ChunkId>& children = {}) {
    std::string record(RecordBytesMax(plaintext.size(), children.size()), '\0');
    record.resize(sealer_.Seal(type, Ref(plaintext, type, children), children, plaintext, 1, false, record.data()));
    return record;
  }
  static absl::Status Send(UploadTransport& transport, std::string_view records) {
    std::unique_ptr<RecordBuffer> buffer = transport.NewBuffer(records.size() + 100);
    EXPECT_GE(buffer->capacity(), records.size());
    std::copy(records.begin(), records.end(), buffer->data());
    return transport.SendRecords(std::move(buffer), records.size());
  }
  // Sends and waits.
  static void Store(UploadTransport& transport, std::string_view records) {
    ASSERT_OK(Send(transport, records));
    auto answer = transport.Receive();
    ASSERT_OK(answer);
    EXPECT_EQ(answer->appended_bytes, records.size());
  }
  static std::string Have(UploadTransport& transport, const std::vector<ChunkId>& ids) {
    EXPECT_OK(transport.SendHave(ids));
    auto answer = transport.Receive();
    EXPECT_OK(answer);
    return answer.ok() ? answer->have : "";
  }
  v1::CommitSnapshotRequest Manifest(const v1::OpenSessionReply& session, const ChunkRef& root,
                                     const std::string& source = "anna@laptop:/home") {
    pb::ManifestCore core;
    core.set_repository_id(std::string(TestServer::Id().view()));
    core.set_source(source);
    core.set_agent(1);
    core.set_sequence(session.head_sequence() + 1);
    core.set_previous_manifest(session.head());
    core.set_root_id(std::string(root.id.view()));
    core.set_root_level(1);
    core.set_key_epoch(1);
    ManifestKeys keys;
    keys.repository = TestServer::Id();
    keys.agent = 1;
    auto bytes = SealManifest(core, {}, root, keys, PosixIo().random);
    EXPECT_OK(bytes);
    v1::CommitSnapshotRequest request;
    request.set_repository(kRepository);
    request.set_session(session.session());
    request.set_manifest(*bytes);
    return request;
  }
  // A snapshot of one page, after `records` were uploaded.
  ManifestId Snapshot(const std::string& page, const std::string& source,
                      const std::vector<std::string>& records = {}) {
    v1::OpenSessionReply session = Open(source);
    {
      auto transport = Attach(session);
      for (const std::string& record : records) Store(*transport, record);
      Store(*transport, Record(page, ChunkType::kTree));
    }
    v1::CommitSnapshotRequest request = Manifest(session, Ref(page, ChunkType::kTree), source);
    auto reply = client().CommitSnapshot(request, nullptr);
    EXPECT_OK(reply);
    EXPECT_OK(client().CloseSession(kRepository, session.session()));
    return ManifestIdOf(request.manifest());
  }

  const SealingKeys keys_ = TestServer::Keys();
  RecordSealer sealer_{keys_};
  TestServer server_;
  std::unique_ptr<GrpcServer> grpc_server_;
  std::unique_ptr<RepositoryClient> grpc_client_;  // before its server
};

INSTANTIATE_TEST_SUITE_P(, RepositoryClientTest, testing::Values(Way::kInProcess, Way::kGrpc),
                         [](const auto& info) { return info.param == Way::kGrpc ? "Grpc" : "InProcess"; });

// --- Repositories and keys -------------------------------------------------------------------------------------------

TEST_P(RepositoryClientTest, SaysWhatTheServerIs) {
  auto info = client().GetServerInfo();
  ASSERT_OK(info);
  EXPECT_EQ(info->protocol(), 1u);
  EXPECT_FALSE(info->version().empty());
}

TEST_P(RepositoryClientTest, CreatesAndListsRepositories) {
  const v1::CreateRepositoryRequest request = TestServer::NewRepositoryRequest("photos");
  EXPECT_OK(client().CreateRepository(request));
  EXPECT_OK(client().CreateRepository(request)) << "the same again";
  v1::CreateRepositoryRequest other = request;
  other.set_repository_id(std::string(16, 'x'));
  EXPECT_THAT(client().CreateRepository(other), StatusIs(absl::StatusCode::kAlreadyExists));
  other.set_name("third");
  other.set_catalog_key("short");
  EXPECT_THAT(client().CreateRepository(other), StatusIs(absl::StatusCode::kInvalidArgument));
  Snapshot("page", "s");
  auto listed = client().ListRepositories();
  ASSERT_OK(listed);
  ASSERT_EQ(listed->repositories_size(), 2);
  EXPECT_EQ(listed->repositories(0).name(), "photos");
  EXPECT_EQ(listed->repositories(0).repository_id(), request.repository_id());
  EXPECT_EQ(listed->repositories(0).snapshots(), 0u);
  EXPECT_EQ(listed->repositories(1).name(), "r");
  EXPECT_EQ(listed->repositories(1).snapshots(), 1u);
  EXPECT_EQ(listed->repositories(1).error(), "");
}

TEST_P(RepositoryClientTest, GivesAndReplacesKeys) {
  const v1::CreateRepositoryRequest created = TestServer::NewRepositoryRequest(kRepository);
  auto keys = client().GetKeys(kRepository);
  ASSERT_OK(keys);
  EXPECT_EQ(keys->repository_id(), created.repository_id());
  EXPECT_EQ(keys->settings(), created.settings());
  EXPECT_EQ(keys->key_slots(), created.key_slots());
  EXPECT_EQ(keys->keyring(), created.keyring());
  EXPECT_EQ(keys->keyring_generation(), 1u);

  v1::PutKeysRequest put;
  put.set_repository(kRepository);
  put.set_keyring(created.keyring());
  put.set_generation(2);
  EXPECT_OK(client().PutKeys(put));
  EXPECT_THAT(client().PutKeys(put), StatusIs(absl::StatusCode::kAborted)) << "somebody else was faster";
  keys = client().GetKeys(kRepository);
  ASSERT_OK(keys);
  EXPECT_EQ(keys->keyring_generation(), 2u);
  EXPECT_EQ(keys->key_slots_generation(), 1u);
}

TEST_P(RepositoryClientTest, SaysThatARepositoryIsNotThere) {
  EXPECT_THAT(client().GetKeys("other"), StatusIs(absl::StatusCode::kNotFound));
  v1::ListSnapshotsRequest list;
  list.set_repository("other");
  EXPECT_THAT(client().ListSnapshots(list), StatusIs(absl::StatusCode::kNotFound));
  v1::OpenSessionRequest open;
  open.set_repository("other");
  EXPECT_THAT(client().OpenSession(open), StatusIs(absl::StatusCode::kNotFound));
}

// --- Snapshots -------------------------------------------------------------------------------------------------------

TEST_P(RepositoryClientTest, ListsSnapshotsInPagesAndByPrefix) {
  std::vector<ManifestId> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(Snapshot(absl::StrCat("page ", i), absl::StrCat("source ", i)));
  v1::ListSnapshotsRequest request;
  request.set_repository(kRepository);
  request.set_page_size(2);
  auto page = client().ListSnapshots(request);
  ASSERT_OK(page);
  ASSERT_EQ(page->snapshots_size(), 2);
  EXPECT_EQ(page->snapshots(0).id(), ids[0].view());
  EXPECT_GT(page->snapshots(0).server_time_unix_ns(), 0);
  auto core = ParseManifestCore(page->snapshots(1).core());
  ASSERT_OK(core);
  EXPECT_EQ(core->source(), "source 1");
  ASSERT_FALSE(page->next_page_token().empty());
  request.set_page_token(page->next_page_token());
  page = client().ListSnapshots(request);
  ASSERT_OK(page);
  ASSERT_EQ(page->snapshots_size(), 1);
  EXPECT_EQ(page->snapshots(0).id(), ids[2].view());
  EXPECT_EQ(page->next_page_token(), "");

  request.Clear();
  request.set_repository(kRepository);
  request.set_id_prefix(HexEncode(ids[1].view()));
  page = client().ListSnapshots(request);
  ASSERT_OK(page);
  ASSERT_EQ(page->snapshots_size(), 1);
  EXPECT_EQ(page->snapshots(0).id(), ids[1].view());
  request.clear_id_prefix();
  request.set_source("source 0");
  page = client().ListSnapshots(request);
  ASSERT_OK(page);
  EXPECT_EQ(page->snapshots_size(), 1);
}

TEST_P(RepositoryClientTest, GivesManifestsUntilTheyAreDeleted) {
  const ManifestId id = Snapshot("page", "s");
  auto manifest = client().GetManifest(kRepository, id);
  ASSERT_OK(manifest);
  EXPECT_EQ(ManifestIdOf(*manifest), id);
  EXPECT_THAT(client().GetManifest(kRepository, ManifestIdOf("other")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(client().DeleteSnapshot(kRepository, id, std::string(1025, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(client().DeleteSnapshot(kRepository, id, "old"));
  EXPECT_OK(client().DeleteSnapshot(kRepository, id, "old")) << "again";
  EXPECT_THAT(client().GetManifest(kRepository, id), StatusIs(absl::StatusCode::kNotFound));
}

// --- Sessions --------------------------------------------------------------------------------------------------------

TEST_P(RepositoryClientTest, CommitsWhatWasUploaded) {
  v1::OpenSessionReply session = Open();
  EXPECT_THAT(session.session(), SizeIs(16));
  EXPECT_EQ(session.head(), "");
  EXPECT_EQ(session.head_sequence(), 0u);
  EXPECT_GT(session.credit_bytes(), 0u);
  auto transport = Attach(session);
  EXPECT_EQ(transport->credit_bytes(), session.credit_bytes());
  Store(*transport, Record("data"));
  const std::vector<ChunkId> children{Ref("data").id};
  Store(*transport, Record("page", ChunkType::kTree, children));
  const auto request = Manifest(session, Ref("page", ChunkType::kTree, children));
  std::vector<ChunkId> missing;
  auto reply = client().CommitSnapshot(request, &missing);
  ASSERT_OK(reply);
  EXPECT_EQ(reply->id(), ManifestIdOf(request.manifest()).view());
  EXPECT_GT(reply->server_time_unix_ns(), 0);
  EXPECT_THAT(missing, IsEmpty());
  transport.reset();
  EXPECT_OK(client().CloseSession(kRepository, session.session()));
  session = Open();
  EXPECT_EQ(session.head(), reply->id());
  EXPECT_EQ(session.head_sequence(), 1u);
}

TEST_P(RepositoryClientTest, NamesTheChunksThatACommitMisses) {
  v1::OpenSessionReply session = Open();
  const ChunkRef root = Ref("never sent", ChunkType::kTree);
  std::vector<ChunkId> missing;
  EXPECT_THAT(client().CommitSnapshot(Manifest(session, root), &missing),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(missing, Contains(root.id));
  EXPECT_THAT(missing, Each(root.id));
  EXPECT_THAT(client().CommitSnapshot(Manifest(session, root), nullptr),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_P(RepositoryClientTest, LetsOneSessionOfASourceWorkAtATime) {
  v1::OpenSessionReply session = Open();
  auto transport = Attach(session);
  v1::OpenSessionRequest request;
  request.set_repository(kRepository);
  request.set_source("anna@laptop:/home");
  request.set_agent(1);
  EXPECT_THAT(client().OpenSession(request), StatusIs(absl::StatusCode::kAlreadyExists));
  transport.reset();
  EXPECT_OK(client().CloseSession(kRepository, session.session()));
  EXPECT_OK(client().OpenSession(request));
}

TEST_P(RepositoryClientTest, KnowsOnlyOpenSessions) {
  v1::OpenSessionReply session = Open();
  ASSERT_OK(client().CloseSession(kRepository, session.session()));
  const ChunkRef root = Ref("page", ChunkType::kTree);
  EXPECT_THAT(client().CommitSnapshot(Manifest(session, root), nullptr), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(client().NewUploadTransport(kRepository, session), StatusIs(absl::StatusCode::kAborted));
  session.set_session("too short");
  EXPECT_THAT(client().CommitSnapshot(Manifest(session, root), nullptr), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(client().NewUploadTransport(kRepository, session), StatusIs(absl::StatusCode::kInvalidArgument));
}

// --- Uploads ---------------------------------------------------------------------------------------------------------

TEST_P(RepositoryClientTest, AnswersEveryMessageInOrder) {
  auto transport = Attach(Open());
  const std::vector<ChunkId> ids{Ref("a").id, Ref("b").id};
  ASSERT_OK(transport->SendHave(ids));
  const std::string two = Record("a") + Record("b");
  ASSERT_OK(Send(*transport, two));
  ASSERT_OK(transport->SendHave(ids));
  auto first = transport->Receive();
  ASSERT_OK(first);
  EXPECT_EQ(first->have, std::string(2, '\0'));
  auto second = transport->Receive();
  ASSERT_OK(second);
  EXPECT_EQ(second->appended_bytes, two.size());
  EXPECT_EQ(second->have, "");
  auto third = transport->Receive();
  ASSERT_OK(third);
  EXPECT_EQ(third->have, std::string(2, '\1'));
}

TEST_P(RepositoryClientTest, TellsItsOwnChunksFromThoseOfOthers) {
  {
    const SealingKeys others = TestServer::Keys(2);
    std::string record(RecordBytesMax(4, 0), '\0');
    record.resize(RecordSealer(others).Seal(ChunkType::kData, Ref("same"), {}, "same", 1, false, record.data()));
    v1::OpenSessionRequest request;
    request.set_repository(kRepository);
    request.set_source("ben@desktop:/");
    request.set_agent(2);
    auto opened = client().OpenSession(request);
    ASSERT_OK(opened);
    auto transport = Attach(*opened);
    Store(*transport, record);
  }
  auto transport = Attach(Open());
  EXPECT_EQ(Have(*transport, {Ref("same").id}), std::string(1, '\2'));
}

TEST_P(RepositoryClientTest, AMalformedRecordEndsTheStream) {
  auto transport = Attach(Open());
  (void)Send(*transport, "not a record");
  EXPECT_THAT(transport->Receive(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(transport->Receive(), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(transport->SendHave({}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(RepositoryClientTest, ACutRecordEndsTheStream) {
  auto transport = Attach(Open());
  std::string record = Record("whole");
  record.pop_back();
  (void)Send(*transport, record);
  EXPECT_THAT(transport->Receive(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(RepositoryClientTest, APageWhoseChildIsNotThereIsRefused) {
  auto transport = Attach(Open());
  (void)Send(*transport, Record("page", ChunkType::kTree, {Ref("not sent").id}));
  EXPECT_FALSE(transport->Receive().ok());
}

// --- Reading ---------------------------------------------------------------------------------------------------------

class Collector : public RecordSink {
 public:
  absl::Status OnRecord(std::string_view record) override {
    records.emplace_back(record);
    return stop;
  }
  absl::Status OnFailure(const ChunkId& id, const absl::Status& failure) override {
    failures[id] = failure;
    return stop;
  }
  std::vector<std::string> records;
  std::map<ChunkId, absl::Status> failures;
  absl::Status stop;
};

TEST_P(RepositoryClientTest, GivesRecordsAsTheyWereSent) {
  std::string large;
  std::mt19937_64 random(7);
  while (large.size() < 2u << 20) large += static_cast<char>(random());
  Snapshot("page", "s", {Record("small"), Record(large)});
  std::unique_ptr<RecordStream> stream = client().NewRecordStream();
  const std::vector<ChunkId> ids{Ref("small").id, Ref(large).id, Ref("absent").id};
  for (bool verify : {false, true}) {
    Collector got;
    ASSERT_OK(stream->Ask({.repository = kRepository, .ids = ids, .verify = verify}, got));
    EXPECT_THAT(got.records, testing::UnorderedElementsAre(Record("small"), Record(large)));
    ASSERT_THAT(got.failures, SizeIs(1));
    EXPECT_THAT(got.failures[ids[2]], StatusIs(absl::StatusCode::kNotFound));
  }
}

TEST_P(RepositoryClientTest, TakesChunksAgainThatNobodyCanOpen) {
  Snapshot("page", "s", {Record("data")});
  const std::vector<ChunkId> ids{Ref("data").id};
  Collector got;
  ASSERT_OK(client().NewRecordStream()->Ask({.repository = kRepository, .ids = ids, .verify = true, .unopenable = true},
                                            got));
  EXPECT_THAT(got.records, SizeIs(1));
  auto transport = Attach(Open());
  EXPECT_EQ(Have(*transport, ids), std::string(1, '\0'));
}

TEST_P(RepositoryClientTest, ReadingFailsAsAWholeOnlyForTheWholeQuestion) {
  Collector got;
  const std::vector<ChunkId> ids{Ref("x").id};
  EXPECT_THAT(client().NewRecordStream()->Ask({.repository = "other", .ids = ids}, got),
              StatusIs(absl::StatusCode::kNotFound));
  const std::vector<ChunkId> many(RecordQuestion::kIdsMax + 1);
  EXPECT_THAT(client().NewRecordStream()->Ask({.repository = kRepository, .ids = many}, got),
              StatusIs(absl::StatusCode::kInvalidArgument));
  got.stop = absl::CancelledError("enough");
  EXPECT_THAT(client().NewRecordStream()->Ask({.repository = kRepository, .ids = ids}, got),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_P(RepositoryClientTest, ChunksComeOpenedThroughAChunkSource) {
  Snapshot("page", "s", {Record("data")});
  RemoteChunkSource source(client(), kRepository, keys_.repository);
  auto chunk = FetchOne(source, Ref("data"));
  ASSERT_OK(chunk);
  EXPECT_EQ(chunk->plaintext, "data");
  EXPECT_THAT(FetchOne(source, Ref("absent")), StatusIs(absl::StatusCode::kNotFound));
}

// --- Only over the network -------------------------------------------------------------------------------------------

class GrpcRepositoryClientTest : public testing::Test {
 protected:
  TestServer server_;
};

TEST_F(GrpcRepositoryClientTest, SaysHowToStartAServerWhenNoneAnswers) {
  EXPECT_THAT(ConnectToServer("unix:" + server_.SocketPath()).status(),
              StatusIs(absl::StatusCode::kUnavailable, "holdfastd &"));
}

TEST_F(GrpcRepositoryClientTest, TakesOnlyAddressesOfSockets) {
  for (const char* address : {"localhost:80", "unix:relative", ""}) {
    EXPECT_THAT(ConnectToServer(address).status(), StatusIs(absl::StatusCode::kInvalidArgument)) << address;
  }
}

TEST_F(GrpcRepositoryClientTest, SaysThatTheServerWentAway) {
  auto listening = GrpcServer::Start(server_.SocketPath(), server_.registry(), "1");
  ASSERT_OK(listening);
  auto client = ConnectToServer("unix:" + server_.SocketPath());
  ASSERT_OK(client);
  v1::OpenSessionRequest request;
  request.set_repository(kRepository);
  request.set_source("s");
  request.set_agent(1);
  auto session = (*client)->OpenSession(request);
  ASSERT_OK(session);
  auto transport = (*client)->NewUploadTransport(kRepository, *session);
  ASSERT_OK(transport);
  (*listening)->Stop();
  EXPECT_THAT((*transport)->Receive(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT((*transport)->SendHave({}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT((*client)->ListRepositories(), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace holdfast
