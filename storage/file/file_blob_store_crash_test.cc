// The file store on a simulated machine: the conformance suite under many schedules, and power failures at every call.
#include <map>
#include <set>

#include "absl/synchronization/mutex.h"
#include "core/base/status_testing.h"
#include "core/io/sim/sim_world.h"
#include "storage/conformance/blob_store_conformance.h"
#include "storage/file/file_blob_store.h"

namespace holdfast {
namespace {

BlobStoreUnderTest OnSimulatedMachine(uint64_t seed) {
  auto world = std::make_shared<SimWorld>(seed);
  auto store = FileBlobStore::Open(world->io(), "/data/root");
  EXPECT_OK(store);
  BlobStoreUnderTest t;
  t.store = *std::move(store);
  t.threads = &world->io().threads;
  t.keep = world;
  return t;
}

INSTANTIATE_TEST_SUITE_P(FileOnSim, BlobStoreConformance,
                         testing::Values(BlobStoreFactory([] { return OnSimulatedMachine(1); }),
                                         BlobStoreFactory([] { return OnSimulatedMachine(2); }),
                                         BlobStoreFactory([] { return OnSimulatedMachine(3); })));

class SpoolSource : public StringBlobSource {
 public:
  SpoolSource(std::string path, std::string_view bytes) : StringBlobSource(bytes), path_(std::move(path)) {}
  std::optional<std::string> spool_path() const override { return path_; }

 private:
  std::string path_;
};

std::string ContentOf(std::string_view name, int writer) {
  return absl::StrCat("content of ", AbslView(name), " by ", writer, std::string(100, 'x'));
}

// Two writers that race for the same names, and a reader. The power goes at a call; afterwards every blob that a Put
// said OK (or ALREADY_EXISTS) for, or that the reader saw, is there; and none is anything but whole.
uint64_t RunToTheCrash(uint64_t seed, uint64_t power_off_at, CrashMode mode) {
  SCOPED_TRACE(absl::StrCat("seed ", seed, ", power off at call ", power_off_at));
  SimWorld world(seed);
  Io io = world.io();
  if (power_off_at != 0) world.PowerOffAtCall(power_off_at);

  absl::Mutex mu;  // never held across a call
  std::set<std::string> durable;
  std::map<std::string, std::string> won;
  [&] {
    auto store = FileBlobStore::Open(io, "/store");
    if (!store.ok() || !io.files.MakeDirectories("/spool").ok()) return;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int writer = 0; writer < 2; ++writer) {
      threads.push_back(io.threads.Spawn("writer", [&, writer] {
        for (std::string name : {"log/1", "packs/d/aa", "log/2"}) {
          std::string content = ContentOf(name, writer);
          absl::Status status;
          if (name == "packs/d/aa") {
            std::string spool = absl::StrCat("/spool/", writer);
            if (!WriteFileAtomically(io, spool, content).ok()) return;
            SpoolSource source(spool, content);
            status = (*store)->Put(BlobName::FromTrusted(name), source, PutMode::kIfAbsent);
          } else {
            status = PutBytes(**store, BlobName::FromTrusted(name), content, PutMode::kIfAbsent);
          }
          absl::MutexLock lock(&mu);
          if (status.ok()) won[name] = content;
          if (status.ok() || absl::IsAlreadyExists(status)) durable.insert(name);
        }
      }));
    }
    threads.push_back(io.threads.Spawn("reader", [&] {
      for (int i = 0; i < 10 && !world.is_off(); ++i) {
        std::vector<std::string> seen;
        if (i % 2 == 0) {
          auto page = (*store)->List("", "", 100);
          if (page.ok()) {
            for (auto& info : *page) seen.push_back(info.name);
          }
        } else if (GetWholeBlob(**store, BlobName::FromTrusted("log/1"), 1000).ok()) {
          seen.push_back("log/1");
        }
        absl::MutexLock lock(&mu);
        durable.insert(seen.begin(), seen.end());
      }
    }));
  }();
  const uint64_t calls = world.calls();

