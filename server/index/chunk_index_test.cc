#include "server/index/chunk_index.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/status_testing.h"
#include "server/index/memory_kv_store.h"
#include "server/index/rocks_kv_store.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;

template <typename Id>
Id MakeId(uint64_t n) {
  Id id;
  for (size_t i = 0; i < Id::kSizeInBytes; ++i) {
    id.bytes[i] = static_cast<uint8_t>((n * 0x9e3779b97f4a7c15u + i * 77) >> (8 * (i % 8)));
  }
  std::memcpy(id.bytes.data() + Id::kSizeInBytes - 8, &n, 8);
  return id;
}
RepositoryId Repo() { return MakeId<RepositoryId>(1); }
ChunkId Chunk(uint64_t n) { return MakeId<ChunkId>(n); }
PackId Pack(uint64_t n) { return MakeId<PackId>(n); }

PackSummary MakePack(uint64_t pack, PackKind kind, const std::vector<uint64_t>& chunks) {
  PackSummary out;
  out.id = Pack(pack);
  out.kind = kind;
  uint64_t offset = 64;
  for (uint64_t n : chunks) {
    PackEntry e;
    e.frame_number = static_cast<uint32_t>(out.entries.size());
    e.body_offset = offset;
    e.header.id = Chunk(n);
    e.header.type = kind == PackKind::kData ? ChunkType::kData : ChunkType::kTree;
    e.header.epoch = 1;
    e.header.uploader = static_cast<uint32_t>(pack + 100);
    e.header.sealed_length = static_cast<uint32_t>(1000 + n);
    if (kind == PackKind::kTree) e.header.children.resize(n % 5);
    offset += 200 + e.header.sealed_length;
    out.entries.push_back(e);
  }
  out.bytes = offset + 500;
  return out;
}

absl::StatusOr<std::vector<ChunkLocation>> AllLocations(const ChunkIndex& index, const ChunkId& id) {
  absl::StatusOr<std::vector<std::vector<ChunkLocation>>> all = index.LookupAll({&id, 1});
  if (!all.ok()) return all.status();
  return std::move(all->front());
}

std::unique_ptr<ChunkIndex> OpenOrDie(KvStore& kv) {
  absl::StatusOr<std::unique_ptr<ChunkIndex>> index = ChunkIndex::Open(kv, Repo());
  if (!index.ok()) {
    ADD_FAILURE() << index.status();
    std::abort();
  }
  return *std::move(index);
}

std::vector<std::pair<std::string, std::string>> Dump(KvStore& kv) {
  std::vector<std::pair<std::string, std::string>> out;
  EXPECT_OK(kv.Scan("", "", [&](std::string_view k, std::string_view v) {
    out.emplace_back(k, v);
    return true;
  }));
  return out;
}

class ChunkIndexTest : public ::testing::Test {
 protected:
  void Reopen() { index_ = OpenOrDie(kv_); }
  std::optional<ChunkLocation> Find(uint64_t n) {
    const ChunkId id = Chunk(n);
    auto found = index_->Lookup({&id, 1});
    EXPECT_OK(found);
    return found.ok() ? found->front() : std::nullopt;
  }
  MemoryKvStore kv_;
  std::unique_ptr<ChunkIndex> index_ = OpenOrDie(kv_);
};

TEST_F(ChunkIndexTest, FindsWhatAPackHolds) {
  ASSERT_OK(index_->AddPack(MakePack(1, PackKind::kTree, {10, 11, 12})));
  const std::vector<ChunkId> ids = {Chunk(12), Chunk(99), Chunk(10), Chunk(12)};
  ASSERT_OK_AND_ASSIGN(auto found, index_->Lookup(ids));
  ASSERT_EQ(found.size(), 4u);
  ASSERT_TRUE(found[0].has_value());
  EXPECT_EQ(found[0]->pack, Pack(1));
  EXPECT_EQ(found[0]->kind, PackKind::kTree);
  EXPECT_EQ(found[0]->type, ChunkType::kTree);
  EXPECT_EQ(found[0]->frame_number, 2u);
  EXPECT_EQ(found[0]->body_offset, 64u + 1210 + 1211);
  EXPECT_EQ(found[0]->sealed_length, 1012u);
  EXPECT_EQ(found[0]->child_count, 2u);
  EXPECT_EQ(found[0]->uploader, 101u);
  EXPECT_EQ(found[0]->epoch, 1u);
  EXPECT_FALSE(found[0]->committed);
  EXPECT_FALSE(found[1].has_value());
  EXPECT_EQ(found[2]->frame_number, 0u);
  EXPECT_EQ(found[3]->frame_number, 2u);
}

