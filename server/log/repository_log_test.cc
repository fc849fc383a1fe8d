#include "server/log/repository_log.h"

#include <atomic>
#include <functional>
#include <map>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/status_testing.h"
#include "core/io/posix.h"
#include "server/log/catalog.h"
#include "storage/memory/memory_blob_store.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

CatalogKey Key() {
  CatalogKey key;
  key.repository.bytes.fill(7);
  key.key.MutableBytes()[0] = 42;
  return key;
}

class FakeClock : public Clock {
 public:
  absl::Duration Monotonic() override { return PosixIo().clock.Monotonic(); }
  absl::Time Wall() override { return absl::FromUnixSeconds(wall_seconds); }
  std::atomic<int64_t> wall_seconds{1'000'000};
};

// What the storage does to a put, beside putting.
enum class Outcome {
  kFine,
  kLostReply,    // there, but UNAVAILABLE
  kLostRequest,  // not there, UNAVAILABLE
  kLate,         // UNAVAILABLE now; there before the next put
  kFull,         // RESOURCE_EXHAUSTED
};

class FaultyStore : public BlobStore {
 public:
  explicit FaultyStore(BlobStore& base) : base_(base) {}
  std::function<Outcome()> on_put = [] { return Outcome::kFine; };
  std::function<bool()> get_works = [] { return true; };
  bool can_put_if_absent = true;
  int puts = 0;

  Capabilities capabilities() const override {
    Capabilities c = base_.capabilities();
    c.put_if_absent = can_put_if_absent;
    return c;
  }
  absl::Status Put(const BlobName& name, BlobSource& source, PutMode mode) override {
    ++puts;
    Land();
    switch (on_put()) {
      case Outcome::kFine:
        return base_.Put(name, source, mode);
      case Outcome::kLostReply:
        (void)base_.Put(name, source, mode);
        return absl::UnavailableError("reply lost");
      case Outcome::kLostRequest:
        return absl::UnavailableError("request lost");
      case Outcome::kLate: {
        std::string bytes(source.size(), '\0');
        RETURN_IF_ERROR(source.ReadAt(0, absl::MakeSpan(bytes.data(), bytes.size())));
        late_.emplace_back(name.str(), bytes);
        return absl::UnavailableError("slow");
      }
      case Outcome::kFull:
        return absl::ResourceExhaustedError("full");
    }
    return absl::InternalError("");
  }
  absl::Status Get(const BlobName& name, uint64_t offset, absl::Span<char> out) override {
    if (!get_works()) return absl::UnavailableError("no answer");
    return base_.Get(name, offset, out);
  }
  absl::StatusOr<BlobInfo> Stat(const BlobName& name) override {
    if (!get_works()) return absl::UnavailableError("no answer");
    return base_.Stat(name);
  }
  absl::StatusOr<std::vector<BlobInfo>> List(std::string_view prefix, std::string_view after, int limit) override {
    return base_.List(prefix, after, limit);
  }
  absl::Status Delete(const BlobName& name) override { return base_.Delete(name); }
  void Land() {
    for (auto& [name, bytes] : late_) {
      (void)PutBytes(base_, BlobName::FromTrusted(name), bytes, PutMode::kIfAbsent);
    }
    late_.clear();
  }

 private:
  BlobStore& base_;
  std::vector<std::pair<std::string, std::string>> late_;
};

ManifestId Manifest(uint64_t n) {
  ManifestId id;
  std::memcpy(id.bytes.data(), &n, 8);
  return id;
}
CommittedRecord Commit(uint64_t n) {
  return {Manifest(n), "user@host:/data", n, 2, "session-1", absl::StrCat("core ", n)};
}

