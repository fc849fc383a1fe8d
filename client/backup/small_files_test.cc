#include "client/backup/small_files.h"

#include <cerrno>

#include "client/scan/fake_source_fs.h"
#include "client/upload/fake_upload_transport.h"
#include "core/base/status_testing.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SmallFilesTest : public testing::Test {
 protected:
  // Reads all files of the root.
  absl::Status Run() {
    auto scanner = fs_.Scan({}, nullptr);
    EXPECT_OK(scanner);
    SourceEntry entry;
    BundleJob job;
    while (*(*scanner)->Next(&entry)) {
      if (entry.stat.type != EntryType::kFile) continue;
      results_[entry.name] = std::make_shared<FileResult>();
      job.files.push_back({entry.directory, entry.name, results_[entry.name]});
    }
    RETURN_IF_ERROR(RunBundleJob(job, uploader_, 1));
    return uploader_.Flush();
  }
  FileResult& Result(const std::string& name) { return *results_.at(name); }

  FakeSourceFs fs_;
  SealingKeys keys_;
  FakeUploadTransport transport_;
  OfferedIds offered_;
  SealVerifier verifier_{keys_};
  UploadCounters counters_;
  ChunkUploader uploader_{transport_, keys_, offered_, verifier_, counters_};
  std::map<std::string, std::shared_ptr<FileResult>> results_;
};

TEST_F(SmallFilesTest, AreOneChunkInTheirOrder) {
  const std::string a(100, 'a'), c(300, 'c');
  fs_.AddFile("a", a);
  fs_.AddFile("b", "inline");
  fs_.AddFile("c", c);
  fs_.AddFile("d", "");
  fs_.Change("a", [](FakeSourceFs::Object& o) { o.xattrs = {{"user.x", "1"}}; });
  ASSERT_OK(Run());
  const ChunkRef bundle = ComputeChunkRef(keys_, ChunkType::kData, {}, a + c);
  ASSERT_THAT(transport_.sent, SizeIs(1));
  EXPECT_EQ(transport_.sent[0].id, bundle.id);
  EXPECT_EQ(Result("a").content.kind, Content::Kind::kSlice);
  EXPECT_EQ(Result("a").content.ref, bundle);
  EXPECT_EQ(Result("a").content.offset, 0u);
  EXPECT_EQ(Result("c").content.offset, 100u);
  EXPECT_EQ(Result("c").content.length, 300u);
  EXPECT_EQ(Result("c").digest, SliceDigest(c));
  EXPECT_EQ(Result("b").content.inline_bytes, "inline");
  EXPECT_EQ(Result("b").digest, std::nullopt);
  EXPECT_EQ(Result("d").content.kind, Content::Kind::kNone);
  EXPECT_THAT(Result("a").xattrs, ElementsAre(Xattr{"user.x", "1"}));
}

TEST_F(SmallFilesTest, NothingIsSentForFilesThatAreInline) {
  fs_.AddFile("a", std::string(64, 'x'));
  ASSERT_OK(Run());
  EXPECT_EQ(Result("a").content.kind, Content::Kind::kInline);
  EXPECT_THAT(transport_.questions, IsEmpty());
}

TEST_F(SmallFilesTest, AFileThatFailsLeavesTheOthers) {
  const char* operations[] = {"open", "read", "stat", "attributes"};
  for (const char* operation : operations) {
    fs_.AddFile(operation, std::string(100, 'x'));
    fs_.Fail(operation, operation, EIO);
  }
  fs_.AddFile("gone", "");
  fs_.Fail("gone", "open", ENOENT);
  fs_.AddFile("good", std::string(100, 'g'));
  ASSERT_OK(Run());
  for (const char* operation : operations) {
    FileResult& r = Result(operation);
    EXPECT_EQ(r.outcome, FileResult::Outcome::kFailed) << operation;
    EXPECT_EQ(r.flags, kEntryReadFailed) << operation;
    EXPECT_EQ(r.error.error_number, EIO);
    EXPECT_EQ(r.error.path, operation);
    EXPECT_EQ(r.content.kind, Content::Kind::kNone);
  }
  EXPECT_EQ(Result("read").error.operation, "read");
  EXPECT_EQ(Result("attributes").error.operation, "read attributes");
  EXPECT_EQ(Result("gone").outcome, FileResult::Outcome::kVanished);
  EXPECT_EQ(Result("good").content.offset, 0u);
}

TEST_F(SmallFilesTest, AFileThatChangesIsReadAgainUntilItIsStable) {
  fs_.AddFile("f", std::string(100, '0'));
  fs_.SetHook([&, n = 0](std::string_view, std::string_view operation) mutable {
    if (operation == "stat" && ++n == 1) fs_.Write("f", std::string(200, '1'));
  });
  ASSERT_OK(Run());
  EXPECT_EQ(Result("f").size, 200u);
  EXPECT_EQ(Result("f").flags, 0u);
  EXPECT_EQ(Result("f").content.ref.id, ComputeChunkRef(keys_, ChunkType::kData, {}, std::string(200, '1')).id);
}

TEST_F(SmallFilesTest, AFileThatNeverRestsIsFlagged) {
  fs_.AddFile("f", std::string(100, '0'));
  int reads = 0;
  fs_.SetHook([&](std::string_view, std::string_view operation) {
    if (operation == "read") fs_.Write("f", std::string(100 + ++reads, '1'));
  });
  ASSERT_OK(Run());
  EXPECT_EQ(reads, 3);
  EXPECT_EQ(Result("f").flags, kEntryChangedWhileRead);
}

TEST_F(SmallFilesTest, AFileThatOutgrewTheBundleIsNamedAndNotCutOff) {
  fs_.AddFile("f", "small");
  fs_.SetHook([&](std::string_view, std::string_view operation) {
    if (operation == "open") fs_.Write("f", std::string(3u << 20, '1'));
  });
  ASSERT_OK(Run());
  EXPECT_EQ(Result("f").outcome, FileResult::Outcome::kFailed);
  EXPECT_EQ(Result("f").error.error_number, EFBIG);
}

TEST_F(SmallFilesTest, SmallHolesAreListedAndStoredAsZeros) {
  fs_.AddFile("f", std::string(100'000, '\0'));
  fs_.Change("f", [](FakeSourceFs::Object& o) {
    o.stat.blocks = 8;
    o.data = {{{4096, 8192}, {50'000, 60'000}}};
  });
  ASSERT_OK(Run());
  EXPECT_THAT(Result("f").holes, ElementsAre(Hole{0, 4096}, Hole{8192, 41808}, Hole{60'000, 40'000}));
  EXPECT_EQ(Result("f").content.length, 100'000u);
}

TEST_F(SmallFilesTest, ManyAttributesAreLeftForLater) {
  fs_.AddFile("f", "x");
  fs_.Change("f", [](FakeSourceFs::Object& o) { o.xattrs = {{"user.x", std::string(5000, 'v')}}; });
  ASSERT_OK(Run());
  EXPECT_TRUE(Result("f").has_large_xattrs);
  EXPECT_THAT(Result("f").xattrs, IsEmpty());
}

}  // namespace
}  // namespace holdfast
