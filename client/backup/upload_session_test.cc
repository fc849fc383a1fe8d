#include "client/backup/upload_session.h"

#include <memory>
#include <string>

#include "client/rpc/test_server.h"
#include "core/base/status_testing.h"
#include "core/format/manifest.h"
#include "core/io/posix.h"

namespace holdfast {
namespace {

class UploadSessionTest : public testing::Test {
 protected:
  std::unique_ptr<UploadSession> Open() {
    UploadSession::Options options;
    options.repository = TestServer::kRepository;
    options.source = "s";
    options.workers = 1;
    auto session = UploadSession::Open(server_.client(), keys_, options);
    EXPECT_OK(session);
    return session.ok() ? *std::move(session) : nullptr;
  }
  // Of a snapshot that is this page.
  std::string Manifest(const ChunkRef& root) {
    pb::ManifestCore core;
    core.set_repository_id(std::string(TestServer::Id().view()));
    core.set_source("s");
    core.set_agent(1);
    core.set_sequence(1);
    core.set_root_id(std::string(root.id.view()));
    core.set_key_epoch(1);
    ManifestKeys keys;
    keys.repository = TestServer::Id();
    keys.agent = 1;
    auto bytes = SealManifest(core, {}, root, keys, PosixIo().random);
    EXPECT_OK(bytes);
    return bytes.value_or("");
  }

  TestServer server_;
  const SealingKeys keys_ = TestServer::Keys();
};

TEST_F(UploadSessionTest, CommitsWhatItHasUploaded) {
  auto session = Open();
  auto page = session->pages().StorePage({{}, "page"});
  ASSERT_OK(page);
  ASSERT_OK(session->Flush());
  const std::string manifest = Manifest(*page);
  EXPECT_THAT(session->Commit(manifest), IsOkAndHolds(ManifestIdOf(manifest)));
  session.reset();
  EXPECT_EQ(Open()->head(), ManifestIdOf(manifest)) << "and the source is free again";
}

TEST_F(UploadSessionTest, ACommitThatMissesChunksNamesThem) {
  auto session = Open();
  const ChunkRef root = ComputeChunkRef(keys_, ChunkType::kTree, {}, "never sent");
  EXPECT_THAT(session->Commit(Manifest(root)),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       "committing the snapshot: chunks of the snapshot are not stored: " + HexEncode(root.id.view())));
}

}  // namespace
}  // namespace holdfast
