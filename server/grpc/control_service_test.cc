#include "server/grpc/control_service.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/base/status_testing.h"
#include "core/format/manifest.h"
#include "core/io/posix.h"
#include "proto/holdfast/v1/service.pb.h"
#include "server/grpc/test_services.h"
#include "server/grpc/transfer_service.h"
#include "server/repository/repository.h"
#include "server/repository/test_chunks.h"
#include "storage/wrappers/faulty_blob_store.h"

namespace holdfast {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kAborted = absl::StatusCode::kAborted;
constexpr auto kNotFound = absl::StatusCode::kNotFound;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

using Stub = v1::HoldfastService::Stub;

class ControlServiceTest : public testing::Test {
 protected:
  template <typename Request, typename Reply>
  absl::StatusOr<Reply> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                             const Request& request) {
    grpc::ClientContext context;
    Reply reply;
    const grpc::Status status = (server_.control().*method)(&context, request, &reply);
    details_ = status.error_details();
    RETURN_IF_ERROR(FromGrpcStatus(status));
    return reply;
  }
  // With the name of a repository, and nothing else.
  template <typename Request>
  static Request Of(const std::string& repository = TestServices::kRepository) {
    Request request;
    request.set_repository(repository);
    return request;
  }
  std::string OpenSession(const std::string& source = "home") {
    auto session = server_.OpenSession(source);
    EXPECT_OK(session);
    return session.value_or("");
  }
  static absl::Status Append(Repository& engine, const std::string& session, const TestChunk& chunk) {
    IncomingRecord record{chunk.header, chunk.header_bytes, {chunk.body}};
    return engine.Append(Principal{"local"}, *SessionId::FromBytes(session), {&record, 1});
  }
  std::string Manifest(const std::string& source, const ChunkId& root, uint64_t sequence = 1,
                       const std::string& previous = "") {
    pb::ManifestCore core;
    core.set_repository_id(NewRepositoryRequest(TestServices::kRepository).repository_id());
    core.set_source(source);
    core.set_agent(1);
    core.set_sequence(sequence);
    core.set_previous_manifest(previous);
    core.set_root_id(std::string(root.view()));
    core.set_root_level(1);
    core.set_key_epoch(1);
    ManifestKeys keys;
    keys.repository = *RepositoryId::FromBytes(core.repository_id());
    keys.agent = 1;
    auto bytes = SealManifest(core, pb::ManifestSealed(), ChunkRef(), keys, PosixIo().random);
    EXPECT_OK(bytes);
    return bytes.value_or("");
  }
  // The first snapshot of the source, committed.
  std::string Snapshot(const std::string& source) {
    const std::string session = OpenSession(source);
    const TestChunk root = TestPage(1, {});
    EXPECT_OK(Append(server_.engine(), session, root));
    auto request = Of<v1::CommitSnapshotRequest>();
    request.set_session(session);
    request.set_manifest(Manifest(source, root.id()));
    auto reply = Call(&Stub::CommitSnapshot, request);
    EXPECT_OK(reply);
    return reply.ok() ? reply->id() : "";
  }
  std::vector<std::string> ListedIds(const v1::ListSnapshotsRequest& request) {
    auto reply = Call(&Stub::ListSnapshots, request);
    EXPECT_OK(reply);
    std::vector<std::string> ids;
    if (reply.ok()) {
      for (const v1::SnapshotInfo& s : reply->snapshots()) ids.push_back(s.id());
    }
    return ids;
  }

  TestServices server_;
  std::string details_;  // of the last call
};

// --- Every call ------------------------------------------------------------------------------------------------------

