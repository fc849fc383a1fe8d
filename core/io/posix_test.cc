#include "core/io/posix.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "core/base/status_testing.h"
#include "core/io/errno_status.h"
#include "core/io/io_conformance.h"

namespace holdfast {
namespace {

namespace fs = std::filesystem;

struct TemporaryDirectory {
  TemporaryDirectory() {
    path = testing::TempDir() + "/posix_XXXXXX";
    if (mkdtemp(path.data()) == nullptr) abort();
  }
  ~TemporaryDirectory() { fs::remove_all(path); }
  std::string path;
};

INSTANTIATE_TEST_SUITE_P(Posix, IoConformance, testing::Values(IoFactory([] {
                           auto directory = std::make_shared<TemporaryDirectory>();
                           return IoUnderTest{directory, std::make_shared<Io>(PosixIo()), directory->path};
                         })));

TEST(ErrnoStatus, SaysWhatTheCallerShouldDo) {
  EXPECT_THAT(ErrnoStatus(ENOENT, "open", "/x"), StatusIs(absl::StatusCode::kNotFound, "open /x: No such file"));
  EXPECT_THAT(ErrnoStatus(EEXIST, "open", "/x"), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(ErrnoStatus(EROFS, "open", "/x"), StatusIs(absl::StatusCode::kPermissionDenied));
  for (int e : {ENOSPC, EDQUOT, EMFILE}) {
    EXPECT_THAT(ErrnoStatus(e, "write", "/x"), StatusIs(absl::StatusCode::kResourceExhausted));
  }
  EXPECT_THAT(ErrnoStatus(EXDEV, "rename", "/x"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(ErrnoStatus(EIO, "read", "/x"), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(ParentDirectory, IsWhereAPathIs) {
  EXPECT_EQ(ParentDirectory("a"), ".");
  EXPECT_EQ(ParentDirectory("a/b"), "a");
  EXPECT_EQ(ParentDirectory("a/b/"), "a");
  EXPECT_EQ(ParentDirectory("a//b"), "a");
  EXPECT_EQ(ParentDirectory("/a"), "/");
  EXPECT_EQ(ParentDirectory("/a/b"), "/a");
  EXPECT_EQ(ParentDirectory("/"), "/");
}

TEST(PosixFiles, MakesPrivateFilesAndDirectories) {
  TemporaryDirectory directory;
  umask(0);
  Io io = PosixIo();
  ASSERT_OK(io.files.MakeDirectories(directory.path + "/a/b"));
  ASSERT_OK(io.files.Open(directory.path + "/a/f", OpenMode::kCreateNew));
  struct stat st;
  ASSERT_EQ(stat((directory.path + "/a/b").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0700u);
  ASSERT_EQ(stat((directory.path + "/a/f").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
}

TEST(PosixFiles, FollowsLinksOnlyWhereItSaysSo) {
  TemporaryDirectory directory;
  Io io = PosixIo();
  ASSERT_OK(WriteFileAtomically(io, directory.path + "/f", "content"));
  fs::create_symlink("f", directory.path + "/link");
  ASSERT_EQ(mkfifo((directory.path + "/fifo").c_str(), 0600), 0);
  EXPECT_OK(io.files.Open(directory.path + "/link", OpenMode::kRead));
  EXPECT_THAT(io.files.Open(directory.path + "/link", OpenMode::kReadNoFollow),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(io.files.Open(directory.path + "/fifo", OpenMode::kReadNoFollow),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK_AND_ASSIGN(FileInfo followed, io.files.Stat(directory.path + "/link"));
  EXPECT_TRUE(followed.is_regular);
  ASSERT_OK_AND_ASSIGN(FileInfo itself, io.files.StatNoFollow(directory.path + "/link"));
  EXPECT_FALSE(itself.is_regular);
}

TEST(PosixFiles, LeavesNoDescriptorOpen) {
  TemporaryDirectory directory;
  Io io = PosixIo();
  auto count = [] { return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()); };
  const auto before = count();
  ASSERT_OK(io.files.MakeDirectories(directory.path + "/a/b"));
  ASSERT_OK(WriteFileAtomically(io, directory.path + "/f", "content"));
  EXPECT_FALSE(io.files.Open(directory.path, OpenMode::kRead).ok());
  EXPECT_OK(io.files.List(directory.path));
  EXPECT_EQ(count(), before);
}

TEST(PosixFiles, IsNotInheritedByPrograms) {
  TemporaryDirectory directory;
  Io io = PosixIo();
  ASSERT_OK_AND_ASSIGN(auto file, io.files.Open(directory.path + "/f", OpenMode::kCreateNew));
  for (auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    if (fs::read_symlink(entry, error) != directory.path + "/f") continue;
    EXPECT_TRUE(fcntl(std::stoi(entry.path().filename()), F_GETFD) & FD_CLOEXEC);
  }
}

TEST(PosixFiles, ReadsFilesThatHaveNoSize) { EXPECT_OK(ReadWholeFile(PosixIo().files, "/proc/self/maps", 1u << 20)); }

TEST(PosixFiles, ReportsAFullDisk) {
  ASSERT_OK_AND_ASSIGN(auto file, PosixIo().files.Open("/dev/full", OpenMode::kAppendExisting));
  EXPECT_THAT(file->Append({"x"}), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace holdfast
