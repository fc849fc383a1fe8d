#include "client/restore/restore.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <latch>
#include <thread>

#include "absl/strings/str_format.h"
#include "client/restore/fake_snapshot.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kMiB = 1 << 20;

class Observer : public RestoreObserver {
 public:
  void OnProblem(const RestoreProblem& p) override { problems.push_back(p); }
  void OnPhase(RestorePhase phase) override {
    if (phase == RestorePhase::kVerifying && before_verify) before_verify();
  }
  std::vector<std::string> Paths(RestoreProblemKind kind) const {
    std::vector<std::string> out;
    for (const RestoreProblem& p : problems) {
      if (p.kind == kind) out.push_back(p.path);
    }
    return out;
  }
  std::string Describe() const {
    std::string out;
    for (const RestoreProblem& p : problems) {
      absl::StrAppend(&out, p.path, ": ", p.operation, ": ", p.status.ToString(), "\n");
    }
    return out;
  }
  std::vector<RestoreProblem> problems;
  std::function<void()> before_verify;
};

class RestoreTest : public ::testing::Test {
 protected:
  RestoreTest() {
    std::string name = ::testing::TempDir() + "/restore-XXXXXX";
    base_ = ::mkdtemp(name.data());
    options_.target = base_ + "/target";
    snapshot_.Put("", EntryType::kDirectory, 0755);
  }
  ~RestoreTest() override {
    // Deeper than std::filesystem can go.
    std::string command = "rm -rf " + base_;
    EXPECT_EQ(std::system(command.c_str()), 0);
  }

  absl::StatusOr<RestoreStats> RestorePath(const Components& path = {}) {
    observer_ = std::make_unique<Observer>();
    observer_->before_verify = before_verify_;
    return Restore(snapshot_, path, options_, *observer_);
  }
  RestoreStats RestoreAll(const Components& path = {}) {
    absl::StatusOr<RestoreStats> stats = RestorePath(path);
    EXPECT_OK(stats);
    return stats.ok() ? *stats : RestoreStats();
  }
  std::vector<std::string> RepositoryErrors() const { return observer_->Paths(RestoreProblemKind::kRepository); }
  std::vector<std::string> TargetErrors() const { return observer_->Paths(RestoreProblemKind::kTarget); }
  std::vector<std::string> Notes() const { return observer_->Paths(RestoreProblemKind::kNote); }

