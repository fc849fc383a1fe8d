#include "client/scan/scanner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/base/status_testing.h"
#include "core/tree/entry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#ifndef HF_HUGE_DIRECTORY_ENTRIES
#define HF_HUGE_DIRECTORY_ENTRIES 60000
#endif

namespace holdfast {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class Recorder : public ScanObserver {
 public:
  void OnError(const SourceError& e) override {
    errors.push_back(e);
    error_paths[e.path] = e.error_number;
  }
  void OnSkipped(std::string_view path, SkipReason reason) override { skipped[std::string(path)] = reason; }
  void OnVanished(std::string_view path) override { vanished.insert(std::string(path)); }
  std::vector<SourceError> errors;
  std::map<std::string, int> error_paths;
  std::map<std::string, SkipReason> skipped;
  std::set<std::string> vanished;
};

// Everything a walk gave; keys as in the format.
struct Walk {
  absl::Status status;
  std::vector<std::string> keys;
  std::vector<std::string> paths;
  std::map<std::string, SourceEntry> entries;  // by relative path
  Recorder seen;
};

class ScannerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/scan-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    options_.root = root_;
    options_.spill_directory = ::testing::TempDir();
  }
  void TearDown() override { EXPECT_EQ(std::system(("rm -rf '" + root_ + "'").c_str()), 0); }

  std::string Path(const std::string& relative) const { return root_ + "/" + relative; }
  void Mkdir(const std::string& relative) { ASSERT_EQ(mkdir(Path(relative).c_str(), 0755), 0) << relative; }
  void Write(const std::string& relative, std::string_view text = "x") {
    int fd = open(Path(relative).c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0644);
    ASSERT_GE(fd, 0) << relative;
    ASSERT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(fd);
  }
  void Symlink(const std::string& target, const std::string& relative) {
    ASSERT_EQ(symlink(target.c_str(), Path(relative).c_str()), 0);
  }

  std::unique_ptr<Scanner> Start(ScanObserver* observer = nullptr) {
    auto scanner = fs_->Scan(options_, observer);
    EXPECT_OK(scanner);
    return *std::move(scanner);
  }
  void WalkAll(Walk* walk) {
    std::unique_ptr<Scanner> scanner = Start(&walk->seen);
    SourceEntry e;
    while (true) {
      auto more = scanner->Next(&e);
      if (!more.ok()) walk->status = more.status();
      if (!more.ok() || !*more) break;
      walk->keys.push_back(EntryKey(e.directory->components(), e.name));
      walk->paths.push_back(e.directory->RelativePath(e.name));
      walk->entries[walk->paths.back()] = e;
    }
    EXPECT_EQ(scanner->statistics().entries, walk->paths.size());
    EXPECT_EQ(scanner->statistics().errors, walk->seen.errors.size());
  }

  const std::unique_ptr<SourceFs> fs_ = NewPosixSourceFs();
  std::string root_;
  ScanOptions options_;
};

// --- Order -----------------------------------------------------------------------------------------------------------

void NaiveKeys(const std::string& path, Components* components, std::vector<std::string>* keys) {
  DIR* dir = opendir(path.c_str());
  ASSERT_NE(dir, nullptr);
  while (dirent* d = readdir(dir)) {
    std::string name = d->d_name;
    if (name == "." || name == "..") continue;
    keys->push_back(EntryKey(*components, name));
    if (d->d_type == DT_DIR) {
      components->push_back(name);
      NaiveKeys(path + "/" + name, components, keys);
      components->pop_back();
    }
  }
  closedir(dir);
}

class ScannerOrderTest : public ScannerTest, public ::testing::WithParamInterface<int> {
 protected:
  void MakeTree(const std::string& relative, int depth) {
    int n = std::uniform_int_distribution<int>(0, 8)(random_);
    for (int i = 0; i < n; ++i) {
      std::string name(1 + random_() % 4, 'x');
      for (char& c : name) c = "\x01\n !.-0aAz\x7f\xff\xc3"[random_() % 13];
      if (name == "." || name == "..") continue;
      std::string child = relative.empty() ? name : relative + "/" + name;
      struct stat st;
      if (lstat(Path(child).c_str(), &st) == 0) continue;
      if (depth < 5 && random_() % 2 == 0) {
        Mkdir(child);
        MakeTree(child, depth + 1);
      } else {
        Write(child);
      }
    }
  }
  std::mt19937 random_;
};