class RepositoryLogTest : public ::testing::Test {
 protected:
  struct Opened {
    absl::Status status;
    std::unique_ptr<RepositoryLog> log;
    std::unique_ptr<std::vector<LogRecord>> records = std::make_unique<std::vector<LogRecord>>();
    LogReport report;
    std::unique_ptr<Catalog> catalog = std::make_unique<Catalog>();
  };
  Opened TryOpen(BlobStore& store, std::string server_id = "server") {
    Opened out;
    RepositoryLogOptions options;
    options.server_id = std::move(server_id);
    options.attempts_max = 3;
    options.backoff_initial = absl::Milliseconds(1);
    auto log = RepositoryLog::Open(
        io_, store, Key(), options,
        [records = out.records.get(), catalog = out.catalog.get()](const LogRecord& r) {
          records->push_back(r);
          catalog->Apply(r);
        },
        &out.report);
    out.status = log.status();
    if (log.ok()) out.log = *std::move(log);
    return out;
  }
  Opened Open(BlobStore& store, std::string server_id = "server") {
    Opened out = TryOpen(store, std::move(server_id));
    if (!out.status.ok()) {
      ADD_FAILURE() << out.status;
      std::abort();
    }
    return out;
  }
  Opened Open() { return Open(store_); }
  std::string Slot(uint64_t n) {
    auto bytes = GetWholeBlob(store_, LogSlotBlobName(n), kLogSlotBytesMax);
    EXPECT_OK(bytes);
    return bytes.ok() ? *bytes : "";
  }
  void Replace(uint64_t n, std::string_view bytes) {
    ASSERT_OK(store_.Delete(LogSlotBlobName(n)));
    ASSERT_OK(PutBytes(store_, LogSlotBlobName(n), bytes, PutMode::kIfAbsent));
  }
  // Slots 1 .. n of an ordinary log: a takeover and n - 1 commits.
  void Fill(uint64_t n) {
    Opened o = Open();
    for (uint64_t i = 2; i <= n; ++i) ASSERT_OK(o.log->Append(Commit(i)));
  }

  FakeClock clock_;
  Io posix_ = PosixIo();
  Io io_{posix_.files, clock_, posix_.random, posix_.threads};
  MemoryBlobStore store_;
  FaultyStore faulty_{store_};
};

// --- The record -------------------------------------------------------------------------------

TEST(LogRecordTest, EveryKindOfPayloadSurvives) {
  PackId pack;
  pack.bytes.fill(9);
  Digest digest;
  digest.bytes.fill(8);
  const std::vector<LogPayload> payloads = {
      TakeoverRecord{5, "name"},
      CommittedRecord{Manifest(1), std::string("\xff\0x", 3), 7, 3, "s", std::string("c\0", 2)},
      DeletedRecord{Manifest(2), "core", "reason", "actor"},
      UndeletedRecord{Manifest(3), "actor"},
      SessionRevokedRecord{"s", "why"},
      PurgeIntentRecord{"p", {pack, PackId()}},
      CheckpointRecord{12, "checkpoints/1", digest},
  };
  for (const LogPayload& payload : payloads) {
    LogRecord in{77, 4, digest, absl::FromUnixNanos(1'234'567'890'123), payload};
    ASSERT_OK_AND_ASSIGN(std::string blob, SealLogRecord(in, Key(), {1, 2, 3}));
    ASSERT_OK_AND_ASSIGN(LogRecord out, OpenLogRecord(blob, 77, Key()));
    EXPECT_EQ(out.slot, 77u);
    EXPECT_EQ(out.server_epoch, 4u);
    EXPECT_EQ(out.previous, digest);
    EXPECT_EQ(out.time, in.time);
    EXPECT_TRUE(out.payload == payload) << payload.index();
  }
}

