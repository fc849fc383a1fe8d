#include "client/backup/large_file.h"

#include <cerrno>
#include <random>

#include "client/scan/fake_source_fs.h"
#include "client/upload/fake_upload_transport.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string RandomBytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out;
  while (out.size() < size) out += static_cast<char>(random());
  return out;
}

// One worker; every chunk's bytes can be found by its id.
class LargeFileTest : public testing::Test {
 protected:
  void Run(PreviousVersion previous = {}) {
    auto scanner = fs_.Scan({}, nullptr);
    SourceEntry entry;
    while (*(*scanner)->Next(&entry) && entry.name != "f") {
    }
    job_ = std::make_unique<LargeFileJob>(entry.directory, "f", std::move(previous), chunker_, 1);
    pieces_.clear();
    for (bool done = false; !done;) {
      ASSERT_OK(job_->Run(uploader_));
      done = job_->Take(&pieces_);
    }
    ASSERT_OK(uploader_.Flush());
  }
  // The stored bytes, from the records that were sent.
  std::string Stored() {
    std::string out;
    RecordOpener opener(keys_.repository);
    for (const ChunkPiece& piece : pieces_) {
      for (size_t i = 0; i < transport_.sent.size(); ++i) {
        if (transport_.sent[i].id != piece.ref.id) continue;
        auto opened = opener.Open(piece.ref, transport_.records[i]);
        EXPECT_OK(opened);
        EXPECT_EQ(opened->plaintext.size(), piece.length);
        out += opened->plaintext;
        break;
      }
    }
    return out;
  }
  PreviousVersion AsPrevious() {
    PreviousVersion out;
    uint64_t offset = 0;
    for (const ChunkPiece& p : pieces_) {
      out.pieces.push_back({offset, p.length, false});
      out.refs.push_back(p.ref);
      offset += p.length;
    }
    out.pieces.back().last_of_run = true;
    return out;
  }

  FakeSourceFs fs_;
  SealingKeys keys_;
  FakeUploadTransport transport_;
  OfferedIds offered_;
  SealVerifier verifier_{keys_};
  UploadCounters counters_;
  ChunkUploader uploader_{transport_, keys_, offered_, verifier_, counters_};
  Chunker chunker_{Key128(), {.min_bytes = 16 << 10, .max_bytes = 64 << 10, .mask_bits = 13}};
  std::unique_ptr<LargeFileJob> job_;
  std::vector<ChunkPiece> pieces_;
};

