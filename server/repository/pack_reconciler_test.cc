#include "server/repository/pack_reconciler.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status_testing.h"
#include "server/repository/test_engine.h"
#include "storage/pack/stored_pack.h"

namespace holdfast {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class PackReconcilerTest : public testing::Test {
 protected:
  PackReconcilerTest() {
    auto opened = ChunkIndex::Open(kv_, engine_.key.repository);
    EXPECT_OK(opened);
    index_ = *std::move(opened);
  }
  absl::Status Reconcile() {
    lost_ = false;
    return engine_.reconciler.Reconcile(*index_, &lost_);
  }
  bool Knows(const TestChunk& chunk) {
    auto found = index_->Lookup({{chunk.id()}});
    EXPECT_OK(found);
    return found->at(0).has_value();
  }
  static BlobName NameOf(const PackSummary& pack) { return PackBlobName(pack.kind, pack.id); }

  const TestChunk a_ = TestData(1), b_ = TestData(2), c_ = TestData(3);
  TestEngine engine_;
  MemoryKvStore kv_;
  std::unique_ptr<ChunkIndex> index_;
  bool lost_ = false;
};

TEST_F(PackReconcilerTest, AddsThePacksThatTheIndexLacks) {
  engine_.Store({a_, b_});
  ASSERT_OK(Reconcile());
  engine_.Store({c_});
  engine_.Store({TestPage(1, {a_})});
  const uint64_t gets = engine_.store.operations(BlobOperation::kGet);
  ASSERT_OK(Reconcile());
  EXPECT_GT(engine_.store.operations(BlobOperation::kGet), gets);
  EXPECT_FALSE(lost_);
  for (const TestChunk& chunk : {a_, b_, c_, TestPage(1, {a_})}) EXPECT_TRUE(Knows(chunk));
  EXPECT_THAT(index_->Packs(), SizeIs(3));
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
}

TEST_F(PackReconcilerTest, DoesNotReadThePacksThatTheIndexHas) {
  engine_.Store({a_});
  ASSERT_OK(Reconcile());
  engine_.Outage(BlobOperation::kGet, "packs/");
  EXPECT_OK(Reconcile());
  EXPECT_FALSE(lost_);
}

TEST_F(PackReconcilerTest, SaysThatChunksAreLostWhenAPackIsGone) {
  const PackSummary pack = engine_.Store({a_});
  engine_.Store({b_});
  ASSERT_OK(Reconcile());
  ASSERT_OK(engine_.blobs.Delete(NameOf(pack)));
  ASSERT_OK(Reconcile());
  EXPECT_TRUE(lost_);
  EXPECT_THAT(engine_.warnings.All(),
              ElementsAre("pack " + HexEncode(pack.id.view()) + " is missing from the storage"));
}

TEST_F(PackReconcilerTest, KeepsWhatCanBeReadOfAPackWhoseTrailerIsDamaged) {
  const PackSummary pack = engine_.Store({a_, b_, c_});
  engine_.DamageTrailer(pack);
  engine_.Damage(pack, b_.body);
  ASSERT_OK(Reconcile());
  EXPECT_TRUE(lost_);
  EXPECT_TRUE(Knows(a_));
  EXPECT_FALSE(Knows(b_));
  EXPECT_TRUE(Knows(c_));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre(HasSubstr("what can be read of it is kept")));
}

TEST_F(PackReconcilerTest, KeepsNothingThatSalvagingFindsAndReadingDoesNot) {
  const PackSummary pack = engine_.Store({a_});
  std::string blob = engine_.Blob(NameOf(pack));
  blob[0] ^= 1;  // of the pack's header
  engine_.Replace(NameOf(pack), blob);
  engine_.DamageTrailer(pack);
  ASSERT_OK_AND_ASSIGN(PackSummary salvaged, SalvagePack(engine_.store, pack.kind, pack.id, blob.size(), engine_.key));
  ASSERT_THAT(salvaged.entries, SizeIs(1));
  ASSERT_OK(Reconcile());
  EXPECT_TRUE(lost_);
  EXPECT_FALSE(Knows(a_));
}

TEST_F(PackReconcilerTest, GoesOnBehindAPackOfWhichNothingCanBeRead) {
  PackSummary first = engine_.Store({a_}), second = engine_.Store({b_});
  if (NameOf(second) < NameOf(first)) std::swap(first, second);  // as they are listed
  engine_.Replace(NameOf(first), "nonsense");
  ASSERT_OK(Reconcile());
  EXPECT_TRUE(lost_);
  EXPECT_FALSE(index_->HasPack(first.id));
  EXPECT_TRUE(index_->HasPack(second.id));
  EXPECT_THAT(engine_.warnings.All(), Contains(HasSubstr("nothing can be read of it")));
}

TEST_F(PackReconcilerTest, TakesABadSectorForDamage) {
  const PackSummary pack = engine_.Store({a_, b_});
  engine_.store.AddBadSector(NameOf(pack).str(), pack.bytes - kPackFooterBytes, kPackFooterBytes);
  ASSERT_OK(Reconcile());
  EXPECT_TRUE(lost_);
  EXPECT_TRUE(Knows(a_));
  EXPECT_TRUE(Knows(b_));
}

TEST_F(PackReconcilerTest, TakesAnOutageForNoDamage) {
  const PackSummary pack = engine_.Store({a_});
  for (const BlobOperation operation : {BlobOperation::kList, BlobOperation::kGet}) {
    engine_.Outage(operation, "packs/");
    EXPECT_THAT(Reconcile(), StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_FALSE(lost_);
    engine_.store.ClearFaults();
  }
  EXPECT_THAT(engine_.warnings.All(), IsEmpty());
  // Nor when it comes while a damaged pack is salvaged, or read again.
  engine_.DamageTrailer(pack);
  ASSERT_OK(Reconcile());
  ASSERT_OK(index_->RemovePack(pack.id));
  const uint64_t all = engine_.store.operations(BlobOperation::kGet);
  ASSERT_OK(Reconcile());
  const int reads = static_cast<int>(engine_.store.operations(BlobOperation::kGet) - all);
  for (int skip = 0; skip < reads; ++skip) {
    ASSERT_OK(index_->RemovePack(pack.id));
    engine_.store.AddFault(
        {.operation = BlobOperation::kGet, .fault = BlobFault::kFailBefore, .prefix = "packs/", .skip = skip});
    EXPECT_THAT(Reconcile(), StatusIs(absl::StatusCode::kUnavailable)) << "at read " << skip;
    EXPECT_FALSE(Knows(a_));
    engine_.store.ClearFaults();
  }
}

TEST_F(PackReconcilerTest, NamesBlobsThatAreNoPacks) {
  ASSERT_OK(PutBytes(engine_.blobs, BlobName::FromTrusted("packs/-readme.txt"), "x", PutMode::kIfAbsent));
  engine_.Store({a_});
  ASSERT_OK(Reconcile());
  EXPECT_FALSE(lost_);
  EXPECT_TRUE(Knows(a_));
  EXPECT_THAT(engine_.warnings.All(), ElementsAre("packs/-readme.txt is not a pack's name"));
}

TEST_F(PackReconcilerTest, SaysWhenTheIndexCannotBeWritten) {
  engine_.Store({a_});
  kv_.FailWrites(absl::ResourceExhaustedError("disk full"));
  EXPECT_THAT(Reconcile(), StatusIs(absl::StatusCode::kResourceExhausted));
  kv_.FailWrites(absl::OkStatus());
  EXPECT_OK(Reconcile());
  EXPECT_TRUE(Knows(a_));
}

}  // namespace
}  // namespace holdfast
