#include "client/restore/target_files.h"

#include <sys/fsuid.h>

#include "client/restore/target_testing.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::IsEmpty;
using ::testing::Optional;

class TargetFilesTest : public TargetTest {
 protected:
  int Fd(const DirRef& dir) {
    absl::StatusOr<int> fd = pinned_.Fd(dir);
    EXPECT_OK(fd);
    return fd.value_or(-1);
  }
  void TearDown() override { pinned_.Release(); }
  void MakeFile(const DirRef& dir, const std::string& name, uint32_t mode, bool replace = false) {
    const Metadata m = Mine(mode);
    ASSERT_OK_AND_ASSIGN(NewFile file, files_->CreateFile(dir, Fd(dir), name, m, replace));
    ASSERT_OK(files_->FinishFile(dir, Fd(dir), name, m, file));
  }
  size_t Count() const {
    return std::distance(std::filesystem::directory_iterator(options_.target), std::filesystem::directory_iterator());
  }
  PinnedDir pinned_;
};

TEST_F(TargetFilesTest, FilesHaveTheirModeWhateverTheUmask) {
  const mode_t before = ::umask(0);
  for (mode_t mask : {0, 022, 077, 0777}) {
    options_.target = absl::StrCat(base_, "/with", mask);
    ::umask(mask);
    root_ = DirRef();
    files_.reset();
    directories_.reset();
    Open();
    for (uint32_t mode : {0u, 0400u, 0644u, 0666u, 0755u, 0777u, 06755u, 01666u}) {
      const std::string name = absl::StrCat("f", mode);
      MakeFile(root_, name, mode);
      EXPECT_EQ(Stat(name).st_mode & 07777, mode) << std::oct << mask << " " << mode;
      Entry fifo;
      fifo.type = EntryType::kFifo;
      fifo.name = absl::StrCat("p", mode);
      ASSERT_OK(files_->MakeSpecial(root_, Fd(root_), fifo, Mine(mode), false));
      EXPECT_EQ(Stat(fifo.name).st_mode & 07777, mode) << std::oct << mask << " " << mode;
    }
    pinned_.Release();
  }
  ::umask(before);
}

TEST_F(TargetFilesTest, AreClosedToStrangersUntilTheyAreFinished) {
  std::filesystem::create_directories(options_.target);
  Open();
  const Metadata m = Mine(0666);
  ASSERT_OK_AND_ASSIGN(NewFile file, files_->CreateFile(root_, Fd(root_), "f", m, false));
  EXPECT_EQ(Stat("f").st_mode & 0077, 0u) << "the directory may be somebody else's";
  ASSERT_OK(files_->FinishFile(root_, Fd(root_), "f", m, file));
  EXPECT_EQ(Stat("f").st_mode & 07777, 0666u);
}

// What a directory gives to new files shows in the first one.
TEST_F(TargetFilesTest, AreClosedToTheFirstGroupUnlessThatIsKnownToBeTheRightOne) {
  options_.owner = true;
  const mode_t before = ::umask(0);
  Open();
  auto mode_meanwhile = [&](const std::string& name, uint32_t gid) {
    Metadata m = Mine(0660);
    m.gid = gid;
    absl::StatusOr<NewFile> file = files_->CreateFile(root_, Fd(root_), name, m, false);
    EXPECT_OK(file);
    const mode_t mode = Stat(name).st_mode & 07777;
    EXPECT_OK(files_->FinishFile(root_, Fd(root_), name, m, file.value_or(NewFile())));
    EXPECT_EQ(Stat(name).st_mode & 07777, 0660u) << name;
    return mode;
  };
  EXPECT_EQ(mode_meanwhile("first", getegid()), 0600u);
  EXPECT_EQ(mode_meanwhile("second", getegid()), 0660u);
  EXPECT_EQ(mode_meanwhile("of another", getegid() + 1), 0600u);
  ::umask(before);
}

TEST_F(TargetFilesTest, TheExistingFileStaysUntilItsReplacementIsFinished) {
  Write("f", "old");
  Open();
  const Metadata m = Mine(0644);
  EXPECT_THAT(files_->CreateFile(root_, Fd(root_), "f", m, false), StatusIs(absl::StatusCode::kAlreadyExists));
  ASSERT_OK_AND_ASSIGN(NewFile file, files_->CreateFile(root_, Fd(root_), "f", m, true));
  EXPECT_EQ(Read("f"), "old");
  files_->DiscardFile(Fd(root_), "f", file);
  EXPECT_EQ(Read("f"), "old");
  EXPECT_EQ(Count(), 1u);
  MakeFile(root_, "f", 0600, true);
  EXPECT_EQ(Read("f"), "");
  EXPECT_EQ(Count(), 1u);
}

TEST_F(TargetFilesTest, AFileIsNotRenamedOverADirectory) {
  Write("d/x", "x");
  Open();
  const Metadata m = Mine(0644);
  ASSERT_OK_AND_ASSIGN(NewFile file, files_->CreateFile(root_, Fd(root_), "d", m, true));
  EXPECT_FALSE(files_->FinishFile(root_, Fd(root_), "d", m, file).ok());
  Entry link;
  link.type = EntryType::kSymlink;
  link.name = "d";
  link.symlink_target = "x";
  EXPECT_FALSE(files_->MakeSpecial(root_, Fd(root_), link, m, true).ok());
  EXPECT_EQ(Read("d/x"), "x");
  EXPECT_EQ(Count(), 1u) << "nothing temporary is left";
}

