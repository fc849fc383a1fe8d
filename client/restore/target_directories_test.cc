#include "client/restore/target_directories.h"

#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "client/restore/target_testing.h"
#include "client/restore/umask.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using TargetDirectoriesTest = TargetTest;

TEST_F(TargetDirectoriesTest, SetMetadataWithTheLastReferenceDeepestFirst) {
  Open();
  DirRef a = MakeDir(root_, "a", Mine(0555, 1000));
  DirRef b = MakeDir(a, "b", Mine(0750, 2000));
  EXPECT_EQ(Stat("a").st_mode & 07777, 0700u) << "closed until everything below is done";
  EXPECT_EQ(Stat("a/b").st_mode & 07777, 0700u);
  a = DirRef();
  EXPECT_EQ(Stat("a").st_mode & 07777, 0700u) << "b keeps it";
  b = DirRef();
  EXPECT_EQ(Stat("a/b").st_mode & 07777, 0750u);
  EXPECT_EQ(Stat("a/b").st_mtim.tv_sec, 2000);
  EXPECT_EQ(Stat("a").st_mode & 07777, 0555u);
  EXPECT_EQ(Stat("a").st_mtim.tv_sec, 1000);
  EXPECT_EQ(run_->stats().directories, 2u);
}

TEST_F(TargetDirectoriesTest, AreClosedWhateverTheUmask) {
  const mode_t before = ::umask(0777);
  Open();
  DirRef a = MakeDir(root_, "a");
  DirRef b = MakeDir(a, "b");
  ::umask(before);
  EXPECT_EQ(Stat("").st_mode & 07777, 0700u);
  EXPECT_EQ(Stat("a/b").st_mode & 07777, 0700u);
}