TEST_F(ControlServiceTest, NeedsARepositoryThatIsThere) {
  const auto is_absent = StatusIs(kNotFound, "no repository absent");
  EXPECT_THAT(Call(&Stub::GetKeys, Of<v1::GetKeysRequest>("absent")), is_absent);
  EXPECT_THAT(Call(&Stub::PutKeys, Of<v1::PutKeysRequest>("absent")), is_absent);
  EXPECT_THAT(Call(&Stub::ListSnapshots, Of<v1::ListSnapshotsRequest>("absent")), is_absent);
  EXPECT_THAT(Call(&Stub::GetManifest, Of<v1::GetManifestRequest>("absent")), is_absent);
  EXPECT_THAT(Call(&Stub::DeleteSnapshot, Of<v1::DeleteSnapshotRequest>("absent")), is_absent);
  EXPECT_THAT(Call(&Stub::OpenSession, Of<v1::OpenSessionRequest>("absent")), is_absent);
  EXPECT_THAT(Call(&Stub::Barrier, Of<v1::BarrierRequest>("absent")), is_absent);
  EXPECT_THAT(Call(&Stub::CommitSnapshot, Of<v1::CommitSnapshotRequest>("absent")), is_absent);
  EXPECT_THAT(Call(&Stub::CloseSession, Of<v1::CloseSessionRequest>("absent")), is_absent);
}

TEST_F(ControlServiceTest, NeedsIdsOfTheRightSize) {
  for (size_t size : {0, 31, 33}) {
    auto manifest = Of<v1::GetManifestRequest>();
    manifest.set_id(std::string(size, 'i'));
    EXPECT_THAT(Call(&Stub::GetManifest, manifest), StatusIs(kInvalid, "32 are expected"));
    auto deletion = Of<v1::DeleteSnapshotRequest>();
    deletion.set_id(std::string(size, 'i'));
    EXPECT_THAT(Call(&Stub::DeleteSnapshot, deletion), StatusIs(kInvalid, "32 are expected"));
  }
  for (size_t size : {0, 15, 17}) {
    auto barrier = Of<v1::BarrierRequest>();
    barrier.set_session(std::string(size, 's'));
    EXPECT_THAT(Call(&Stub::Barrier, barrier), StatusIs(kInvalid, "16 are expected"));
    auto commit = Of<v1::CommitSnapshotRequest>();
    commit.set_session(std::string(size, 's'));
    EXPECT_THAT(Call(&Stub::CommitSnapshot, commit), StatusIs(kInvalid, "16 are expected"));
    auto close = Of<v1::CloseSessionRequest>();
    close.set_session(std::string(size, 's'));
    EXPECT_THAT(Call(&Stub::CloseSession, close), StatusIs(kInvalid, "16 are expected"));
  }
  auto session = Of<v1::OpenSessionRequest>();
  session.set_source("home");
  session.set_agent(1);
  session.set_base("too short");
  EXPECT_THAT(Call(&Stub::OpenSession, session), StatusIs(kInvalid, "32 are expected"));
}

TEST_F(ControlServiceTest, SaysWhatTheServerIs) {
  auto info = Call(&Stub::GetServerInfo, v1::GetServerInfoRequest());
  ASSERT_OK(info);
  EXPECT_EQ(info->version(), "1.2.3");
  EXPECT_EQ(info->protocol(), 1u);
}

// --- Repositories and keys -------------------------------------------------------------------------------------------

TEST_F(ControlServiceTest, CreatesARepositoryOnce) {
  const v1::CreateRepositoryRequest request = NewRepositoryRequest("new");
  EXPECT_OK(Call(&Stub::CreateRepository, request));
  EXPECT_OK(Call(&Stub::CreateRepository, request)) << "the same again";
  v1::CreateRepositoryRequest other = request;
  other.set_repository_id(std::string(16, 'o'));
  EXPECT_THAT(Call(&Stub::CreateRepository, other), StatusIs(absl::StatusCode::kAlreadyExists));
  auto keys = Call(&Stub::GetKeys, Of<v1::GetKeysRequest>("new"));
  ASSERT_OK(keys);
  EXPECT_EQ(keys->repository_id(), request.repository_id());
}

