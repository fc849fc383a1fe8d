#include "client/restore/metadata_writer.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class MetadataWriterTest : public TargetTest {
 protected:
  // After the options are set.
  void Begin() {
    std::filesystem::create_directories(options_.target);
    run_.emplace(options_, observer_);
    writer_.emplace(*run_);
  }
  // A new file of this mode, which `metadata` is set on.
  void SetOnNew(const std::string& name, mode_t mode, const Metadata& metadata, bool acl = false) {
    const int fd = ::open(At(name).c_str(), O_WRONLY | O_CREAT | O_EXCL, mode);
    ASSERT_GE(fd, 0);
    struct stat st;
    ASSERT_EQ(::fstat(fd, &st), 0);
    writer_->SetOnNewFile(fd, {st.st_mode & 07777, st.st_uid, st.st_gid}, acl, metadata, [&] { return "/in/" + name; });
    ::close(fd);
  }
  void SetOnObject(const std::string& name, const Metadata& metadata, bool acl = false) {
    const int fd = ::open(At(name).c_str(), O_PATH | O_NOFOLLOW);
    ASSERT_GE(fd, 0);
    struct stat st;
    ASSERT_EQ(::fstat(fd, &st), 0);
    writer_->SetOnObject(fd, st, acl, metadata, [&] { return "/in/" + name; });
    ::close(fd);
  }
  void SetOnDirectory(const std::string& name, const Metadata& metadata) {
    const int fd = ::open(At(name).c_str(), O_RDONLY | O_DIRECTORY);
    ASSERT_GE(fd, 0);
    writer_->SetOnDirectory(fd, metadata, [&] { return "/in/" + name; });
    ::close(fd);
  }
  static Metadata With(Metadata m, std::vector<Xattr> xattrs) {
    m.xattrs = std::make_unique<std::vector<Xattr>>(std::move(xattrs));
    return m;
  }
  std::string Attribute(const std::string& name, const char* attribute) const {
    char value[256];
    const ssize_t n = ::lgetxattr(At(name).c_str(), attribute, value, sizeof(value));
    return n < 0 ? "(none)" : std::string(value, n);
  }
  void ExpectTime(const std::string& name, const Metadata& m) const {
    EXPECT_EQ(Stat(name).st_mtim.tv_sec, m.mtime.seconds) << name;
    EXPECT_EQ(Stat(name).st_mtim.tv_nsec, static_cast<long>(m.mtime.nanos)) << name;
  }
  // Runs `body` in a child that is an ordinary user; true if it had no test failure.
  bool AsOrdinaryUser(const std::function<void()>& body) {
    if (geteuid() != 0) {
      body();
      return !HasFailure();
    }
    EXPECT_EQ(::chown(base_.c_str(), 65534, 65534), 0);
    const pid_t child = ::fork();
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
  std::optional<MetadataWriter> writer_;
};

TEST_F(MetadataWriterTest, ANewFileGetsItsModeAndTime) {
  Begin();
  for (uint32_t mode : {0u, 0400u, 0644u, 0777u, 01644u, 06711u}) {
    const std::string name = absl::StrCat("f", mode);
    SetOnNew(name, 0600, Mine(mode, 1000 + mode));
    EXPECT_EQ(Stat(name).st_mode & 07777, mode);
    ExpectTime(name, Mine(mode, 1000 + mode));
  }
  EXPECT_THAT(observer_.problems, IsEmpty());
}

TEST_F(MetadataWriterTest, TimesAreLeftWhenTheyAreNotWanted) {
  options_.times = false;
  Begin();
  const Metadata m = Mine(0755, 1000);
  SetOnNew("f", 0600, m);
  Write("o", "");
  SetOnObject("o", m);
  std::filesystem::create_directory(At("d"));
  SetOnDirectory("d", m);
  for (const char* name : {"f", "o", "d"}) {
    EXPECT_GT(Stat(name).st_mtim.tv_sec, 1000) << name;
    EXPECT_EQ(Stat(name).st_mode & 07777, 0755u) << name;
  }
}

TEST_F(MetadataWriterTest, ADirectoryGetsItsModeTimeAndAttributes) {
  Begin();
  std::filesystem::create_directory(At("d"));
  const Metadata m = With(Mine(01555, 1000), {{"user.a", "b"}});
  SetOnDirectory("d", m);
  EXPECT_EQ(Stat("d").st_mode & 07777, 01555u);
  ExpectTime("d", m);
  EXPECT_EQ(run_->stats().errors(), 0u);
  if (run_->stats().xattrs_not_restored != 0) GTEST_SKIP() << "no user attributes here";
  EXPECT_EQ(Attribute("d", "user.a"), "b");
}

