#include "storage/file/file_blob_store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "core/base/status_testing.h"
#include "core/io/posix.h"
#include "storage/conformance/blob_store_conformance.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
namespace fs = std::filesystem;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = testing::TempDir() + "/file_store_XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() { fs::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

INSTANTIATE_TEST_SUITE_P(File, BlobStoreConformance, testing::Values(BlobStoreFactory([] {
                           auto directory = std::make_shared<TemporaryDirectory>();
                           auto store = FileBlobStore::Open(PosixIo(), directory->path() + "/root");
                           BlobStoreUnderTest t;
                           t.store = *std::move(store);
                           t.keep = directory;
                           return t;
                         })));

BlobName Name(std::string_view name) { return BlobName::FromTrusted(std::string(name)); }

class SpoolSource : public StringBlobSource {
 public:
  SpoolSource(std::string path, std::string_view bytes) : StringBlobSource(bytes), path_(std::move(path)) {}
  std::optional<std::string> spool_path() const override { return path_; }

 private:
  std::string path_;
};

class FileBlobStoreTest : public testing::Test {
 protected:
  FileBlobStoreTest() { Reopen(); }
  void Reopen(FileBlobStoreOptions options = {}) {
    store_.reset();
    auto store = FileBlobStore::Open(io_, root_, options);
    EXPECT_OK(store);
    store_ = *std::move(store);
  }
  absl::Status Put(std::string_view name, std::string_view bytes) {
    return PutBytes(*store_, Name(name), bytes, PutMode::kIfAbsent);
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    auto all = ListAll(*store_, "");
    EXPECT_OK(all);
    for (auto& info : *all) names.push_back(info.name);
    return names;
  }

  Io io_ = PosixIo();
  TemporaryDirectory directory_;
  const std::string root_ = directory_.path() + "/deep/root";
  std::unique_ptr<FileBlobStore> store_;
};

