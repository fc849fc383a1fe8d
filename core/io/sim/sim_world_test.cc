#include "core/io/sim/sim_world.h"

#include <set>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "core/base/status_testing.h"
#include "core/io/io_conformance.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

IoUnderTest MakeSim(uint64_t seed) {
  auto world = std::make_shared<SimWorld>(seed);
  auto io = std::make_shared<Io>(world->io());
  EXPECT_OK(io->files.MakeDirectories("/test"));
  return IoUnderTest{world, io, "/test"};
}

INSTANTIATE_TEST_SUITE_P(Sim, IoConformance,
                         testing::Values(IoFactory([] { return MakeSim(1); }), IoFactory([] { return MakeSim(2); }),
                                         IoFactory([] { return MakeSim(3); })));

class SimWorldTest : public testing::Test {
 protected:
  std::unique_ptr<File> Create(std::string_view path, std::string_view content) {
    auto file = io_.files.Open(path, OpenMode::kCreateNew);
    EXPECT_OK(file);
    EXPECT_OK((*file)->Append({content}));
    return *std::move(file);
  }
  std::string Content(std::string_view path) {
    auto content = ReadWholeFile(io_.files, path, 1u << 20);
    return content.ok() ? *content : absl::StrCat("error: ", std::string(content.status().message()));
  }

  SimWorld world_{1};
  Io io_ = world_.io();
};

TEST_F(SimWorldTest, DropsBytesThatWereNotSynced) {
  auto file = Create("f", "synced");
  ASSERT_OK(file->Sync());
  ASSERT_OK(io_.files.SyncDirectory("."));
  ASSERT_OK(file->Append({" not"}));
  world_.Crash(1, CrashMode::kDrop);
  EXPECT_EQ(Content("f"), "synced");
  EXPECT_THAT(file->Append({"x"}), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(SimWorldTest, DropsNamesThatWereNotSynced) {
  ASSERT_OK(Create("f", "x")->Sync());
  world_.Crash(1, CrashMode::kDrop);
  EXPECT_THAT(io_.files.List("."), IsOkAndHolds(IsEmpty()));
}

TEST_F(SimWorldTest, BringsBackNamesWhoseRemovalWasNotSynced) {
  ASSERT_OK(Create("f", "x")->Sync());
  ASSERT_OK(io_.files.SyncDirectory("."));
  ASSERT_OK(io_.files.Unlink("f"));
  world_.Crash(1, CrashMode::kDrop);
  EXPECT_EQ(Content("f"), "x");
}

TEST_F(SimWorldTest, DropsATruncationThatWasNotSynced) {
  auto file = Create("f", "0123456789");
  ASSERT_OK(file->Sync());
  ASSERT_OK(io_.files.SyncDirectory("."));
  ASSERT_OK(file->Truncate(3));
  ASSERT_OK(file->Append({"xyz"}));
  world_.Crash(1, CrashMode::kDrop);
  EXPECT_EQ(Content("f"), "0123456789");
}

TEST_F(SimWorldTest, KeepsATruncationThatWasSynced) {
  auto file = Create("f", "0123456789");
  ASSERT_OK(file->Sync());
  ASSERT_OK(io_.files.SyncDirectory("."));
  ASSERT_OK(file->Truncate(3));
  ASSERT_OK(file->Append({"xyz"}));
  ASSERT_OK(file->Sync());
  world_.Crash(1, CrashMode::kDrop);
  EXPECT_EQ(Content("f"), "012xyz");
}

TEST_F(SimWorldTest, KeepsEverythingWhenOnlyTheProcessDied) {
  Create("f", "x");
  world_.Crash(1, CrashMode::kKeep);
  EXPECT_EQ(Content("f"), "x");
}

TEST_F(SimWorldTest, NeverLosesARenamedFile) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SimWorld world(seed);
    Io io = world.io();
    ASSERT_OK(io.files.MakeDirectories("a"));
    ASSERT_OK(io.files.MakeDirectories("b"));
    ASSERT_OK(WriteFileAtomically(io, "a/old", "x"));
    ASSERT_OK(io.files.Rename("a/old", "b/new"));
    if (seed % 3 == 1) {
      ASSERT_OK(io.files.SyncDirectory("a"));
    }
    if (seed % 3 == 2) {
      ASSERT_OK(io.files.SyncDirectory("b"));
    }
    world.Crash(seed, CrashMode::kTorn);
    auto a = io.files.List("a"), b = io.files.List("b");
    ASSERT_OK(a);
    ASSERT_OK(b);
    if (seed % 3 == 0) seen.insert(absl::StrCat(a->size(), "+", b->size()));
    if (seed % 3 == 1) {
      EXPECT_EQ(a->size(), 0u);  // and so the new name is there
    }
    if (seed % 3 != 0) {
      EXPECT_EQ(b->size(), 1u);
    }
    EXPECT_GE(a->size() + b->size(), 1u) << seed;
  }
  EXPECT_THAT(seen, ElementsAre("0+1", "1+0", "1+1"));
}