TEST_F(ChunkIndexTest, AddingAPackAgainChangesNothing) {
  const PackSummary pack = MakePack(1, PackKind::kData, {1, 2});
  ASSERT_OK(index_->AddPack(pack));
  const auto before = Dump(kv_);
  ASSERT_OK(index_->AddPack(pack));
  EXPECT_EQ(Dump(kv_), before);
  PackSummary other = pack;
  other.entries.pop_back();
  EXPECT_THAT(index_->AddPack(other), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ChunkIndexTest, CopiesInTwoPacksSurviveTheRemovalOfOne) {
  ASSERT_OK(index_->AddPack(MakePack(1, PackKind::kData, {1, 2})));
  ASSERT_OK(index_->AddPack(MakePack(2, PackKind::kData, {2, 3})));
  EXPECT_EQ(Find(2)->pack, Pack(1));
  ASSERT_OK_AND_ASSIGN(auto all, AllLocations(*index_, Chunk(2)));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].pack, Pack(2));
  EXPECT_EQ(all[1].frame_number, 0u);
  EXPECT_EQ(index_->counters().chunks, 3u);
  EXPECT_EQ(index_->counters().locations, 4u);

  ASSERT_OK(index_->RemovePack(Pack(1)));
  EXPECT_FALSE(Find(1).has_value());
  EXPECT_EQ(Find(2)->pack, Pack(2));
  EXPECT_FALSE(index_->HasPack(Pack(1)));
  EXPECT_EQ(index_->counters().chunks, 2u);
  EXPECT_EQ(index_->counters().locations, 2u);
  ASSERT_OK(index_->RemovePack(Pack(1)));

  ASSERT_OK(index_->RemovePack(Pack(2)));
  EXPECT_FALSE(Find(2).has_value());
  EXPECT_EQ(index_->counters().chunks, 0u);
  EXPECT_EQ(index_->counters().data_pack_bytes, 0u);
  EXPECT_EQ(Dump(kv_).size(), 2u) << "head and counters only";
}

TEST_F(ChunkIndexTest, CopiesInsideOnePackAreAllRecorded) {
  ASSERT_OK(index_->AddPack(MakePack(1, PackKind::kData, {5, 6, 5})));
  ASSERT_OK_AND_ASSIGN(auto all, AllLocations(*index_, Chunk(5)));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].frame_number, 0u);
  EXPECT_EQ(all[1].frame_number, 2u);
  EXPECT_THAT(index_->PackChunks(Pack(1)), IsOkAndHolds(ElementsAre(Chunk(5), Chunk(6), Chunk(5))));
  ASSERT_OK(index_->RemovePack(Pack(1)));
  EXPECT_EQ(index_->counters().locations, 0u);
}

TEST_F(ChunkIndexTest, LocationsOfOneChunkHaveALimit) {
  for (uint64_t p = 0; p < kChunkLocationsMax + 5; ++p) {
    ASSERT_OK(index_->AddPack(MakePack(p, PackKind::kData, {1})));
  }
  ASSERT_OK_AND_ASSIGN(auto all, AllLocations(*index_, Chunk(1)));
  EXPECT_EQ(all.size(), kChunkLocationsMax);
  EXPECT_EQ(index_->counters().locations, kChunkLocationsMax);
  for (uint64_t p = 0; p < kChunkLocationsMax + 5; ++p) ASSERT_OK(index_->RemovePack(Pack(p)));
  EXPECT_EQ(index_->counters().locations, 0u);
  EXPECT_EQ(index_->counters().chunks, 0u);
}