TEST_F(ControlServiceTest, CreatesRepositoriesOfBothAlgorithms) {
  for (uint32_t aead : {1, 2}) {
    v1::CreateRepositoryRequest request = NewRepositoryRequest("new" + std::to_string(aead));
    request.set_aead(aead);
    EXPECT_OK(Call(&Stub::CreateRepository, request));
  }
}

TEST_F(ControlServiceTest, CreatesNothingFromAMalformedRequest) {
  const v1::CreateRepositoryRequest good = NewRepositoryRequest("new");
  auto expect_refused = [&](const v1::CreateRepositoryRequest& request, const std::string& why) {
    EXPECT_THAT(Call(&Stub::CreateRepository, request), StatusIs(kInvalid, why));
  };
  v1::CreateRepositoryRequest request = good;
  request.set_name("../new");
  expect_refused(request, "name");
  request = good;
  request.set_repository_id("too short");
  expect_refused(request, "16 are expected");
  for (uint32_t aead : {0, 3, 257}) {
    request = good;
    request.set_aead(aead);
    expect_refused(request, "unknown AEAD");
  }
  for (size_t size : {0, 31, 33}) {
    request = good;
    request.set_catalog_key(std::string(size, 'c'));
    expect_refused(request, "a catalog key has 32 bytes");
  }
  request = good;
  request.set_settings("not settings");
  expect_refused(request, "");
  request = good;
  request.set_key_slots(good.keyring());
  expect_refused(request, "");
  request = good;
  request.set_keyring(good.key_slots());
  expect_refused(request, "");
  auto list = Call(&Stub::ListRepositories, v1::ListRepositoriesRequest());
  ASSERT_OK(list);
  EXPECT_THAT(list->repositories(), SizeIs(1));
}

TEST_F(ControlServiceTest, ListsRepositoriesWithWhatTheyHold) {
  ASSERT_OK(Call(&Stub::CreateRepository, NewRepositoryRequest("a")));
  Snapshot("home");
  auto list = Call(&Stub::ListRepositories, v1::ListRepositoriesRequest());
  ASSERT_OK(list);
  ASSERT_THAT(list->repositories(), SizeIs(2));
  const v1::RepositoryInfo &a = list->repositories(0), &r = list->repositories(1);
  EXPECT_EQ(a.name(), "a");
  EXPECT_EQ(a.repository_id(), NewRepositoryRequest("a").repository_id());
  EXPECT_EQ(a.snapshots(), 0u);
  EXPECT_EQ(r.name(), "r");
  EXPECT_EQ(r.storage(), "memory");
  EXPECT_EQ(r.snapshots(), 1u);
  EXPECT_EQ(r.packs(), 1u);
  EXPECT_EQ(r.chunks(), 1u);
  EXPECT_GT(r.stored_bytes(), 80u);
  EXPECT_EQ(r.error(), "");
  EXPECT_THAT(r.warnings(), IsEmpty());
}

TEST_F(ControlServiceTest, ListsWarnings) {
  const TestChunk root = TestPage(1, {});
  Snapshot("home");
  ASSERT_OK(server_.engine().NoteUnopenable(Principal{"local"}, {&root.id(), 1}));
  auto list = Call(&Stub::ListRepositories, v1::ListRepositoriesRequest());
  ASSERT_OK(list);
  EXPECT_THAT(list->repositories(0).warnings(), Contains(HasSubstr("cannot open")));
}

TEST_F(ControlServiceTest, ListsARepositoryThatDoesNotOpenAndWhyButDoesNotUseIt) {
  server_.registry().faults("r").AddFault({.operation = BlobOperation::kList, .count = 1'000'000});
  server_.registry().Restart();
  auto list = Call(&Stub::ListRepositories, v1::ListRepositoriesRequest());
  ASSERT_OK(list);
  ASSERT_THAT(list->repositories(), SizeIs(1));
  EXPECT_NE(list->repositories(0).error(), "");
  EXPECT_EQ(list->repositories(0).snapshots(), 0u);
  EXPECT_THAT(Call(&Stub::GetKeys, Of<v1::GetKeysRequest>()), StatusIs(kUnavailable));
}