// As in a rescue system: the umask cannot be read, and nothing is reached by the name of its descriptor.
TEST_F(TargetDirectoriesTest, AreMadeAlsoWhereThereIsNoProc) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const pid_t child = ::fork();
  if (child == 0) {
    if (::chroot(base_.c_str()) != 0 || ::chdir("/") != 0) ::_exit(2);
    EXPECT_EQ(ReadUmask(), 0777u) << "not known";
    options_.target = "/above/target";
    Open();
    DirRef a = MakeDir(root_, "a");
    DirRef b = MakeDir(a, "b");
    EXPECT_EQ(Stat("").st_mode & 07777, 0700u);
    EXPECT_EQ(Stat("a/b").st_mode & 07777, 0700u);
    ::_exit(HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST_F(TargetDirectoriesTest, StayClosedWhenTheRestoreFailed) {
  Open();
  DirRef a = MakeDir(root_, "a", Mine(0755));
  run_->Fail(absl::UnavailableError("gone"));
  a = DirRef();
  EXPECT_EQ(Stat("a").st_mode & 07777, 0700u);
}

TEST_F(TargetDirectoriesTest, ExistingOnesAreMergedAndOtherThingsAreReplacedOnlyWithAlways) {
  Write("d/x", "x");
  Write("f", "file");
  std::filesystem::create_directory_symlink(base_, At("l"));
  Open();
  EXPECT_TRUE(root_->existed());
  EXPECT_TRUE(MakeDir(root_, "d")->existed());
  EXPECT_FALSE(MakeDir(root_, "new")->existed());
  PinnedDir pinned;
  for (const char* name : {"f", "l"}) {
    EXPECT_THAT(directories_->MakeDirectory(root_, pinned, name, std::nullopt),
                StatusIs(absl::StatusCode::kAlreadyExists));
  }
  options_.overwrite = OverwriteMode::kAlways;
  for (const char* name : {"f", "l"}) {
    EXPECT_FALSE(MakeDir(root_, name)->existed());
    EXPECT_TRUE(S_ISDIR(Stat(name).st_mode));
  }
  EXPECT_EQ(Read("d/x"), "x");
}

TEST_F(TargetDirectoriesTest, RefuseNamesThatLeadElsewhere) {
  Open();
  PinnedDir pinned;
  for (const char* name : {"", ".", "..", "a/b"}) {
    EXPECT_THAT(directories_->MakeDirectory(root_, pinned, name, std::nullopt),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST_F(TargetDirectoriesTest, AreOpenedAgainAfterOthersButNotWhenExchanged) {
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 64;  // so that 16 stay open
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  Open();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  std::vector<DirRef> dirs = {MakeDir(root_, "deep")};
  for (int i = 0; i < 40; ++i) dirs.push_back(MakeDir(dirs.back(), absl::StrCat("d", i), Mine(0755)));
  PinnedDir pinned;
  EXPECT_OK(pinned.Fd(dirs[3]));
  EXPECT_OK(pinned.Fd(dirs[40]));
  EXPECT_OK(pinned.Fd(dirs[20]));
  EXPECT_EQ(directories_->RelativePath(dirs[2]), "deep/d0/d1");
  EXPECT_EQ(directories_->SnapshotPath(dirs[1], "f"), "/in/deep/d0/f");
  EXPECT_EQ(directories_->SnapshotPath(root_, ""), "/in");
  // Enough others that none of them is open any more.
  std::vector<DirRef> others;
  for (int i = 0; i < 40; ++i) others.push_back(MakeDir(root_, absl::StrCat("other", i)));
  pinned.Release();
  for (const DirRef& other : others) EXPECT_OK(pinned.Fd(other));
  std::filesystem::rename(At("deep"), At("moved"));
  std::filesystem::create_directory(At("deep"));
  EXPECT_THAT(pinned.Fd(dirs[0]), StatusIs(absl::StatusCode::kAborted));
  std::filesystem::remove(At("deep"));
  std::filesystem::create_directory_symlink("moved", At("deep"));
  EXPECT_FALSE(pinned.Fd(dirs[0]).ok());
  pinned.Release();
  dirs.clear();
  EXPECT_EQ(run_->stats().target_errors, 40u) << "their metadata, which nothing else may get";
}

TEST_F(TargetDirectoriesTest, LearnWhomNewFilesBelongToOnlyWhereNobodyChangesIt) {
  Write("there/x", "");
  Open();
  DirRef there = MakeDir(root_, "there"), made = MakeDir(root_, "made");
  for (const DirRef& dir : {there, made}) {
    EXPECT_EQ(dir->creation_owner(), std::nullopt);
    dir->LearnCreationOwner({1, 2});
  }
  EXPECT_EQ(there->creation_owner(), std::nullopt);
  EXPECT_EQ(made->creation_owner(), (Owner{1, 2}));
}

TEST_F(TargetDirectoriesTest, OnlyWhatIsOursAndClosedCanBeJustMade) {
  for (uint32_t mode : {0700u, 0u, 0500u, 02700u}) {
    EXPECT_TRUE(CanBeJustMade(S_IFDIR | mode, 1000, 1000)) << std::oct << mode;
    EXPECT_FALSE(CanBeJustMade(S_IFDIR | mode, 1001, 1000)) << std::oct << mode;
  }
  for (uint32_t mode : {0777u, 0710u, 0720u, 0701u, 04700u, 01700u}) {
    EXPECT_FALSE(CanBeJustMade(S_IFDIR | mode, 1000, 1000)) << std::oct << mode;
  }
}

// To whoever opened the target as root, what an ordinary user makes looks like what he put in place of ours.
TEST_F(TargetDirectoriesTest, ADirectoryOfSomebodyElseIsNotTakenForOneJustMade) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  std::filesystem::create_directories(options_.target);
  ASSERT_EQ(::chmod(options_.target.c_str(), 0777), 0);
  Open();
  ASSERT_EQ(::seteuid(65534), 0);
  DirRef theirs = MakeDir(root_, "theirs");
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_EQ(Stat("theirs").st_uid, 65534u);
  EXPECT_TRUE(theirs->existed());
  DirRef below = MakeDir(theirs, "ours");
  EXPECT_FALSE(below->existed());
}

TEST_F(TargetDirectoriesTest, NorIsTheTargetItself) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  // The directories above may be closed to others.
  ASSERT_EQ(::chmod(base_.c_str(), 0777), 0);
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(base_);
  options_.target = "theirs";
  ::setfsuid(65534);
  Open();
  ::setfsuid(0);
  EXPECT_EQ(Stat("").st_uid, 65534u);
  EXPECT_TRUE(root_->existed());
  std::filesystem::current_path(before);
}

// Where others may write the directory above. Whether the exchange falls between making and opening is up to chance, so
// many are tried; what is ours and closed looks as if it were just made.
TEST_F(TargetDirectoriesTest, ALinkInThePlaceOfTheTargetJustMadeIsNotFollowed) {
  const std::string elsewhere = base_ + "/elsewhere", at = options_.target;
  ASSERT_EQ(::mkdir(elsewhere.c_str(), 0700), 0);
  struct stat st;
  ASSERT_EQ(::lstat(elsewhere.c_str(), &st), 0);
  std::atomic<int> exchanged{0};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      if (::rmdir(at.c_str()) == 0 && ::symlink(elsewhere.c_str(), at.c_str()) == 0) ++exchanged;
    }
  });
  options_.target += "/";
  run_.emplace(options_, observer_);
  for (int i = 0; i < 3000 && !HasFailure(); ++i) {
    absl::StatusOr<std::unique_ptr<TargetDirectories>> opened = TargetDirectories::Open(*run_, "/in");
    struct stat root;
    if (opened.ok() && ::fstat((*opened)->root_fd(), &root) == 0 && root.st_ino == st.st_ino) {
      EXPECT_TRUE((*opened)->Root(std::nullopt)->existed()) << i;
    }
    ::remove(at.c_str());
  }
  stop = true;
  other.join();
  EXPECT_GT(exchanged, 0);
}

TEST_F(TargetDirectoriesTest, OneJustMadeIsOursAlsoBelowSetgid) {
  std::filesystem::create_directories(options_.target);
  ASSERT_EQ(::chmod(options_.target.c_str(), 02755), 0);
  Open();
  DirRef made = MakeDir(root_, "made");
  EXPECT_FALSE(made->existed());
  EXPECT_EQ(Stat("made").st_mode & 0777, 0700u);
}

TEST_F(TargetDirectoriesTest, TheTargetExistedOnlyWhenItWasNotMade) {
  Open();
  EXPECT_FALSE(root_->existed());
  root_ = DirRef();
  Open();
  EXPECT_TRUE(root_->existed());
}

TEST_F(TargetDirectoriesTest, SayWhyTheTargetCannotBe) {
  RestoreOptions options;
  RestoreRun run(options, observer_);
  EXPECT_THAT(TargetDirectories::Open(run, ""), StatusIs(absl::StatusCode::kInvalidArgument));
  std::ofstream(base_ + "/file") << "x";
  options.target = base_ + "/file";
  EXPECT_FALSE(TargetDirectories::Open(run, "").ok());
  options.target = base_ + "/file/below/it";
  EXPECT_FALSE(TargetDirectories::Open(run, "").ok());
}

}  // namespace
}  // namespace holdfast