TEST_F(LargeFileTest, IsCutIntoChunksInOrder) {
  const std::string bytes = RandomBytes(500'000, 1);
  fs_.AddFile("f", bytes);
  Run();
  EXPECT_GT(pieces_.size(), 5u);
  EXPECT_EQ(Stored(), bytes);
  EXPECT_EQ(job_->result().outcome, FileResult::Outcome::kStored);
  EXPECT_EQ(job_->result().size, bytes.size());
  EXPECT_EQ(job_->result().flags, 0u);
}

TEST_F(LargeFileTest, AChangeGivesTheChunksOfAFullScan) {
  std::string bytes = RandomBytes(900'000, 2);
  fs_.AddFile("f", bytes);
  Run();
  const PreviousVersion previous = AsPrevious();
  for (size_t at : {0u, 400'000u, 899'999u}) {
    bytes[at] ^= 1;
    fs_.Write("f", bytes);
    Run(previous);
    EXPECT_EQ(Stored(), bytes);
    const std::vector<ChunkPiece> planned = pieces_;
    Run();
    EXPECT_EQ(pieces_, planned);
  }
}

TEST_F(LargeFileTest, AnUnchangedRestIsNotSentAgain) {
  const std::string bytes = RandomBytes(500'000, 3);
  fs_.AddFile("f", bytes);
  Run();
  const size_t sent = transport_.sent.size();
  fs_.Write("f", bytes + "more");
  Run(AsPrevious());
  EXPECT_LE(transport_.sent.size(), sent + 2);
  EXPECT_EQ(Stored(), bytes + "more");
}

TEST_F(LargeFileTest, HintsOfAnotherFileDoNoHarm) {
  fs_.AddFile("f", RandomBytes(500'000, 4));
  Run();
  const PreviousVersion previous = AsPrevious();
  const std::string other = RandomBytes(300'000, 5);
  fs_.Write("f", other);
  Run(previous);
  EXPECT_EQ(Stored(), other);
}

TEST_F(LargeFileTest, LargeHolesAreLeftOutAndSmallOnesAreZeros) {
  const std::string head = RandomBytes(200'000, 6), tail = RandomBytes(150'000, 7);
  const std::string small(300'000, '\0');
  const std::string bytes = std::string(2u << 20, '\0') + head + small + tail + std::string(500'000, '\0');
  fs_.AddFile("f", bytes);
  const uint64_t begin = 2u << 20;
  fs_.Change("f", [&](FakeSourceFs::Object& o) {
    o.stat.blocks = 1;
    o.data = {{{begin, begin + head.size()},
               {begin + head.size() + small.size(), begin + head.size() + small.size() + tail.size()}}};
  });
  Run();
  EXPECT_EQ(Stored(), bytes.substr(begin));
  EXPECT_THAT(job_->result().holes, ElementsAre(Hole{0, begin}, Hole{begin + head.size(), small.size()},
                                                Hole{bytes.size() - 500'000, 500'000}));
}

TEST_F(LargeFileTest, AFileOfOneSmallHoleIsZeros) {
  fs_.AddFile("f", std::string(300'000, '\0'));
  fs_.Change("f", [&](FakeSourceFs::Object& o) {
    o.stat.blocks = 0;
    o.data.emplace();
  });
  Run();
  EXPECT_EQ(Stored(), std::string(300'000, '\0'));
}

TEST_F(LargeFileTest, AFileOfOneLargeHoleHasNoPieces) {
  fs_.AddFile("f", std::string(3u << 20, '\0'));
  fs_.Change("f", [&](FakeSourceFs::Object& o) {
    o.stat.blocks = 0;
    o.data.emplace();
  });
  Run();
  EXPECT_THAT(pieces_, IsEmpty());
  EXPECT_EQ(job_->result().size, 3u << 20);
}

TEST_F(LargeFileTest, WithoutSupportForHolesEverythingIsData) {
  fs_.AddFile("f", std::string(3u << 20, '\0'));
  fs_.Change("f", [&](FakeSourceFs::Object& o) { o.stat.blocks = 0; });
  fs_.Fail("f", "map", EINVAL);
  Run();
  EXPECT_THAT(job_->result().holes, IsEmpty());
  EXPECT_EQ(Stored().size(), 3u << 20);
}

TEST_F(LargeFileTest, AFailureIsTheFiles) {
  for (const char* operation : {"open", "read", "stat", "attributes"}) {
    fs_.AddFile("f", RandomBytes(300'000, 8));
    fs_.Fail("f", operation, EIO);
    Run();
    EXPECT_EQ(job_->result().outcome, FileResult::Outcome::kFailed) << operation;
    EXPECT_EQ(job_->result().error.error_number, EIO) << operation;
  }
}

TEST_F(LargeFileTest, AFailureWhileHintsAreTriedIsTheFiles) {
  fs_.AddFile("f", RandomBytes(300'000, 8));
  Run();
  fs_.Fail("f", "read", EIO);
  Run(AsPrevious());
  EXPECT_EQ(job_->result().outcome, FileResult::Outcome::kFailed);
}

TEST_F(LargeFileTest, WhatIsLeftOfAFileThatShrinksIsKeptAndFlagged) {
  const std::string bytes = RandomBytes(500'000, 9);
  fs_.AddFile("f", bytes);
  fs_.SetHook([&, n = 0](std::string_view, std::string_view operation) mutable {
    if (operation == "read" && ++n == 3) fs_.Write("f", bytes.substr(0, 200'000));
  });
  Run();
  EXPECT_EQ(job_->result().flags, kEntryChangedWhileRead);
  EXPECT_EQ(Stored(), bytes.substr(0, job_->result().size));
}

TEST_F(LargeFileTest, AFileThatShrinksWhileHintsAreUsedIsReadWithoutThem) {
  const std::string bytes = RandomBytes(600'000, 10);
  fs_.AddFile("f", bytes);
  Run();
  const PreviousVersion previous = AsPrevious();
  std::string changed = RandomBytes(100'000, 11) + bytes.substr(100'000, 300'000) + RandomBytes(200'000, 12);
  fs_.Write("f", changed);
  changed.resize(450'000);
  fs_.SetHook([&, n = 0](std::string_view, std::string_view operation) mutable {
    // Behind the reads that compare with the previous chunks.
    if (operation == "read" && ++n == static_cast<int>(previous.pieces.size()) + 2) fs_.Write("f", changed);
  });
  Run(previous);
  EXPECT_EQ(job_->result().flags, kEntryChangedWhileRead);
  EXPECT_EQ(Stored(), changed.substr(0, job_->result().size));
}

}  // namespace
}  // namespace holdfast