TEST_F(ControlServiceTest, GivesTheKeysAsTheyWereCreated) {
  const v1::CreateRepositoryRequest created = NewRepositoryRequest(TestServices::kRepository);
  auto keys = Call(&Stub::GetKeys, Of<v1::GetKeysRequest>());
  ASSERT_OK(keys);
  EXPECT_EQ(keys->repository_id(), created.repository_id());
  EXPECT_EQ(keys->settings(), created.settings());
  EXPECT_EQ(keys->key_slots(), created.key_slots());
  EXPECT_EQ(keys->key_slots_generation(), 1u);
  EXPECT_EQ(keys->keyring(), created.keyring());
  EXPECT_EQ(keys->keyring_generation(), 1u);
}

TEST_F(ControlServiceTest, ReplacesKeySlotsAndKeyringGenerationByGeneration) {
  auto slots = Of<v1::PutKeysRequest>(), ring = Of<v1::PutKeysRequest>();
  slots.set_key_slots(TestKeyBlob("HFSLOT1", 'x'));
  slots.set_generation(2);
  EXPECT_OK(Call(&Stub::PutKeys, slots));
  for (uint64_t generation : {2, 3}) {
    ring.set_keyring(TestKeyBlob("HFRING1", static_cast<char>('x' + generation)));
    ring.set_generation(generation);
    EXPECT_OK(Call(&Stub::PutKeys, ring));
  }
  auto keys = Call(&Stub::GetKeys, Of<v1::GetKeysRequest>());
  ASSERT_OK(keys);
  EXPECT_EQ(keys->key_slots(), slots.key_slots());
  EXPECT_EQ(keys->key_slots_generation(), 2u);
  EXPECT_EQ(keys->keyring(), ring.keyring());
  EXPECT_EQ(keys->keyring_generation(), 3u);
  slots.set_key_slots(TestKeyBlob("HFSLOT1", 'y'));
  EXPECT_THAT(Call(&Stub::PutKeys, slots), StatusIs(kAborted)) << "somebody was faster";
}

TEST_F(ControlServiceTest, PutsExactlyOneIntactBlob) {
  auto request = Of<v1::PutKeysRequest>();
  request.set_generation(2);
  EXPECT_THAT(Call(&Stub::PutKeys, request), StatusIs(kInvalid, "exactly one"));
  request.set_key_slots(TestKeyBlob("HFSLOT1"));
  request.set_keyring(TestKeyBlob("HFRING1"));
  EXPECT_THAT(Call(&Stub::PutKeys, request), StatusIs(kInvalid, "exactly one"));
  request.clear_keyring();
  request.set_key_slots("not key slots");
  EXPECT_THAT(Call(&Stub::PutKeys, request), StatusIs(kInvalid));
}

TEST_F(ControlServiceTest, SaysThatTheStorageOfTheKeysIsAway) {
  server_.registry().faults("r").AddFault({.operation = BlobOperation::kGet, .count = 1'000'000});
  EXPECT_THAT(Call(&Stub::GetKeys, Of<v1::GetKeysRequest>()), StatusIs(kUnavailable));
}

// --- Snapshots -------------------------------------------------------------------------------------------------------

TEST_F(ControlServiceTest, ListsSnapshotsInTheOrderOfTheirCommits) {
  EXPECT_THAT(ListedIds(Of<v1::ListSnapshotsRequest>()), IsEmpty());
  const std::string one = Snapshot("b"), two = Snapshot("a");
  EXPECT_THAT(ListedIds(Of<v1::ListSnapshotsRequest>()), ElementsAre(one, two));
}