  std::string At(std::string_view path) const { return options_.target + "/" + std::string(path); }
  bool Exists(std::string_view path) const {
    struct stat st;
    return ::lstat(At(path).c_str(), &st) == 0;
  }
  struct stat Stat(std::string_view path) const {
    struct stat st = {};
    EXPECT_EQ(::lstat(At(path).c_str(), &st), 0) << path;
    return st;
  }
  std::string Read(std::string_view path) const {
    std::ifstream in(At(path), std::ios::binary);
    EXPECT_TRUE(in.good()) << path;
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void Write(std::string_view path, std::string_view content) const {
    std::filesystem::create_directories(std::filesystem::path(At(path)).parent_path());
    std::ofstream(At(path), std::ios::binary) << content;
  }
  std::vector<std::string> List(std::string_view path) const {
    std::vector<std::string> out;
    for (const auto& e : std::filesystem::directory_iterator(At(path))) out.push_back(e.path().filename());
    std::sort(out.begin(), out.end());
    return out;
  }
  void ExpectMetadata(std::string_view path, const Entry& e) const {
    struct stat st = Stat(path);
    EXPECT_EQ(st.st_uid, e.uid) << path;
    EXPECT_EQ(st.st_gid, e.gid) << path;
    if (e.type != EntryType::kSymlink) {
      EXPECT_EQ(st.st_mode & 07777, e.mode) << path;
    }
    EXPECT_EQ(st.st_mtim.tv_sec, e.mtime.seconds) << path;
    EXPECT_EQ(st.st_mtim.tv_nsec, static_cast<long>(e.mtime.nanos)) << path;
    for (const Xattr& x : e.xattrs) {
      std::string value(x.value.size() + 1, '\0');
      ssize_t n = ::lgetxattr(At(path).c_str(), x.name.c_str(), value.data(), value.size());
      EXPECT_EQ(n, static_cast<ssize_t>(x.value.size())) << path << " " << x.name;
      if (n >= 0) {
        EXPECT_EQ(value.substr(0, n), x.value);
      }
    }
  }
  Entry& Symlink(std::string_view path, std::string target) {
    Entry& e = snapshot_.Put(path, EntryType::kSymlink, 0777);
    e.symlink_target = std::move(target);
    return e;
  }
  static std::vector<std::string> Pieces(int n, size_t size) {
    std::vector<std::string> out;
    for (int i = 0; i < n; ++i) {
      std::string piece(size, '\0');
      for (size_t k = 0; k < size; ++k) piece[k] = static_cast<char>((k * 31 + i * 7 + k / 255) | 1);
      out.push_back(std::move(piece));
    }
    return out;
  }
  static std::string Join(const std::vector<std::string>& pieces) {
    std::string out;
    for (const std::string& p : pieces) out += p;
    return out;
  }
  // Runs `body` in a child that is an ordinary user; true if it had no test failure.
  bool AsOrdinaryUser(const std::function<void()>& body) {
    if (geteuid() != 0) {
      body();
      return !HasFailure();
    }
    EXPECT_EQ(::chown(base_.c_str(), 65534, 65534), 0);
    pid_t child = ::fork();
    if (child == 0) {
      // The directories above may be closed to others.
      if (::chdir(base_.c_str()) != 0) ::_exit(2);
      options_.target = "target";
      if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(2);
      body();
      ::_exit(HasFailure() ? 1 : 0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  std::string base_;
  FakeSnapshot snapshot_;
  RestoreOptions options_;
  std::function<void()> before_verify_;
  std::unique_ptr<Observer> observer_;
};

#define REQUIRE_ROOT() \
  if (geteuid() != 0) GTEST_SKIP() << "needs root"

TEST_F(RestoreTest, RestoresEveryTypeWithItsMetadata) {
  Entry& root = snapshot_.Put("", EntryType::kDirectory, 0711);
  Entry& dir = snapshot_.Put("dir", EntryType::kDirectory, 0750);
  Entry& deeper = snapshot_.Put("dir/deeper", EntryType::kDirectory, 0555);
  Entry& empty_dir = snapshot_.Put("empty", EntryType::kDirectory, 01777);
  Entry& slice = snapshot_.PutInBundle("dir/slice", "slice content", 0640);
  Entry& slice2 = snapshot_.PutInBundle("dir/slice2", "other", 0444);
  Entry& in_deeper = snapshot_.PutInBundle("dir/deeper/x", "in a read-only directory", 0600);
  snapshot_.EndBundle();
  Entry& empty = snapshot_.Put("dir/none", EntryType::kFile, 0);
  Entry& tiny = snapshot_.Put("dir/tiny", EntryType::kFile, 0604);
  tiny.content.kind = Content::Kind::kInline;
  tiny.content.inline_bytes = "tiny";
  tiny.size = 4;
  Entry& link = Symlink("dir/link", "/no/such/place");
  Entry& fifo = snapshot_.Put("dir/fifo", EntryType::kFifo, 0622);
  Entry& socket = snapshot_.Put("dir/socket", EntryType::kSocket, 0755);
  const auto pieces = Pieces(30, 700'001);
  Entry& large = snapshot_.PutChunked("large", pieces, 0400);
  Entry& listed = snapshot_.PutChunked("listed", Pieces(3, 200'000), 0644, true);

  RestoreStats stats = RestoreAll();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_EQ(stats.files, 7u);
  EXPECT_EQ(stats.directories, 3u);
  EXPECT_EQ(stats.others, 3u);
  EXPECT_EQ(stats.bytes, 30 * 700'001 + 600'000 + 13 + 5 + 24 + 4u);
  EXPECT_EQ(Read("dir/slice"), "slice content");
  EXPECT_EQ(Read("dir/slice2"), "other");
  EXPECT_EQ(Read("dir/deeper/x"), "in a read-only directory");
  EXPECT_EQ(Read("dir/none"), "");
  EXPECT_EQ(Read("dir/tiny"), "tiny");
  EXPECT_TRUE(Read("large") == Join(pieces));
  EXPECT_TRUE(Read("listed") == Join(Pieces(3, 200'000)));
  EXPECT_EQ(std::filesystem::read_symlink(At("dir/link")), "/no/such/place");
  EXPECT_TRUE(S_ISFIFO(Stat("dir/fifo").st_mode));
  EXPECT_TRUE(S_ISSOCK(Stat("dir/socket").st_mode));
  ExpectMetadata("", root);
  ExpectMetadata("dir", dir);
  ExpectMetadata("dir/deeper", deeper);
  ExpectMetadata("empty", empty_dir);
  ExpectMetadata("dir/slice", slice);
  ExpectMetadata("dir/slice2", slice2);
  ExpectMetadata("dir/deeper/x", in_deeper);
  ExpectMetadata("dir/none", empty);
  ExpectMetadata("dir/tiny", tiny);
  ExpectMetadata("dir/link", link);
  ExpectMetadata("dir/fifo", fifo);
  ExpectMetadata("dir/socket", socket);
  ExpectMetadata("large", large);
  ExpectMetadata("listed", listed);
  EXPECT_THAT(List(""), ElementsAre("dir", "empty", "large", "listed"));
}

TEST_F(RestoreTest, RestoresOwnersDevicesAndSetuidAsRoot) {
  REQUIRE_ROOT();
  Entry& dir = snapshot_.Put("d", EntryType::kDirectory, 02775);
  dir.uid = 1001, dir.gid = 1002;
  Entry& sub = snapshot_.Put("d/sub", EntryType::kDirectory, 0700);
  std::vector<std::pair<std::string, Entry>> expected;
  auto keep = [&](std::string path, Entry& e) { expected.emplace_back(path, e); };
  for (uint32_t mode : {04755u, 02755u, 06711u, 0640u, 0400u, 01644u}) {
    for (uint32_t uid : {0u, 1001u}) {
      for (uint32_t gid : {0u, 1002u}) {
        std::string path = absl::StrCat("d/f", mode, "-", uid, "-", gid);
        Entry& e = snapshot_.PutInBundle(path, "x", mode);
        e.uid = uid, e.gid = gid;
        keep(path, e);
      }
    }
  }
  snapshot_.EndBundle();
  Entry& big = snapshot_.PutChunked("d/big", Pieces(8, 2 << 20), 04750);
  big.uid = 7, big.gid = 8;
  keep("d/big", big);
  Entry& link = Symlink("d/link", "x");
  link.uid = 5, link.gid = 6;
  keep("d/link", link);
  Entry& device = snapshot_.Put("d/null", EntryType::kCharDevice, 0666);
  device.device_major = 1, device.device_minor = 3, device.gid = 9;
  keep("d/null", device);
  Entry& disk = snapshot_.Put("d/disk", EntryType::kBlockDevice, 0660);
  disk.device_major = 7, disk.device_minor = 250, disk.gid = 6;
  keep("d/disk", disk);
  keep("d", dir);
  keep("d/sub", sub);
  RestoreAll();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  for (const auto& [path, e] : expected) ExpectMetadata(path, e);
  EXPECT_EQ(Stat("d/null").st_rdev, makedev(1, 3));
  EXPECT_TRUE(S_ISBLK(Stat("d/disk").st_mode));
}

TEST_F(RestoreTest, MapsOwnerNamesUnlessNumeric) {
  REQUIRE_ROOT();
  Entry& e = snapshot_.PutInBundle("f", "x");
  e.uid = 4444, e.gid = 4444, e.owner_name = "daemon", e.group_name = "no such group";
  snapshot_.EndBundle();
  RestoreAll();
  EXPECT_EQ(Stat("f").st_uid, 1u);
  EXPECT_EQ(Stat("f").st_gid, 4444u);
  options_.numeric_owner = true;
  options_.target += "2";
  RestoreAll();
  EXPECT_EQ(Stat("f").st_uid, 4444u);
}

TEST_F(RestoreTest, AnOrdinaryUserRestoresFilesWithoutErrors) {
  Entry& f = snapshot_.PutInBundle("d/own", "mine", 0400);
  Entry& suid = snapshot_.PutInBundle("d/suid", "rootly", 06755);
  Entry& trusted = snapshot_.PutInBundle("d/trusted", "t", 0444);
  for (Entry* e : {&f, &suid, &trusted}) e->uid = e->gid = 0;
  trusted.xattrs = {{"security.capability", std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)},
                    {"trusted.x", "1"}};
  snapshot_.EndBundle();
  Entry& d = snapshot_.Put("d", EntryType::kDirectory, 0555);
  d.uid = 0;
  EXPECT_TRUE(AsOrdinaryUser([&] {
    options_.owner = false;
    RestoreStats stats = RestoreAll();
    EXPECT_EQ(stats.errors(), 0u) << observer_->Describe();
    EXPECT_EQ(Read("d/own"), "mine");
    EXPECT_EQ(Stat("d/own").st_mode & 07777, 0400u);
    EXPECT_EQ(Stat("d/suid").st_mode & 07777, 0755u) << "setuid was meant for root";
    EXPECT_EQ(Stat("d/trusted").st_mode & 07777, 0444u);
    EXPECT_EQ(stats.xattrs_not_restored, 2u);
    EXPECT_EQ(Stat("d").st_mode & 07777, 0555u);
    EXPECT_EQ(::chmod(At("d").c_str(), 0755), 0);
  }));
}

TEST_F(RestoreTest, RestoresExtendedAttributes) {
  Entry& f = snapshot_.PutInBundle("f", "x", 0400);
  f.xattrs = {{"user.a", std::string("v\0w", 3)}, {"user.empty", ""}};
  snapshot_.EndBundle();
  Entry& d = snapshot_.Put("d", EntryType::kDirectory, 0500);
  d.xattrs = {{"user.d", "dir"}};
  Entry& link = Symlink("l", "x");
  Entry& fifo = snapshot_.Put("p", EntryType::kFifo, 0600);
  if (geteuid() == 0) {
    link.xattrs = {{"trusted.l", "on the link"}};
    fifo.xattrs = {{"trusted.p", "on the fifo"}};
    f.uid = 1000;
    f.mode = 0755;
    f.xattrs.insert(f.xattrs.begin(),
                    {"security.capability", std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)});
  }
  RestoreStats stats = RestoreAll();
  if (stats.xattrs_not_restored != 0) GTEST_SKIP() << "not supported here: " << observer_->Describe();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  ExpectMetadata("f", f);
  ExpectMetadata("d", d);
  ExpectMetadata("l", link);
  ExpectMetadata("p", fifo);
}

// A POSIX ACL: version 2, then (tag, permissions, id).
std::string Acl(std::initializer_list<std::array<uint32_t, 3>> items) {
  std::string out("\2\0\0\0", 4);
  for (const auto& [tag, permissions, id] : items) {
    for (uint32_t v : {tag & 0xff, tag >> 8, permissions & 0xff, permissions >> 8}) out += static_cast<char>(v);
    for (int i = 0; i < 4; ++i) out += static_cast<char>(id >> (8 * i));
  }
  return out;
}

TEST_F(RestoreTest, DefaultAclsDoNotReachRestoredFiles) {
  constexpr uint32_t kNobody = ~0u;
  const std::string acl = Acl({{1, 7, kNobody}, {2, 7, 1234}, {4, 7, kNobody}, {16, 7, kNobody}, {32, 7, kNobody}});
  Entry& d = snapshot_.Put("d", EntryType::kDirectory, 0755);
  d.xattrs = {{"system.posix_acl_default", acl}};
  Entry& sub = snapshot_.Put("d/sub", EntryType::kDirectory, 0700);
  Entry& f = snapshot_.PutInBundle("d/f", "x", 0640);
  Entry& g = snapshot_.PutInBundle("d/sub/g", "x", 0600);
  snapshot_.EndBundle();
  for (int pass = 0; pass < 2; ++pass) {
    RestoreStats stats = RestoreAll();
    if (stats.xattrs_not_restored != 0) GTEST_SKIP() << observer_->Describe();
    EXPECT_EQ(stats.errors(), 0u) << observer_->Describe();
    for (const auto& [path, e] : {std::pair<const char*, Entry&>{"d/f", f}, {"d/sub/g", g}, {"d/sub", sub}, {"d", d}}) {
      ExpectMetadata(path, e);
      EXPECT_LT(::getxattr(At(path).c_str(), "system.posix_acl_access", nullptr, 0), 0) << path;
    }
    EXPECT_LT(::getxattr(At("d/sub").c_str(), "system.posix_acl_default", nullptr, 0), 0);
    // Once more into the directory that has the default ACL now.
    std::filesystem::remove_all(At("d/sub"));
    std::filesystem::remove(At("d/f"));
  }
}

TEST_F(RestoreTest, RestoresHoles) {
  auto pieces = Pieces(2, 64 << 10);
  Entry& e = snapshot_.PutChunked("sparse", {pieces[0], std::string(8192, '\0') + pieces[1]});
  // Data, a large hole, a small hole of 8 KiB, data, a large hole to the end.
  snapshot_.SetHoles(
      e, {{64 << 10, 4 * kMiB}, {(64 << 10) + 4 * kMiB, 8192}, {(64 << 10) * 2 + 4 * kMiB + 8192, 16 * kMiB}});
  Entry& only = snapshot_.Put("hole", EntryType::kFile, 0644);
  only.size = 1ull << 40;
  only.holes = {{0, 1ull << 40}};
  options_.verify = true;
  RestoreStats stats = RestoreAll();
  EXPECT_EQ(stats.errors(), 0u) << observer_->Describe();
  EXPECT_EQ(stats.verified, 2u);
  std::string expected = pieces[0] + std::string(4 * kMiB + 8192, '\0') + pieces[1] + std::string(16 * kMiB, '\0');
  EXPECT_TRUE(Read("sparse") == expected);
  EXPECT_LE(Stat("sparse").st_blocks * 512, 160 << 10);
  EXPECT_EQ(Stat("hole").st_size, 1ll << 40);
  EXPECT_LE(Stat("hole").st_blocks, 16);
  options_.target += "2";
  options_.sparse = false;
  snapshot_.entries.erase(EntryKey({}, "hole"));
  RestoreAll();
  EXPECT_TRUE(Read("sparse") == expected);
  EXPECT_GE(Stat("sparse").st_blocks * 512, static_cast<int64_t>(20 * kMiB));
}

TEST_F(RestoreTest, LinksNamesOfOneFile) {
  // Also across directories, of a file of many chunks, and of other types.
  auto link = [](Entry& e, uint64_t inode, uint32_t count) { e.inode = inode, e.link_count = count, e.device = 3; };
  snapshot_.Put("a", EntryType::kDirectory, 0755);
  snapshot_.Put("b", EntryType::kDirectory, 0755);
  for (const char* path : {"a/1", "a/2", "b/3"}) link(snapshot_.PutInBundle(path, "shared"), 50, 3);
  link(snapshot_.PutInBundle("a/lonely", "others are elsewhere"), 51, 7);
  snapshot_.EndBundle();
  for (const char* path : {"a/large", "b/large"}) link(snapshot_.PutChunked(path, Pieces(9, 1 << 20)), 60, 2);
  for (const char* path : {"a/fifo", "b/fifo"}) link(snapshot_.Put(path, EntryType::kFifo, 0600), 61, 2);
  for (const char* path : {"a/sym", "b/sym"}) link(Symlink(path, "to"), 62, 2);
  Entry& other_device = snapshot_.Put("b/zero", EntryType::kFile, 0644);
  link(other_device, 50, 2);
  other_device.device = 4;
  RestoreStats stats = RestoreAll();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_EQ(stats.hard_links, 5u);
  EXPECT_EQ(stats.files, 4u);
  EXPECT_EQ(Stat("a/1").st_ino, Stat("a/2").st_ino);
  EXPECT_EQ(Stat("a/1").st_ino, Stat("b/3").st_ino);
  EXPECT_EQ(Stat("a/1").st_nlink, 3u);
  EXPECT_EQ(Stat("a/large").st_ino, Stat("b/large").st_ino);
  EXPECT_EQ(Stat("a/fifo").st_ino, Stat("b/fifo").st_ino);
  EXPECT_EQ(Stat("a/sym").st_ino, Stat("b/sym").st_ino);
  EXPECT_EQ(Stat("a/lonely").st_nlink, 1u);
  EXPECT_EQ(Stat("b/zero").st_nlink, 1u);
  EXPECT_EQ(Read("b/3"), "shared");
  ExpectMetadata("b", snapshot_.entries[EntryKey({}, "b")].second);

  // Again over them.
  for (OverwriteMode mode : {OverwriteMode::kAlways, OverwriteMode::kIfChanged}) {
    options_.overwrite = mode;
    stats = RestoreAll();
    EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
    EXPECT_EQ(Stat("a/1").st_ino, Stat("b/3").st_ino);
    EXPECT_EQ(Stat("a/1").st_nlink, 3u);
    EXPECT_EQ(List("a").size(), 6u);
    EXPECT_EQ(List("b").size(), 5u);
  }
}

TEST_F(RestoreTest, ManyLinksMadeWhileTheFirstIsWrittenAndAfter) {
  options_.memory_bytes = 1;  // spills
  for (int d = 0; d < 30; ++d) {
    std::string dir = absl::StrCat("dir", 10 + d);
    snapshot_.Put(dir, EntryType::kDirectory, 0755);
    for (int f = 0; f < 100; ++f) {
      Entry& e = snapshot_.PutInBundle(absl::StrCat(dir, "/f", f), absl::StrCat("content ", f));
      e.inode = 1'000'000 + f;
      e.link_count = 30;
      if (f % 10 == 9) snapshot_.EndBundle();
    }
  }
  RestoreStats stats = RestoreAll();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_EQ(stats.files, 100u);
  EXPECT_EQ(stats.hard_links, 2900u);
  for (int f = 0; f < 100; ++f) {
    EXPECT_EQ(Stat(absl::StrCat("dir10/f", f)).st_nlink, 30u);
    EXPECT_EQ(Read(absl::StrCat("dir39/f", f)), absl::StrCat("content ", f));
  }
}

TEST_F(RestoreTest, NamesOfOneFileWithOtherContentAreRestoredApart) {
  auto link = [](Entry& e) { e.inode = 50, e.link_count = 3; };
  link(snapshot_.PutInBundle("1", "before"));
  link(snapshot_.PutInBundle("2", "after!"));
  link(snapshot_.PutInBundle("3", "before"));
  snapshot_.EndBundle();
  RestoreStats stats = RestoreAll();
  EXPECT_EQ(stats.errors(), 0u);
  EXPECT_THAT(Notes(), ElementsAre("/2"));
  EXPECT_EQ(Read("1"), "before");
  EXPECT_EQ(Read("2"), "after!");
  EXPECT_EQ(Read("3"), "before");
  EXPECT_EQ(Stat("1").st_ino, Stat("3").st_ino);
  EXPECT_NE(Stat("1").st_ino, Stat("2").st_ino);
}

TEST_F(RestoreTest, WhenTheFirstNameIsLostTheNextOneTakesItsPlace) {
  // The first member's copy is in a damaged bundle; the digests say that they are equal.
  auto link = [](Entry& e) { e.inode = 50, e.link_count = 3; };
  link(snapshot_.PutInBundle("1", "same"));
  snapshot_.PutInBundle("filler", "makes it another bundle");
  snapshot_.damaged.insert(snapshot_.EndBundle().id);
  link(snapshot_.PutInBundle("2", "same"));
  link(snapshot_.PutInBundle("3", "same"));
  snapshot_.EndBundle();
  RestoreStats stats = RestoreAll();
  EXPECT_THAT(RepositoryErrors(), UnorderedElementsAre("/1", "/filler"));
  EXPECT_EQ(stats.errors(), 2u) << observer_->Describe();
  EXPECT_EQ(Read("2"), "same");
  EXPECT_EQ(Stat("2").st_ino, Stat("3").st_ino);
  EXPECT_FALSE(Exists("1"));
}

TEST_F(RestoreTest, DamagedAndMissingChunksAreNamedAndTheRestIsRestored) {
  snapshot_.Put("d", EntryType::kDirectory, 0755);
  snapshot_.PutInBundle("d/lost1", "one");
  snapshot_.PutInBundle("d/lost2", "two");
  snapshot_.damaged.insert(snapshot_.EndBundle().id);
  snapshot_.PutInBundle("d/good", "three");
  snapshot_.EndBundle();
  Entry& large = snapshot_.PutChunked("d/large", Pieces(20, 1 << 20));
  snapshot_.chunks.erase(large.content.chunks[11].ref.id);
  snapshot_.PutChunked("d/large-good", {Pieces(20, 1 << 20)[0]});
  Entry& listed = snapshot_.PutChunked("d/listed", {"abc", "def"}, 0644, true);
  snapshot_.damaged.insert(listed.content.ref.id);
  Entry& behind = snapshot_.PutInBundle("d/behind", "points behind its bundle");
  snapshot_.EndBundle();
  behind.content.offset = 1;
  Entry& size = snapshot_.PutInBundle("d/size", "size disagrees");
  snapshot_.EndBundle();
  size.size = 5;
  Entry& unread = snapshot_.Put("d/unread", EntryType::kFile, 0644);
  unread.flags = kEntryReadFailed;
  Entry& holes = snapshot_.Put("d/holes", EntryType::kFile, 0644);
  holes.hole_chunk.emplace();
  RestoreStats stats = RestoreAll();
  EXPECT_THAT(RepositoryErrors(), UnorderedElementsAre("/d/lost1", "/d/lost2", "/d/large", "/d/listed", "/d/behind",
                                                       "/d/size", "/d/unread", "/d/holes"))
      << observer_->Describe();
  EXPECT_THAT(TargetErrors(), IsEmpty());
  EXPECT_EQ(stats.repository_errors, 8u);
  EXPECT_THAT(List("d"), ElementsAre("good", "large-good"));
  EXPECT_EQ(Read("d/good"), "three");
  ExpectMetadata("d", snapshot_.entries[EntryKey({}, "d")].second);
}

TEST_F(RestoreTest, AnExistingFileSurvivesWhenItsReplacementIsDamaged) {
  Write("large", "precious");
  Write("small", "precious too");
  Entry& large = snapshot_.PutChunked("large", Pieces(3, 1 << 20));
  snapshot_.damaged.insert(large.content.chunks[2].ref.id);
  snapshot_.PutInBundle("small", "new");
  snapshot_.damaged.insert(snapshot_.EndBundle().id);
  options_.overwrite = OverwriteMode::kAlways;
  RestoreAll();
  EXPECT_THAT(RepositoryErrors(), UnorderedElementsAre("/large", "/small"));
  EXPECT_EQ(Read("large"), "precious");
  EXPECT_EQ(Read("small"), "precious too");
  EXPECT_THAT(List(""), ElementsAre("large", "small"));
}

TEST_F(RestoreTest, DamagedPagesAreReportedWithTheirRange) {
  snapshot_.Put("a", EntryType::kDirectory, 0755);
  snapshot_.PutInBundle("a/1", "x");
  snapshot_.PutInBundle("lost/deep/9", "its directories were in the damaged page");
  snapshot_.EndBundle();
  KeyGap gap{{EntryKey({"a"}, "2"), EntryKey({"lost", "deep"}, "9")}, absl::DataLossError("page damaged")};
  snapshot_.gaps.push_back({EntryKey({"lost", "deep"}, "9"), gap});
  RestoreAll();
  ASSERT_THAT(RepositoryErrors(), ElementsAre("/a/2"));
  EXPECT_THAT(std::string(observer_->problems[0].status.message()), HasSubstr("from /a/2 to /lost/deep/9"));
  EXPECT_EQ(Read("lost/deep/9"), "its directories were in the damaged page");
  EXPECT_EQ(Stat("lost").st_mode & 07777, 0700u);
}

TEST_F(RestoreTest, AnUnreachableSourceEndsTheRestoreWithoutPartialFiles) {
  snapshot_.PutChunked("large", Pieces(40, 1 << 20));
  std::atomic<int> chunks{0};
  snapshot_.after_chunk = [&] {
    if (++chunks == 9) snapshot_.fetch_status = absl::UnavailableError("connection lost");
  };
  options_.threads = 1;
  EXPECT_THAT(RestorePath(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(List(""), IsEmpty());
}

TEST_F(RestoreTest, CanBeCancelled) {
  snapshot_.PutChunked("large", Pieces(40, 1 << 20));
  Observer observer;
  snapshot_.after_chunk = [&] { observer.cancel = true; };
  EXPECT_THAT(Restore(snapshot_, {}, options_, observer), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(List(""), IsEmpty());
}

TEST_F(RestoreTest, OverwriteModes) {
  snapshot_.Put("d", EntryType::kDirectory, 0755);
  Entry& same = snapshot_.PutInBundle("d/same", "same", 0644);
  snapshot_.PutInBundle("d/changed", "new content");
  snapshot_.PutInBundle("d/link", "a file, where a link is");
  snapshot_.EndBundle();
  Entry& symlink = Symlink("d/symlink", "new target");
  const Entry& dir = snapshot_.entries[EntryKey({}, "d")].second;
  auto prepare = [&] {
    std::filesystem::remove_all(options_.target);
    Write("d/same", "SAME");
    Write("d/changed", "old content");
    Write("d/mine", "not in the snapshot");
    Write("outside", "must stay");
    std::filesystem::create_symlink("../outside", At("d/link"));
    std::filesystem::create_symlink("old target", At("d/symlink"));
    const timespec times[2] = {{0, UTIME_OMIT}, {same.mtime.seconds, same.mtime.nanos}};
    ASSERT_EQ(::utimensat(AT_FDCWD, At("d/same").c_str(), times, 0), 0);
    ASSERT_EQ(::chmod(At("d/same").c_str(), 0600), 0);
  };

  prepare();
  options_.overwrite = OverwriteMode::kNever;
  RestoreAll();
  EXPECT_THAT(TargetErrors(), UnorderedElementsAre("/d/same", "/d/changed", "/d/link", "/d/symlink"));
  EXPECT_EQ(Read("d/changed"), "old content");

  prepare();
  options_.overwrite = OverwriteMode::kSkip;
  EXPECT_EQ(RestoreAll().skipped, 4u);
  EXPECT_THAT(observer_->problems, IsEmpty());
  EXPECT_EQ(Read("d/changed"), "old content");

  prepare();
  options_.overwrite = OverwriteMode::kIfChanged;
  EXPECT_EQ(RestoreAll().skipped, 1u);
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_EQ(Read("d/same"), "SAME");
  ExpectMetadata("d/same", same);
  EXPECT_EQ(Read("d/changed"), "new content");
  EXPECT_EQ(Read("d/link"), "a file, where a link is");
  ExpectMetadata("d/symlink", symlink);
  EXPECT_EQ(std::filesystem::read_symlink(At("d/symlink")), "new target");

  prepare();
  options_.overwrite = OverwriteMode::kAlways;
  RestoreAll();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_EQ(Read("d/same"), "same");
  EXPECT_EQ(Read("outside"), "must stay");
  EXPECT_EQ(Read("d/mine"), "not in the snapshot");
  EXPECT_THAT(List("d"), ElementsAre("changed", "link", "mine", "same", "symlink"));
  ExpectMetadata("d", dir);
}

TEST_F(RestoreTest, ADirectoryIsNeverReplacedByAFile) {
  Write("f/inside", "x");
  snapshot_.PutInBundle("f", "a file");
  snapshot_.EndBundle();
  for (OverwriteMode mode : {OverwriteMode::kAlways, OverwriteMode::kIfChanged, OverwriteMode::kNever}) {
    options_.overwrite = mode;
    RestoreAll();
    EXPECT_THAT(TargetErrors(), ElementsAre("/f"));
    EXPECT_EQ(Read("f/inside"), "x");
  }
}

TEST_F(RestoreTest, ASymlinkInThePlaceOfADirectoryIsNotFollowed) {
  Write("outside/x", "precious");
  options_.target += "/t";
  std::filesystem::create_directories(options_.target);
  std::filesystem::create_directory_symlink("../outside", At("d"));
  snapshot_.Put("d", EntryType::kDirectory, 0755);
  snapshot_.PutInBundle("d/x", "hostile");
  snapshot_.Put("d/e", EntryType::kDirectory, 0755);
  snapshot_.PutInBundle("d/e/y", "hostile");
  snapshot_.EndBundle();
  options_.overwrite = OverwriteMode::kIfChanged;
  RestoreStats stats = RestoreAll();
  EXPECT_THAT(TargetErrors(), ElementsAre("/d"));
  EXPECT_EQ(stats.not_reached, 3u);
  EXPECT_EQ(Read("../outside/x"), "precious");
  EXPECT_THAT(List("../outside"), ElementsAre("x"));

  options_.overwrite = OverwriteMode::kAlways;
  RestoreAll();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_EQ(Read("d/x"), "hostile");
  EXPECT_EQ(Read("../outside/x"), "precious");
  EXPECT_TRUE(S_ISDIR(Stat("d").st_mode));
}

TEST_F(RestoreTest, ARestoredSymlinkIsNotFollowed) {
  // A snapshot that says both: a link, and entries below it.
  Write("../outside/x", "precious");
  Symlink("d", base_ + "/outside");
  snapshot_.PutInBundle("d/x", "hostile");
  snapshot_.EndBundle();
  RestoreAll();
  EXPECT_THAT(TargetErrors(), ElementsAre("/d"));
  EXPECT_EQ(Read("../outside/x"), "precious");
}

// Restores 700 directories, so that descriptors are closed and opened again by name, and lets somebody put `other` in
// their places before the last file is written.
class ExchangedDirectories : public RestoreTest {
 protected:
  void RestoreAnd(const std::function<int(const char* path)>& other) {
    options_.threads = 1;
    for (int i = 0; i < 700; ++i) {
      snapshot_.Put(Name(i), EntryType::kDirectory, 0755);
      snapshot_.PutInBundle(Name(i) + "/x", "content");
    }
    snapshot_.EndBundle();
    snapshot_.Put("zzz", EntryType::kDirectory, 0755);
    snapshot_.PutInBundle("zzz/last", "content");
    snapshot_.EndBundle();
    snapshot_.before_entry = [&](const Entry& e) {
      if (e.name != "last") return;
      for (int i = 0; i < 700; ++i) {
        const std::string dir = At(Name(i));
        ASSERT_EQ(::rename(dir.c_str(), (dir + ".moved").c_str()), 0);
        ASSERT_EQ(other(dir.c_str()), 0);
      }
    };
    RestoreStats stats = RestoreAll();
    EXPECT_GE(stats.target_errors, 100u);
    EXPECT_LT(stats.target_errors, 700u);
    EXPECT_EQ(Read("zzz/last"), "content");
  }
  static std::string Name(int i) { return absl::StrCat("d", 1000 + i); }
};

TEST_F(ExchangedDirectories, AreNotFollowedWhenTheyAreSymlinks) {
  Write("../outside/keep", "precious");
  RestoreAnd([&](const char* path) { return ::symlink((base_ + "/outside").c_str(), path); });
  EXPECT_THAT(List("../outside"), ElementsAre("keep"));
  EXPECT_EQ(Read("../outside/keep"), "precious");
}

// Whoever made the other ones may do with them what he likes.
TEST_F(ExchangedDirectories, AreLeftAloneWhenTheyAreDirectories) {
  RestoreAnd([](const char* path) { return ::mkdir(path, 0777); });
  for (int i = 0; i < 700; ++i) EXPECT_THAT(List(Name(i)), IsEmpty());
}

TEST_F(RestoreTest, HostileNamesAreRefusedAndNamed) {
  snapshot_.Put("d", EntryType::kDirectory, 0755);
  for (const char* name : {"..", ".", "a/b", "/etc/passwd", "../../x"}) {
    snapshot_.PutRaw({"d"}, name, EntryType::kFile, 0644);
    snapshot_.PutRaw({}, name, EntryType::kDirectory, 0755);
  }
  snapshot_.PutRaw({"d"}, std::string("nul\0x", 5), EntryType::kFile, 0644);
  snapshot_.PutRaw({"d"}, "", EntryType::kFile, 0644);
  snapshot_.PutRaw({"d"}, "sym/..", EntryType::kSymlink, 0777).symlink_target = "x";
  Entry& nul = snapshot_.PutRaw({"d"}, "target", EntryType::kSymlink, 0777);
  nul.symlink_target = std::string("a\0b", 3);
  snapshot_.PutRaw({".."}, "escaped", EntryType::kFile, 0644);
  snapshot_.PutRaw({"d", "..", ".."}, "escaped", EntryType::kFile, 0644);
  snapshot_.PutRaw({"d", ""}, "escaped", EntryType::kFile, 0644);
  snapshot_.PutRaw({"d", "a/../.."}, "escaped", EntryType::kFile, 0644);
  snapshot_.PutInBundle("d/good", "good");
  snapshot_.EndBundle();
  RestoreStats stats = RestoreAll();
  EXPECT_EQ(stats.repository_errors, 0u);
  EXPECT_THAT(TargetErrors(), Contains("/d/.."));
  EXPECT_THAT(TargetErrors(), Contains("/d/a/b"));
  EXPECT_THAT(TargetErrors(), Contains("/d/target"));
  EXPECT_THAT(TargetErrors(), Contains("/.."));
  EXPECT_THAT(List(""), ElementsAre("d"));
  EXPECT_THAT(List("d"), ElementsAre("good"));
  EXPECT_THAT(List(".."), ElementsAre("target"));
}

TEST_F(RestoreTest, PathsMayBeDeeperThanTheKernelTakes) {
  // 1,200 levels of 20 bytes: more than PATH_MAX, and more directories than stay open.
  Components path;
  for (int i = 0; i < 1200; ++i) {
    std::string name = absl::StrCat("directory-level-", 1000 + i);
    Entry& d = snapshot_.PutRaw(path, name, EntryType::kDirectory, 0751);
    d.mtime = {1000 + i, 5};
    path.push_back(name);
    if (i % 100 == 99) {
      Entry& e = snapshot_.PutRaw(path, "f", EntryType::kFile, 0644);
      e.inode = 77;
      e.link_count = 12;
    }
  }
  options_.verify = true;
  RestoreStats stats = RestoreAll();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_EQ(stats.directories, 1200u);
  EXPECT_EQ(stats.files, 1u);
  EXPECT_EQ(stats.hard_links, 11u);
  EXPECT_EQ(stats.verified, 1u);
  int fd = ::open(options_.target.c_str(), O_RDONLY | O_DIRECTORY);
  for (size_t i = 0; i < path.size(); ++i) {
    int next = ::openat(fd, path[i].c_str(), O_RDONLY | O_DIRECTORY);
    ASSERT_GE(next, 0) << i;
    ::close(fd);
    fd = next;
    struct stat st;
    ASSERT_EQ(::fstat(fd, &st), 0);
    ASSERT_EQ(st.st_mode & 07777, 0751u);
    ASSERT_EQ(st.st_mtim.tv_sec, static_cast<time_t>(1000 + i));
  }
  struct stat st;
  EXPECT_EQ(::fstatat(fd, "f", &st, 0), 0);
  EXPECT_EQ(st.st_nlink, 12u);
  ::close(fd);
}

TEST_F(RestoreTest, VerifyCatchesWhatChangedAfterItWasWritten) {
  snapshot_.Put("d", EntryType::kDirectory, 0755);
  snapshot_.PutInBundle("d/flipped", "some content");
  snapshot_.PutInBundle("d/longer", "some content, too");
  snapshot_.PutInBundle("d/gone", "some content, as well");
  snapshot_.PutInBundle("d/good", "good content");
  snapshot_.EndBundle();
  snapshot_.PutChunked("d/large", Pieces(10, 1 << 20));
  Entry& sparse = snapshot_.Put("d/sparse", EntryType::kFile, 0644);
  sparse.size = 4 * kMiB;
  sparse.holes = {{0, 4 * kMiB}};
  options_.verify = true;
  RestoreStats stats = RestoreAll();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_EQ(stats.verified, 6u);

  options_.target += "2";
  before_verify_ = [&] {
    auto poke = [&](const char* path, off_t offset) {
      int fd = ::open(At(path).c_str(), O_WRONLY);
      EXPECT_EQ(::pwrite(fd, "!", 1, offset), 1);
      ::close(fd);
    };
    poke("d/flipped", 3);
    poke("d/longer", 17);
    poke("d/large", 7'000'000);
    poke("d/sparse", 3 * kMiB);
    std::filesystem::remove(At("d/gone"));
    std::filesystem::create_symlink("good", At("d/gone"));
  };
  stats = RestoreAll();
  EXPECT_THAT(TargetErrors(), UnorderedElementsAre("/d/flipped", "/d/longer", "/d/large", "/d/sparse", "/d/gone"))
      << observer_->Describe();
  EXPECT_EQ(stats.verified, 1u);
}

TEST_F(RestoreTest, VerifyChecksContentAgainstTheDigestsOfTheEntries) {
  snapshot_.PutInBundle("slice", "some content").digest->at(3) ^= 1;
  snapshot_.PutInBundle("good", "good content");
  snapshot_.EndBundle();
  snapshot_.PutChunked("large", Pieces(10, 1 << 20)).digest->at(0) ^= 1;
  options_.verify = true;
  RestoreAll();
  EXPECT_THAT(RepositoryErrors(), UnorderedElementsAre("/slice", "/large"));
  EXPECT_THAT(List(""), ElementsAre("good"));
}

TEST_F(RestoreTest, TheFilterDecides) {
  for (const char* dir : {"keep", "keep/sub", "drop", "drop/sub", "maybe", "maybe/yes", "maybe/no", "unused"}) {
    snapshot_.Put(dir, EntryType::kDirectory, 0755);
  }
  for (const char* file : {"keep/a.txt", "keep/b.o", "keep/sub/c.txt", "drop/d.txt", "drop/sub/e.txt",
                           "maybe/yes/f.txt", "maybe/no/g.o", "h.txt"}) {
    snapshot_.PutInBundle(file, file);
  }
  snapshot_.EndBundle();
  options_.filter = [](const Components& path, bool is_directory) {
    if (path[0] == "drop") {
      EXPECT_EQ(path.size(), 1u) << "below a directory that is left out";
      return FilterResult::kLeaveOut;
    }
    if (is_directory) return path[0] == "keep" ? FilterResult::kRestore : FilterResult::kDescend;
    return path.back().ends_with(".o") ? FilterResult::kLeaveOut : FilterResult::kRestore;
  };
  RestoreStats stats = RestoreAll();
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_EQ(stats.left_out, 3u);
  EXPECT_THAT(List(""), ElementsAre("h.txt", "keep", "maybe"));
  EXPECT_THAT(List("keep"), ElementsAre("a.txt", "sub"));
  EXPECT_THAT(List("maybe"), ElementsAre("yes"));
  ExpectMetadata("maybe", snapshot_.entries[EntryKey({}, "maybe")].second);
  ExpectMetadata("maybe/yes", snapshot_.entries[EntryKey({"maybe"}, "yes")].second);
}

TEST_F(RestoreTest, ASubtreePutsItsContentsIntoTheTarget) {
  snapshot_.Put("a", EntryType::kDirectory, 0755);
  Entry& b = snapshot_.Put("a/b", EntryType::kDirectory, 0710);
  snapshot_.PutInBundle("a/b/f", "content");
  snapshot_.PutInBundle("a/b/c/g", "deeper");
  snapshot_.Put("a/b/c", EntryType::kDirectory, 0755);
  snapshot_.PutInBundle("a/x", "elsewhere");
  snapshot_.EndBundle();
  options_.target = base_ + "/new/target/";
  RestoreAll({"a", "b"});
  EXPECT_THAT(observer_->problems, IsEmpty()) << observer_->Describe();
  EXPECT_THAT(List(""), ElementsAre("c", "f"));
  EXPECT_EQ(Read("c/g"), "deeper");
  ExpectMetadata("", b);

  options_.target = base_ + "/file";
  RestoreAll({"a", "b", "f"});
  EXPECT_THAT(List(""), ElementsAre("f"));
  EXPECT_EQ(Read("f"), "content");
  RestoreAll({"a", "b", "f"});
  EXPECT_THAT(TargetErrors(), ElementsAre("/a/b/f")) << "paths in problems are those of the snapshot";
  EXPECT_THAT(RestorePath({"a", "no"}), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(RestoreTest, FetchesABundleOnceForAllItsFilesNearby) {
  snapshot_.Put("d", EntryType::kDirectory, 0755);
  // Three bundles in turn.
  std::vector<ChunkRef> bundles;
  for (int b = 0; b < 3; ++b) bundles.push_back(snapshot_.AddChunk(std::string(100'000, static_cast<char>('0' + b))));
  for (int i = 0; i < 300; ++i) {
    Entry& e = snapshot_.Put(absl::StrCat("d/", i), EntryType::kFile, 0644);
    e.size = 300;
    e.content.kind = Content::Kind::kSlice;
    e.content.ref = bundles[i % 3];
    e.content.offset = i * 300;
    e.content.length = 300;
  }
  RestoreAll();
  EXPECT_EQ(snapshot_.chunks_fetched, 3);
  EXPECT_EQ(Read("d/100"), std::string(300, '1'));
}

TEST_F(RestoreTest, AFullDiskEndsTheRestore) {
  REQUIRE_ROOT();
  // A file system of 1 MiB, if this machine lets us.
  std::filesystem::create_directories(options_.target);
  if (std::system(("mount -t tmpfs -o size=1m tmpfs " + options_.target + " 2>/dev/null").c_str()) != 0) {
    GTEST_SKIP() << "cannot mount";
  }
  snapshot_.PutChunked("large", Pieces(40, 1 << 20));
  EXPECT_THAT(RestorePath(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(List(""), IsEmpty());
  EXPECT_EQ(std::system(("umount " + options_.target).c_str()), 0);
}

// Everything below a directory: "path mode uid:gid".
std::vector<std::string> ModesAndOwners(const std::string& top) {
  std::vector<std::string> out;
  auto add = [&](const std::string& path) {
    struct stat st = {};
    EXPECT_EQ(::lstat(path.c_str(), &st), 0) << path;
    out.push_back(absl::StrFormat("%s %o %d:%d", path.substr(top.size()), st.st_mode, st.st_uid, st.st_gid));
  };
  add(top);
  for (const auto& e : std::filesystem::recursive_directory_iterator(top)) add(e.path());
  std::sort(out.begin(), out.end());
  return out;
}

TEST_F(RestoreTest, ModesAndOwnersAreThoseOfTheSnapshotUnderEveryUmask) {
  snapshot_.Put("", EntryType::kDirectory, 0777);
  for (const char* dir : {"there", "made"}) {
    snapshot_.Put(dir, EntryType::kDirectory, 0775);
    for (uint32_t mode : {0777u, 0666u, 0644u, 0070u, 0007u, 0u, 06755u}) {
      auto at = [&](const char* what) { return absl::StrFormat("%s/%s-%o", dir, what, mode); };
      snapshot_.PutInBundle(at("slice"), "content", mode);
      snapshot_.PutInBundle(at("xattr"), "content", mode).xattrs = {{"user.a", "value"}};
      snapshot_.PutChunked(at("pieces"), {"one", "two"}, mode);
      snapshot_.Put(at("none"), EntryType::kFile, mode);
      snapshot_.Put(at("fifo"), EntryType::kFifo, mode);
      // The iterator of this test and an ordinary user want to read it.
      snapshot_.Put(at("dir"), EntryType::kDirectory, mode | 0500);
      snapshot_.PutInBundle(at("dir") + "/f", "content", mode);
    }
  }
  snapshot_.EndBundle();
  if (geteuid() == 0) {
    for (auto& [key, slot] : snapshot_.entries) {
      if (key.size() % 3 != 0) slot.second.uid = 1001;
      if (key.size() % 2 != 0) slot.second.gid = 1002;
    }
  }
  auto restore_under = [&](mode_t mask) {
    const std::string target = options_.target;
    options_.target += absl::StrFormat("-%o", mask);
    std::filesystem::create_directories(At("there"));
    const mode_t before = ::umask(mask);
    const RestoreStats stats = RestoreAll();
    EXPECT_EQ(::umask(before), mask) << "of the whole process, which is not ours";
    EXPECT_EQ(stats.errors(), 0u) << observer_->Describe();
    std::vector<std::string> found = ModesAndOwners(options_.target);
    if (options_.owner) {
      for (const auto& [key, slot] : snapshot_.entries) {
        std::string path;
        for (const std::string& name : slot.first) path += name + "/";
        const struct stat st = Stat(path + slot.second.name);
        EXPECT_EQ(st.st_mode & 07777, slot.second.mode) << path << slot.second.name;
        EXPECT_EQ(st.st_uid, slot.second.uid) << path << slot.second.name;
        EXPECT_EQ(st.st_gid, slot.second.gid) << path << slot.second.name;
      }
    }
    options_.target = target;
    return found;
  };
  auto restore_under_each = [&] {
    const std::vector<std::string> without = restore_under(0);
    EXPECT_GT(without.size(), 100u);
    for (mode_t mask : {022, 077, 0777}) EXPECT_EQ(restore_under(mask), without) << absl::StrFormat("umask %o", mask);
  };
  restore_under_each();
  EXPECT_TRUE(AsOrdinaryUser([&] {
    options_.target += "-ordinary";
    options_.owner = false;
    restore_under_each();
  }));
}

TEST_F(RestoreTest, SeveralAtOnceInOneProcessEachDoWhatTheyWereAsked) {
  constexpr uint64_t kHole = 4 * kMiB;
  snapshot_.Put("d", EntryType::kDirectory, 0755);
  for (int i = 0; i < 200; ++i) {
    snapshot_.PutInBundle(absl::StrCat("d/", i, i % 2 != 0 ? ".o" : ".c"), absl::StrCat("content ", i));
  }
  snapshot_.PutInBundle("there", "new");
  snapshot_.EndBundle();
  snapshot_.SetHoles(snapshot_.PutChunked("holes", {"0123456789"}), {{5, kHole}});
  const std::vector<std::string> large = Pieces(12, 1 << 20);
  snapshot_.PutChunked("large", large);
  // None goes on before all are in the middle.
  std::latch all_walk(3);
  snapshot_.before_entry = [&](const Entry& e) {
    if (e.name == "holes") all_walk.arrive_and_wait();
  };
  struct Run {
    RestoreOptions options;
    Observer observer;
    absl::StatusOr<RestoreStats> stats;
  };
  std::array<Run, 3> runs;
  const std::string target = options_.target;
  for (size_t i = 0; i < runs.size(); ++i) {
    runs[i].options.target = absl::StrCat(target, i);
    options_.target = runs[i].options.target;
    Write("there", "old");
  }
  runs[0].options.overwrite = OverwriteMode::kAlways;
  runs[1].options.overwrite = OverwriteMode::kSkip;
  runs[1].options.sparse = false;
  runs[1].options.filter = [](const Components& path, bool) {
    return path.back().ends_with(".o") ? FilterResult::kLeaveOut : FilterResult::kRestore;
  };
  runs[2].options.overwrite = OverwriteMode::kNever;
  runs[2].options.verify = true;
  std::vector<std::thread> threads;
  for (Run& run : runs) {
    threads.emplace_back([&] { run.stats = Restore(snapshot_, {}, run.options, run.observer); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Run& run : runs) {
    const bool is_filtered = run.options.filter != nullptr;
    const bool is_replaced = run.options.overwrite == OverwriteMode::kAlways;
    options_.target = run.options.target;
    ASSERT_OK(run.stats);
    EXPECT_EQ(run.stats->files, (is_filtered ? 100u : 200u) + 2 + is_replaced);
    EXPECT_EQ(run.stats->left_out, is_filtered ? 100u : 0u);
    EXPECT_EQ(run.stats->skipped, run.options.overwrite == OverwriteMode::kSkip ? 1u : 0u);
    EXPECT_EQ(run.stats->verified, run.options.verify ? 202u : 0u);
    EXPECT_EQ(Read("there"), is_replaced ? "new" : "old");
    if (run.options.overwrite == OverwriteMode::kNever) {
      EXPECT_THAT(run.observer.Paths(RestoreProblemKind::kTarget), ElementsAre("/there"));
    } else {
      EXPECT_THAT(run.observer.problems, IsEmpty()) << run.observer.Describe();
    }
    EXPECT_EQ(List("d").size(), is_filtered ? 100u : 200u);
    EXPECT_EQ(Read("d/198.c"), "content 198");
    EXPECT_EQ(Exists("d/199.o"), !is_filtered);
    EXPECT_TRUE(Read("large") == Join(large));
    EXPECT_TRUE(Read("holes") == "01234" + std::string(kHole, '\0') + "56789");
    EXPECT_EQ(Stat("holes").st_blocks * 512 >= static_cast<int64_t>(kHole), !run.options.sparse);
  }
}

}  // namespace
}  // namespace holdfast
