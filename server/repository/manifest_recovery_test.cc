#include "server/repository/manifest_recovery.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_testing.h"
#include "server/repository/test_engine.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class ManifestRecoveryTest : public testing::Test {
 protected:
  ManifestRecoveryTest() { engine_.OpenLog(); }

  // Stored, and in no slot.
  ManifestId Put(std::string_view source, uint64_t sequence, const ManifestId* previous) {
    const std::string bytes = engine_.Manifest(source, sequence, previous, TestPage(1, {}).id(), /*agent=*/3);
    EXPECT_OK(engine_.manifests.Put(ManifestIdOf(bytes), bytes));
    return ManifestIdOf(bytes);
  }
  absl::Status Recover(bool log_has_holes = false) {
    return RecoverManifests(engine_.manifests, engine_.catalog, log_has_holes, *engine_.log, engine_.warnings);
  }
  std::vector<ManifestId> Chain(std::string_view source) {
    std::vector<ManifestId> ids;
    for (const CatalogSnapshot& s : engine_.catalog.Chain(source)) ids.push_back(s.id);
    return ids;
  }
  size_t slots() { return engine_.Count("log/"); }

  TestEngine engine_;
};

TEST_F(ManifestRecoveryTest, CommitsTheNextOfItsSource) {
  const ManifestId id = Put("home", 1, nullptr);
  ASSERT_OK(Recover());
  auto found = engine_.catalog.Find(id);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->source, "home");
  EXPECT_EQ(found->sequence, 1u);
  EXPECT_EQ(found->agent, 3u);
  auto core = ParseManifestCore(found->core);
  ASSERT_OK(core);
  EXPECT_EQ(core->source(), "home");
  EXPECT_EQ(slots(), 2u);
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("was recovered from its manifest")));
  ASSERT_OK(Recover());
  EXPECT_EQ(slots(), 2u) << "again";
}

TEST_F(ManifestRecoveryTest, CommitsAChainInItsOrder) {
  for (int chain = 0; chain < 4; ++chain) {  // ids are random: some chain is not in their order
    const std::string source = absl::StrCat("source ", chain);
    std::vector<ManifestId> ids = {Put(source, 1, nullptr)};
    for (uint64_t sequence = 2; sequence <= 5; ++sequence) {
      const ManifestId previous = ids.back();
      ids.push_back(Put(source, sequence, &previous));
    }
    ASSERT_OK(Recover());
    EXPECT_EQ(Chain(source), ids);
  }
}

TEST_F(ManifestRecoveryTest, LeavesOneThatIsNotTheNextUnlessTheLogHasHoles) {
  const ManifestId first = Put("home", 1, nullptr);
  ASSERT_OK(Recover());
  const ManifestId skips = Put("home", 3, &first);
  const ManifestId other_first = Put("home", 1, nullptr);
  ManifestId unknown;
  unknown.bytes.fill(9);
  const ManifestId on_unknown = Put("home", 2, &unknown);
  const ManifestId of_other_source = Put("mail", 2, &first);
  ASSERT_OK(Recover());
  EXPECT_THAT(Chain("home"), ElementsAre(first));
  EXPECT_THAT(Chain("mail"), IsEmpty());
  EXPECT_EQ(slots(), 2u);
  EXPECT_EQ(engine_.warnings.All().size(), 1u) << "left-overs are nothing to hear of";
  ASSERT_OK(Recover(/*log_has_holes=*/true));
  EXPECT_THAT(Chain("home"), UnorderedElementsAre(first, other_first, on_unknown, skips));
  EXPECT_THAT(Chain("mail"), ElementsAre(of_other_source));
}

TEST_F(ManifestRecoveryTest, CommitsOneOfTwoThatCouldBeTheNext) {
  const ManifestId a = Put("home", 1, nullptr), b = Put("home", 1, nullptr);
  ASSERT_OK(Recover());
  EXPECT_THAT(Chain("home"), ElementsAre(std::min(a, b)));
}

TEST_F(ManifestRecoveryTest, LeavesADeletedSnapshotDeleted) {
  DeletedRecord deleted;
  deleted.manifest = Put("home", 1, nullptr);
  ASSERT_OK(engine_.log->Append(deleted));  // the slot of its commit was lost
  const size_t before = slots();
  for (const bool log_has_holes : {false, true}) ASSERT_OK(Recover(log_has_holes));
  EXPECT_EQ(slots(), before);
  EXPECT_TRUE(engine_.catalog.Find(deleted.manifest)->deleted);
}

TEST_F(ManifestRecoveryTest, CompletesASnapshotOfWhichOnlyALaterSlotIsLeft) {
  DeletedRecord deleted;
  deleted.manifest = Put("home", 1, nullptr);
  UndeletedRecord undeleted;
  undeleted.manifest = deleted.manifest;
  ASSERT_OK(engine_.log->Append(deleted));
  ASSERT_OK(engine_.log->Append(undeleted));
  ASSERT_OK(Recover());
  EXPECT_THAT(Chain("home"), ElementsAre(deleted.manifest));
}

TEST_F(ManifestRecoveryTest, NamesWhatCannotBeReadAndRecoversTheRest) {
  const ManifestId damaged = Put("home", 1, nullptr);
  std::string blob = engine_.Blob(ManifestBlobName(damaged));
  blob.back() ^= 1;
  engine_.Replace(ManifestBlobName(damaged), blob);
  const std::string garbage = "not a manifest";
  ASSERT_OK(engine_.manifests.Put(ManifestIdOf(garbage), garbage));
  const ManifestId good = Put("mail", 1, nullptr);
  ASSERT_OK(Recover(/*log_has_holes=*/true));
  EXPECT_THAT(Chain("mail"), ElementsAre(good));
  EXPECT_EQ(slots(), 2u);
  EXPECT_THAT(engine_.warnings.All(),
              UnorderedElementsAre(HasSubstr(absl::StrCat(ManifestBlobName(damaged).str(), " is in no readable")),
                                   HasSubstr(ManifestBlobName(ManifestIdOf(garbage)).str()),
                                   HasSubstr("was recovered from its manifest")));
}

TEST_F(ManifestRecoveryTest, TakesAnOutageForAnErrorAndGoesOnLater) {
  const ManifestId first = Put("home", 1, nullptr), second = Put("home", 2, &first);
  struct Step {
    BlobOperation operation;
    const char* prefix;
  };
  for (const Step& step : {Step{BlobOperation::kList, "snapshots/"}, Step{BlobOperation::kGet, "snapshots/"},
                           Step{BlobOperation::kPut, "log/"}}) {
    engine_.Outage(step.operation, step.prefix);
    EXPECT_THAT(Recover(), StatusIs(absl::StatusCode::kUnavailable)) << step.prefix;
    engine_.store.ClearFaults();
    EXPECT_THAT(Chain("home"), IsEmpty());
    EXPECT_THAT(engine_.warnings.All(), IsEmpty());
  }
  ASSERT_OK(Recover());
  EXPECT_THAT(Chain("home"), ElementsAre(first, second));
}

}  // namespace
}  // namespace holdfast
