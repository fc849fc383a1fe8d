#include "core/io/io_conformance.h"

#include <atomic>
#include <set>

#include "core/base/status_testing.h"

namespace holdfast {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

absl::Status IoConformance::Write(std::string_view name, std::string_view content) {
  ASSIGN_OR_RETURN(auto file, io_.files.Open(Path(name), OpenMode::kCreateNew));
  RETURN_IF_ERROR(file->Append({content}));
  return file->Sync();
}

absl::StatusOr<std::string> IoConformance::Read(std::string_view name) {
  return ReadWholeFile(io_.files, Path(name), 1u << 26);
}

namespace {

TEST_P(IoConformance, ReadsWhatWasAppended) {
  ASSERT_OK_AND_ASSIGN(auto file, io_.files.Open(Path("f"), OpenMode::kCreateNew));
  EXPECT_OK(file->Append({"one", "", "two"}));
  EXPECT_OK(file->Append({}));
  EXPECT_OK(file->Append({"", ""}));
  EXPECT_OK(file->Append({"three"}));
  file->StartWriteback();
  EXPECT_OK(file->Sync());
  EXPECT_THAT(file->Size(), IsOkAndHolds(11u));
  char buffer[20];
  EXPECT_THAT(file->ReadAt(3, absl::MakeSpan(buffer, 5)), IsOkAndHolds(5u));
  EXPECT_EQ(std::string_view(buffer, 5), "twoth");
  EXPECT_THAT(file->ReadAt(6, absl::MakeSpan(buffer)), IsOkAndHolds(5u));
  EXPECT_EQ(std::string_view(buffer, 5), "three");
  EXPECT_THAT(file->ReadAt(11, absl::MakeSpan(buffer)), IsOkAndHolds(0u));
  EXPECT_THAT(file->ReadAt(1000, absl::MakeSpan(buffer)), IsOkAndHolds(0u));
  EXPECT_THAT(file->ReadAt(0, absl::Span<char>()), IsOkAndHolds(0u));
}

TEST_P(IoConformance, AppendsManyPartsInOrder) {
  std::vector<std::string> strings;
  std::string all;
  for (int i = 0; i < 3000; ++i) {
    strings.push_back(std::string(i % 7, static_cast<char>('a' + i % 26)));
    all += strings.back();
  }
  std::vector<std::string_view> parts(strings.begin(), strings.end());
  ASSERT_OK_AND_ASSIGN(auto file, io_.files.Open(Path("f"), OpenMode::kCreateNew));
  EXPECT_OK(file->Append(parts));
  EXPECT_THAT(Read("f"), IsOkAndHolds(all));
}

TEST_P(IoConformance, AppendsMoreThanOneWriteTakes) {
  std::string big(5u << 20, 'b');
  ASSERT_OK_AND_ASSIGN(auto file, io_.files.Open(Path("f"), OpenMode::kCreateNew));
  EXPECT_OK(file->Append({"head", big, "tail"}));
  ASSERT_OK_AND_ASSIGN(std::string back, Read("f"));
  EXPECT_TRUE(back == "head" + big + "tail");
}

TEST_P(IoConformance, OpensAsAsked) {
  EXPECT_THAT(io_.files.Open(Path("f"), OpenMode::kRead), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(io_.files.Open(Path("f"), OpenMode::kReadNoFollow), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(io_.files.Open(Path("f"), OpenMode::kAppendExisting), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(io_.files.Open(Path("no/f"), OpenMode::kCreateNew), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(Write("f", "1"));
  EXPECT_THAT(io_.files.Open(Path("f"), OpenMode::kCreateNew), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(io_.files.Open(Path("f/g"), OpenMode::kRead), StatusIs(absl::StatusCode::kNotFound));
  {
    ASSERT_OK_AND_ASSIGN(auto file, io_.files.Open(Path("f"), OpenMode::kAppendExisting));
    EXPECT_OK(file->Append({"2"}));
  }
  {
    ASSERT_OK_AND_ASSIGN(auto file, io_.files.Open(Path("f"), OpenMode::kReadNoFollow));
    EXPECT_FALSE(file->Append({"3"}).ok());
  }
  EXPECT_THAT(Read("f"), IsOkAndHolds(std::string("12")));
  ASSERT_OK(io_.files.MakeDirectories(Path("d")));
  EXPECT_THAT(io_.files.Open(Path("d"), OpenMode::kRead), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_P(IoConformance, AppendsBehindATruncation) {
  ASSERT_OK_AND_ASSIGN(auto file, io_.files.Open(Path("f"), OpenMode::kCreateNew));
  EXPECT_OK(file->Append({"0123456789"}));
  EXPECT_OK(file->Truncate(4));
  EXPECT_THAT(file->Size(), IsOkAndHolds(4u));
  EXPECT_OK(file->Append({"x"}));
  EXPECT_OK(file->Sync());
  EXPECT_THAT(Read("f"), IsOkAndHolds(std::string("0123x")));
}

TEST_P(IoConformance, KeepsAnUnlinkedFileReadableWhileOpen) {
  ASSERT_OK(Write("f", "content"));
  ASSERT_OK_AND_ASSIGN(auto file, io_.files.Open(Path("f"), OpenMode::kRead));
  EXPECT_OK(io_.files.Unlink(Path("f")));
  EXPECT_THAT(io_.files.Unlink(Path("f")), StatusIs(absl::StatusCode::kNotFound));
  char buffer[7];
  EXPECT_THAT(file->ReadAt(0, absl::MakeSpan(buffer)), IsOkAndHolds(7u));
}

TEST_P(IoConformance, RenamesOverAndNotOver) {
  ASSERT_OK(Write("a", "a"));
  ASSERT_OK(Write("b", "b"));
  EXPECT_THAT(io_.files.RenameNoReplace(Path("a"), Path("b")), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(Read("b"), IsOkAndHolds(std::string("b")));
  EXPECT_OK(io_.files.RenameNoReplace(Path("a"), Path("c")));
  EXPECT_THAT(Read("a"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(io_.files.Rename(Path("c"), Path("b")));
  EXPECT_THAT(Read("b"), IsOkAndHolds(std::string("a")));
  EXPECT_THAT(io_.files.Rename(Path("a"), Path("x")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(io_.files.RenameNoReplace(Path("b"), Path("no/x")), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(io_.files.MakeDirectories(Path("d")));
  EXPECT_THAT(io_.files.Rename(Path("b"), Path("d")), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_P(IoConformance, MakesAndRemovesDirectories) {
  EXPECT_OK(io_.files.MakeDirectories(Path("x/y/z")));
  EXPECT_OK(io_.files.MakeDirectories(Path("x/y/z")));
  EXPECT_OK(io_.files.MakeDirectories(Path("x")));
  ASSERT_OK(Write("x/f", ""));
  EXPECT_THAT(io_.files.MakeDirectories(Path("x/f")), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_FALSE(io_.files.MakeDirectories(Path("x/f/g")).ok());
  EXPECT_THAT(io_.files.RemoveDirectory(Path("x/y")), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(io_.files.RemoveDirectory(Path("x/y/z")));
  EXPECT_OK(io_.files.RemoveDirectory(Path("x/y")));
  EXPECT_THAT(io_.files.RemoveDirectory(Path("x/y")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(io_.files.List(Path("x")), IsOkAndHolds(ElementsAre("f")));
}

TEST_P(IoConformance, ListsInByteOrder) {
  EXPECT_THAT(io_.files.List(Path("")), IsOkAndHolds(IsEmpty()));
  for (std::string_view name : {"b", "a.b", "a-", "B", "a", "\xff"}) ASSERT_OK(Write(name, ""));
  ASSERT_OK(io_.files.MakeDirectories(Path("a0")));
  EXPECT_THAT(io_.files.List(Path("")), IsOkAndHolds(ElementsAre("B", "a", "a-", "a.b", "a0", "b", "\xff")));
  EXPECT_THAT(io_.files.List(Path("none")), StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(IoConformance, TellsFilesFromDirectories) {
  ASSERT_OK(Write("f", "12345"));
  ASSERT_OK_AND_ASSIGN(FileInfo file, io_.files.Stat(Path("f")));
  EXPECT_EQ(file.size, 5u);
  EXPECT_TRUE(file.is_regular);
  EXPECT_FALSE(file.is_directory);
  EXPECT_LT(absl::AbsDuration(file.modified - io_.clock.Wall()), absl::Minutes(10));
  ASSERT_OK_AND_ASSIGN(FileInfo directory, io_.files.StatNoFollow(Path("")));
  EXPECT_TRUE(directory.is_directory);
  EXPECT_FALSE(directory.is_regular);
  EXPECT_THAT(io_.files.Stat(Path("g")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(io_.files.StatNoFollow(Path("g")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(io_.files.SyncDirectory(Path("g")), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(io_.files.SyncDirectory(Path("")));
}

TEST_P(IoConformance, RefusesANameThatIsTooLong) {
  EXPECT_THAT(io_.files.Open(Path(std::string(256, 'x')), OpenMode::kCreateNew),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(IoConformance, ReadsWholeFilesUpToALimit) {
  ASSERT_OK(Write("f", "12345"));
  ASSERT_OK(Write("empty", ""));
  ASSERT_OK(Write("big", std::string(100'000, 'x')));
  EXPECT_THAT(ReadWholeFile(io_.files, Path("f"), 5), IsOkAndHolds(std::string("12345")));
  EXPECT_THAT(ReadWholeFile(io_.files, Path("f"), 4), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(ReadWholeFile(io_.files, Path("empty"), 0), IsOkAndHolds(std::string()));
  EXPECT_THAT(ReadWholeFile(io_.files, Path("big"), 100'000), IsOkAndHolds(std::string(100'000, 'x')));
  EXPECT_THAT(ReadWholeFile(io_.files, Path("big"), 99'999), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_P(IoConformance, WritesFilesAtomically) {
  EXPECT_OK(WriteFileAtomically(io_, Path("f"), "one"));
  EXPECT_OK(WriteFileAtomically(io_, Path("f"), "two"));
  EXPECT_THAT(Read("f"), IsOkAndHolds(std::string("two")));
  EXPECT_THAT(io_.files.List(Path("")), IsOkAndHolds(ElementsAre("f")));
  EXPECT_THAT(WriteFileAtomically(io_, Path("no/f"), "x"), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(io_.files.MakeDirectories(Path("d")));
  EXPECT_FALSE(WriteFileAtomically(io_, Path("d"), "x").ok());
  EXPECT_THAT(io_.files.List(Path("")), IsOkAndHolds(ElementsAre("d", "f")));
}

TEST_P(IoConformance, HasAClockThatDoesNotGoBack) {
  absl::Duration last = io_.clock.Monotonic();
  for (int i = 0; i < 1000; ++i) {
    absl::Duration now = io_.clock.Monotonic();
    EXPECT_GE(now, last);
    last = now;
  }
  EXPECT_GT(io_.clock.Wall(), absl::FromUnixSeconds(1'700'000'000));
}

TEST_P(IoConformance, HasRandomnessThatDoesNotRepeat) {
  std::vector<uint8_t> a(1000), b(1000);
  io_.random.Fill(absl::MakeSpan(a));
  io_.random.Fill(absl::MakeSpan(b));
  EXPECT_NE(a, b);
  EXPECT_GT(std::set<uint8_t>(a.begin(), a.end()).size(), 200u);
  io_.random.Fill(absl::Span<uint8_t>());
}

TEST_P(IoConformance, WaitsUntilNotifiedOrLate) {
  auto event = io_.threads.NewEvent();
  absl::Duration before = io_.clock.Monotonic();
  EXPECT_FALSE(event->WaitUntil(before));
  EXPECT_FALSE(event->WaitUntil(before + absl::Milliseconds(20)));
  EXPECT_GE(io_.clock.Monotonic(), before + absl::Milliseconds(20));
  event->Notify();
  EXPECT_TRUE(event->WaitUntil(before));
  EXPECT_TRUE(event->WaitUntil(absl::InfiniteDuration()));
  event->Reset();
  EXPECT_FALSE(event->WaitUntil(io_.clock.Monotonic()));
}

TEST_P(IoConformance, WakesEveryWaiter) {
  auto go = io_.threads.NewEvent();
  std::atomic<int> woken{0};
  {
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < 5; ++i) {
      threads.push_back(io_.threads.Spawn("a waiter with a long name", [&] {
        EXPECT_TRUE(go->WaitUntil(absl::InfiniteDuration()));
        ++woken;
      }));
    }
    go->Notify();
  }
  EXPECT_EQ(woken, 5);
}

TEST_P(IoConformance, PassesABallBetweenThreads) {
  auto ping = io_.threads.NewEvent();
  auto pong = io_.threads.NewEvent();
  int count = 0;
  auto other = io_.threads.Spawn("other", [&] {
    for (int i = 0; i < 50; ++i) {
      ping->WaitUntil(absl::InfiniteDuration());
      ping->Reset();
      ++count;
      pong->Notify();
    }
  });
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(count, i);
    ping->Notify();
    EXPECT_TRUE(pong->WaitUntil(io_.clock.Monotonic() + absl::Seconds(60)));
    pong->Reset();
  }
  other.reset();
  EXPECT_EQ(count, 50);
}

TEST_P(IoConformance, ReadsBesideAppends) {
  ASSERT_OK_AND_ASSIGN(auto file, io_.files.Open(Path("f"), OpenMode::kCreateNew));
  std::atomic<int> written{0};
  auto writer = io_.threads.Spawn("writer", [&] {
    for (int i = 0; i < 200; ++i) {
      EXPECT_OK(file->Append({std::string(10, static_cast<char>('a' + i % 26))}));
      ++written;
    }
  });
  for (int i = 0; i < 200; ++i) {
    int n = written;
    if (n == 0) {
      EXPECT_OK(io_.files.Stat(Path("f")));  // lets the writer run
      continue;
    }
    char buffer[10];
    EXPECT_THAT(file->ReadAt(10 * (n - 1), absl::MakeSpan(buffer)), IsOkAndHolds(10u));
    EXPECT_EQ(std::string(buffer, 10), std::string(10, static_cast<char>('a' + (n - 1) % 26)));
  }
  writer.reset();
  EXPECT_THAT(file->Size(), IsOkAndHolds(2000u));
}

}  // namespace
}  // namespace holdfast