TEST_P(ScannerOrderTest, IsTheKeyOrderOnRandomTrees) {
  random_.seed(GetParam());
  MakeTree("", 0);
  for (int i = 0; i < 8; ++i) {  // a root with many subdirectories
    std::string name = std::string("d") + static_cast<char>(1 + i * 4);
    Mkdir(name);
    MakeTree(name, 1);
  }
  Components components;
  std::vector<std::string> expected = {EntryKey({}, "")};
  NaiveKeys(root_, &components, &expected);
  std::sort(expected.begin(), expected.end());
  for (uint32_t threads : {0u, 1u, 2u, 4u}) {
    for (uint64_t budget : {uint64_t{1}, uint64_t{3000}, uint64_t{4} << 20}) {
      options_.prefetch_threads = threads;
      options_.prefetch_bytes_max = budget;
      Walk walk;
      WalkAll(&walk);
      ASSERT_OK(walk.status);
      ASSERT_EQ(walk.keys, expected) << threads << " threads, " << budget << " bytes";
      EXPECT_THAT(walk.seen.errors, IsEmpty());
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, ScannerOrderTest, ::testing::Range(1, 9));

TEST_F(ScannerTest, AHugeDirectoryComesInOrderAndInBoundedMemory) {
  const int count = HF_HUGE_DIRECTORY_ENTRIES;
  Mkdir("huge");
  int dir = open(Path("huge").c_str(), O_RDONLY | O_DIRECTORY);
  std::vector<std::string> expected;
  for (int i = 0; i < count; ++i) {
    std::string name = "entry-with-a-long-name-" + std::to_string(i * 2654435761u);
    if (i % 1000 == 0) {
      ASSERT_EQ(mkdirat(dir, name.c_str(), 0755), 0);
      expected.push_back(EntryKey({"huge", name}, "inside"));
      int fd = openat(dir, (name + "/inside").c_str(), O_CREAT | O_WRONLY, 0644);
      ASSERT_GE(fd, 0);
      close(fd);
    } else {
      ASSERT_EQ(mknodat(dir, name.c_str(), S_IFREG | 0644, 0), 0);
    }
    expected.push_back(EntryKey({"huge"}, name));
  }
  close(dir);
  expected.push_back(EntryKey({}, ""));
  expected.push_back(EntryKey({}, "huge"));
  std::sort(expected.begin(), expected.end());
  options_.names_bytes_max = 1 << 20;
  for (uint32_t threads : {0u, 2u}) {
    options_.prefetch_threads = threads;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    std::unique_ptr<Scanner> scanner = Start();
    SourceEntry e;
    size_t n = 0;
    while (true) {
      ASSERT_OK_AND_ASSIGN(bool more, scanner->Next(&e));
      if (!more) break;
      ASSERT_LT(n, expected.size());
      ASSERT_EQ(EntryKey(e.directory->components(), e.name), expected[n]);
      ++n;
    }
    EXPECT_EQ(n, expected.size());
    getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which keep what is freed
    EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 12 << 10) << "KiB";
#endif
  }
}

TEST_F(ScannerTest, StopsEarlyWithoutWaiting) {
  for (int i = 0; i < 50; ++i) {
    Mkdir(std::to_string(i));
    Mkdir(std::to_string(i) + "/x");
  }
  for (int stop = 0; stop < 20; ++stop) {
    std::unique_ptr<Scanner> scanner = Start();
    SourceEntry e;
    for (int i = 0; i < stop; ++i) ASSERT_OK(scanner->Next(&e));
  }
}

// --- Roots -----------------------------------------------------------------------------------------------------------

TEST_F(ScannerTest, APlainFileAsRootIsTheOnlyEntry) {
  Write("file", "contents");
  Symlink("file", "link");
  for (const char* name : {"file", "link"}) {
    options_.root = Path(name);
    Walk walk;
    WalkAll(&walk);
    ASSERT_THAT(walk.paths, ElementsAre(""));
    SourceEntry& e = walk.entries[""];
    EXPECT_EQ(e.stat.type, EntryType::kFile);
    EXPECT_EQ(e.stat.size, 8u);
    ASSERT_OK_AND_ASSIGN(auto file, e.directory->OpenFile(""));
    char buffer[20];
    ASSERT_OK_AND_ASSIGN(size_t n, file->ReadAt(0, buffer, sizeof(buffer)));
    EXPECT_EQ(std::string(buffer, n), "contents");
    EXPECT_OK(e.directory->ReadXattrs(""));
    EXPECT_EQ(e.directory->Stat("")->identity, e.stat.identity);
  }
}

TEST_F(ScannerTest, AMissingRootIsAnError) {
  options_.root = Path("missing");
  auto scanner = fs_->Scan(options_, nullptr);
  EXPECT_THAT(scanner, StatusIs(absl::StatusCode::kNotFound, "missing"));
  EXPECT_EQ(SourceErrno(scanner.status()), ENOENT);
}

// --- Entries and handles ---------------------------------------------------------------------------------------------

TEST_F(ScannerTest, TellsEveryTypeAndItsAttributes) {
  Write("file", "12345");
  ASSERT_EQ(chmod(Path("file").c_str(), 04751), 0);
  timespec times[2] = {{1, 2}, {-5, 123456789}};
  ASSERT_EQ(utimensat(AT_FDCWD, Path("file").c_str(), times, 0), 0);
  ASSERT_EQ(link(Path("file").c_str(), Path("hard").c_str()), 0);
  Symlink(std::string(300, 't'), "link");
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  int here = open(".", O_PATH | O_DIRECTORY);
  ASSERT_EQ(chdir(root_.c_str()), 0);  // a socket's path is short
  std::strcpy(address.sun_path, "socket");
  ASSERT_EQ(bind(s, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  close(s);
  ASSERT_EQ(fchdir(here), 0);
  close(here);
  bool devices = mknod(Path("null").c_str(), S_IFCHR | 0600, makedev(1, 300)) == 0;
  Walk walk;
  WalkAll(&walk);
  auto& e = walk.entries;
  EXPECT_EQ(e[""].stat.type, EntryType::kDirectory);
  const SourceStat& file = e["file"].stat;
  struct stat st;
  ASSERT_EQ(lstat(Path("file").c_str(), &st), 0);
  EXPECT_EQ(file.type, EntryType::kFile);
  EXPECT_EQ(file.mode, 04751u);
  EXPECT_EQ(file.size, 5u);
  EXPECT_EQ(file.link_count, 2u);
  EXPECT_EQ(file.uid, getuid());
  EXPECT_EQ(file.mtime, (Timestamp{st.st_mtim.tv_sec, static_cast<uint32_t>(st.st_mtim.tv_nsec)}));
  EXPECT_EQ(file.ctime, (Timestamp{st.st_ctim.tv_sec, static_cast<uint32_t>(st.st_ctim.tv_nsec)}));
  EXPECT_EQ(file.identity, (FileIdentity{st.st_dev, st.st_ino}));
  EXPECT_EQ(file.blocks, static_cast<uint64_t>(st.st_blocks));
  EXPECT_EQ(e["hard"].stat.identity, file.identity);
  EXPECT_EQ(e["link"].stat.type, EntryType::kSymlink);
  EXPECT_EQ(*e["link"].directory->ReadLink("link"), std::string(300, 't'));
  EXPECT_EQ(e["fifo"].stat.type, EntryType::kFifo);
  EXPECT_EQ(e["socket"].stat.type, EntryType::kSocket);
  if (devices) {
    EXPECT_EQ(e["null"].stat.type, EntryType::kCharDevice);
    EXPECT_EQ(e["null"].stat.device_major, 1u);
    EXPECT_EQ(e["null"].stat.device_minor, 300u);
  }
  EXPECT_EQ(*e["file"].directory->Stat("file"), file);
}

TEST_F(ScannerTest, OpensOnlyRegularFiles) {
  for (const char* name : {"a", "b", "c"}) Write(name);
  Mkdir("outside");
  Write("outside/secret");
  Walk walk;
  WalkAll(&walk);
  auto directory = walk.entries["a"].directory;
  for (const char* name : {"a", "b", "c"}) ASSERT_EQ(unlink(Path(name).c_str()), 0);
  ASSERT_EQ(mkfifo(Path("a").c_str(), 0600), 0);  // would block
  Symlink("outside/secret", "b");
  EXPECT_THAT(directory->OpenFile("a").status(), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(directory->OpenFile("b").status(), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(directory->OpenFile("c").status(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(directory->OpenFile("outside").status(), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(directory->ReadLink("a").status(), StatusIs(absl::StatusCode::kAborted));
}

TEST_F(ScannerTest, FindsHoles) {
  int fd = open(Path("sparse").c_str(), O_CREAT | O_WRONLY, 0644);
  ASSERT_EQ(ftruncate(fd, 8 << 20), 0);
  ASSERT_EQ(pwrite(fd, "x", 1, 4 << 20), 1);
  close(fd);
  Write("empty", "");
  Walk walk;
  WalkAll(&walk);
  ASSERT_OK_AND_ASSIGN(auto file, walk.entries["sparse"].directory->OpenFile("sparse"));
  EXPECT_EQ(file->OpenedStat().size, 8u << 20);
  uint64_t at = 0, data = 0;
  while (true) {
    ASSERT_OK_AND_ASSIGN(auto range, file->NextData(at));
    if (!range.has_value()) break;
    EXPECT_LT(range->begin, range->end);
    EXPECT_LE(range->end, 8u << 20);
    data += range->end - range->begin;
    at = range->end;
  }
  EXPECT_GT(data, 0u);
  ASSERT_OK_AND_ASSIGN(auto empty, walk.entries["empty"].directory->OpenFile("empty"));
  EXPECT_FALSE(empty->NextData(0)->has_value());
}

TEST_F(ScannerTest, ReadsExtendedAttributesOfEveryType) {
  Write("file");
  Mkdir("dir");
  Symlink("file", "link");
  if (lsetxattr(Path("file").c_str(), "user.z", "1", 1, 0) != 0) GTEST_SKIP() << "no extended attributes here";
  std::string large(3000, 'v');
  ASSERT_EQ(lsetxattr(Path("file").c_str(), "user.a", large.data(), large.size(), 0), 0);
  ASSERT_EQ(lsetxattr(Path("file").c_str(), "user.empty", "", 0, 0), 0);
  ASSERT_EQ(lsetxattr(Path("dir").c_str(), "user.d", "2", 1, 0), 0);
  ASSERT_EQ(lsetxattr(root_.c_str(), "user.root", "3", 1, 0), 0);
  bool trusted = lsetxattr(Path("link").c_str(), "trusted.l", "4", 1, 0) == 0;
  Walk walk;
  WalkAll(&walk);
  auto directory = walk.entries["file"].directory;
  ASSERT_OK_AND_ASSIGN(auto of_file, directory->ReadXattrs("file"));
  EXPECT_THAT(of_file, ElementsAre(Xattr{"user.a", large}, Xattr{"user.empty", ""}, Xattr{"user.z", "1"}));
  EXPECT_EQ(*(*directory->OpenFile("file"))->ReadXattrs(), of_file);
  EXPECT_THAT(*directory->ReadXattrs("dir"), ElementsAre(Xattr{"user.d", "2"}));
  EXPECT_THAT(*directory->ReadXattrs(""), ElementsAre(Xattr{"user.root", "3"}));
  if (trusted) {
    EXPECT_THAT(*directory->ReadXattrs("link"), ElementsAre(Xattr{"trusted.l", "4"}));
  } else {
    EXPECT_THAT(*directory->ReadXattrs("link"), IsEmpty());
  }
  EXPECT_THAT(directory->ReadXattrs("missing").status(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ScannerTest, PathsLongerThanPathMaxWork) {
  // 700 levels: more than the process keeps open. The longest name, and bytes that are no text.
  const int levels = 700;
  const std::string leaf = std::string(250, 'n') + "\n\xff\xfe\xc3";
  int fd = open(root_.c_str(), O_RDONLY | O_DIRECTORY);
  for (int i = 0; i < levels; ++i) {
    std::string name = "level-" + std::to_string(i);
    ASSERT_EQ(mkdirat(fd, name.c_str(), 0755), 0);
    int next = openat(fd, name.c_str(), O_RDONLY | O_DIRECTORY);
    close(fd);
    fd = next;
    int file = openat(fd, leaf.c_str(), O_CREAT | O_WRONLY, 0644);
    ASSERT_EQ(write(file, "deep", 4), 4);
    close(file);
  }
  ASSERT_EQ(symlinkat("target", fd, "link"), 0);
  close(fd);
  for (uint32_t threads : {0u, 2u}) {
    options_.prefetch_threads = threads;
    std::vector<std::shared_ptr<SourceDirectory>> handles;
    {
      std::unique_ptr<Scanner> scanner = Start();
      SourceEntry e;
      int entries = 0;
      while (true) {
        ASSERT_OK_AND_ASSIGN(bool more, scanner->Next(&e));
        if (!more) break;
        ++entries;
        if (e.name == leaf) handles.push_back(e.directory);
        if (e.name == "link") {
          EXPECT_EQ(*e.directory->ReadLink("link"), "target");
        }
      }
      EXPECT_EQ(entries, 1 + 2 * levels + 1);
    }
    ASSERT_EQ(handles.size(), static_cast<size_t>(levels));
    EXPECT_GT(handles.back()->RelativePath(leaf).size(), static_cast<size_t>(PATH_MAX));
    EXPECT_EQ(handles.back()->components().size(), static_cast<size_t>(levels));
    // Two threads in opposite directions: everything is evicted and opened again, again and again.
    auto read_all = [&](bool backwards) {
      for (int i = 0; i < levels; ++i) {
        auto& d = handles[backwards ? levels - 1 - i : i];
        auto file = d->OpenFile(leaf);
        ASSERT_OK(file);
        char buffer[8];
        EXPECT_THAT((*file)->ReadAt(0, buffer, sizeof(buffer)), IsOkAndHolds(4u));
        EXPECT_OK(d->ReadXattrs(leaf));
      }
    };
    std::thread other([&] { read_all(true); });
    read_all(false);
    other.join();
    int open_descriptors = 0;
    DIR* dir = opendir("/proc/self/fd");
    while (dir != nullptr && readdir(dir) != nullptr) ++open_descriptors;
    closedir(dir);
    EXPECT_LT(open_descriptors, 512 + 50);
  }
}

// --- Races and errors ------------------------------------------------------------------------------------------------

TEST_F(ScannerTest, ADirectorySwappedForALinkIsNotFollowed) {
  Mkdir("a");
  Mkdir("b");
  Mkdir("c");
  Mkdir("target");
  Write("target/secret");
  options_.prefetch_threads = 0;
  Recorder seen;
  std::unique_ptr<Scanner> scanner = Start(&seen);
  SourceEntry e;
  for (int i = 0; i < 5; ++i) ASSERT_OK(scanner->Next(&e));  // the root and what it lists
  for (const char* name : {"a", "b", "c"}) ASSERT_EQ(rmdir(Path(name).c_str()), 0);
  Symlink("target", "a");
  Mkdir("spare");  // takes an inode number that b may have had
  Mkdir("b");
  Write("b/other");
  std::vector<std::string> rest;
  while (true) {
    ASSERT_OK_AND_ASSIGN(bool more, scanner->Next(&e));
    if (!more) break;
    rest.push_back(e.directory->RelativePath(e.name));
  }
  EXPECT_EQ(seen.error_paths.count("a"), 1u);
  EXPECT_THAT(seen.vanished, ElementsAre("c"));
  EXPECT_THAT(rest, Contains("target/secret"));
  EXPECT_THAT(rest, Not(Contains("a/secret")));
}

TEST_F(ScannerTest, AHandleRefusesADirectoryThatWasReplaced) {
  Mkdir("a");
  Write("a/file");
  Mkdir("evil");
  Write("evil/file");
  for (int i = 0; i < 600; ++i) {
    Mkdir("other-" + std::to_string(i));
    Write("other-" + std::to_string(i) + "/x");
  }
  Walk walk;
  WalkAll(&walk);
  auto directory = walk.entries["a/file"].directory;
  auto evict = [&] {
    for (int i = 0; i < 600; ++i) {
      std::string path = "other-" + std::to_string(i) + "/x";
      ASSERT_OK(walk.entries[path].directory->OpenFile("x"));
    }
  };
  ASSERT_OK(directory->OpenFile("file"));
  evict();
  ASSERT_EQ(rename(Path("a").c_str(), Path("was-a").c_str()), 0);
  Symlink("evil", "a");
  EXPECT_THAT(directory->OpenFile("file").status(), StatusIs(absl::StatusCode::kAborted));
  ASSERT_EQ(unlink(Path("a").c_str()), 0);
  EXPECT_THAT(directory->OpenFile("file").status(), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_EQ(rename(Path("evil").c_str(), Path("a").c_str()), 0);
  EXPECT_THAT(directory->OpenFile("file").status(), StatusIs(absl::StatusCode::kAborted));
  ASSERT_EQ(rename(Path("a").c_str(), Path("evil").c_str()), 0);
  ASSERT_EQ(rename(Path("was-a").c_str(), Path("a").c_str()), 0);
  EXPECT_OK(directory->OpenFile("file"));
}

TEST_F(ScannerTest, ChangesDuringTheWalkNeverBreakIt) {
  for (int i = 0; i < 200; ++i) {
    Mkdir("d" + std::to_string(i));
    Write("d" + std::to_string(i) + "/f");
  }
  std::atomic<bool> stop{false};
  std::thread vandal([&] {
    std::mt19937 random(1);
    while (!stop) {
      std::string d = Path("d" + std::to_string(random() % 200));
      if (random() % 2 == 0) {
        (void)unlink((d + "/f").c_str());
        (void)(rmdir(d.c_str()) == 0 && symlink("/", d.c_str()));
      } else {
        (void)unlink(d.c_str());
        (void)mkdir(d.c_str(), 0755);
        close(open((d + "/f").c_str(), O_CREAT | O_WRONLY, 0644));
      }
    }
  });
  for (int round = 0; round < 30; ++round) {
    Walk walk;
    WalkAll(&walk);
    EXPECT_OK(walk.status);
    EXPECT_TRUE(std::is_sorted(walk.keys.begin(), walk.keys.end()));
    for (const std::string& p : walk.paths) {
      EXPECT_TRUE(std::count(p.begin(), p.end(), '/') == 0 || p.ends_with("/f")) << "left the tree: " << p;
    }
  }
  stop = true;
  vandal.join();
}

// As another user, because root may read everything.
TEST(ScannerWithoutPrivileges, ReportsUnreadableDirectoriesAndGoesOn) {
  char base[] = "/tmp/holdfast-scan-XXXXXX";
  ASSERT_NE(mkdtemp(base), nullptr);
  std::string root = base;
  const bool was_root = geteuid() == 0;
  ASSERT_EQ(chmod(base, 0755), 0);
  for (const char* d : {"/closed", "/names-only", "/open"}) {
    ASSERT_EQ(mkdir((root + d).c_str(), 0755), 0);
    close(open((root + d + "/f").c_str(), O_CREAT | O_WRONLY, 0644));
  }
  close(open((root + "/secret").c_str(), O_CREAT | O_WRONLY, 0000));
  ASSERT_EQ(chmod((root + "/closed").c_str(), 0), 0);
  ASSERT_EQ(chmod((root + "/names-only").c_str(), 0444), 0);
  ASSERT_EQ(was_root ? seteuid(65534) : 0, 0);
  Recorder seen;
  ScanOptions options;
  options.root = root;
  auto scanner = NewPosixSourceFs()->Scan(options, &seen);
  std::vector<std::string> paths;
  absl::Status secret;
  if (scanner.ok()) {
    SourceEntry e;
    while (true) {
      auto more = (*scanner)->Next(&e);
      EXPECT_OK(more);
      if (!more.ok() || !*more) break;
      paths.push_back(e.directory->RelativePath(e.name));
      if (e.name == "secret") secret = e.directory->OpenFile("secret").status();
      if (paths.back() == "open/f") {
        EXPECT_OK(e.directory->OpenFile("f"));  // O_NOATIME is refused here
      }
    }
  }
  ASSERT_EQ(was_root ? seteuid(0) : 0, 0);
  (void)chmod((root + "/closed").c_str(), 0755);
  (void)chmod((root + "/names-only").c_str(), 0755);
  ASSERT_EQ(std::system(("rm -rf '" + root + "'").c_str()), 0);
  ASSERT_OK(scanner);
  EXPECT_THAT(paths, ElementsAre("", "closed", "names-only", "open", "secret", "open/f"));
  EXPECT_THAT(seen.error_paths, UnorderedElementsAre(Pair("closed", EACCES), Pair("names-only/f", EACCES)));
  EXPECT_THAT(secret, StatusIs(absl::StatusCode::kPermissionDenied));
}

// --- What is left out ------------------------------------------------------------------------------------------------

TEST_F(ScannerTest, IgnoreFilesApplyBelowTheirDirectory) {
  Mkdir("a");
  Mkdir("a/b");
  Mkdir("a/cache");
  Mkdir("build");
  for (const char* f : {"x.log", "a/x.log", "a/b/x.log", "a/b/keep.log", "a/cache/1", "build/keep", "a/build", "y"})
    Write(f);
  Write(".holdfastignore", "*.log\n/build/\n!build/keep\n");
  Write("a/.holdfastignore", "cache/\n!b/keep.log\n");
  for (uint32_t threads : {0u, 2u}) {
    options_.prefetch_threads = threads;
    Walk walk;
    WalkAll(&walk);
    EXPECT_THAT(walk.paths,
                ElementsAre("", ".holdfastignore", "a", "y", "a/.holdfastignore", "a/b", "a/build", "a/b/keep.log"));
    EXPECT_THAT(walk.seen.skipped,
                UnorderedElementsAre(Pair("x.log", SkipReason::kExcluded), Pair("build", SkipReason::kExcluded),
                                     Pair("a/x.log", SkipReason::kExcluded), Pair("a/cache", SkipReason::kExcluded),
                                     Pair("a/b/x.log", SkipReason::kExcluded)));
  }
  options_.ignore_file_name = "";
  Walk walk;
  WalkAll(&walk);
  EXPECT_THAT(walk.paths, Contains("a/b/x.log"));
}

TEST_F(ScannerTest, CommandLinePatternsOutrankIgnoreFiles) {
  Mkdir("d");
  for (const char* f : {"d/a", "d/b", "d/c"}) Write(f);
  Write("d/.holdfastignore", "!a\nb\n");
  options_.exclude_patterns = {"/d/a", "!b", "d/.hold*"};
  Walk walk;
  WalkAll(&walk);
  EXPECT_THAT(walk.paths, ElementsAre("", "d", "d/b", "d/c"));
}

TEST_F(ScannerTest, AnUnusableIgnoreFileIsAnError) {
  Mkdir("d");
  Mkdir("e");
  Write("d/a");
  Symlink("a", "d/.holdfastignore");
  Write("e/.holdfastignore", std::string((1 << 20) + 1, '\n'));
  Walk walk;
  WalkAll(&walk);
  EXPECT_THAT(walk.seen.error_paths,
              UnorderedElementsAre(Pair("d/.holdfastignore", ELOOP), Pair("e/.holdfastignore", EFBIG)));
  EXPECT_THAT(walk.paths, Contains("d/a"));
}

TEST_F(ScannerTest, IgnoreFilesOfAllDirectoriesAboveTogetherAreLimited) {
  // Each is small enough; what applies in the third directory is not.
  const std::string patterns = std::string(100 << 10, '#') + "\n*.log\n";
  Mkdir("a");
  Mkdir("a/b");
  Mkdir("a/b/c");
  for (const char* d : {"a", "a/b", "a/b/c"}) Write(std::string(d) + "/.holdfastignore", patterns + "name-" + d[0]);
  Write("a/b/c/.holdfastignore", patterns + "kept");
  Write("a/b/c/kept");
  Write("a/b/c/left.log");
  Walk walk;
  WalkAll(&walk);
  EXPECT_THAT(walk.seen.error_paths, UnorderedElementsAre(Pair("a/b/c/.holdfastignore", EFBIG)));
  EXPECT_THAT(walk.paths, Contains("a/b/c/kept"));
  EXPECT_THAT(walk.paths, Not(Contains("a/b/c/left.log")));
}

TEST_F(ScannerTest, CacheDirectoriesKeepOnlyTheirTag) {
  const std::string tag = "Signature: 8a477f597d28d172789f06886806bc55";
  for (const char* d : {"good", "bad", "link"}) {
    Mkdir(d);
    Write(std::string(d) + "/data");
    Mkdir(std::string(d) + "/sub");
  }
  Write("good/CACHEDIR.TAG", tag + "\n# a comment\n");
  Write("bad/CACHEDIR.TAG", tag.substr(0, tag.size() - 1));
  Symlink("../good/CACHEDIR.TAG", "link/CACHEDIR.TAG");
  {
    Walk walk;
    WalkAll(&walk);
    EXPECT_THAT(walk.paths, ElementsAre("", "bad", "good", "link", "bad/CACHEDIR.TAG", "bad/data", "bad/sub",
                                        "good/CACHEDIR.TAG", "link/CACHEDIR.TAG", "link/data", "link/sub"));
    EXPECT_THAT(walk.seen.skipped, ElementsAre(Pair("good", SkipReason::kCacheDirectory)));
  }
  options_.skip_cache_directories = false;
  Walk walk;
  WalkAll(&walk);
  EXPECT_THAT(walk.paths, Contains("good/data"));
}

TEST_F(ScannerTest, OwnStateIsKeptButNotEntered) {
  Mkdir("repository");
  Write("repository/pack");
  struct stat st;
  ASSERT_EQ(stat(Path("repository").c_str(), &st), 0);
  options_.own_state = {{st.st_dev, st.st_ino}};
  {
    Walk walk;
    WalkAll(&walk);
    EXPECT_THAT(walk.paths, ElementsAre("", "repository"));
    EXPECT_EQ(walk.entries["repository"].flags, kEntryNotDescended);
    EXPECT_THAT(walk.seen.skipped, ElementsAre(Pair("repository", SkipReason::kOwnState)));
  }
  options_.root = Path("repository");
  Walk walk;
  WalkAll(&walk);
  EXPECT_THAT(walk.paths, ElementsAre(""));
  EXPECT_THAT(walk.seen.skipped, ElementsAre(Pair("", SkipReason::kOwnState)));
}

TEST_F(ScannerTest, OneFileSystemStopsAtMountPoints) {
  Mkdir("mounted");
  if (mount("none", Path("mounted").c_str(), "tmpfs", 0, nullptr) != 0) GTEST_SKIP() << "cannot mount";
  Write("mounted/inside");
  Mkdir("plain");
  Write("plain/inside");
  Walk crossing;
  WalkAll(&crossing);
  options_.one_file_system = true;
  Walk staying;
  WalkAll(&staying);
  ASSERT_EQ(umount2(Path("mounted").c_str(), MNT_DETACH), 0);
  EXPECT_THAT(crossing.paths, ElementsAre("", "mounted", "plain", "mounted/inside", "plain/inside"));
  EXPECT_EQ(crossing.entries["mounted"].flags, 0u);
  EXPECT_THAT(staying.paths, ElementsAre("", "mounted", "plain", "plain/inside"));
  EXPECT_EQ(staying.entries["mounted"].flags, kEntryNotDescended);
  EXPECT_THAT(staying.seen.skipped, ElementsAre(Pair("mounted", SkipReason::kOtherFileSystem)));
}

TEST_F(ScannerTest, PseudoFileSystemsAreNotEntered) {
  if (access("/proc/self", F_OK) != 0) GTEST_SKIP() << "no /proc";
  options_.root = "/";
  options_.exclude_patterns = {"/*", "!/proc"};
  {
    Walk walk;
    WalkAll(&walk);
    EXPECT_THAT(walk.paths, ElementsAre("", "proc"));
    EXPECT_EQ(walk.entries["proc"].flags, kEntryNotDescended);
    EXPECT_EQ(walk.seen.skipped["proc"], SkipReason::kPseudoFileSystem);
  }
  options_.root = "/proc";
  Walk walk;
  WalkAll(&walk);
  EXPECT_THAT(walk.paths, ElementsAre(""));
}

}  // namespace
}  // namespace holdfast