  world.Crash(seed, mode);
  auto store = FileBlobStore::Open(io, "/store");
  EXPECT_OK(store);
  auto all = ListAll(**store, "");
  EXPECT_OK(all);
  std::set<std::string> there;
  for (const BlobInfo& info : *all) {
    there.insert(info.name);
    auto content = GetWholeBlob(**store, BlobName::FromTrusted(info.name), 1000);
    EXPECT_OK(content);
    EXPECT_TRUE(*content == ContentOf(info.name, 0) || *content == ContentOf(info.name, 1)) << info.name;
    if (won.contains(info.name)) {
      EXPECT_EQ(*content, won[info.name]);
    }
  }
  for (const std::string& name : durable) EXPECT_TRUE(there.contains(name)) << name << " is lost";
  return calls;
}

TEST(FileBlobStoreCrash, KeepsWhatItSaidOkTo) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const uint64_t last = RunToTheCrash(seed, 0, CrashMode::kDrop);
    for (uint64_t call = 1; call <= last; ++call) {
      RunToTheCrash(seed, call, CrashMode::kDrop);
      RunToTheCrash(seed, call, CrashMode::kKeep);
      for (uint64_t torn = 0; torn < 4; ++torn) RunToTheCrash(seed + 100 * (torn + 1), call, CrashMode::kTorn);
      ASSERT_FALSE(testing::Test::HasFailure());
    }
  }
}

// Every single failing call, before and after its effect: a Put that says OK is durable all the same.
TEST(FileBlobStoreCrash, IsNotFooledByACallThatFails) {
  for (uint64_t call = 1; call <= 40; ++call) {
    for (auto effect : {SimWorld::Effect::kNone, SimWorld::Effect::kDone}) {
      SCOPED_TRACE(call);
      SimWorld world(call);
      Io io = world.io();
      world.FailCall(call, absl::UnavailableError("injected"), effect);
      std::set<std::string> durable;
      if (auto store = FileBlobStore::Open(io, "/store"); store.ok()) {
        for (std::string name : {"log/1", "packs/d/aa", "log/2"}) {
          absl::Status status = PutBytes(**store, BlobName::FromTrusted(name), ContentOf(name, 0), PutMode::kIfAbsent);
          if (!status.ok()) {  // ask again, as the caller has to
            status = PutBytes(**store, BlobName::FromTrusted(name), ContentOf(name, 0), PutMode::kIfAbsent);
          }
          EXPECT_TRUE(status.ok() || absl::IsAlreadyExists(status)) << status;
          durable.insert(name);
        }
      } else {
        EXPECT_OK(FileBlobStore::Open(io, "/store"));
      }
      world.Crash(call, CrashMode::kDrop);
      auto store = FileBlobStore::Open(io, "/store");
      ASSERT_OK(store);
      for (const std::string& name : durable) {
        EXPECT_THAT(GetWholeBlob(**store, BlobName::FromTrusted(name), 1000), IsOkAndHolds(ContentOf(name, 0)));
      }
    }
  }
}

TEST(FileBlobStoreCrash, LeavesNothingBehindWhenTheDiskIsFull) {
  SimWorld world(1);
  Io io = world.io();
  auto store = FileBlobStore::Open(io, "/store");
  ASSERT_OK(store);
  world.LimitSpace(50);
  EXPECT_THAT(PutBytes(**store, BlobName::FromTrusted("a"), std::string(100, 'x'), PutMode::kIfAbsent),
              StatusIs(absl::StatusCode::kResourceExhausted));
  world.ClearFaults();
  EXPECT_THAT((*store)->Stat(BlobName::FromTrusted("a")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(io.files.List("/store/.tmp"), IsOkAndHolds(testing::IsEmpty()));
}

}  // namespace
}  // namespace holdfast