TEST_F(ControlServiceTest, TellsOfASnapshotWhatTheServerKnows) {
  const std::string id = Snapshot("home");
  auto reply = Call(&Stub::ListSnapshots, Of<v1::ListSnapshotsRequest>());
  ASSERT_OK(reply);
  ASSERT_THAT(reply->snapshots(), SizeIs(1));
  const v1::SnapshotInfo& info = reply->snapshots(0);
  auto core = ParseManifestCore(info.core());
  ASSERT_OK(core);
  EXPECT_EQ(core->source(), "home");
  const auto known = server_.engine().catalog().Find(*ManifestId::FromBytes(id));
  ASSERT_TRUE(known);
  EXPECT_EQ(info.server_time_unix_ns(), absl::ToUnixNanos(known->server_time));
  EXPECT_GT(info.server_time_unix_ns(), 0);
  EXPECT_EQ(info.log_slot(), known->slot);
  EXPECT_GT(info.log_slot(), 0u);
}

TEST_F(ControlServiceTest, ListsSnapshotsOfOneSource) {
  Snapshot("a");
  const std::string b = Snapshot("b");
  auto request = Of<v1::ListSnapshotsRequest>();
  request.set_source("b");
  EXPECT_THAT(ListedIds(request), ElementsAre(b));
  request.set_source("c");
  EXPECT_THAT(ListedIds(request), IsEmpty());
}

TEST_F(ControlServiceTest, ListsSnapshotsByThePrefixOfTheirIds) {
  const std::string one = Snapshot("a"), two = Snapshot("b");
  auto request = Of<v1::ListSnapshotsRequest>();
  for (const std::string& id : {one, two}) {
    request.set_id_prefix(HexEncode(id).substr(0, 21));
    EXPECT_THAT(ListedIds(request), ElementsAre(id));
  }
  request.set_id_prefix("no prefix");
  EXPECT_THAT(ListedIds(request), IsEmpty());
}