TEST_F(TargetFilesTest, RefusesSpecialFilesThatCannotBe) {
  Open();
  Entry e;
  e.name = "x";
  e.type = static_cast<EntryType>(99);
  EXPECT_THAT(files_->MakeSpecial(root_, Fd(root_), e, Mine(0644), false),
              StatusIs(absl::StatusCode::kInvalidArgument));
  e.type = EntryType::kSymlink;
  e.symlink_target = std::string("a\0b", 3);
  EXPECT_THAT(files_->MakeSpecial(root_, Fd(root_), e, Mine(0644), false),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(Count(), 0u);
}

TEST_F(TargetFilesTest, LooksAtNamesWithoutFollowingThem) {
  Write("f", "content");
  std::filesystem::create_symlink("f", At("l"));
  Open();
  ASSERT_OK_AND_ASSIGN(std::optional<struct stat> there, files_->Look(Fd(root_), "l"));
  EXPECT_TRUE(S_ISLNK(there->st_mode));
  ASSERT_OK_AND_ASSIGN(there, files_->Look(Fd(root_), "nothing"));
  EXPECT_EQ(there.has_value(), false);
  EXPECT_FALSE(files_->Look(Fd(root_), "f/below").ok());
  EXPECT_TRUE(files_->IsSymlinkTo(Fd(root_), "l", "f"));
  EXPECT_FALSE(files_->IsSymlinkTo(Fd(root_), "l", ""));
  EXPECT_FALSE(files_->IsSymlinkTo(Fd(root_), "l", "g"));
  EXPECT_FALSE(files_->IsSymlinkTo(Fd(root_), "l", "ff"));
  EXPECT_FALSE(files_->IsSymlinkTo(Fd(root_), "f", "f"));
}

TEST_F(TargetFilesTest, GivesNoMetadataToAnObjectThatWasExchanged) {
  Write("f", "content");
  Write("g", "other");
  Open();
  ASSERT_OK_AND_ASSIGN(std::optional<struct stat> seen, files_->Look(Fd(root_), "f"));
  ASSERT_OK(files_->SetMetadata(root_, Fd(root_), "f", Mine(0751, 1234), *seen));
  EXPECT_EQ(Stat("f").st_mode & 07777, 0751u);
  EXPECT_EQ(Stat("f").st_mtim.tv_sec, 1234);
  const struct stat before = Stat("g");
  std::filesystem::remove(At("f"));
  std::filesystem::rename(At("g"), At("f"));
  EXPECT_THAT(files_->SetMetadata(root_, Fd(root_), "f", Mine(0777, 1), *seen), StatusIs(absl::StatusCode::kAborted));
  EXPECT_EQ(Stat("f").st_mode, before.st_mode);
  std::filesystem::remove(At("f"));
  EXPECT_FALSE(files_->SetMetadata(root_, Fd(root_), "f", Mine(0777, 1), *seen).ok());
}

// To root, what is made as an ordinary user looks like what he put in place of ours.
TEST_F(TargetFilesTest, GivesNoMetadataToASpecialFileOfSomebodyElse) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  std::filesystem::create_directories(options_.target);
  ASSERT_EQ(::chmod(options_.target.c_str(), 0777), 0);
  Open();
  Entry fifo;
  fifo.type = EntryType::kFifo;
  fifo.name = "p";
  const int fd = Fd(root_);
  ::setfsuid(65534);
  EXPECT_OK(files_->MakeSpecial(root_, fd, fifo, Mine(0751), false));
  ::setfsuid(0);
  EXPECT_EQ(observer_.Said(RestoreProblemKind::kTarget), std::vector<std::string>{"/in/p: set metadata"});
  EXPECT_EQ(Stat("p").st_uid, 65534u);
  EXPECT_NE(Stat("p").st_mode & 07777, 0751u);
}

TEST_F(TargetFilesTest, ALinkOverAnotherNameOfTheSameObjectLeavesNothingTemporary) {
  Write("a", "content");
  Open();
  ASSERT_OK(files_->Link(Fd(root_), "a", Fd(root_), "b", false));
  EXPECT_THAT(files_->Link(Fd(root_), "a", Fd(root_), "b", false), StatusIs(absl::StatusCode::kAlreadyExists));
  ASSERT_OK(files_->Link(Fd(root_), "a", Fd(root_), "b", true));
  EXPECT_EQ(Count(), 2u);
  EXPECT_EQ(Stat("b").st_ino, Stat("a").st_ino);
  Write("c", "other");
  ASSERT_OK(files_->Link(Fd(root_), "a", Fd(root_), "c", true));
  EXPECT_EQ(Read("c"), "content");
  EXPECT_EQ(Count(), 3u);
}

TEST_F(TargetFilesTest, SetuidGoesWhenTheOwnerItWasMeantForDoesNotComeAlong) {
  options_.owner = false;
  Open();
  Metadata m = Mine(06755);
  m.uid += 1;
  ASSERT_OK_AND_ASSIGN(NewFile file, files_->CreateFile(root_, Fd(root_), "f", m, false));
  ASSERT_OK(files_->FinishFile(root_, Fd(root_), "f", m, file));
  EXPECT_EQ(Stat("f").st_mode & 07777, 02755u);
}

}  // namespace
}  // namespace holdfast
