#include "storage/pack/pack_reader.h"

#include <algorithm>
#include <map>
#include <random>

#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "core/io/sim/sim_world.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/pack/pack_writer.h"
#include "storage/pack/spool_file.h"
#include "storage/pack/stored_pack.h"

namespace holdfast {
namespace {

CatalogKey Key() {
  CatalogKey key;
  key.repository.bytes.fill(1);
  key.key.MutableBytes()[0] = 42;
  return key;
}

class Answers : public RecordReadSink {
 public:
  absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
    EXPECT_TRUE(bodies
                    .emplace(index, record.ok() ? absl::StatusOr<std::string>(std::string(record->body))
                                                : absl::StatusOr<std::string>(record.status()))
                    .second)
        << index << " answered twice";
    if (record.ok()) {
      headers[index] = record->header;
      order.push_back(index);
    }
    return stop_after-- > 0 ? absl::OkStatus() : absl::CancelledError("enough");
  }
  std::map<size_t, absl::StatusOr<std::string>> bodies;
  std::map<size_t, RecordHeader> headers;
  std::vector<size_t> order;
  int stop_after = 1 << 30;
};

class PackReaderTest : public testing::Test {
 protected:
  PackReaderTest() { EXPECT_OK(io_.files.MakeDirectories("/spool")); }

  // A pack of records with these body sizes, in the store.
  void AddPack(PackKind kind, const std::vector<size_t>& sizes) {
    auto writer = PackWriter::Create(io_, "/spool", kind, Key());
    ASSERT_OK(writer);
    for (size_t i = 0; i < sizes.size(); ++i) {
      RecordHeader h;
      h.type = kind == PackKind::kData ? ChunkType::kData : ChunkType::kTree;
      h.aead = 1;
      h.epoch = 1;
      h.uploader = 3;
      h.sealed_length = static_cast<uint32_t>(sizes[i]);
      h.id.bytes = Blake3Digest(absl::StrCat(locations_.size())).bytes;
      for (size_t c = 0; kind == PackKind::kTree && c < i % 3; ++c) {
        ChunkId child;
        child.bytes.fill(static_cast<uint8_t>(c));
        h.children.push_back(child);
      }
      std::string body(sizes[i], '\0');
      for (char& c : body) c = static_cast<char>(random_());
      auto entry = (*writer)->Append(h, EncodeRecordHeader(h), {body});
      ASSERT_OK(entry);
      RecordLocation l;
      l.kind = kind;
      l.pack = (*writer)->id();
      l.frame_number = static_cast<uint32_t>(i);
      l.body_offset = entry->body_offset;
      l.sealed_length = h.sealed_length;
      l.child_count = static_cast<uint32_t>(h.children.size());
      l.id = h.id;
      locations_.push_back(l);
      headers_.push_back(h);
      bodies_.push_back(body);
    }
    std::string path = (*writer)->spool_path();
    auto summary = (*writer)->Finish();
    ASSERT_OK(summary);
    ASSERT_OK(PutPack(store_, io_, path, *summary));
  }
  Answers Read(const std::vector<RecordLocation>& locations, bool verify = true) {
    PackReader reader(store_, Key());
    Answers answers;
    EXPECT_OK(reader.Read(locations, verify, answers));
    EXPECT_EQ(answers.bodies.size(), locations.size());
    return answers;
  }
  BlobName NameOf(size_t record) { return PackBlobName(locations_[record].kind, locations_[record].pack); }
  std::string Blob(size_t record) { return *GetWholeBlob(store_, NameOf(record), 1u << 30); }
  void Replace(size_t record, std::string_view bytes) {
    ASSERT_OK(store_.Delete(NameOf(record)));
    ASSERT_OK(PutBytes(store_, NameOf(record), bytes, PutMode::kIfAbsent));
  }