TEST_F(MetadataWriterTest, ASymbolicLinkItselfGetsItNotWhatItPointsTo) {
  Begin();
  Write("to", "");
  ASSERT_EQ(::chmod(At("to").c_str(), 0600), 0);
  const struct stat before = Stat("to");
  std::filesystem::create_symlink("to", At("l"));
  const Metadata m = Mine(0700, 1000);  // which no link has
  SetOnObject("l", m);
  ExpectTime("l", m);
  EXPECT_EQ(Stat("to").st_mode, before.st_mode);
  EXPECT_EQ(Stat("to").st_mtim.tv_sec, before.st_mtim.tv_sec);
  EXPECT_THAT(observer_.problems, IsEmpty());
}

TEST_F(MetadataWriterTest, SetuidComesBackAfterTheOwnerWasChanged) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  Begin();
  Metadata m = With(Mine(06755), {{"user.a", "b"}});
  m.uid = 1001;
  m.gid = 1002;
  SetOnNew("new", 0600, m);
  Write("object", "");
  ASSERT_EQ(::chmod(At("object").c_str(), 06755), 0);  // which chown takes away
  SetOnObject("object", m);
  std::filesystem::create_directory(At("d"));
  SetOnDirectory("d", m);
  for (const char* name : {"new", "object", "d"}) {
    EXPECT_EQ(Stat(name).st_mode & 07777, 06755u) << name;
    EXPECT_EQ(Stat(name).st_uid, 1001u) << name;
    EXPECT_EQ(Stat(name).st_gid, 1002u) << name;
  }
  EXPECT_EQ(run_->stats().errors(), 0u);
}

TEST_F(MetadataWriterTest, SetuidOfSomebodyElseIsNotGivenToWhoRestores) {
  options_.owner = false;
  Begin();
  Metadata m = Mine(06755);
  ++m.uid;
  ++m.gid;
  SetOnNew("new", 0600, m);
  Write("object", "");
  SetOnObject("object", m);
  for (const char* name : {"new", "object"}) {
    EXPECT_EQ(Stat(name).st_mode & 07777, 0755u) << name;
    EXPECT_EQ(Stat(name).st_uid, geteuid()) << name;
  }
  EXPECT_THAT(observer_.problems, IsEmpty());
}

TEST_F(MetadataWriterTest, AnOwnerThatIsRefusedIsNamedAndTheRestIsSet) {
  EXPECT_TRUE(AsOrdinaryUser([&] {
    options_.owner = true;
    Begin();
    Metadata m = Mine(06751, 1000);
    m.uid = 1;
    m.gid = 1;
    SetOnNew("new", 0600, m);
    Write("object", "");
    SetOnObject("object", m);
    std::filesystem::create_directory(At("d"));
    SetOnDirectory("d", m);
    EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget),
                ElementsAre("/in/new: set owner", "/in/object: set owner", "/in/d: set owner"));
    for (const char* name : {"new", "object"}) {
      EXPECT_EQ(Stat(name).st_mode & 07777, 0751u) << name << ": not setuid for somebody else";
      ExpectTime(name, m);
    }
    ExpectTime("d", m);
  }));
}

TEST_F(MetadataWriterTest, AttributesThatAreNotPermittedAreCountedAndNotedOnceForTheirClass) {
  EXPECT_TRUE(AsOrdinaryUser([&] {
    options_.owner = false;
    Begin();
    SetOnNew("a", 0600, With(Mine(0644), {{"trusted.x", "1"}, {"trusted.y", "2"}}));
    SetOnNew("b", 0600, With(Mine(0444), {{"trusted.x", "1"}, {"user.a", "b"}}));
    EXPECT_EQ(run_->stats().errors(), 0u);
    const std::vector<std::string> notes = observer_.Said(RestoreProblemKind::kNote);
    ASSERT_FALSE(notes.empty());
    EXPECT_EQ(notes[0], "/in/a: set extended attribute trusted.x");
    if (notes.size() != 1) GTEST_SKIP() << "no user attributes here";
    EXPECT_EQ(run_->stats().xattrs_not_restored, 3u);
    EXPECT_EQ(Attribute("b", "user.a"), "b");
    EXPECT_EQ(Stat("b").st_mode & 07777, 0444u);
  }));
}

TEST_F(MetadataWriterTest, SoAreThoseThatNobodyMaySetOnSpecialFiles) {
  EXPECT_TRUE(AsOrdinaryUser([&] {
    options_.owner = false;
    Begin();
    ASSERT_EQ(::mknod(At("p").c_str(), S_IFIFO | 0600, 0), 0);
    SetOnObject("p", With(Mine(0640), {{"user.a", "b"}}));
    EXPECT_EQ(run_->stats().errors(), 0u);
    EXPECT_EQ(run_->stats().xattrs_not_restored, 1u);
    EXPECT_EQ(Stat("p").st_mode & 07777, 0640u);
  }));
}

