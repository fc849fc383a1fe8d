#include "server/log/catalog.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

ManifestId Id(uint8_t first, uint8_t second = 0) {
  ManifestId id;
  id.bytes[0] = first;
  id.bytes[1] = 0xab;
  id.bytes[2] = second;
  return id;
}

class CatalogTest : public ::testing::Test {
 protected:
  // Each record gets the next slot, and a second per slot.
  void Apply(LogPayload payload) {
    LogRecord record;
    record.slot = ++slot_;
    record.time = absl::FromUnixSeconds(1000 + static_cast<int64_t>(slot_));
    record.payload = std::move(payload);
    catalog_.Apply(record);
  }
  void Commit(ManifestId id, std::string source, uint64_t sequence) {
    Apply(CommittedRecord{id, std::move(source), sequence, 3, "session", "core"});
  }
  std::vector<ManifestId> AllPages(const CatalogFilter& filter, int limit) {
    std::vector<ManifestId> out;
    std::string after;
    do {
      absl::StatusOr<CatalogPage> page = catalog_.List(filter, after, limit);
      EXPECT_OK(page);
      if (!page.ok()) break;
      EXPECT_LE(page->snapshots.size(), static_cast<size_t>(limit));
      for (const CatalogSnapshot& s : page->snapshots) out.push_back(s.id);
      after = page->next;
    } while (!after.empty());
    return out;
  }
  Catalog catalog_;
  uint64_t slot_ = 0;
};

TEST_F(CatalogTest, KnowsWhatWasCommitted) {
  Apply(TakeoverRecord{1, "server"});
  Commit(Id(1), "a@b:/", 1);
  auto s = catalog_.Find(Id(1));
  ASSERT_TRUE(s.has_value());
  EXPECT_EQ(s->source, "a@b:/");
  EXPECT_EQ(s->sequence, 1u);
  EXPECT_EQ(s->agent, 3u);
  EXPECT_EQ(s->session, "session");
  EXPECT_EQ(s->core, "core");
  EXPECT_EQ(s->slot, 2u);
  EXPECT_EQ(s->server_time, absl::FromUnixSeconds(1002));
  EXPECT_FALSE(s->deleted);
  EXPECT_FALSE(catalog_.Find(Id(2)).has_value());
}

TEST_F(CatalogTest, SecondCommitOfAManifestChangesNothing) {
  Commit(Id(1), "a", 1);
  Commit(Id(1), "b", 9);
  EXPECT_EQ(catalog_.Find(Id(1))->source, "a");
  EXPECT_EQ(catalog_.live_count(), 1u);
  EXPECT_FALSE(catalog_.Head("b").has_value());
}

TEST_F(CatalogTest, DeletionLeavesAStubInTheChainAndCanBeUndone) {
  Commit(Id(1), "a", 1);
  Commit(Id(2), "a", 2);
  Apply(DeletedRecord{Id(2), "core", "expired", "policy"});
  auto s = catalog_.Find(Id(2));
  EXPECT_TRUE(s->deleted);
  EXPECT_EQ(s->deleted_reason, "expired");
  EXPECT_EQ(s->deleted_actor, "policy");
  EXPECT_EQ(s->deleted_slot, 3u);
  EXPECT_EQ(catalog_.Head("a")->id, Id(2));
  EXPECT_EQ(catalog_.Chain("a").size(), 2u);
  EXPECT_EQ(catalog_.live_count(), 1u);
  EXPECT_EQ(catalog_.deleted_count(), 1u);
  EXPECT_THAT(catalog_.LiveIds(), ElementsAre(Id(1)));
  EXPECT_THAT(AllPages({}, 10), ElementsAre(Id(1)));
  EXPECT_THAT(AllPages({std::nullopt, true}, 10), ElementsAre(Id(1), Id(2)));
  Apply(DeletedRecord{Id(2), "core", "again", "policy"});
  EXPECT_EQ(catalog_.deleted_count(), 1u);
  Apply(UndeletedRecord{Id(2), "admin"});
  Apply(UndeletedRecord{Id(2), "admin"});
  EXPECT_FALSE(catalog_.Find(Id(2))->deleted);
  EXPECT_EQ(catalog_.Find(Id(2))->deleted_reason, "");
  EXPECT_EQ(catalog_.live_count(), 2u);
}

TEST_F(CatalogTest, DeletionOfAnUnknownManifestIsAStubThatItsCommitCompletes) {
  Apply(DeletedRecord{Id(7), "stub core", "why", "who"});
  ASSERT_TRUE(catalog_.Find(Id(7)).has_value());
  EXPECT_EQ(catalog_.Find(Id(7))->core, "stub core");
  EXPECT_EQ(catalog_.Find(Id(7))->source, "");
  EXPECT_EQ(catalog_.Find(Id(7))->server_time, absl::FromUnixSeconds(1001));
  Commit(Id(7), "a", 4);
  EXPECT_TRUE(catalog_.Find(Id(7))->deleted) << "still in the trash";
  EXPECT_EQ(catalog_.Find(Id(7))->deleted_actor, "who");
  EXPECT_EQ(catalog_.Head("a")->id, Id(7));
  EXPECT_EQ(catalog_.live_count(), 0u);
  EXPECT_THAT(AllPages({std::nullopt, true}, 1), ElementsAre(Id(7)));
}