TEST_F(SimWorldTest, TearsWhatWasNotSyncedAndNothingElse) {
  std::set<size_t> sizes;
  bool zeros = false;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SimWorld world(seed);
    Io io = world.io();
    auto file = io.files.Open("f", OpenMode::kCreateNew);
    ASSERT_OK(file);
    ASSERT_OK((*file)->Append({"synced"}));
    ASSERT_OK((*file)->Sync());
    ASSERT_OK(io.files.SyncDirectory("."));
    ASSERT_OK((*file)->Append({"12345"}));
    world.Crash(seed, CrashMode::kTorn);
    auto content = ReadWholeFile(io.files, "f", 100);
    ASSERT_OK(content);
    EXPECT_EQ(content->substr(0, 6), "synced");
    sizes.insert(content->size());
    zeros |= content->find('\0') != std::string::npos;
  }
  EXPECT_THAT(sizes, ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_TRUE(zeros);
}

TEST_F(SimWorldTest, WritesFilesAtomicallyThroughEveryCrash) {
  uint64_t last = 0;
  {
    SimWorld world(1);
    Io io = world.io();
    ASSERT_OK(WriteFileAtomically(io, "f", "old"));
    ASSERT_OK(WriteFileAtomically(io, "f", "new content"));
    last = world.calls();
  }
  for (uint64_t call = 1; call <= last + 1; ++call) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SimWorld world(seed);
      Io io = world.io();
      world.PowerOffAtCall(call);
      absl::Status first = WriteFileAtomically(io, "f", "old");
      absl::Status second = first.ok() ? WriteFileAtomically(io, "f", "new content") : first;
      world.Crash(seed, CrashMode::kTorn);
      auto content = ReadWholeFile(io.files, "f", 100);
      if (second.ok()) {
        EXPECT_THAT(content, IsOkAndHolds(std::string("new content"))) << call << " " << seed;
      } else if (first.ok()) {
        ASSERT_OK(content) << call << " " << seed;
        EXPECT_TRUE(*content == "old" || *content == "new content") << call << " " << seed;
      } else if (content.ok()) {
        EXPECT_EQ(*content, "old") << call << " " << seed;
      }
    }
  }
}

TEST_F(SimWorldTest, FailsWhatItIsToldToFail) {
  auto file = Create("f", "");
  world_.FailCall(world_.calls() + 2, absl::UnavailableError("scripted"));
  EXPECT_OK(file->Append({"1"}));
  EXPECT_THAT(file->Append({"2"}), StatusIs(absl::StatusCode::kUnavailable, "scripted"));
  EXPECT_OK(file->Append({"3"}));
  world_.FailCall(world_.calls() + 1, absl::UnavailableError("scripted"), SimWorld::Effect::kDone);
  EXPECT_THAT(file->Append({"4"}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(Content("f"), "134");
  world_.LimitSpace(2);
  EXPECT_THAT(file->Append({"5678"}), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(Content("f"), "13456");
  world_.ClearFaults();
  EXPECT_OK(file->Append({"7"}));
  ASSERT_OK(world_.CorruptByte("f", 0, 0x01));
  EXPECT_EQ(Content("f"), "034567");
}

TEST_F(SimWorldTest, NeverSyncsAFileAgainOnceThatFailed) {
  auto file = Create("f", "x");
  world_.FailSyncs(1);
  EXPECT_THAT(file->Sync(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(file->Sync(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_OK(io_.files.SyncDirectory("."));
}

TEST_F(SimWorldTest, LetsTimePassWhenNobodyCanRun) {
  auto event = io_.threads.NewEvent();
  absl::Duration start = io_.clock.Monotonic();
  absl::Time wall = io_.clock.Wall();
  EXPECT_FALSE(event->WaitUntil(start + absl::Hours(1000)));
  EXPECT_GE(io_.clock.Monotonic(), start + absl::Hours(1000));
  EXPECT_GE(io_.clock.Wall(), wall + absl::Hours(1000));
  world_.SetWall(absl::UnixEpoch());
  EXPECT_LT(io_.clock.Wall(), absl::UnixEpoch() + absl::Seconds(1));
  EXPECT_GE(io_.clock.Monotonic(), start + absl::Hours(1000));
}

// What three threads wrote, in the order they came to it.
std::string Interleaving(uint64_t seed) {
  SimWorld world(seed);
  Io io = world.io();
  auto file = io.files.Open("f", OpenMode::kCreateNew);
  EXPECT_OK(file);
  {
    std::vector<std::unique_ptr<Thread>> threads;
    for (const char* letter : {"a", "b", "c"}) {
      threads.push_back(io.threads.Spawn(letter, [&, letter] {
        for (int i = 0; i < 5; ++i) EXPECT_OK((*file)->Append({letter}));
      }));
    }
  }
  auto content = ReadWholeFile(io.files, "f", 100);
  EXPECT_OK(content);
  return *content;
}

TEST(SimThreads, RunInAnOrderThatTheSeedChooses) {
  std::set<std::string> orders;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::string order = Interleaving(seed);
    EXPECT_EQ(order.size(), 15u);
    EXPECT_EQ(order, Interleaving(seed));
    orders.insert(order);
  }
  EXPECT_GT(orders.size(), 15u);
}

TEST(SimThreadsDeathTest, ReportADeadlock) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        SimWorld world(42);
        auto event = world.io().threads.NewEvent();
        event->WaitUntil(absl::InfiniteDuration());
      },
      "seed 42: deadlock");
}

TEST(SimThreadsDeathTest, RefuseAThreadOfTheMachine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        SimWorld world(42);
        std::thread([&] { (void)world.io().files.List("."); }).join();
      },
      "none of the simulation's");
}

}  // namespace
}  // namespace holdfast