TEST_F(MetadataWriterTest, AnOrdinaryUserSetsAttributesOfAFileThatNobodyMayWrite) {
  EXPECT_TRUE(AsOrdinaryUser([&] {
    options_.owner = false;
    Begin();
    SetOnNew("f", 0, With(Mine(0), {{"user.a", "b"}}));
    EXPECT_EQ(run_->stats().errors(), 0u);
    EXPECT_EQ(Stat("f").st_mode & 07777, 0u);
    if (run_->stats().xattrs_not_restored != 0) GTEST_SKIP() << "no user attributes here";
    ASSERT_EQ(::chmod(At("f").c_str(), 0400), 0);
    EXPECT_EQ(Attribute("f", "user.a"), "b");
  }));
}

TEST_F(MetadataWriterTest, AnAttributeThatCannotBeIsAnErrorOfTheTarget) {
  Begin();
  SetOnNew("f", 0600, With(Mine(0644), {{"nonsense", "1"}, {"user." + std::string(300, 'x'), "1"}}));
  EXPECT_EQ(run_->stats().target_errors + run_->stats().xattrs_not_restored, 2u);
  EXPECT_GE(run_->stats().target_errors, 1u);
  EXPECT_EQ(Stat("f").st_mode & 07777, 0644u) << "and the rest is set";
  EXPECT_OK(run_->failure());
}

TEST_F(MetadataWriterTest, NoRoomForAnAttributeIsNoFullDisk) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  Begin();
  // A file system that keeps all attributes of an object in one block, if this machine lets us.
  const std::string image = base_ + "/image";
  const std::string mount = absl::StrCat("truncate -s 4M ", image, " && /sbin/mkfs.ext4 -q -F -b 1024 -O ^ea_inode ",
                                         image, " && mount -o loop ", image, " ", options_.target);
  if (std::system(("(" + mount + ") >/dev/null 2>&1").c_str()) != 0) GTEST_SKIP() << "cannot mount";
  SetOnNew("f", 0600, With(Mine(0644, 1000), {{"user.large", std::string(2000, 'x')}, {"user.small", "b"}}));
  EXPECT_THAT(observer_.Said(RestoreProblemKind::kTarget), ElementsAre("/in/f: set extended attribute user.large"));
  EXPECT_EQ(Attribute("f", "user.small"), "b") << "and the rest is set";
  EXPECT_EQ(Stat("f").st_mode & 07777, 0644u);
  EXPECT_OK(run_->failure());
  EXPECT_EQ(std::system(("umount " + options_.target).c_str()), 0);
}

// A POSIX ACL: version 2, then (tag, permissions, id) of owner, user 1234, group, mask and others.
std::string Acl() {
  std::string out("\2\0\0\0", 4);
  for (const auto& [tag, id] : {std::pair{1, ~0u}, {2, 1234u}, {4, ~0u}, {16, ~0u}, {32, ~0u}}) {
    out += static_cast<char>(tag);
    out += std::string("\0\7\0", 3);
    for (int i = 0; i < 4; ++i) out += static_cast<char>(id >> (8 * i));
  }
  return out;
}

TEST_F(MetadataWriterTest, AnAccessAclThatIsNotOfTheSnapshotGoes) {
  Begin();
  const std::string acl = Acl();
  Write("there", "");
  if (::setxattr(At("there").c_str(), kAccessAcl, acl.data(), acl.size(), 0) != 0) GTEST_SKIP() << "no ACLs here";
  SetOnObject("there", Mine(0640), true);
  EXPECT_EQ(Attribute("there", kAccessAcl), "(none)");
  EXPECT_EQ(Stat("there").st_mode & 07777, 0640u);
  // One that comes from a default ACL.
  ASSERT_EQ(::setxattr(options_.target.c_str(), kDefaultAcl, acl.data(), acl.size(), 0), 0);
  SetOnNew("new", 0666, Mine(0640), true);
  EXPECT_EQ(Attribute("new", kAccessAcl), "(none)");
  EXPECT_EQ(Stat("new").st_mode & 07777, 0640u);
}

TEST_F(MetadataWriterTest, AnAccessAclOfTheSnapshotIsSet) {
  Begin();
  SetOnNew("f", 0600, With(Mine(0777), {{kAccessAcl, Acl()}}));
  if (run_->stats().xattrs_not_restored != 0) GTEST_SKIP() << "no ACLs here";
  EXPECT_EQ(Attribute("f", kAccessAcl), Acl());
  EXPECT_EQ(Stat("f").st_mode & 07777, 0777u);
  EXPECT_THAT(observer_.problems, IsEmpty());
}

}  // namespace
}  // namespace holdfast