TEST_F(CatalogTest, HeadIsTheHighestSequencePerSource) {
  Commit(Id(1), "a", 1);
  Commit(Id(2), "b", 1);
  Commit(Id(3), "a", 2);
  EXPECT_EQ(catalog_.Head("a")->id, Id(3));
  EXPECT_EQ(catalog_.Head("b")->id, Id(2));
  EXPECT_FALSE(catalog_.Head("c").has_value());
}

TEST_F(CatalogTest, ListsByThePrefixOfAnId) {
  Commit(Id(0x12), "a", 1);
  Commit(Id(0x34, 1), "a", 2);
  Commit(Id(0x34, 2), "b", 1);
  Commit(Id(0x34, 3), "a", 3);
  Apply(DeletedRecord{Id(0x34, 3), "core", "expired", "policy"});
  auto ids = [&](std::string_view prefix) { return AllPages({std::nullopt, false, std::string(prefix)}, 1); };
  EXPECT_THAT(ids(""), ElementsAre(Id(0x12), Id(0x34, 1), Id(0x34, 2)));
  EXPECT_THAT(ids("1"), ElementsAre(Id(0x12)));
  EXPECT_THAT(ids("12ab"), ElementsAre(Id(0x12)));
  EXPECT_THAT(ids("12AB0"), ElementsAre(Id(0x12)));
  EXPECT_THAT(ids("34aB"), ElementsAre(Id(0x34, 1), Id(0x34, 2)));
  EXPECT_THAT(ids("34ab02"), ElementsAre(Id(0x34, 2)));
  EXPECT_THAT(ids("34ab03"), IsEmpty()) << "deleted";
  EXPECT_THAT(ids(HexEncode(Id(0x34, 2).view())), ElementsAre(Id(0x34, 2)));
  for (std::string_view none : {"ffff", "35", "34ab1", "34abx", "g", " 12", "12 "}) {
    EXPECT_THAT(ids(none), IsEmpty()) << none;
  }
  EXPECT_THAT(ids(std::string(66, '1')), IsEmpty());
  EXPECT_THAT(ids(HexEncode(Id(0x34, 2).view()) + "0"), IsEmpty());
  EXPECT_THAT(AllPages({"b", false, "34"}, 10), ElementsAre(Id(0x34, 2)));
  EXPECT_THAT(AllPages({std::nullopt, true, "34"}, 2), ElementsAre(Id(0x34, 1), Id(0x34, 2), Id(0x34, 3)));
}

TEST_F(CatalogTest, PagesGiveEachSnapshotOnceInOrder) {
  std::vector<ManifestId> a, all;
  for (int i = 0; i < 25; ++i) {
    const ManifestId id = Id(static_cast<uint8_t>(100 - i));
    Commit(id, i % 2 == 0 ? "a" : "b", static_cast<uint64_t>(i + 1));
    all.push_back(id);
    if (i % 2 == 0) a.push_back(id);
  }
  for (int limit : {1, 2, 7, 12, 13, 25, 1000}) {
    EXPECT_EQ(AllPages({}, limit), all);
    EXPECT_EQ(AllPages({"a", false}, limit), a);
  }
  EXPECT_THAT(AllPages({"none", false}, 5), IsEmpty());
  EXPECT_THAT(catalog_.List({}, "nonsense", 5), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(CatalogTest, APageHasAThousandSnapshotsAtMost) {
  for (int i = 0; i < Catalog::kPageMax + 1; ++i) {
    Commit(Id(static_cast<uint8_t>(i), static_cast<uint8_t>(i >> 8)), "a", static_cast<uint64_t>(i + 1));
  }
  for (int limit : {0, -1, Catalog::kPageMax, Catalog::kPageMax + 1, std::numeric_limits<int>::max()}) {
    auto page = catalog_.List({}, "", limit);
    ASSERT_OK(page);
    EXPECT_EQ(page->snapshots.size(), size_t{Catalog::kPageMax}) << limit;
    EXPECT_NE(page->next, "") << limit;
  }
}

TEST_F(CatalogTest, RemembersRevokedSessions) {
  EXPECT_FALSE(catalog_.IsSessionRevoked("s1"));
  Apply(SessionRevokedRecord{"s1", "too old"});
  EXPECT_TRUE(catalog_.IsSessionRevoked("s1"));
  EXPECT_FALSE(catalog_.IsSessionRevoked("s2"));
}

}  // namespace
}  // namespace holdfast