  SimWorld world_{1};
  Io io_ = world_.io();
  MemoryBlobStore store_;
  std::mt19937_64 random_{1};
  std::vector<RecordLocation> locations_;
  std::vector<RecordHeader> headers_;
  std::vector<std::string> bodies_;
};

TEST_F(PackReaderTest, ReadsAnySetOfRecords) {
  AddPack(PackKind::kData, {40, 5000, 37, 70'000, 100, 2'000'000, 3'000'000, 50, 1'500'000});
  AddPack(PackKind::kTree, {60, 61, 62, 63, 64});
  AddPack(PackKind::kData, {100'000, 40, 50});
  for (int run = 0; run < 200; ++run) {
    std::vector<size_t> wanted;
    std::vector<RecordLocation> request;
    for (size_t i = 0; i < locations_.size(); ++i) {
      if (random_() % 3 != 0) wanted.push_back(i);
    }
    if (run % 4 == 0 && !wanted.empty()) wanted.push_back(wanted[0]);  // the same one twice
    std::shuffle(wanted.begin(), wanted.end(), random_);
    for (size_t i : wanted) request.push_back(locations_[i]);
    Answers answers = Read(request, run % 2 == 0);
    for (size_t k = 0; k < wanted.size(); ++k) {
      ASSERT_OK(answers.bodies.at(k));
      EXPECT_TRUE(*answers.bodies.at(k) == bodies_[wanted[k]]) << "run " << run << " record " << wanted[k];
      EXPECT_EQ(EncodeRecordHeader(answers.headers[k]), EncodeRecordHeader(headers_[wanted[k]]));
    }
    for (size_t k = 1; k < answers.order.size(); ++k) {
      const RecordLocation &a = request[answers.order[k - 1]], &b = request[answers.order[k]];
      if (a.pack == b.pack) {
        EXPECT_LE(a.body_offset, b.body_offset);
      }
    }
  }
}

TEST_F(PackReaderTest, ReadsHeadersAlone) {
  AddPack(PackKind::kTree, {60, 61, 62});
  PackReader reader(store_, Key());
  for (size_t i = 0; i < 3; ++i) {
    auto header = reader.ReadHeader(locations_[i]);
    ASSERT_OK(header);
    EXPECT_EQ(EncodeRecordHeader(*header), EncodeRecordHeader(headers_[i]));
  }
}

TEST_F(PackReaderTest, NoFlippedBitGivesWrongBytesOrHurtsOtherRecords) {
  AddPack(PackKind::kTree, {40, 50, 45});
  const std::string good = Blob(0);
  for (size_t at = 0; at < good.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      SCOPED_TRACE(absl::StrCat("byte ", at, " bit ", bit));
      std::string bad = good;
      bad[at] ^= static_cast<char>(1 << bit);
      Replace(0, bad);
      Answers answers = Read(locations_);
      const bool salt = at >= 32 && at < 64;
      for (size_t i = 0; i < 3; ++i) {
        if (at < 32) {  // what the header says beside the salt; damage may look like another version
          EXPECT_FALSE(answers.bodies.at(i).ok() && *answers.bodies.at(i) != bodies_[i]);
          continue;
        }
        const size_t sealed_header = 32 + 52 + 16 + 32 * locations_[i].child_count;
        const bool hit = salt || (at >= locations_[i].body_offset - sealed_header &&
                                  at < locations_[i].body_offset + locations_[i].sealed_length);
        if (hit) {
          EXPECT_THAT(answers.bodies.at(i), StatusIs(absl::StatusCode::kDataLoss)) << i;
        } else {
          EXPECT_THAT(answers.bodies.at(i), IsOkAndHolds(bodies_[i])) << i;
        }
        PackReader reader(store_, Key());
        const bool header_hit = salt || (hit && at < locations_[i].body_offset);
        EXPECT_THAT(reader.ReadHeader(locations_[i]),
                    StatusIs(header_hit ? absl::StatusCode::kDataLoss : absl::StatusCode::kOk));
      }
    }
  }
}

TEST_F(PackReaderTest, ReadsWhatLiesBeforeACut) {
  AddPack(PackKind::kData, {40, 50, 45});
  const std::string good = Blob(0);
  for (size_t size = 0; size < good.size(); ++size) {
    Replace(0, good.substr(0, size));
    Answers answers = Read(locations_);
    for (size_t i = 0; i < 3; ++i) {
      if (size >= locations_[i].body_offset + locations_[i].sealed_length) {
        EXPECT_THAT(answers.bodies.at(i), IsOkAndHolds(bodies_[i])) << size;
      } else {
        EXPECT_THAT(answers.bodies.at(i), StatusIs(absl::StatusCode::kDataLoss)) << size;
      }
    }
  }
}

TEST_F(PackReaderTest, AMissingPackOrOneUnderAnothersNameIsLossOfItsRecordsOnly) {
  AddPack(PackKind::kData, {40, 50});
  AddPack(PackKind::kData, {40, 50});
  const std::string first = Blob(0), second = Blob(2);
  ASSERT_OK(store_.Delete(NameOf(0)));
  for (int run = 0; run < 2; ++run) {
    Answers answers = Read(locations_);
    for (size_t i : {0u, 1u}) EXPECT_THAT(answers.bodies.at(i), StatusIs(absl::StatusCode::kDataLoss));
    for (size_t i : {2u, 3u}) EXPECT_THAT(answers.bodies.at(i), IsOkAndHolds(bodies_[i]));
    Replace(0, second);
  }
}

TEST_F(PackReaderTest, AWrongLocationIsLossAndNeverAnotherRecord) {
  AddPack(PackKind::kTree, {40, 50, 60});
  std::vector<RecordLocation> wrong;
  for (int run = 0; run < 500; ++run) {
    RecordLocation l = locations_[run % 3];
    switch (random_() % 6) {
      case 0:
        l.frame_number ^= 1u << (random_() % 32);
        break;
      case 1:
        l.body_offset ^= uint64_t{1} << (random_() % 64);
        break;
      case 2:
        l.sealed_length ^= 1u << (random_() % 12);
        break;
      case 3:
        l.child_count ^= 1u << (random_() % 32);
        break;
      case 4:
        l.id.bytes[random_() % 32] ^= 1;
        break;
      case 5:
        l.kind = PackKind::kData;
        break;
    }
    Answers answers = Read({l});
    EXPECT_THAT(answers.bodies.at(0), StatusIs(absl::StatusCode::kDataLoss));
    wrong.push_back(l);
  }
  wrong.push_back(locations_[1]);
  EXPECT_THAT(Read(wrong).bodies.at(500), IsOkAndHolds(bodies_[1]));
}

// What is read lies in what was fetched; ThreadSanitizer's memory, for one, ends before it.
TEST_F(PackReaderTest, AWrongLocationThatReachesBeforeItsNeighbourIsLossOfItsRecordOnly) {
  AddPack(PackKind::kTree, std::vector<size_t>(40, 30'000));
  for (const uint32_t children : {1u, 900u, 16'384u}) {
    RecordLocation wrong = locations_[39];
    wrong.child_count = children;
    Answers answers = Read({locations_[38], wrong});
    EXPECT_THAT(answers.bodies.at(0), IsOkAndHolds(bodies_[38]));
    EXPECT_THAT(answers.bodies.at(1), StatusIs(absl::StatusCode::kDataLoss)) << children;
  }
}

TEST_F(PackReaderTest, StopsWhenTheSinkSaysSo) {
  AddPack(PackKind::kData, {40, 50, 60, 70});
  for (int n = 0; n < 4; ++n) {
    PackReader reader(store_, Key());
    Answers answers;
    answers.stop_after = n;
    EXPECT_THAT(reader.Read(locations_, true, answers), StatusIs(absl::StatusCode::kCancelled));
    EXPECT_EQ(answers.bodies.size(), static_cast<size_t>(n) + 1);
  }
}

TEST_F(PackReaderTest, AnswersKeepTheirBytesAlive) {
  AddPack(PackKind::kData, {40, 50});
  struct Keep : RecordReadSink {
    absl::Status OnRecord(size_t, absl::StatusOr<ReadRecord> record) override {
      EXPECT_OK(record);
      records.push_back(*std::move(record));
      return absl::OkStatus();
    }
    std::vector<ReadRecord> records;
  } keep;
  {
    PackReader reader(store_, Key());
    ASSERT_OK(reader.Read(locations_, true, keep));
  }
  ASSERT_EQ(keep.records.size(), 2u);
  EXPECT_EQ(keep.records[0].body, bodies_[0]);
  EXPECT_EQ(keep.records[1].body, bodies_[1]);
}

}  // namespace
}  // namespace holdfast
