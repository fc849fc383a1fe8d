#include "client/backup/manifest_draft.h"

#include <cerrno>

#include "core/base/status_testing.h"
#include "core/io/posix.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

class ManifestDraftTest : public testing::Test {
 protected:
  ManifestDraftTest() {
    keys_.repository.bytes.fill(1);
    keys_.agent = 3;
    facts_.source = "s";
    facts_.sequence = facts_.key_epoch = 1;
    facts_.started = absl::FromUnixSeconds(1000);
    facts_.finished = absl::FromUnixSeconds(1010);
  }
  // As a reader sees it.
  absl::StatusOr<OpenedManifest> Seal() {
    ASSIGN_OR_RETURN(std::string bytes, draft_.Seal(facts_, keys_, PosixIo().random));
    return OpenManifest(
        bytes, keys_.repository, keys_.aead, [&](uint32_t) { return keys_.agent_reader_key; }, keys_.agent_mac_key);
  }
  static Entry Slice(char bundle, uint64_t offset, uint64_t length) {
    Entry e;
    e.size = length;
    e.content.kind = Content::Kind::kSlice;
    e.content.ref.id.bytes.fill(static_cast<uint8_t>(bundle));
    e.content.offset = offset;
    e.content.length = length;
    return e;
  }
  static std::string Id(char bundle) { return std::string(32, bundle); }

  ManifestDraft draft_;
  ManifestKeys keys_;
  ManifestDraft::Facts facts_;
};