TEST_F(ChunkIndexTest, ReopenedItSaysTheSame) {
  ASSERT_OK(index_->AddPack(MakePack(1, PackKind::kData, {1, 2})));
  ASSERT_OK(index_->AddPack(MakePack(2, PackKind::kTree, {20, 21})));
  ASSERT_OK(index_->AddPack(MakePack(3, PackKind::kData, {2})));
  ASSERT_OK(index_->RemovePack(Pack(3)));
  const ChunkId tree = Chunk(20);
  ASSERT_OK(index_->MarkCommitted({&tree, 1}));
  const ChunkIndexCounters before = index_->counters();
  Reopen();
  EXPECT_EQ(index_->counters().chunks, before.chunks);
  EXPECT_EQ(index_->counters().locations, before.locations);
  EXPECT_EQ(index_->counters().data_pack_bytes, before.data_pack_bytes);
  EXPECT_EQ(index_->counters().tree_pack_bytes, before.tree_pack_bytes);
  EXPECT_EQ(index_->counters().data_packs, 1u);
  EXPECT_EQ(index_->counters().tree_packs, 1u);
  ASSERT_EQ(index_->Packs().size(), 2u);
  EXPECT_EQ(index_->Packs()[0].id, Pack(1));
  EXPECT_EQ(index_->Packs()[1].record_count, 2u);
  EXPECT_TRUE(Find(20)->committed);
  EXPECT_FALSE(Find(21)->committed);
  // Numbers of removed packs do not come back.
  ASSERT_OK(index_->AddPack(MakePack(4, PackKind::kData, {7})));
  EXPECT_EQ(Find(7)->pack, Pack(4));
}

TEST_F(ChunkIndexTest, MarkBelongsToTheChunkAndSkipsUnknownOnes) {
  ASSERT_OK(index_->AddPack(MakePack(1, PackKind::kTree, {1, 2})));
  const std::vector<ChunkId> ids = {Chunk(1), Chunk(77), Chunk(1)};
  ASSERT_OK(index_->MarkCommitted(ids));
  ASSERT_OK(index_->MarkCommitted(ids));
  ASSERT_OK(index_->AddPack(MakePack(2, PackKind::kTree, {1})));
  ASSERT_OK_AND_ASSIGN(auto all, AllLocations(*index_, Chunk(1)));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_TRUE(all[0].committed);
  EXPECT_TRUE(all[1].committed);
  EXPECT_FALSE(Find(77).has_value());
  ASSERT_OK(index_->RemovePack(Pack(1)));
  EXPECT_TRUE(Find(1)->committed);
  ASSERT_OK(index_->UnmarkCommitted(ids));
  EXPECT_FALSE(Find(1)->committed);
  ASSERT_OK(index_->MarkCommitted(ids));
  // Forgotten with its last location: a later upload of the same page was not committed.
  ASSERT_OK(index_->RemovePack(Pack(2)));
  ASSERT_OK(index_->AddPack(MakePack(3, PackKind::kTree, {1})));
  EXPECT_FALSE(Find(1)->committed);
}

