#include "storage/pack/pack.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "core/io/sim/sim_world.h"
#include "storage/file/file_blob_store.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/pack/pack_layout.h"
#include "storage/pack/pack_writer.h"
#include "storage/pack/spool_file.h"
#include "storage/pack/stored_pack.h"

namespace holdfast {
namespace {

using ::testing::IsEmpty;

CatalogKey TestKey(uint8_t fill = 7, AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm) {
  CatalogKey key;
  key.repository.bytes.fill(1);
  key.aead = aead;
  std::array<uint8_t, 32> bytes;
  bytes.fill(fill);
  key.key = Key256(bytes);
  return key;
}

struct Record {
  RecordHeader header;
  std::string body;
};

Record MakeRecord(PackKind kind, int number, size_t body_bytes = 60, int children = 0) {
  Record r;
  r.header.type = kind == PackKind::kData ? ChunkType::kData : ChunkType::kTree;
  r.header.aead = 1;
  r.header.epoch = 1;
  r.header.uploader = 2;
  r.header.sealed_length = static_cast<uint32_t>(body_bytes);
  for (size_t i = 0; i < 32; ++i) r.header.id.bytes[i] = static_cast<uint8_t>(number + 31 * i);
  for (int i = 0; i < children; ++i) {
    ChunkId child;
    child.bytes.fill(static_cast<uint8_t>(i + 1));
    r.header.children.push_back(child);
  }
  r.body.resize(body_bytes);
  uint32_t x = static_cast<uint32_t>(number) * 2654435761u + 1;
  for (char& c : r.body) c = static_cast<char>((x = x * 1664525 + 1013904223) >> 24);
  return r;
}

absl::StatusOr<PackEntry> Append(PackWriter& writer, const Record& r) {
  // In three parts, as it may come from the network.
  std::string_view body = r.body;
  size_t third = body.size() / 3;
  return writer.Append(r.header, EncodeRecordHeader(r.header),
                       {body.substr(0, third), body.substr(third, third), body.substr(2 * third)});
}

void ExpectEntryIs(const PackEntry& entry, const Record& r) {
  EXPECT_EQ(EncodeRecordHeader(entry.header), EncodeRecordHeader(r.header));
  EXPECT_EQ(entry.digest, Blake3Digest(r.body));
}

class PackTest : public testing::Test {
 protected:
  PackTest() { EXPECT_OK(io_.files.MakeDirectories("/spool")); }

  std::unique_ptr<PackWriter> NewWriter(PackKind kind = PackKind::kData, const CatalogKey& key = TestKey()) {
    auto writer = PackWriter::Create(io_, "/spool", kind, key);
    EXPECT_OK(writer);
    return *std::move(writer);
  }
  // A finished pack of small records, and its spool file.
  PackSummary MakePack(PackKind kind, int records, std::string* path, const CatalogKey& key = TestKey()) {
    auto writer = NewWriter(kind, key);
    records_.clear();
    for (int i = 0; i < records; ++i) {
      records_.push_back(MakeRecord(kind, i, 40 + 13 * i, kind == PackKind::kTree ? i % 3 : 0));
      EXPECT_OK(Append(*writer, records_.back()));
    }
    *path = writer->spool_path();
    auto summary = writer->Finish();
    EXPECT_OK(summary);
    return *summary;
  }
  std::string Content(std::string_view path) {
    auto content = ReadWholeFile(io_.files, path, 1u << 30);
    EXPECT_OK(content);
    return content.value_or("");
  }
  void WriteSpool(std::string_view path, std::string_view content) {
    (void)io_.files.Unlink(path);
    EXPECT_OK(WriteFileAtomically(io_, path, content));
  }