TEST_F(ManifestDraftTest, SaysWhatItWasTold) {
  facts_.root.ref.id.bytes.fill(5);
  facts_.root.ref.key.MutableBytes()[0] = 6;
  facts_.root.level = 2;
  facts_.previous_manifest = std::string(32, 'p');
  facts_.sequence = 8;
  facts_.key_epoch = 4;
  facts_.description = "weekly";
  facts_.root_path = "/home";
  facts_.excludes = {"*.o", "*.tmp"};
  draft_.statistics().set_files_read(7);
  auto m = Seal();
  ASSERT_OK(m);
  EXPECT_EQ(m->root.id, facts_.root.ref.id);
  EXPECT_EQ(m->root.key, facts_.root.ref.key);
  EXPECT_EQ(m->core.root_level(), 2u);
  EXPECT_EQ(m->core.source(), "s");
  EXPECT_EQ(m->core.agent(), 3u);
  EXPECT_EQ(m->core.sequence(), 8u);
  EXPECT_EQ(m->core.previous_manifest(), facts_.previous_manifest);
  EXPECT_EQ(m->core.key_epoch(), 4u);
  EXPECT_EQ(m->core.started_unix_ns(), 1'000'000'000'000);
  EXPECT_EQ(m->core.finished_unix_ns(), 1'010'000'000'000);
  EXPECT_TRUE(m->core.complete());
  EXPECT_EQ(m->sealed.description(), "weekly");
  EXPECT_EQ(m->sealed.root_path(), "/home");
  EXPECT_EQ(m->sealed.platform(), 1);
  EXPECT_THAT(m->sealed.excludes(), ElementsAre("*.o", "*.tmp"));
  EXPECT_EQ(m->sealed.statistics().files_read(), 7u);
  EXPECT_EQ(m->sealed.statistics().duration_ns(), 10'000'000'000);
}

TEST_F(ManifestDraftTest, CountsAreThoseOfTheTree) {
  facts_.root.sums = {.entries = 6, .files = 2, .directories = 1, .bytes = 200};
  auto m = Seal();
  ASSERT_OK(m);
  EXPECT_EQ(m->core.files(), 2u);
  EXPECT_EQ(m->core.bytes(), 200u);
  EXPECT_EQ(m->core.directories(), 1u);
  EXPECT_EQ(m->core.others(), 3u);
  EXPECT_EQ(SumsOf(m->core), facts_.root.sums);
}

TEST_F(ManifestDraftTest, AFailureMakesItIncompleteAndIsNamed) {
  draft_.AddFailure({"secret\xff", "open", EACCES});
  auto m = Seal();
  ASSERT_OK(m);
  EXPECT_FALSE(m->core.complete());
  EXPECT_EQ(m->core.errors(), 1u);
  ASSERT_EQ(m->sealed.failures_size(), 1);
  EXPECT_EQ(m->sealed.failures(0).path(), "secret\xff");
  EXPECT_EQ(m->sealed.failures(0).operation(), "open");
  EXPECT_EQ(m->sealed.failures(0).error_number(), EACCES);
  EXPECT_EQ(m->sealed.failures_not_named(), 0u);
}

TEST_F(ManifestDraftTest, NamesFailuresUpToALimit) {
  for (size_t i = 0; i < ManifestDraft::kFailuresNamedMax + 5; ++i) draft_.AddFailure({"f", "open", EIO});
  auto m = Seal();
  ASSERT_OK(m);
  EXPECT_EQ(m->core.errors(), ManifestDraft::kFailuresNamedMax + 5);
  EXPECT_THAT(m->sealed.failures(), SizeIs(ManifestDraft::kFailuresNamedMax));
  EXPECT_EQ(m->sealed.failures_not_named(), 5u);
}

TEST_F(ManifestDraftTest, NamesFailuresUpToALimitOfBytes) {
  const std::string path(ManifestDraft::kFailuresBytesMax / 4, 'p');
  for (int i = 0; i < 6; ++i) draft_.AddFailure({path, "open", EIO});
  auto m = Seal();
  ASSERT_OK(m) << "it stays small enough to be committed";
  EXPECT_EQ(m->sealed.failures_size(), 4);
  EXPECT_EQ(m->sealed.failures_not_named(), 2u);
}

TEST_F(ManifestDraftTest, NamesBundlesThatAreMostlyDead) {
  draft_.AddEntry(Slice('d', 0, 10));
  draft_.AddEntry(Slice('d', 900, 100));  // 110 of 1000
  draft_.AddEntry(Slice('h', 0, 250));
  draft_.AddEntry(Slice('h', 750, 250));  // just half
  draft_.AddEntry(Slice('l', 0, 1000));
  auto m = Seal();
  ASSERT_OK(m);
  EXPECT_THAT(m->sealed.sparse_bundles(), ElementsAre(Id('d')));
}

TEST_F(ManifestDraftTest, NamesDeadBundlesUpToALimit) {
  for (size_t i = 0; i < ManifestDraft::kSparseBundlesMax + 10; ++i) {
    Entry e = Slice('x', 900, 100);
    e.content.ref.id.bytes[0] = static_cast<uint8_t>(i);
    e.content.ref.id.bytes[1] = static_cast<uint8_t>(i >> 8);
    draft_.AddEntry(e);
  }
  auto m = Seal();
  ASSERT_OK(m);
  EXPECT_THAT(m->sealed.sparse_bundles(), SizeIs(ManifestDraft::kSparseBundlesMax));
}

TEST_F(ManifestDraftTest, TextThatIsNotUtf8IsEscapedSoThatItOpens) {
  facts_.description =
      "Gr\xc3\xbc\xc3\x9f"
      "e \xe2\x82\xac \xf0\x9f\x98\x80\n";
  facts_.excludes = {"\xff*",
                     "\xc3",
                     "\xe2\x82",
                     "\xc0\xaf",
                     "\xed\xa0\x80",
                     "\xe0\x80\x80",
                     "\xf0\x80\x80\x80",
                     "\xf4\x90\x80\x80",
                     "\xf5\x80\x80\x80",
                     "\xc3z"};
  auto m = Seal();
  ASSERT_OK(m);
  EXPECT_EQ(m->sealed.description(), facts_.description);
  EXPECT_THAT(m->sealed.excludes(),
              ElementsAre("\\xff*", "\\xc3", "\\xe2\\x82", "\\xc0\\xaf", "\\xed\\xa0\\x80", "\\xe0\\x80\\x80",
                          "\\xf0\\x80\\x80\\x80", "\\xf4\\x90\\x80\\x80", "\\xf5\\x80\\x80\\x80", "\\xc3z"));
}

TEST_F(ManifestDraftTest, LongTextIsCut) {
  facts_.description = std::string(4095, 'x') + "\xc3\xbc";
  auto m = Seal();
  ASSERT_OK(m);
  EXPECT_EQ(m->sealed.description(), std::string(4095, 'x') + "\\xc3");
}

}  // namespace
}  // namespace holdfast