TEST_F(ChunkIndexTest, RefusesAnotherRepositoryAndForeignContent) {
  ASSERT_OK(index_->AddPack(MakePack(1, PackKind::kData, {1})));
  EXPECT_THAT(ChunkIndex::Open(kv_, MakeId<RepositoryId>(2)),
              StatusIs(absl::StatusCode::kFailedPrecondition, "another repository"));
  MemoryKvStore foreign;
  KvBatch batch;
  batch.Put("x", "y");
  ASSERT_OK(foreign.Write(batch));
  EXPECT_THAT(ChunkIndex::Open(foreign, Repo()), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ChunkIndexTest, FailedWriteChangesNothing) {
  ASSERT_OK(index_->AddPack(MakePack(1, PackKind::kData, {1})));
  const auto before = Dump(kv_);
  kv_.FailWrites(absl::ResourceExhaustedError("full"));
  EXPECT_THAT(index_->AddPack(MakePack(2, PackKind::kData, {2})), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(index_->RemovePack(Pack(1)), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_FALSE(index_->HasPack(Pack(2)));
  EXPECT_TRUE(index_->HasPack(Pack(1)));
  EXPECT_EQ(index_->counters().chunks, 1u);
  EXPECT_FALSE(Find(2).has_value());
  kv_.FailWrites(absl::OkStatus());
  EXPECT_EQ(Dump(kv_), before);
  EXPECT_OK(index_->AddPack(MakePack(2, PackKind::kData, {2})));
}

TEST_F(ChunkIndexTest, EveryFlippedBitAndTruncationIsDataLoss) {
  ASSERT_OK(index_->AddPack(MakePack(1, PackKind::kTree, {1, 2})));
  ASSERT_OK(index_->AddPack(MakePack(2, PackKind::kTree, {2})));
  index_.reset();
  // What a caller does after opening: everything.
  auto use_all = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(auto index, ChunkIndex::Open(kv_, Repo()));
    RETURN_IF_ERROR(index->LookupAll({Chunk(1), Chunk(2)}).status());
    RETURN_IF_ERROR(index->PackChunks(Pack(1)).status());
    return index->PackChunks(Pack(2)).status();
  };
  ASSERT_OK(use_all());
  int tried = 0;
  for (const auto& [key, value] : Dump(kv_)) {
    auto expect_loss = [&, k = key](std::string bad, size_t at) {
      KvBatch damage;
      damage.Put(k, std::move(bad));
      ASSERT_OK(kv_.Write(damage));
      ASSERT_THAT(use_all(), StatusIs(absl::StatusCode::kDataLoss)) << "key " << k[0] << " at " << at;
      ++tried;
    };
    for (size_t bit = 0; bit < 8 * value.size(); ++bit) {
      std::string bad = value;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
      expect_loss(bad, bit);
    }
    for (size_t n = 0; n < value.size(); ++n) expect_loss(value.substr(0, n), n);
    KvBatch repair;
    repair.Put(key, value);
    ASSERT_OK(kv_.Write(repair));
  }
  ASSERT_OK(use_all());
  EXPECT_GT(tried, 1000);
}

TEST_F(ChunkIndexTest, SwappedValuesAreDataLoss) {
  ASSERT_OK(index_->AddPack(MakePack(1, PackKind::kData, {1, 2})));
  const std::string a = "c" + std::string(Chunk(1).view()), b = "c" + std::string(Chunk(2).view());
  KvBatch swap;
  swap.Put(a, **kv_.Get(b));
  swap.Put(b, **kv_.Get(a));
  ASSERT_OK(kv_.Write(swap));
  EXPECT_THAT(AllLocations(*index_, Chunk(1)), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ChunkIndexTest, AgreesWithAModelOverRandomChanges) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  std::map<uint64_t, std::vector<uint64_t>> packs;
  for (int step = 0; step < 400; ++step) {
    const uint64_t p = random() % 30;
    switch (random() % 3) {
      case 0:
        ASSERT_OK(index_->RemovePack(Pack(p)));
        packs.erase(p);
        break;
      case 1: {
        if (packs.contains(p)) break;
        std::vector<uint64_t> chunks;
        for (int i = static_cast<int>(random() % 20); i-- > 0;) chunks.push_back(random() % 60);
        ASSERT_OK(index_->AddPack(MakePack(p, PackKind::kData, chunks)));
        packs[p] = chunks;
        break;
      }
      default:
        if (random() % 10 == 0) Reopen();
    }
    std::map<uint64_t, std::multiset<PackId>> expected;
    uint64_t locations = 0;
    for (const auto& [pack, chunks] : packs) {
      for (uint64_t c : chunks) {
        expected[c].insert(Pack(pack));
        ++locations;
      }
    }
    for (uint64_t c = 0; c < 60; ++c) {
      ASSERT_OK_AND_ASSIGN(auto all, AllLocations(*index_, Chunk(c)));
      std::multiset<PackId> found;
      for (const ChunkLocation& l : all) found.insert(l.pack);
      ASSERT_EQ(found, expected[c]) << "chunk " << c << " at step " << step;
      if (expected[c].empty()) expected.erase(c);
    }
    ASSERT_EQ(index_->counters().chunks, expected.size());
    ASSERT_EQ(index_->counters().locations, locations);
    ASSERT_EQ(index_->counters().data_packs, packs.size());
  }
}

TEST_F(ChunkIndexTest, LookupsRunBesideChanges) {
  ASSERT_OK(index_->AddPack(MakePack(0, PackKind::kData, {1, 2, 3})));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint64_t p = 1; p < 300; ++p) {
      EXPECT_OK(index_->AddPack(MakePack(p, PackKind::kData, {1, 2, 3, 1000 + p})));
      EXPECT_OK(index_->RemovePack(Pack(p - 1)));
    }
    stop = true;
  });
  const std::vector<ChunkId> ids = {Chunk(1), Chunk(2), Chunk(3)};
  while (!stop) {
    ASSERT_OK_AND_ASSIGN(auto found, index_->Lookup(ids));
    for (const auto& location : found) ASSERT_TRUE(location.has_value());
    (void)index_->Packs();
    (void)index_->counters();
  }
  writer.join();
}