  SimWorld world_{1};
  Io io_ = world_.io();
  MemoryBlobStore store_;
  std::vector<Record> records_;
};

TEST_F(PackTest, NamesItsBlobAndReadsTheNameBack) {
  PackId id;
  for (size_t i = 0; i < 16; ++i) id.bytes[i] = static_cast<uint8_t>(0xa0 + i);
  EXPECT_EQ(PackBlobName(PackKind::kData, id).str(), "packs/d/a0/a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
  EXPECT_EQ(PackBlobName(PackKind::kTree, id).str(), "packs/t/a0/a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
  for (PackKind kind : {PackKind::kData, PackKind::kTree}) {
    auto parsed = ParsePackBlobName(PackBlobName(kind, id).str());
    ASSERT_TRUE(parsed.has_value());
    EXPECT_EQ(parsed->first, kind);
    EXPECT_EQ(parsed->second, id);
  }
  for (std::string_view name :
       {"", "packs/", "packs/x/a0/a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", "packs/d/a1/a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
        "packs/d/a0/A0a1a2a3a4a5a6a7a8a9aaabacadaeaf", "packs/d/a0/a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0",
        "packs/d/a0/a0a1a2a3a4a5a6a7a8a9aaabacadaeag", "packs.d/a0/a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"}) {
    EXPECT_FALSE(ParsePackBlobName(name).has_value()) << name;
  }
}

TEST_F(PackTest, KnowsItsSpoolFiles) {
  auto writer = NewWriter(PackKind::kTree);
  std::string name = writer->spool_path().substr(7);
  auto parsed = ParseSpoolFileName(name);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->first, PackKind::kTree);
  EXPECT_EQ(parsed->second, writer->id());
  for (std::string other :
       {std::string(), name + ".unreadable", name + "t", name.substr(1), name.substr(0, 32) + ".x"}) {
    EXPECT_FALSE(ParseSpoolFileName(other).has_value()) << other;
  }
}

TEST_F(PackTest, ComesBackFromTheStore) {
  for (PackKind kind : {PackKind::kData, PackKind::kTree}) {
    for (AeadAlgorithm aead : {AeadAlgorithm::kAes256Gcm, AeadAlgorithm::kChaCha20Poly1305}) {
      CatalogKey key = TestKey(7, aead);
      std::string path;
      PackSummary written = MakePack(kind, 5, &path, key);
      ASSERT_OK(PutPack(store_, io_, path, written));
      EXPECT_THAT(io_.files.Stat(path), StatusIs(absl::StatusCode::kNotFound));
      ASSERT_OK_AND_ASSIGN(BlobInfo info, store_.Stat(PackBlobName(kind, written.id)));
      EXPECT_EQ(info.size, written.bytes);
      ASSERT_OK_AND_ASSIGN(PackSummary read, ReadPackTrailer(store_, kind, written.id, info.size, key));
      EXPECT_EQ(read.id, written.id);
      EXPECT_EQ(read.kind, kind);
      EXPECT_EQ(read.bytes, written.bytes);
      ASSERT_EQ(read.entries.size(), 5u);
      for (size_t i = 0; i < 5; ++i) {
        ExpectEntryIs(read.entries[i], records_[i]);
        std::string body(records_[i].body.size(), '\0');
        EXPECT_OK(store_.Get(PackBlobName(kind, written.id), read.entries[i].body_offset, absl::MakeSpan(body)));
        EXPECT_EQ(body, records_[i].body);
      }
      EXPECT_OK(VerifyPack(store_, read, key));
    }
  }
}

TEST_F(PackTest, HasTheLayoutOfTheSpecification) {
  std::string path;
  PackSummary summary = MakePack(PackKind::kData, 2, &path);
  std::string bytes = Content(path);
  EXPECT_EQ(bytes.size(), summary.bytes);
  EXPECT_EQ(bytes.substr(0, 16), std::string("HFPACK1\0\1\1\1\0\0\0\0\0", 16));
  EXPECT_EQ(bytes.substr(16, 16), summary.id.view());
  // Frame: length, digest + header + tag, body.
  EXPECT_EQ(bytes.substr(64, 4), std::string("\x64\0\0\0", 4));
  EXPECT_EQ(summary.entries[0].body_offset, 64u + 4 + 32 + 52 + 16);
  EXPECT_EQ(summary.entries[1].body_offset, summary.entries[0].body_offset + 40 + 4 + 100);
  size_t trailer = summary.entries[1].body_offset + 53;
  EXPECT_EQ(bytes.size(), trailer + 2 * (8 + 32 + 52) + 16 + 64);
  EXPECT_EQ(bytes.substr(bytes.size() - 64, 8), std::string("HFPEND1\0", 8));
}

TEST_F(PackTest, ShowsTheStorageNeitherIdsNorChildren) {
  std::string path;
  MakePack(PackKind::kTree, 3, &path);
  std::string bytes = Content(path);
  for (const Record& r : records_) {
    EXPECT_EQ(bytes.find(r.header.id.view()), std::string::npos);
    for (const ChunkId& child : r.header.children) EXPECT_EQ(bytes.find(child.view()), std::string::npos);
    EXPECT_NE(bytes.find(r.body), std::string::npos);
  }
}

TEST_F(PackTest, RefusesRecordsThatDoNotFit) {
  auto writer = NewWriter();
  Record r = MakeRecord(PackKind::kData, 1);
  std::string header = EncodeRecordHeader(r.header);
  EXPECT_THAT(writer->Append(r.header, header, {r.body.substr(1)}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(writer->Append(r.header, header, {r.body, "x"}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(writer->Append(r.header, header + "x", {r.body}), StatusIs(absl::StatusCode::kInvalidArgument));
  std::string other = EncodeRecordHeader(MakeRecord(PackKind::kData, 2).header);
  EXPECT_THAT(writer->Append(r.header, other, {r.body}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Append(*writer, MakeRecord(PackKind::kTree, 1)), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(Append(*writer, r));  // not broken by that
  EXPECT_EQ(writer->record_count(), 1u);
}

TEST_F(PackTest, IsFullAtItsTargetSizeAndAtItsRecordLimit) {
  auto writer = NewWriter();
  Record big = MakeRecord(PackKind::kData, 1, kChunkSealedBytesMax);
  int appended = 0;
  while (!writer->IsFull()) {
    ASSERT_OK(Append(*writer, big));
    ++appended;
  }
  EXPECT_EQ(appended, 8);
  EXPECT_GE(writer->bytes(), kPackBytesTarget);
  while (true) {
    auto entry = Append(*writer, big);
    if (!entry.ok()) {
      EXPECT_THAT(entry, StatusIs(absl::StatusCode::kResourceExhausted));
      break;
    }
  }
  ASSERT_OK_AND_ASSIGN(PackSummary summary, writer->Finish());
  EXPECT_LE(summary.bytes, kPackBytesMax);

  auto many = NewWriter();
  Record small = MakeRecord(PackKind::kData, 1, kSealedBytesMin);
  for (uint32_t i = 0; i < kPackRecordsMax; ++i) {
    ASSERT_FALSE(many->IsFull());
    ASSERT_OK(Append(*many, small));
  }
  EXPECT_TRUE(many->IsFull());
  EXPECT_THAT(Append(*many, small), StatusIs(absl::StatusCode::kResourceExhausted));
  std::string path = many->spool_path();
  ASSERT_OK_AND_ASSIGN(PackSummary all, many->Finish());
  ASSERT_OK(PutPack(store_, io_, path, all));
  ASSERT_OK_AND_ASSIGN(PackSummary read, ReadPackTrailer(store_, PackKind::kData, all.id, all.bytes, TestKey()));
  EXPECT_EQ(read.entries.size(), kPackRecordsMax);
}

TEST_F(PackTest, IsFullBeforeItsTrailerOutgrowsIt) {
  auto writer = NewWriter(PackKind::kTree);
  Record page = MakeRecord(PackKind::kTree, 1, kSealedBytesMin);
  page.header.children.resize(kChunkChildrenMax);
  for (size_t i = 0; i < page.header.children.size(); ++i) {
    page.header.children[i].bytes = {};
    page.header.children[i].bytes[0] = static_cast<uint8_t>(i >> 8);
    page.header.children[i].bytes[1] = static_cast<uint8_t>(i);
  }
  while (!writer->IsFull()) ASSERT_OK(Append(*writer, page));
  ASSERT_OK_AND_ASSIGN(PackSummary summary, writer->Finish());
  EXPECT_LE(summary.bytes, kPackBytesMax);
}

TEST_F(PackTest, IsBrokenForGoodOnceItsFileFailed) {
  auto writer = NewWriter();
  ASSERT_OK(Append(*writer, MakeRecord(PackKind::kData, 1)));
  world_.LimitSpace(50);
  EXPECT_THAT(Append(*writer, MakeRecord(PackKind::kData, 2)), StatusIs(absl::StatusCode::kResourceExhausted));
  world_.ClearFaults();
  EXPECT_THAT(Append(*writer, MakeRecord(PackKind::kData, 3)),
              StatusIs(absl::StatusCode::kResourceExhausted, "the pack is broken"));
  EXPECT_FALSE(writer->Sync().ok());
  EXPECT_FALSE(writer->Finish().ok());
  std::string path = writer->spool_path();
  writer.reset();
  ASSERT_OK_AND_ASSIGN(auto recovered, RecoverSpoolFile(io_, path, TestKey()));
  ASSERT_TRUE(recovered.has_value());
  EXPECT_EQ(recovered->entries.size(), 1u);
}

TEST_F(PackTest, IsBrokenAfterAFailedSync) {
  auto writer = NewWriter();
  ASSERT_OK(Append(*writer, MakeRecord(PackKind::kData, 1)));
  world_.FailSyncs(1);
  EXPECT_FALSE(writer->Sync().ok());
  EXPECT_FALSE(writer->Sync().ok());
  EXPECT_FALSE(Append(*writer, MakeRecord(PackKind::kData, 2)).ok());
}

TEST_F(PackTest, TakesNothingMoreWhenFinished) {
  auto writer = NewWriter();
  ASSERT_OK(Append(*writer, MakeRecord(PackKind::kData, 1)));
  ASSERT_OK(writer->Finish());
  EXPECT_THAT(Append(*writer, MakeRecord(PackKind::kData, 2)), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(writer->Sync(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(writer->Finish(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

// --- recovery of spool files

TEST_F(PackTest, RecoversTheWholeRecordsBeforeEveryTruncation) {
  for (PackKind kind : {PackKind::kData, PackKind::kTree}) {
    std::string path;
    PackSummary summary = MakePack(kind, 4, &path);
    const std::string bytes = Content(path);
    std::vector<uint64_t> ends;
    for (size_t i = 0; i < 4; ++i) ends.push_back(summary.entries[i].body_offset + records_[i].body.size());
    for (size_t n = 0; n <= bytes.size(); ++n) {
      WriteSpool(path, bytes.substr(0, n));
      size_t whole = static_cast<size_t>(std::count_if(ends.begin(), ends.end(), [&](uint64_t e) { return e <= n; }));
      ASSERT_OK_AND_ASSIGN(auto recovered, RecoverSpoolFile(io_, path, TestKey()));
      if (whole == 0) {
        EXPECT_FALSE(recovered.has_value()) << n;
        EXPECT_THAT(io_.files.List("/spool"), IsOkAndHolds(IsEmpty())) << n;
        continue;
      }
      ASSERT_TRUE(recovered.has_value()) << n;
      EXPECT_EQ(recovered->id, summary.id);
      EXPECT_EQ(recovered->kind, kind);
      ASSERT_EQ(recovered->entries.size(), whole) << n;
      for (size_t i = 0; i < whole; ++i) ExpectEntryIs(recovered->entries[i], records_[i]);
      // What is there now is a whole pack.
      std::string now = Content(path);
      EXPECT_EQ(now.size(), recovered->bytes);
      if (whole == 4) {
        EXPECT_EQ(now, bytes) << n;
      }
      MemoryBlobStore store;
      ASSERT_OK(PutPack(store, io_, path, *recovered));
      ASSERT_OK_AND_ASSIGN(PackSummary read, ReadPackTrailer(store, kind, summary.id, now.size(), TestKey()));
      EXPECT_OK(VerifyPack(store, read, TestKey()));
    }
  }
}

TEST_F(PackTest, RecoversOnlyWhatIsBeforeADamagedRecord) {
  std::string path;
  PackSummary summary = MakePack(PackKind::kData, 4, &path);
  std::string bytes = Content(path);
  bytes[summary.entries[2].body_offset + 5] ^= 1;
  for (bool finished : {true, false}) {
    WriteSpool(path, finished ? bytes : bytes.substr(0, summary.entries[3].body_offset + records_[3].body.size()));
    ASSERT_OK_AND_ASSIGN(auto recovered, RecoverSpoolFile(io_, path, TestKey()));
    ASSERT_TRUE(recovered.has_value());
    EXPECT_EQ(recovered->entries.size(), 2u);
  }
}

TEST_F(PackTest, RecoversTwiceWithTheSameResult) {
  auto writer = NewWriter();
  for (int i = 0; i < 3; ++i) ASSERT_OK(Append(*writer, MakeRecord(PackKind::kData, i)));
  std::string path = writer->spool_path();
  writer.reset();
  ASSERT_OK_AND_ASSIGN(auto first, RecoverSpoolFile(io_, path, TestKey()));
  std::string bytes = Content(path);
  ASSERT_OK_AND_ASSIGN(auto second, RecoverSpoolFile(io_, path, TestKey()));
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_EQ(first->bytes, second->bytes);
  EXPECT_EQ(EncodeTrailer(first->entries), EncodeTrailer(second->entries));
  EXPECT_EQ(Content(path), bytes);
}

TEST_F(PackTest, DoesNotThrowAwayWhatAnotherKeyMayOpen) {
  std::string path;
  MakePack(PackKind::kData, 2, &path);
  std::string bytes = Content(path);
  EXPECT_THAT(RecoverSpoolFile(io_, path, TestKey(8)), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_EQ(Content(path), bytes);
  EXPECT_THAT(RecoverSpoolFile(io_, path, TestKey(7, AeadAlgorithm::kChaCha20Poly1305)),
              StatusIs(absl::StatusCode::kPermissionDenied));
  CatalogKey other_repository = TestKey();
  other_repository.repository.bytes.fill(2);
  EXPECT_THAT(RecoverSpoolFile(io_, path, other_repository), StatusIs(absl::StatusCode::kPermissionDenied));

  WriteSpool(path, bytes.substr(0, bytes.size() - 1));  // not finished
  ASSERT_OK_AND_ASSIGN(auto recovered, RecoverSpoolFile(io_, path, TestKey(8)));
  EXPECT_FALSE(recovered.has_value());
  EXPECT_EQ(Content(path + ".unreadable"), bytes.substr(0, bytes.size() - 1));
  ASSERT_OK_AND_ASSIGN(auto again, RecoverSpoolFile(io_, path + ".unreadable", TestKey(8)));
  EXPECT_FALSE(again.has_value());
  EXPECT_EQ(Content(path + ".unreadable"), bytes.substr(0, bytes.size() - 1));
}

TEST_F(PackTest, DoesNotGuessAtASpoolFileOfANewerVersion) {
  auto writer = NewWriter();
  ASSERT_OK(Append(*writer, MakeRecord(PackKind::kData, 1)));
  std::string path = writer->spool_path();
  writer.reset();
  ASSERT_OK(world_.CorruptByte(path, 8, 1 ^ 2));
  EXPECT_THAT(RecoverSpoolFile(io_, path, TestKey()), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(io_.files.Stat(path));
}

// --- damage in the store

TEST_F(PackTest, DetectsEveryFlippedBit) {
  for (PackKind kind : {PackKind::kData, PackKind::kTree}) {
    std::string path;
    PackSummary summary = MakePack(kind, 3, &path);
    const std::string bytes = Content(path);
    const BlobName name = PackBlobName(kind, summary.id);
    for (size_t at = 0; at < bytes.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string damaged = bytes;
        damaged[at] ^= static_cast<char>(1 << bit);
        ASSERT_OK(PutBytes(store_, name, damaged, PutMode::kOverwrite));
        auto read = ReadPackTrailer(store_, kind, summary.id, damaged.size(), TestKey());
        const uint64_t frames_end = summary.entries.back().body_offset + records_.back().body.size();
        if (at < 64 || at >= frames_end) {
          EXPECT_THAT(read, StatusIs(absl::StatusCode::kDataLoss)) << at << "." << bit;
        } else {
          ASSERT_OK(read);
          EXPECT_THAT(VerifyPack(store_, *read, TestKey()), StatusIs(absl::StatusCode::kDataLoss)) << at;
        }
      }
      // And the records that were not hit are saved.
      std::string damaged = bytes;
      damaged[at] ^= 0x10;
      ASSERT_OK(PutBytes(store_, name, damaged, PutMode::kOverwrite));
      auto salvaged = SalvagePack(store_, kind, summary.id, damaged.size(), TestKey());
      if (at >= 32 && at < 64) {  // the salt: nothing opens
        if (salvaged.ok()) {
          EXPECT_TRUE(salvaged->entries.empty());
        }
        continue;
      }
      ASSERT_OK(salvaged) << at;
      std::set<ChunkId> ids;
      for (auto& entry : salvaged->entries) ids.insert(entry.header.id);
      for (size_t i = 0; i < 3; ++i) {
        uint64_t begin = summary.entries[i].body_offset - 4 - (100 + 32 * records_[i].header.children.size());
        uint64_t end = summary.entries[i].body_offset + records_[i].body.size();
        EXPECT_EQ(ids.contains(records_[i].header.id), at < begin || at >= end) << "byte " << at << " record " << i;
      }
    }
  }
}

TEST_F(PackTest, RefusesEveryTruncation) {
  std::string path;
  PackSummary summary = MakePack(PackKind::kTree, 3, &path);
  const std::string bytes = Content(path);
  const BlobName name = PackBlobName(summary.kind, summary.id);
  for (size_t n = 0; n < bytes.size(); ++n) {
    ASSERT_OK(PutBytes(store_, name, bytes.substr(0, n), PutMode::kOverwrite));
    EXPECT_THAT(ReadPackTrailer(store_, summary.kind, summary.id, n, TestKey()), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(ReadPackTrailer(store_, summary.kind, summary.id, bytes.size(), TestKey()),
                StatusIs(absl::StatusCode::kDataLoss));
    auto salvaged = SalvagePack(store_, summary.kind, summary.id, n, TestKey());
    size_t whole = 0;
    for (size_t i = 0; i < 3; ++i) whole += summary.entries[i].body_offset + records_[i].body.size() <= n;
    if (n < 64) {
      EXPECT_THAT(salvaged, StatusIs(absl::StatusCode::kDataLoss));
    } else {
      ASSERT_OK(salvaged);
      EXPECT_EQ(salvaged->entries.size(), whole) << n;
    }
  }
}

TEST_F(PackTest, RefusesTheWrongKey) {
  std::string path;
  PackSummary summary = MakePack(PackKind::kData, 3, &path);
  ASSERT_OK(PutPack(store_, io_, path, summary));
  EXPECT_THAT(ReadPackTrailer(store_, summary.kind, summary.id, summary.bytes, TestKey(8)),
              StatusIs(absl::StatusCode::kDataLoss, "another key"));
  CatalogKey other_repository = TestKey();
  other_repository.repository.bytes.fill(2);
  EXPECT_THAT(ReadPackTrailer(store_, summary.kind, summary.id, summary.bytes, other_repository),
              StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK_AND_ASSIGN(PackSummary salvaged, SalvagePack(store_, summary.kind, summary.id, summary.bytes, TestKey(8)));
  EXPECT_TRUE(salvaged.entries.empty());
}

TEST_F(PackTest, RefusesAPackUnderAnothersName) {
  std::string path_a, path_b;
  PackSummary a = MakePack(PackKind::kData, 3, &path_a);
  PackSummary b = MakePack(PackKind::kData, 3, &path_b);
  std::string bytes = Content(path_a);
  ASSERT_OK(PutBytes(store_, PackBlobName(b.kind, b.id), bytes, PutMode::kIfAbsent));
  EXPECT_THAT(ReadPackTrailer(store_, b.kind, b.id, bytes.size(), TestKey()),
              StatusIs(absl::StatusCode::kDataLoss, "another pack"));
  EXPECT_THAT(VerifyPack(store_, b, TestKey()), StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK(PutBytes(store_, PackBlobName(PackKind::kTree, a.id), bytes, PutMode::kIfAbsent));
  EXPECT_THAT(ReadPackTrailer(store_, PackKind::kTree, a.id, bytes.size(), TestKey()),
              StatusIs(absl::StatusCode::kDataLoss, "another pack"));
}

TEST_F(PackTest, SaysThatAPackIsMissing) {
  PackId id;
  EXPECT_THAT(ReadPackTrailer(store_, PackKind::kData, id, 1000, TestKey()), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(PackTest, IsPutOnceHoweverOftenItIsTried) {
  std::string path;
  PackSummary summary = MakePack(PackKind::kData, 3, &path);
  std::string bytes = Content(path);
  ASSERT_OK(PutPack(store_, io_, path, summary));
  EXPECT_OK(PutPack(store_, io_, path, summary));  // the spool file is gone
  WriteSpool(path, bytes);
  EXPECT_OK(PutPack(store_, io_, path, summary));
  EXPECT_THAT(io_.files.List("/spool"), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(PutPack(store_, io_, "/spool/none", MakePack(PackKind::kData, 1, &path)),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST(PackTrailer, IsRefusedWhenItDoesNotDecode) {
  std::vector<PackEntry> entries(2);
  entries[0].header = MakeRecord(PackKind::kTree, 1, 60, 2).header;
  entries[1].header = MakeRecord(PackKind::kTree, 2, 60, 0).header;
  std::string bytes = EncodeTrailer(entries);
  EXPECT_OK(DecodeTrailer(bytes, 2));
  EXPECT_OK(DecodeTrailer("", 0));
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_THAT(DecodeTrailer(std::string_view(bytes).substr(0, n), 2), StatusIs(absl::StatusCode::kDataLoss)) << n;
  }
  EXPECT_THAT(DecodeTrailer(bytes + "x", 2), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeTrailer(bytes, 1), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeTrailer(bytes, 3), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeTrailer(bytes, kPackRecordsMax + 1), StatusIs(absl::StatusCode::kDataLoss));
}

// --- crashes

// Writes records with barriers, finishes, and stores the pack in a file store; all on one machine whose power goes at
// `power_off_at` (0 = never). Then what was promised has to be there, in the spool or in the store.
uint64_t RunToTheCrash(uint64_t seed, uint64_t power_off_at, CrashMode mode) {
  SCOPED_TRACE(absl::StrCat("seed ", seed, ", power off at call ", power_off_at));
  SimWorld world(seed);
  Io io = world.io();
  EXPECT_OK(io.files.MakeDirectories("/spool"));
  EXPECT_OK(FileBlobStore::Open(io, "/store"));
  if (power_off_at != 0) world.PowerOffAtCall(power_off_at);

  std::map<ChunkId, std::string> promised;  // barrier acknowledged
  bool stored = false;
  [&] {
    auto store = FileBlobStore::Open(io, "/store");
    if (!store.ok()) return;
    auto writer = PackWriter::Create(io, "/spool", PackKind::kTree, TestKey());
    if (!writer.ok()) return;
    std::map<ChunkId, std::string> appended;
    for (int i = 0; i < 6; ++i) {
      Record r = MakeRecord(PackKind::kTree, i, 50 + 20 * i, i % 2);
      if (!Append(**writer, r).ok()) return;
      appended[r.header.id] = r.body;
      if (i % 2 == 1) {
        if (!(*writer)->Sync().ok()) return;
        promised = appended;
      }
    }
    std::string path = (*writer)->spool_path();
    auto summary = (*writer)->Finish();
    if (!summary.ok()) return;
    promised = appended;
    stored = PutPack(**store, io, path, *summary).ok();
  }();
  const uint64_t calls = world.calls();

  world.Crash(seed, mode);
  auto store = FileBlobStore::Open(io, "/store");
  EXPECT_OK(store);
  auto spool = io.files.List("/spool");
  EXPECT_OK(spool);
  for (const std::string& name : *spool) {
    EXPECT_TRUE(ParseSpoolFileName(name).has_value());
    auto recovered = RecoverSpoolFile(io, "/spool/" + name, TestKey());
    EXPECT_OK(recovered);
    if (recovered.ok() && recovered->has_value()) {
      EXPECT_OK(PutPack(**store, io, "/spool/" + name, **recovered));
    }
  }
  auto blobs = ListAll(**store, "packs/");
  EXPECT_OK(blobs);
  std::map<ChunkId, std::string> found;
  for (const BlobInfo& blob : *blobs) {
    auto parsed = ParsePackBlobName(blob.name);
    EXPECT_TRUE(parsed.has_value());
    auto pack = ReadPackTrailer(**store, parsed->first, parsed->second, blob.size, TestKey());
    EXPECT_OK(pack);
    if (!pack.ok()) continue;
    EXPECT_OK(VerifyPack(**store, *pack, TestKey()));
    for (const PackEntry& entry : pack->entries) {
      std::string body(entry.header.sealed_length, '\0');
      EXPECT_OK((*store)->Get(BlobName::FromTrusted(blob.name), entry.body_offset, absl::MakeSpan(body)));
      found[entry.header.id] = body;
    }
  }
  for (auto& [id, body] : promised) {
    EXPECT_TRUE(found.contains(id)) << "a promised record is lost";
    EXPECT_EQ(found[id], body);
  }
  if (stored) {
    EXPECT_EQ(found.size(), 6u);
  }
  return calls;
}

TEST(PackCrash, LosesNothingThatWasPromised) {
  const uint64_t last = RunToTheCrash(1, 0, CrashMode::kDrop);
  for (uint64_t call = 1; call <= last; ++call) {
    RunToTheCrash(call, call, CrashMode::kDrop);
    RunToTheCrash(call, call, CrashMode::kKeep);
    for (uint64_t seed = 0; seed < 40; ++seed) RunToTheCrash(1000 * call + seed, call, CrashMode::kTorn);
    if (testing::Test::HasFailure()) break;
  }
}

}  // namespace
}  // namespace holdfast