TEST_F(FileBlobStoreTest, KeepsItsBlobsAsPlainPrivateFiles) {
  umask(0);
  ASSERT_OK(Put("packs/d/ab/cd", "content"));
  EXPECT_THAT(ReadWholeFile(io_.files, root_ + "/packs/d/ab/cd", 100), IsOkAndHolds(std::string("content")));
  struct stat st;
  ASSERT_EQ(stat((root_ + "/packs/d/ab/cd").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  ASSERT_EQ(stat((root_ + "/packs/d").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0700u);
  EXPECT_TRUE(fs::is_empty(root_ + "/.tmp"));
}

TEST_F(FileBlobStoreTest, FindsItsBlobsAfterReopening) {
  ASSERT_OK(Put("a/b", "content"));
  Reopen();
  EXPECT_THAT(GetWholeBlob(*store_, Name("a/b"), 100), IsOkAndHolds(std::string("content")));
  EXPECT_THAT(Put("a/b", "other"), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(Names(), ElementsAre("a/b"));
}

TEST_F(FileBlobStoreTest, TakesASpoolFileByRename) {
  std::string spool = directory_.path() + "/spool";
  ASSERT_OK(WriteFileAtomically(io_, spool, "spooled"));
  struct stat before;
  ASSERT_EQ(stat(spool.c_str(), &before), 0);
  SpoolSource source(spool, "spooled");
  ASSERT_OK(store_->Put(Name("x/y"), source, PutMode::kIfAbsent));
  EXPECT_FALSE(fs::exists(spool));
  struct stat after;
  ASSERT_EQ(stat((root_ + "/x/y").c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_F(FileBlobStoreTest, LeavesTheSpoolFileWhenTheNameIsTaken) {
  ASSERT_OK(Put("x/y", "first"));
  std::string spool = directory_.path() + "/spool";
  ASSERT_OK(WriteFileAtomically(io_, spool, "spooled"));
  SpoolSource source(spool, "spooled");
  EXPECT_THAT(store_->Put(Name("x/y"), source, PutMode::kIfAbsent), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_TRUE(fs::exists(spool));
  EXPECT_THAT(GetWholeBlob(*store_, Name("x/y"), 100), IsOkAndHolds(std::string("first")));
}

TEST_F(FileBlobStoreTest, RefusesASpoolFileOfAnotherSize) {
  std::string spool = directory_.path() + "/spool";
  ASSERT_OK(WriteFileAtomically(io_, spool, "longer than said"));
  SpoolSource source(spool, "spooled");
  EXPECT_THAT(store_->Put(Name("x/y"), source, PutMode::kIfAbsent), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(FileBlobStoreTest, CopiesASpoolFileFromAnotherFileSystem) {
  std::string spool = absl::StrCat("/dev/shm/holdfast_test_spool_", getpid());
  struct stat here, there;
  if (stat("/dev/shm", &there) != 0 || stat(root_.c_str(), &here) != 0 || here.st_dev == there.st_dev) {
    GTEST_SKIP() << "no second file system";
  }
  ASSERT_OK(WriteFileAtomically(io_, spool, "spooled"));
  SpoolSource source(spool, "spooled");
  EXPECT_OK(store_->Put(Name("x/y"), source, PutMode::kIfAbsent));
  EXPECT_THAT(GetWholeBlob(*store_, Name("x/y"), 100), IsOkAndHolds(std::string("spooled")));
  unlink(spool.c_str());
}

TEST_F(FileBlobStoreTest, DoesNotFollowSymbolicLinks) {
  ASSERT_OK(Put("a/b", "content"));
  fs::create_symlink("b", root_ + "/a/link");
  fs::create_directory_symlink("a", root_ + "/linked");
  mkfifo((root_ + "/a/fifo").c_str(), 0600);
  EXPECT_THAT(Names(), ElementsAre("a/b"));
  for (std::string_view name : {"a/link", "linked/b", "a/fifo", "linked"}) {
    EXPECT_THAT(store_->Stat(Name(name)), StatusIs(absl::StatusCode::kNotFound)) << name;
    EXPECT_THAT(store_->Get(Name(name), 0, absl::Span<char>()), StatusIs(absl::StatusCode::kNotFound)) << name;
    EXPECT_OK(store_->Delete(Name(name))) << name;
  }
  EXPECT_THAT(Put("linked/c", "x"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Put("a/link", "x"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(fs::is_symlink(root_ + "/a/link"));
}

TEST_F(FileBlobStoreTest, RefusesANameThatIsADirectoryOfAnother) {
  ASSERT_OK(Put("a/b", "content"));
  EXPECT_THAT(Put("a", "x"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Put("a/b/c", "x"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(PutBytes(*store_, Name("a"), "x", PutMode::kOverwrite), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(FileBlobStoreTest, KeepsItsOwnNamesToItself) {
  EXPECT_THAT(Put(".tmp/x", "x"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(store_->Stat(Name(".tmp/x")), StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(WriteFileAtomically(io_, root_ + "/.tmp/abc", "x"));
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(FileBlobStoreTest, LeavesForeignFilesAloneAndOutOfLists) {
  ASSERT_OK(WriteFileAtomically(io_, root_ + "/README.TXT", "x"));
  fs::create_directory(root_ + "/lost+found");
  fs::permissions(root_ + "/lost+found", fs::perms::none);
  ASSERT_OK(Put("a", "x"));
  EXPECT_THAT(Names(), ElementsAre("a"));
}

TEST_F(FileBlobStoreTest, RemovesOldTemporaryFilesWhenOpened) {
  ASSERT_OK(WriteFileAtomically(io_, root_ + "/.tmp/old", "x"));
  ASSERT_OK(WriteFileAtomically(io_, root_ + "/.tmp/new", "x"));
  timespec times[2] = {{time(nullptr) - 25 * 3600, 0}, {time(nullptr) - 25 * 3600, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, (root_ + "/.tmp/old").c_str(), times, 0), 0);
  Reopen();
  EXPECT_THAT(io_.files.List(root_ + "/.tmp"), IsOkAndHolds(ElementsAre("new")));
}

TEST_F(FileBlobStoreTest, ChangesNothingWhenReadOnly) {
  ASSERT_OK(Put("a/b", "content"));
  fs::remove_all(root_ + "/.tmp");
  Reopen({.read_only = true});
  EXPECT_THAT(GetWholeBlob(*store_, Name("a/b"), 100), IsOkAndHolds(std::string("content")));
  EXPECT_THAT(Names(), ElementsAre("a/b"));
  EXPECT_THAT(Put("a/c", "x"), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(store_->Delete(Name("a/b")), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_FALSE(fs::exists(root_ + "/.tmp"));
  EXPECT_THAT(FileBlobStore::Open(io_, root_ + "/nowhere", {.read_only = true}), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(FileBlobStoreTest, ListsALongDirectoryInPages) {
  for (int i = 0; i < 300; ++i) ASSERT_OK(Put(absl::StrCat("log/", 1000 + i), "x"));
  ASSERT_OK_AND_ASSIGN(auto page, store_->List("log/", "log/1099", 100));
  ASSERT_THAT(page, SizeIs(100));
  EXPECT_EQ(page.front().name, "log/1100");
  EXPECT_EQ(page.back().name, "log/1199");
}

}  // namespace
}  // namespace holdfast