// A crash loses the newest packs, and nothing else becomes wrong. A program of its own, as
// RocksDB's threads do not survive a fork.
TEST(ChunkIndexOnRocksTest, CrashLosesOnlyTheTail) {
  constexpr const char* kChildVariable = "HF_TEST_CRASH_PATH";
  if (const char* child_path = ::getenv(kChildVariable)) {
    auto kv = OpenRocksKvStore(child_path);
    auto index = ChunkIndex::Open(**kv, Repo());
    bool ok = index.ok();
    for (uint64_t p = 0; ok && p < 40; ++p) {
      ok = (*index)->AddPack(MakePack(p, PackKind::kData, {p, p + 1, p + 2})).ok();
      if (p == 20) ok = ok && (*index)->Flush().ok();
    }
    ::_exit(ok ? 0 : 1);
  }
  const std::string path = absl::StrCat(::testing::TempDir(), "/index_", ::getpid());
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  ASSERT_EQ(std::system(absl::StrCat(kChildVariable, "=", path, " '", self,
                                     "' --gtest_filter=*CrashLosesOnlyTheTail > /dev/null")
                            .c_str()),
            0);
  ASSERT_OK_AND_ASSIGN(auto kv, OpenRocksKvStore(path));
  auto index = OpenOrDie(*kv);
  const uint64_t packs = index->Packs().size();
  EXPECT_GE(packs, 21u);
  EXPECT_EQ(index->counters().chunks, packs + 2);
  EXPECT_EQ(index->counters().locations, 3 * packs);
  for (uint64_t p = 0; p < 40; ++p) EXPECT_EQ(index->HasPack(Pack(p)), p < packs);
  for (uint64_t p = packs; p < 40; ++p) {
    ASSERT_OK(index->AddPack(MakePack(p, PackKind::kData, {p, p + 1, p + 2})));
  }
  EXPECT_EQ(index->counters().chunks, 42u);
  index.reset();
  kv.reset();
  EXPECT_OK(DestroyRocksKvStore(path));
}

TEST(ChunkIndexOnRocksTest, TakesAFullPack) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/index_full_", ::getpid());
  ASSERT_OK_AND_ASSIGN(auto kv, OpenRocksKvStore(path));
  auto index = OpenOrDie(*kv);
  std::vector<uint64_t> chunks(kPackRecordsMax);
  for (size_t i = 0; i < chunks.size(); ++i) chunks[i] = i;
  ASSERT_OK(index->AddPack(MakePack(1, PackKind::kData, chunks)));
  EXPECT_EQ(index->counters().chunks, kPackRecordsMax);
  chunks.push_back(1);
  EXPECT_THAT(index->AddPack(MakePack(2, PackKind::kData, chunks)), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(index->RemovePack(Pack(1)));
  EXPECT_EQ(index->counters().chunks, 0u);
  index.reset();
  kv.reset();
  EXPECT_OK(DestroyRocksKvStore(path));
}

}  // namespace
}  // namespace holdfast