TEST_F(ControlServiceTest, ListsSnapshotsPageByPage) {
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(Snapshot("source" + std::to_string(i)));
  auto request = Of<v1::ListSnapshotsRequest>();
  request.set_page_size(2);
  std::vector<std::string> listed;
  std::vector<int> sizes;
  do {
    auto reply = Call(&Stub::ListSnapshots, request);
    ASSERT_OK(reply);
    sizes.push_back(reply->snapshots_size());
    for (const v1::SnapshotInfo& s : reply->snapshots()) listed.push_back(s.id());
    request.set_page_token(reply->next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(listed, ids);
  EXPECT_THAT(sizes, ElementsAre(2, 2, 1));
}

TEST_F(ControlServiceTest, TakesOnlyPageTokensThatItGave) {
  auto request = Of<v1::ListSnapshotsRequest>();
  request.set_page_token("made up");
  EXPECT_THAT(Call(&Stub::ListSnapshots, request), StatusIs(kInvalid, "page token"));
}

TEST_F(ControlServiceTest, GivesTheManifestThatWasCommitted) {
  auto request = Of<v1::GetManifestRequest>();
  request.set_id(Snapshot("home"));
  auto reply = Call(&Stub::GetManifest, request);
  ASSERT_OK(reply);
  EXPECT_EQ(ManifestIdOf(reply->manifest()).view(), request.id());
  request.set_id(std::string(32, 'i'));
  EXPECT_THAT(Call(&Stub::GetManifest, request), StatusIs(kNotFound, "no such snapshot"));
}

TEST_F(ControlServiceTest, ADeletedSnapshotIsGone) {
  auto deletion = Of<v1::DeleteSnapshotRequest>();
  const std::string id = Snapshot("home"), other = Snapshot("other");
  deletion.set_id(id);
  deletion.set_reason("too old");
  EXPECT_OK(Call(&Stub::DeleteSnapshot, deletion));
  EXPECT_OK(Call(&Stub::DeleteSnapshot, deletion)) << "the same again";
  EXPECT_THAT(ListedIds(Of<v1::ListSnapshotsRequest>()), ElementsAre(other));
  auto manifest = Of<v1::GetManifestRequest>();
  manifest.set_id(id);
  EXPECT_THAT(Call(&Stub::GetManifest, manifest), StatusIs(kNotFound, "no such snapshot"));
  const auto stub = server_.engine().catalog().Find(*ManifestId::FromBytes(id));
  ASSERT_TRUE(stub);
  EXPECT_EQ(stub->deleted_reason, "too old");
  EXPECT_EQ(stub->deleted_actor, "local");
}

TEST_F(ControlServiceTest, DeletesNothingThatItDoesNotKnow) {
  auto request = Of<v1::DeleteSnapshotRequest>();
  request.set_id(std::string(32, 'i'));
  EXPECT_THAT(Call(&Stub::DeleteSnapshot, request), StatusIs(kNotFound, "no such snapshot"));
}

TEST_F(ControlServiceTest, AReasonHasAtMost1024Bytes) {
  auto request = Of<v1::DeleteSnapshotRequest>();
  request.set_id(Snapshot("home"));
  request.set_reason(std::string(1025, 'r'));
  EXPECT_THAT(Call(&Stub::DeleteSnapshot, request), StatusIs(kInvalid, "1,024"));
  EXPECT_THAT(ListedIds(Of<v1::ListSnapshotsRequest>()), SizeIs(1));
  request.set_reason(std::string(1024, 'r'));
  EXPECT_OK(Call(&Stub::DeleteSnapshot, request));
}

// --- Sessions --------------------------------------------------------------------------------------------------------

TEST_F(ControlServiceTest, OpensASessionWithTheHeadOfItsSource) {
  auto request = Of<v1::OpenSessionRequest>();
  request.set_source("home");
  request.set_agent(1);
  auto first = Call(&Stub::OpenSession, request);
  ASSERT_OK(first);
  EXPECT_THAT(first->session(), SizeIs(16));
  EXPECT_EQ(first->head(), "");
  EXPECT_EQ(first->head_sequence(), 0u);
  EXPECT_EQ(first->credit_bytes(), kUploadCreditBytes);
  EXPECT_THAT(Call(&Stub::OpenSession, request), StatusIs(absl::StatusCode::kAlreadyExists)) << "one at a time";

  const std::string head = Snapshot("other");
  request.set_source("other");
  absl::StatusOr<v1::OpenSessionReply> second = Call(&Stub::OpenSession, request);
  EXPECT_THAT(second, StatusIs(absl::StatusCode::kAlreadyExists)) << "that of the snapshot";
  server_.registry().Restart();
  second = Call(&Stub::OpenSession, request);
  ASSERT_OK(second);
  EXPECT_EQ(second->head(), head);
  EXPECT_EQ(second->head_sequence(), 1u);
  EXPECT_NE(second->session(), first->session());
}

TEST_F(ControlServiceTest, ASessionNeedsASourceAndAnAgent) {
  auto request = Of<v1::OpenSessionRequest>();
  request.set_agent(1);
  EXPECT_THAT(Call(&Stub::OpenSession, request), StatusIs(kInvalid, "a source and an agent"));
  request.set_source("home");
  request.set_agent(0);
  EXPECT_THAT(Call(&Stub::OpenSession, request), StatusIs(kInvalid, "a source and an agent"));
}

TEST_F(ControlServiceTest, ASessionMayPinTheSnapshotThatItBuildsOn) {
  auto request = Of<v1::OpenSessionRequest>();
  request.set_source("home");
  request.set_agent(1);
  request.set_base(Snapshot("other"));
  EXPECT_OK(Call(&Stub::OpenSession, request));
  request.set_source("elsewhere");
  request.set_base(std::string(32, 'b'));
  EXPECT_THAT(Call(&Stub::OpenSession, request), StatusIs(kNotFound));
}

TEST_F(ControlServiceTest, ABarrierMakesWhatWasAppendedDurable) {
  auto request = Of<v1::BarrierRequest>();
  request.set_session(OpenSession());
  ASSERT_OK(Append(server_.engine(), request.session(), TestData(1)));
  EXPECT_OK(Call(&Stub::Barrier, request));
  request.set_session(std::string(16, 's'));
  EXPECT_THAT(Call(&Stub::Barrier, request), StatusIs(kAborted, "gone"));
}

TEST_F(ControlServiceTest, NothingHappensInASessionThatWasClosed) {
  auto close = Of<v1::CloseSessionRequest>();
  close.set_session(OpenSession());
  EXPECT_OK(Call(&Stub::CloseSession, close));
  auto barrier = Of<v1::BarrierRequest>();
  barrier.set_session(close.session());
  EXPECT_THAT(Call(&Stub::Barrier, barrier), StatusIs(kAborted));
  auto commit = Of<v1::CommitSnapshotRequest>();
  commit.set_session(close.session());
  commit.set_manifest(Manifest("home", TestPage(1, {}).id()));
  EXPECT_THAT(Call(&Stub::CommitSnapshot, commit), StatusIs(kAborted));
  EXPECT_OK(server_.OpenSession()) << "there is room for the next";
}

// --- Committing ------------------------------------------------------------------------------------------------------

TEST_F(ControlServiceTest, CommitsASnapshotAndSaysWhen) {
  const TestChunk root = TestPage(1, {});
  auto request = Of<v1::CommitSnapshotRequest>();
  request.set_session(OpenSession());
  ASSERT_OK(Append(server_.engine(), request.session(), root));
  request.set_manifest(Manifest("home", root.id()));
  auto reply = Call(&Stub::CommitSnapshot, request);
  ASSERT_OK(reply);
  const ManifestId id = ManifestIdOf(request.manifest());
  EXPECT_EQ(reply->id(), id.view());
  const auto known = server_.engine().catalog().Find(id);
  ASSERT_TRUE(known);
  EXPECT_EQ(reply->server_time_unix_ns(), absl::ToUnixNanos(known->server_time));
  auto again = Call(&Stub::CommitSnapshot, request);
  ASSERT_OK(again);
  EXPECT_EQ(again->SerializeAsString(), reply->SerializeAsString());
}

TEST_F(ControlServiceTest, NamesTheChunksThatASnapshotLacks) {
  const TestChunk root = TestPage(1, {});
  auto request = Of<v1::CommitSnapshotRequest>();
  request.set_session(OpenSession());
  request.set_manifest(Manifest("home", root.id()));
  EXPECT_THAT(Call(&Stub::CommitSnapshot, request), StatusIs(kPrecondition, "not stored"));
  v1::MissingChunks missing;
  ASSERT_TRUE(missing.ParseFromString(details_));
  EXPECT_THAT(missing.ids(), Contains(root.id().view()));
  EXPECT_THAT(ListedIds(Of<v1::ListSnapshotsRequest>()), IsEmpty());
}

TEST_F(ControlServiceTest, NamesNoChunksWhenNoneIsTheReason) {
  auto request = Of<v1::CommitSnapshotRequest>();
  request.set_session(OpenSession());
  request.set_manifest("not a manifest");
  EXPECT_THAT(Call(&Stub::CommitSnapshot, request), StatusIs(kInvalid));
  EXPECT_EQ(details_, "");
  request.set_manifest(Manifest("home", TestPage(1, {}).id(), 2, std::string(32, 'p')));
  EXPECT_THAT(Call(&Stub::CommitSnapshot, request), StatusIs(kAborted));
  EXPECT_EQ(details_, "");
}

TEST(MissingChunksDetails, NamesAtMost100) {
  std::vector<ChunkId> missing;
  EXPECT_EQ(MissingChunksDetails(missing), "");
  v1::MissingChunks details;
  for (size_t n : {1, 99, 100, 101, 1000}) {
    while (missing.size() < n) missing.push_back(TestData(static_cast<int>(missing.size())).id());
    ASSERT_TRUE(details.ParseFromString(MissingChunksDetails(missing)));
    ASSERT_THAT(details.ids(), SizeIs(std::min<size_t>(n, 100)));
    for (int i = 0; i < details.ids_size(); ++i) EXPECT_EQ(details.ids(i), missing[i].view());
  }
}

}  // namespace
}  // namespace holdfast
