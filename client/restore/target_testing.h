// A target in a temporary directory, for tests of the parts of a restore.
#ifndef HOLDFAST_CLIENT_RESTORE_TARGET_TESTING_H_
#define HOLDFAST_CLIENT_RESTORE_TARGET_TESTING_H_

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/restore/metadata.h"
#include "client/restore/restore_observer.h"
#include "client/restore/restore_options.h"
#include "client/restore/restore_run.h"
#include "client/restore/target_directories.h"
#include "client/restore/target_files.h"
#include "core/base/status_testing.h"
#include "core/tree/entry.h"
#include "gtest/gtest.h"

namespace holdfast {

class RecordingObserver : public RestoreObserver {
 public:
  void OnProblem(const RestoreProblem& p) override { problems.push_back(p); }
  // "path: operation" of each.
  std::vector<std::string> Said(RestoreProblemKind kind) const {
    std::vector<std::string> out;
    for (const RestoreProblem& p : problems) {
      if (p.kind == kind) out.push_back(p.path + ": " + p.operation);
    }
    return out;
  }
  std::vector<RestoreProblem> problems;
};

class TargetTest : public ::testing::Test {
 protected:
  TargetTest() {
    std::string name = ::testing::TempDir() + "/target-XXXXXX";
    base_ = ::mkdtemp(name.data());
    options_.target = base_ + "/target";
  }
  ~TargetTest() override {
    root_ = DirRef();
    files_.reset();
    directories_.reset();
    std::filesystem::remove_all(base_);
  }
  // After the options are set.
  void Open(std::optional<Metadata> root_metadata = std::nullopt) {
    run_.emplace(options_, observer_);
    absl::StatusOr<std::unique_ptr<TargetDirectories>> opened = TargetDirectories::Open(*run_, "/in");
    ASSERT_OK(opened);
    directories_ = *std::move(opened);
    files_ = std::make_unique<TargetFiles>(*run_, *directories_);
    root_ = directories_->Root(std::move(root_metadata));
  }
  DirRef MakeDir(const DirRef& parent, const std::string& name, std::optional<Metadata> metadata = std::nullopt) {
    PinnedDir pinned;
    absl::StatusOr<DirRef> dir = directories_->MakeDirectory(parent, pinned, name, std::move(metadata));
    EXPECT_OK(dir);
    return dir.ok() ? *std::move(dir) : DirRef();
  }
  static Metadata Mine(uint32_t mode, int64_t seconds = 1'500'000'000) {
    Metadata m;
    m.mode = mode;
    m.uid = geteuid();
    m.gid = getegid();
    m.mtime = {seconds, 5};
    return m;
  }
  std::string At(std::string_view path) const { return options_.target + "/" + std::string(path); }
  struct stat Stat(std::string_view path) const {
    struct stat st = {};
    EXPECT_EQ(::lstat(At(path).c_str(), &st), 0) << path;
    return st;
  }
  bool Exists(std::string_view path) const {
    struct stat st;
    return ::lstat(At(path).c_str(), &st) == 0;
  }
  void Write(std::string_view path, std::string_view content) const {
    std::filesystem::create_directories(std::filesystem::path(At(path)).parent_path());
    std::ofstream(At(path), std::ios::binary) << content;
  }
  std::string Read(std::string_view path) const {
    std::ifstream in(At(path), std::ios::binary);
    EXPECT_TRUE(in.good()) << path;
    return {std::istreambuf_iterator<char>(in), {}};
  }

  std::string base_;
  RestoreOptions options_;
  RecordingObserver observer_;
  std::optional<RestoreRun> run_;
  std::unique_ptr<TargetDirectories> directories_;
  std::unique_ptr<TargetFiles> files_;
  DirRef root_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_TARGET_TESTING_H_