TEST(LogRecordTest, EveryFlippedBitAndTruncationIsFound) {
  for (AeadAlgorithm aead : {AeadAlgorithm::kAes256Gcm, AeadAlgorithm::kChaCha20Poly1305}) {
    CatalogKey key = Key();
    key.aead = aead;
    LogRecord record{3, 1, Digest(), absl::FromUnixSeconds(1), Commit(1)};
    ASSERT_OK_AND_ASSIGN(std::string blob, SealLogRecord(record, key, {}));
    for (size_t bit = 0; bit < 8 * blob.size(); ++bit) {
      std::string bad = blob;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
      ASSERT_THAT(OpenLogRecord(bad, 3, key), StatusIs(absl::StatusCode::kDataLoss)) << bit;
    }
    for (size_t n = 0; n < blob.size(); ++n) {
      ASSERT_THAT(OpenLogRecord(blob.substr(0, n), 3, key), StatusIs(absl::StatusCode::kDataLoss));
    }
    ASSERT_THAT(OpenLogRecord(blob + "x", 3, key), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(LogRecordTest, IsBoundToSlotRepositoryAndKey) {
  LogRecord record{3, 1, Digest(), absl::FromUnixSeconds(1), Commit(1)};
  ASSERT_OK_AND_ASSIGN(std::string blob, SealLogRecord(record, Key(), {}));
  EXPECT_THAT(OpenLogRecord(blob, 4, Key()), StatusIs(absl::StatusCode::kDataLoss));
  CatalogKey other = Key();
  other.repository.bytes[0] ^= 1;
  EXPECT_THAT(OpenLogRecord(blob, 3, other), StatusIs(absl::StatusCode::kDataLoss));
  other = Key();
  other.key.MutableBytes()[5] ^= 1;
  EXPECT_THAT(OpenLogRecord(blob, 3, other), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(LogRecordTest, NewerVersionIsRefusedNotCalledDamage) {
  std::string blob = "HFLOG1";
  blob += std::string("\0\0\2\1\0\0\0\0\0\0", 10);
  blob += std::string("\3\0\0\0\0\0\0\0", 8) + std::string(100, 'x');
  EXPECT_THAT(OpenLogRecord(blob, 3, Key()), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(LogRecordTest, RefusesARecordThatIsTooLarge) {
  CommittedRecord c = Commit(1);
  c.core = std::string(kLogSlotBytesMax, 'x');
  EXPECT_THAT(SealLogRecord({1, 1, Digest(), absl::UnixEpoch(), c}, Key(), {}),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(LogRecordTest, NamesGoBothWays) {
  EXPECT_EQ(LogSlotBlobName(0x1f).str(), "log/000000000000001f");
  EXPECT_EQ(ParseLogSlotBlobName("log/000000000000001f"), 0x1fu);
  for (const char* bad : {"log/", "log/1f", "log/000000000000001F", "log/0000000000000000", "log/ffffffffffffffff",
                          "log/000000000000001f0", "lag/000000000000001f"}) {
    EXPECT_FALSE(ParseLogSlotBlobName(bad).has_value()) << bad;
  }
}

// --- Ordinary use -----------------------------------------------------------------------------

TEST_F(RepositoryLogTest, BeginsWithATakeoverAndCountsOn) {
  Opened first = Open();
  EXPECT_TRUE(first.report.clean());
  EXPECT_EQ(first.log->epoch(), 1u);
  EXPECT_EQ(first.log->last_slot(), 1u);
  EXPECT_THAT(first.log->Append(Commit(1)), IsOkAndHolds(2u));
  EXPECT_THAT(first.log->Append(DeletedRecord{Manifest(1), "core", "r", "a"}), IsOkAndHolds(3u));
  Opened second = Open();
  EXPECT_TRUE(second.report.clean());
  EXPECT_EQ(second.report.slots_read, 3u);
  EXPECT_EQ(second.log->epoch(), 2u);
  ASSERT_EQ(second.records->size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ((*second.records)[i].slot, i + 1);
  EXPECT_TRUE(second.catalog->Find(Manifest(1))->deleted);
}

TEST_F(RepositoryLogTest, ReadsMoreThanOneListing) {
  Fill(1050);
  Opened o = Open();
  EXPECT_TRUE(o.report.clean());
  EXPECT_EQ(o.report.slots_read, 1050u);
  EXPECT_EQ(o.catalog->live_count(), 1049u);
}

TEST_F(RepositoryLogTest, RepositoryTimeNeverGoesBack) {
  Opened o = Open();
  ASSERT_OK(o.log->Append(Commit(1)));
  const absl::Time before = o.log->Now();
  clock_.wall_seconds = 5;
  ASSERT_OK(o.log->Append(Commit(2)));
  EXPECT_EQ(o.records->back().time, before);
  o = Open();
  EXPECT_EQ(o.log->Now(), before);
  clock_.wall_seconds = 2'000'000;
  EXPECT_EQ(o.log->Now(), absl::FromUnixSeconds(2'000'000));
}

TEST_F(RepositoryLogTest, NeedsPutIfAbsent) {
  faulty_.can_put_if_absent = false;
  EXPECT_THAT(TryOpen(faulty_).status, StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(RepositoryLogTest, AppendsOfManyThreadsGetSlotsOfTheirOwn) {
  Opened o = Open();
  std::vector<std::thread> threads;
  std::atomic<uint64_t> sum{0};
  for (uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 20; ++i) {
        auto slot = o.log->Append(Commit(100 * t + i));
        EXPECT_OK(slot);
        if (slot.ok()) sum += *slot;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(sum, (2 + 161) * 160 / 2);
  EXPECT_EQ(o.records->size(), 161u);
  EXPECT_TRUE(Open().report.clean());
}

// --- Two servers ------------------------------------------------------------------------------

TEST_F(RepositoryLogTest, SupersededServerCanNeverWriteAgain) {
  Opened old = Open(store_, "old");
  ASSERT_OK(old.log->Append(Commit(1)));
  Opened young = Open(store_, "young");
  EXPECT_THAT(old.log->Append(Commit(2)), StatusIs(absl::StatusCode::kAborted, "superseded by another server"));
  EXPECT_THAT(std::string(old.log->status().message()), HasSubstr("young"));
  ASSERT_OK(young.log->Append(Commit(3)));
  EXPECT_THAT(old.log->Append(Commit(2)), StatusIs(absl::StatusCode::kAborted));
  Opened after = Open();
  EXPECT_TRUE(after.report.clean());
  EXPECT_FALSE(after.catalog->Find(Manifest(2)).has_value());
  EXPECT_TRUE(after.catalog->Find(Manifest(3)).has_value());
}

TEST_F(RepositoryLogTest, TakeoversAtTheSameTimeAreOrdered) {
  std::unique_ptr<RepositoryLog> other;
  faulty_.on_put = [&] {
    if (other == nullptr) other = std::move(Open(store_, "other").log);  // just before our put
    return Outcome::kFine;
  };
  Opened ours = Open(faulty_, "ours");
  EXPECT_EQ(ours.log->epoch(), 2u);
  EXPECT_EQ(ours.log->last_slot(), 2u);
  EXPECT_EQ(ours.records->size(), 2u);
  EXPECT_OK(ours.log->Append(Commit(1)));
  EXPECT_THAT(other->Append(Commit(2)), StatusIs(absl::StatusCode::kAborted));
}

TEST_F(RepositoryLogTest, GivesUpWhereOthersKeepTakingOver) {
  int n = 0;
  faulty_.on_put = [&] {
    (void)Open(store_, absl::StrCat("other ", n++));
    return Outcome::kFine;
  };
  EXPECT_THAT(TryOpen(faulty_).status, StatusIs(absl::StatusCode::kAborted));
}

// --- Unknown outcomes -------------------------------------------------------------------------

TEST_F(RepositoryLogTest, LostReplyIsReadBack) {
  Opened o = Open(faulty_);
  faulty_.on_put = [] { return Outcome::kLostReply; };
  EXPECT_THAT(o.log->Append(Commit(1)), IsOkAndHolds(2u));
  EXPECT_EQ(o.records->size(), 2u);
}

TEST_F(RepositoryLogTest, LostRequestIsPutAgain) {
  Opened o = Open(faulty_);
  int calls = 0;
  faulty_.on_put = [&] { return ++calls < 3 ? Outcome::kLostRequest : Outcome::kFine; };
  EXPECT_THAT(o.log->Append(Commit(1)), IsOkAndHolds(2u));
}

TEST_F(RepositoryLogTest, PutThatArrivesLateIsRecognised) {
  Opened o = Open(faulty_);
  int calls = 0;
  faulty_.on_put = [&] { return ++calls == 1 ? Outcome::kLate : Outcome::kFine; };
  EXPECT_THAT(o.log->Append(Commit(1)), IsOkAndHolds(2u));
  EXPECT_EQ(o.records->size(), 2u);
}

TEST_F(RepositoryLogTest, AfterAnUnknownOutcomeAnEqualAppendWritesNothingTwice) {
  Opened o = Open(faulty_);
  int calls = 0;
  faulty_.on_put = [&] { return ++calls < 3 ? Outcome::kLostRequest : Outcome::kLate; };
  EXPECT_THAT(o.log->Append(Commit(1)), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(o.records->size(), 1u);
  faulty_.on_put = [] { return Outcome::kFine; };
  EXPECT_THAT(o.log->Append(Commit(1)), IsOkAndHolds(2u));
  EXPECT_THAT(o.log->Append(Commit(2)), IsOkAndHolds(3u));
  EXPECT_EQ(o.records->size(), 3u);
  EXPECT_TRUE(Open().report.clean());
}

TEST_F(RepositoryLogTest, AfterAnUnknownOutcomeAnotherAppendSettlesItFirst) {
  Opened o = Open(faulty_);
  faulty_.on_put = [] { return Outcome::kLostRequest; };
  EXPECT_THAT(o.log->Append(Commit(1)), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(o.log->Append(Commit(2)), StatusIs(absl::StatusCode::kUnavailable));
  faulty_.on_put = [] { return Outcome::kFine; };
  EXPECT_THAT(o.log->Append(Commit(2)), IsOkAndHolds(3u));
  EXPECT_TRUE(o.catalog->Find(Manifest(1)).has_value()) << "the observer saw what was in doubt";
  EXPECT_EQ(o.records->size(), 3u);
}

TEST_F(RepositoryLogTest, FullStorageIsNotWrittenAndNotLatched) {
  Opened o = Open(faulty_);
  faulty_.on_put = [] { return Outcome::kFull; };
  EXPECT_THAT(o.log->Append(Commit(1)), StatusIs(absl::StatusCode::kResourceExhausted));
  faulty_.on_put = [] { return Outcome::kFine; };
  EXPECT_THAT(o.log->Append(Commit(2)), IsOkAndHolds(2u));
  EXPECT_FALSE(o.catalog->Find(Manifest(1)).has_value());
}

TEST_F(RepositoryLogTest, FullStorageAfterAnUnknownOutcomeStaysUnknown) {
  Opened o = Open(faulty_);
  int calls = 0;
  faulty_.on_put = [&] { return ++calls == 1 ? Outcome::kLostRequest : Outcome::kFull; };
  EXPECT_THAT(o.log->Append(Commit(1)), StatusIs(absl::StatusCode::kUnavailable));
  faulty_.on_put = [] { return Outcome::kFine; };
  EXPECT_THAT(o.log->Append(Commit(1)), IsOkAndHolds(2u));
}

TEST_F(RepositoryLogTest, FrozenServerWithAPutInDoubtLosesToATakeover) {
  Opened old = Open(faulty_, "old");
  faulty_.on_put = [] { return Outcome::kLostRequest; };
  EXPECT_THAT(old.log->Append(Commit(1)), StatusIs(absl::StatusCode::kUnavailable));
  Opened young = Open(store_, "young");
  faulty_.on_put = [] { return Outcome::kFine; };
  EXPECT_THAT(old.log->Append(Commit(1)), StatusIs(absl::StatusCode::kAborted));
  EXPECT_FALSE(young.catalog->Find(Manifest(1)).has_value());
}

TEST_F(RepositoryLogTest, OpenWithoutStorageIsUnavailableAndCanBeRepeated) {
  Fill(3);
  faulty_.get_works = [] { return false; };
  EXPECT_THAT(TryOpen(faulty_).status, StatusIs(absl::StatusCode::kUnavailable));
  faulty_.get_works = [] { return true; };
  faulty_.on_put = [] { return Outcome::kLostRequest; };
  EXPECT_THAT(TryOpen(faulty_).status, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_TRUE(Open().report.clean());
}

// Random outcomes, servers that come and go. Every OK is in the final log exactly once, at its slot; everything else is
// there at most once unless it was appended again; nothing that ABORTED or was refused is there.
TEST_F(RepositoryLogTest, RandomFaultsLoseAndDoubleNothing) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 30; ++round) {
    MemoryBlobStore base;
    FaultyStore store(base);
    bool faults = true;
    auto bad = [&] { return faults && random() % 3 == 0; };
    store.on_put = [&] { return bad() ? static_cast<Outcome>(1 + random() % 4) : Outcome::kFine; };
    store.get_works = [&] { return !bad(); };
    std::map<uint64_t, uint64_t> acknowledged;  // commit -> slot
    std::map<uint64_t, bool> possible;
    std::vector<Opened> servers;
    uint64_t next = 1;
    for (int step = 0; step < 60; ++step) {
      if (servers.empty() || random() % 12 == 0) {
        Opened o = TryOpen(store, absl::StrCat("server ", step));
        if (o.status.ok()) servers.push_back(std::move(o));
        continue;
      }
      Opened& o = servers[random() % servers.size()];
      const uint64_t n = next++;
      for (int attempt = 0; attempt < 4; ++attempt) {
        auto slot = o.log->Append(Commit(n));
        if (slot.ok()) {
          acknowledged[n] = *slot;
          break;
        }
        if (absl::IsUnavailable(slot.status())) possible[n] = true;
        if (absl::IsAborted(slot.status())) break;
      }
    }
    store.Land();
    faults = false;
    Opened last = Open(store);
    EXPECT_TRUE(last.report.clean());
    std::map<uint64_t, int> seen;
    for (const LogRecord& r : *last.records) {
      if (const auto* c = std::get_if<CommittedRecord>(&r.payload)) {
        ++seen[c->sequence];
        auto it = acknowledged.find(c->sequence);
        if (it != acknowledged.end()) {
          EXPECT_EQ(it->second, r.slot);
        } else {
          EXPECT_TRUE(possible[c->sequence]) << c->sequence << " was refused and is there";
        }
      }
    }
    for (const auto& [n, slot] : acknowledged) EXPECT_EQ(seen[n], 1) << n << " at " << slot;
    for (const auto& [n, times] : seen) EXPECT_EQ(times, 1) << n;
    // Each server's observer saw a prefix of the final log.
    for (const Opened& o : servers) {
      for (size_t i = 0; i < o.records->size(); ++i) {
        EXPECT_EQ((*o.records)[i].slot, i + 1);
        EXPECT_TRUE((*o.records)[i].payload == (*last.records)[i].payload);
      }
    }
  }
}

// --- Damage -----------------------------------------------------------------------------------

TEST_F(RepositoryLogTest, EveryFlippedBitOfASlotIsReportedAndTheRestIsRead) {
  Fill(4);
  const std::string good = Slot(3);
  for (size_t bit = 0; bit < 8 * good.size(); bit += 3) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    Replace(3, bad);
    Opened o = Open();
    ASSERT_EQ(o.report.damaged.size(), 1u) << bit;
    EXPECT_EQ(o.report.damaged[0].slot, 3u);
    EXPECT_THAT(o.report.damaged[0].status, StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(o.report.broken_links, IsEmpty());
    EXPECT_TRUE(o.catalog->Find(Manifest(2)).has_value());
    EXPECT_FALSE(o.catalog->Find(Manifest(3)).has_value());
    EXPECT_TRUE(o.catalog->Find(Manifest(4)).has_value());
    ASSERT_OK(store_.Delete(LogSlotBlobName(5)));  // the takeover
  }
}

TEST_F(RepositoryLogTest, SwappedSlotsAreBothDamaged) {
  Fill(4);
  const std::string second = Slot(2), third = Slot(3);
  Replace(2, third);
  Replace(3, second);
  Opened o = Open();
  ASSERT_EQ(o.report.damaged.size(), 2u);
  EXPECT_EQ(o.report.damaged[0].slot, 2u);
  EXPECT_EQ(o.report.damaged[1].slot, 3u);
}

TEST_F(RepositoryLogTest, MissingSlotsAreReportedAndNeverReused) {
  Fill(7);
  for (uint64_t n : {1, 3, 4, 6}) ASSERT_OK(store_.Delete(LogSlotBlobName(n)));
  Opened o = Open();
  EXPECT_THAT(o.report.missing, ElementsAre(Pair(1, 1), Pair(3, 4), Pair(6, 6)));
  EXPECT_EQ(o.report.slots_read, 3u);
  EXPECT_THAT(o.log->Append(Commit(9)), IsOkAndHolds(9u));
}

TEST_F(RepositoryLogTest, GoesOnBehindADamagedLastSlot) {
  Fill(3);
  std::string bad = Slot(3);
  bad[60] ^= 1;
  Replace(3, bad);
  Opened o = Open();
  EXPECT_EQ(o.log->last_slot(), 4u);
  Opened again = Open();
  EXPECT_EQ(again.report.damaged.size(), 1u);
  EXPECT_THAT(again.report.broken_links, IsEmpty());
}

// The storage shows an old state to a server that writes on, and the old continuation later.
TEST_F(RepositoryLogTest, ForkedHistoryIsABrokenLink) {
  Fill(4);
  const std::string third = Slot(3), fourth = Slot(4);
  ASSERT_OK(store_.Delete(LogSlotBlobName(3)));
  ASSERT_OK(store_.Delete(LogSlotBlobName(4)));
  Open();  // a takeover in slot 3
  ASSERT_OK(PutBytes(store_, LogSlotBlobName(4), fourth, PutMode::kIfAbsent));
  Opened o = Open();
  ASSERT_EQ(o.report.broken_links.size(), 1u);
  EXPECT_EQ(o.report.broken_links[0].slot, 4u);
  EXPECT_TRUE(o.catalog->Find(Manifest(4)).has_value()) << "authentic, so not thrown away";
}

TEST_F(RepositoryLogTest, ForeignNamesAreReportedAndHarmless) {
  Fill(2);
  for (const char* name : {"log/readme", "log/ffffffffffffffff"}) {
    ASSERT_OK(PutBytes(store_, BlobName::FromTrusted(name), "x", PutMode::kIfAbsent));
  }
  Opened o = Open();
  EXPECT_THAT(o.report.foreign_names, ElementsAre("log/ffffffffffffffff", "log/readme"));
  EXPECT_EQ(o.log->last_slot(), 3u);
}

TEST_F(RepositoryLogTest, SlotOfANewerServerIsRefused) {
  Fill(2);
  std::string blob = Slot(2);
  blob[8] = 2;
  blob[70] ^= 1;
  Replace(2, blob);
  EXPECT_THAT(TryOpen(store_).status, StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(RepositoryLogTest, GarbageInTheNextSlotIsDataLossForEver) {
  Opened o = Open();
  ASSERT_OK(PutBytes(store_, LogSlotBlobName(2), "garbage", PutMode::kIfAbsent));
  EXPECT_THAT(o.log->Append(Commit(1)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(o.log->Append(Commit(1)), StatusIs(absl::StatusCode::kDataLoss));
  Opened again = Open();
  EXPECT_EQ(again.report.damaged.size(), 1u);
  EXPECT_THAT(again.log->Append(Commit(1)), IsOkAndHolds(4u));
}

}  // namespace
}  // namespace holdfast
