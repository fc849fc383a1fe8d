#include "server/daemon/file_registry.h"

#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <sstream>

#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "core/io/posix.h"

namespace holdfast {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// Real files, of whose calls some fail. Nothing is synced: no test here pulls the plug.
class FaultyFiles : public Files {
 public:
  enum class Failure { kOnce, kOnceAfterItsWork, kFromThereOn };
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  void FailAt(uint64_t call, Failure how) {
    calls_ = 0;
    fail_at_ = call;
    how_ = how;
  }
  bool has_failed() const { return calls_ >= fail_at_; }
  uint64_t opened(const std::string& path) const {
    auto it = opened_.find(path);
    return it == opened_.end() ? 0 : it->second;
  }

  absl::StatusOr<std::unique_ptr<File>> Open(std::string_view path, OpenMode mode) override {
    ++opened_[std::string(path)];
    return Do([&]() -> absl::StatusOr<std::unique_ptr<File>> {
      ASSIGN_OR_RETURN(std::unique_ptr<File> file, files_.Open(path, mode));
      return std::make_unique<FaultyFile>(*this, std::move(file));
    });
  }
  absl::Status Rename(std::string_view from, std::string_view to) override {
    return Do([&] { return files_.Rename(from, to); });
  }
  absl::Status RenameNoReplace(std::string_view from, std::string_view to) override {
    return Do([&] { return files_.RenameNoReplace(from, to); });
  }
  absl::Status Unlink(std::string_view path) override {
    return Do([&] { return files_.Unlink(path); });
  }
  absl::Status MakeDirectories(std::string_view path) override {
    return Do([&] { return files_.MakeDirectories(path); });
  }
  absl::Status RemoveDirectory(std::string_view path) override {
    return Do([&] { return files_.RemoveDirectory(path); });
  }
  absl::Status SyncDirectory(std::string_view path) override {
    return Do([] { return absl::OkStatus(); });
  }
  absl::StatusOr<FileInfo> Stat(std::string_view path) override {
    return Do([&] { return files_.Stat(path); });
  }
  absl::StatusOr<FileInfo> StatNoFollow(std::string_view path) override {
    return Do([&] { return files_.StatNoFollow(path); });
  }
  absl::StatusOr<std::vector<std::string>> List(std::string_view path) override {
    return Do([&] { return files_.List(path); });
  }

 private:
  class FaultyFile : public File {
   public:
    FaultyFile(FaultyFiles& files, std::unique_ptr<File> file) : files_(files), file_(std::move(file)) {}
    absl::StatusOr<size_t> ReadAt(uint64_t offset, absl::Span<char> out) override {
      return files_.Do([&] { return file_->ReadAt(offset, out); });
    }
    absl::Status Append(absl::Span<const std::string_view> parts) override {
      return files_.Do([&] { return file_->Append(parts); });
    }
    absl::Status Sync() override {
      return files_.Do([] { return absl::OkStatus(); });
    }
    absl::Status Truncate(uint64_t size) override {
      return files_.Do([&] { return file_->Truncate(size); });
    }
    absl::StatusOr<uint64_t> Size() override {
      return files_.Do([&] { return file_->Size(); });
    }

   private:
    FaultyFiles& files_;
    std::unique_ptr<File> file_;
  };

  template <typename F>
  auto Do(F f) -> decltype(f()) {
    const uint64_t call = ++calls_;
    if (call < fail_at_ || (call > fail_at_ && how_ != Failure::kFromThereOn)) return f();
    if (how_ == Failure::kOnceAfterItsWork) (void)f();
    return absl::UnavailableError("this call was told to fail");
  }

  Files& files_ = PosixIo().files;
  uint64_t calls_ = 0;
  uint64_t fail_at_ = kNever;
  Failure how_ = Failure::kOnce;
  std::map<std::string, uint64_t> opened_;
};

class FakeClock : public Clock {
 public:
  absl::Duration Monotonic() override { return now; }
  absl::Time Wall() override { return absl::UnixEpoch() + now; }
  absl::Duration now = absl::Hours(1000);
};

// An intact blob (docs/format.md, sections 1, 3 and 4).
std::string Blob(std::string_view magic, std::string_view content) {
  std::string bytes = absl::StrCat(AbslView(magic), std::string(1, '\0'), std::string(64, 'k'), AbslView(content));
  return bytes + std::string(Blake3Digest(bytes).view());
}

NewRepository Request(std::string name, uint8_t id) {
  NewRepository request;
  request.id.bytes.fill(id);
  request.catalog_key.MutableBytes()[0] = id;
  request.settings = Blob("HFREPO1", name);
  request.key_slots = Blob("HFSLOT1", name);
  request.keyring = Blob("HFRING1", name);
  request.name = std::move(name);
  return request;
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void WriteFile(const std::string& path, std::string_view bytes) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
  out.close();
  EXPECT_TRUE(out.good()) << path;
}

// Names below a folder ("" when it is absent itself), files with what is in them.
std::map<std::string, std::string> Tree(const std::string& folder) {
  std::map<std::string, std::string> out;
  if (!fs::exists(folder)) return out;
  out["."] = "folder";
  for (const fs::directory_entry& e : fs::recursive_directory_iterator(folder)) {
    out[fs::relative(e.path(), folder).string()] = e.is_directory() ? "folder" : "file: " + ReadFile(e.path().string());
  }
  return out;
}

// Names and sizes below a folder, without the ends of temporary names, which are random.
std::string Sizes(const std::string& folder) {
  std::string out;
  for (const auto& [name, content] : Tree(folder)) {
    const size_t temporary = name.find(".tmp");
    absl::StrAppend(&out, name.substr(0, temporary == name.npos ? temporary : temporary + 4), " ", content.size(),
                    "\n");
  }
  return out;
}

class FileRegistryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "/registry_XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    registry_.reset();
    fs::remove_all(folder_);
  }

  std::string data() const { return folder_ + "/data"; }
  std::string Folder(const std::string& name) const { return data() + "/repositories/" + name; }

  absl::Status Open() {
    registry_.reset();
    files_.FailAt(FaultyFiles::kNever, FaultyFiles::Failure::kOnce);
    auto registry = FileRegistry::Open(io_, {data(), "the server", nullptr});
    RETURN_IF_ERROR(registry.status());
    registry_ = *std::move(registry);
    return absl::OkStatus();
  }
  absl::Status Create(const std::string& name, uint8_t id) { return registry_->Create(Request(name, id)); }
  std::vector<std::string> Names() {
    std::vector<std::string> out;
    for (const auto& hosted : registry_->List()) out.push_back(hosted->name());
    return out;
  }
  // The repository is open and is the one that was asked for.
  void ExpectUsable(const std::string& name, uint8_t id) {
    auto hosted = registry_->Find(name);
    ASSERT_OK(hosted);
    const NewRepository request = Request(name, id);
    EXPECT_OK((*hosted)->Health());
    EXPECT_EQ((*hosted)->name(), name);
    EXPECT_EQ((*hosted)->id(), request.id);
    EXPECT_EQ((*hosted)->engine().id(), request.id);
    EXPECT_EQ((*hosted)->storage(), Folder(name) + "/storage");
    auto keys = (*hosted)->keys().Get();
    ASSERT_OK(keys);
    EXPECT_EQ(keys->settings, request.settings);
    EXPECT_EQ(keys->key_slots.bytes, request.key_slots);
    EXPECT_EQ(keys->keyring.bytes, request.keyring);
  }
  // `name` is on disk, but never came to be: nobody sees it, looking at it changes nothing, and it can be created.
  void ExpectIsNoRepositoryYet(const std::string& name) {
    const auto before = Tree(Folder(name));
    ASSERT_OK(Open());
    EXPECT_THAT(Names(), Not(Contains(name)));
    EXPECT_THAT(registry_->Find(name), StatusIs(absl::StatusCode::kNotFound));
    EXPECT_EQ(Tree(Folder(name)), before);
    // By another client: nothing of the first attempt may be left.
    EXPECT_OK(Create(name, 9));
    ExpectUsable(name, 9);
  }

  std::string folder_;
  FaultyFiles files_;
  FakeClock clock_;
  const Io io_{files_, clock_, PosixIo().random, PosixIo().threads};
  std::unique_ptr<FileRegistry> registry_;
};

TEST_F(FileRegistryTest, BeginsEmptyWithAKeyForItsOwnerOnly) {
  ASSERT_OK(Open());
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_THAT(registry_->Find("photos"), StatusIs(absl::StatusCode::kNotFound, "holdfast repository create photos"));
  struct stat info {};
  ASSERT_EQ(::stat((data() + "/server.key").c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 32);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(FileRegistryTest, KeepsItsRepositoriesAndItsKeyOverARestart) {
  ASSERT_OK(Open());
  ASSERT_OK(Create("photos", 1));
  ASSERT_OK(Create("mail", 2));
  ExpectUsable("photos", 1);
  const std::string key = ReadFile(data() + "/server.key");
  ASSERT_OK(Open());
  EXPECT_EQ(ReadFile(data() + "/server.key"), key);
  EXPECT_THAT(Names(), ElementsAre("mail", "photos"));
  ExpectUsable("photos", 1);
  ExpectUsable("mail", 2);
}

TEST_F(FileRegistryTest, TheSameCreationAgainIsOkAndAnotherOfThatNameIsNot) {
  ASSERT_OK(Open());
  ASSERT_OK(Create("photos", 1));
  for (const char* when : {"now", "after a restart"}) {
    EXPECT_OK(Create("photos", 1)) << when;
    EXPECT_THAT(Create("photos", 2), StatusIs(absl::StatusCode::kAlreadyExists, "photos exists already")) << when;
    ExpectUsable("photos", 1);
    ASSERT_OK(Open());
  }
}

TEST_F(FileRegistryTest, RefusesNamesThatAreNoNames) {
  ASSERT_OK(Open());
  for (const char* name : {"", "..", "a/b", "../x", "Photos", "_x"}) {
    EXPECT_THAT(registry_->Create(Request(name, 1)), StatusIs(absl::StatusCode::kInvalidArgument)) << name;
  }
  EXPECT_THAT(Tree(data() + "/repositories"), SizeIs(1));
  // Nor does it take folders of such names for repositories.
  WriteFile(Folder("Photos") + "/config", "?");
  ASSERT_OK(Open());
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(FileRegistryTest, RefusesKeysThatAreNotIntactAndTheNameStaysFree) {
  ASSERT_OK(Open());
  NewRepository request = Request("photos", 1);
  request.keyring = "nonsense";
  EXPECT_THAT(registry_->Create(request), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(registry_->Find("photos"), StatusIs(absl::StatusCode::kNotFound));
  ExpectIsNoRepositoryYet("photos");
}

TEST_F(FileRegistryTest, TheSameCreationAgainSaysOkWhenTheFirstCouldNotOpenIt) {
  ASSERT_OK(Open());
  WriteFile(Folder("photos") + "/spool", "a file in the way of the spool");
  EXPECT_THAT(Create("photos", 1), StatusIs(absl::StatusCode::kFailedPrecondition, "spool"));
  EXPECT_THAT(Names(), ElementsAre("photos")) << "it exists all the same";
  EXPECT_THAT(Create("photos", 1), StatusIs(absl::StatusCode::kFailedPrecondition, "spool")) << "still in the way";
  EXPECT_THAT(Create("photos", 2), StatusIs(absl::StatusCode::kAlreadyExists));
  fs::remove(Folder("photos") + "/spool");
  EXPECT_OK(Create("photos", 1));
  ExpectUsable("photos", 1);
}

TEST_F(FileRegistryTest, ACreationOfAnotherDoesNotTryToOpenTheOneThatIsThere) {
  ASSERT_OK(Open());
  WriteFile(Folder("photos") + "/spool", "a file in the way of the spool");
  ASSERT_FALSE(Create("photos", 1).ok());
  const uint64_t attempts = files_.opened(Folder("photos") + "/config");
  EXPECT_THAT(Create("photos", 2), StatusIs(absl::StatusCode::kAlreadyExists, "photos exists already"));
  EXPECT_EQ(files_.opened(Folder("photos") + "/config"), attempts);
}

// --- What a creation leaves that did not come to its end ----------------------------------------------------------

TEST_F(FileRegistryTest, AFolderAloneIsNoRepository) {
  fs::create_directories(Folder("photos"));
  ExpectIsNoRepositoryYet("photos");
}

TEST_F(FileRegistryTest, AnEmptyStorageIsNoRepository) {
  fs::create_directories(Folder("photos") + "/storage/.tmp");
  ExpectIsNoRepositoryYet("photos");
}

TEST_F(FileRegistryTest, HoweverFarACreationCameItIsThereOrCanBeDoneAgain) {
  using Failure = FaultyFiles::Failure;
  std::set<std::string> states;  // that were looked at
  std::set<size_t> keys_left;
  bool folder_left = false, storage_left = false;
  for (Failure how : {Failure::kOnce, Failure::kOnceAfterItsWork, Failure::kFromThereOn}) {
    int there = 0;
    for (uint64_t call = 1; there < 3; ++call) {
      SCOPED_TRACE(absl::StrCat("call ", call, ", failure ", static_cast<int>(how)));
      registry_.reset();
      fs::remove_all(data());
      ASSERT_OK(Open());
      files_.FailAt(call, how);
      const absl::Status created = Create("photos", 1);
      ASSERT_TRUE(files_.has_failed());
      // Closing meets the same failures.
      registry_.reset();
      if (fs::exists(Folder("photos") + "/config")) {
        ASSERT_OK(Open());
        EXPECT_THAT(Names(), ElementsAre("photos"));
        ExpectUsable("photos", 1);
        EXPECT_OK(Create("photos", 1));
        EXPECT_THAT(Create("photos", 9), StatusIs(absl::StatusCode::kAlreadyExists));
        ++there;  // what follows opens it
      } else {
        EXPECT_FALSE(created.ok());
        size_t keys = 0;
        for (const auto& [name, content] : Tree(Folder("photos"))) {
          keys += name.starts_with("storage/keys/") || name.starts_with("storage/format/");
        }
        keys_left.insert(keys);
        folder_left = folder_left || (fs::exists(Folder("photos")) && !fs::exists(Folder("photos") + "/storage"));
        storage_left = storage_left || (fs::exists(Folder("photos") + "/storage") && keys == 0);
        if (states.insert(Sizes(Folder("photos"))).second) ExpectIsNoRepositoryYet("photos");
      }
      if (HasFailure()) return;
    }
  }
  EXPECT_TRUE(folder_left);
  EXPECT_TRUE(storage_left);
  // Two copies of the settings, three of the key slots, two of the keyring.
  EXPECT_THAT(keys_left, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST_F(FileRegistryTest, ACreationThatFailedOnceSucceedsWithoutARestart) {
  using Failure = FaultyFiles::Failure;
  std::set<std::string> states;  // that were looked at
  for (Failure how : {Failure::kOnce, Failure::kOnceAfterItsWork}) {
    int there = 0;
    for (uint64_t call = 1; there < 3; ++call) {
      SCOPED_TRACE(absl::StrCat("call ", call, ", failure ", static_cast<int>(how)));
      registry_.reset();
      fs::remove_all(data());
      ASSERT_OK(Open());
      files_.FailAt(call, how);
      Create("photos", 1).IgnoreError();
      ASSERT_TRUE(files_.has_failed());
      there += fs::exists(Folder("photos") + "/config");
      if (!states.insert(absl::StrCat(Sizes(Folder("photos")), Names().size())).second) continue;
      EXPECT_OK(Create("photos", 1));
      ExpectUsable("photos", 1);
      EXPECT_THAT(Names(), ElementsAre("photos"));
      if (HasFailure()) return;
    }
  }
}

TEST_F(FileRegistryTest, BlobsWithoutAConfigAreLeftAloneAndRefused) {
  for (const bool keys : {true, false}) {
    SCOPED_TRACE(keys ? "with keys" : "without keys");
    registry_.reset();
    fs::remove_all(data());
    ASSERT_OK(Open());
    ASSERT_OK(Create("photos", 1));
    registry_.reset();
    // As after somebody lost the config. Opening the repository wrote more than keys.
    fs::remove(Folder("photos") + "/config");
    if (!keys) fs::remove_all(Folder("photos") + "/storage/keys");
    if (!keys) fs::remove_all(Folder("photos") + "/storage/format");
    WriteFile(Folder("photos") + "/storage/packs/00/pack", "precious");
    const auto before = Tree(Folder("photos"));
    ASSERT_OK(Open());
    EXPECT_THAT(Names(), ElementsAre("photos"));
    EXPECT_THAT(registry_->Find("photos"), StatusIs(absl::StatusCode::kDataLoss, "config"));
    for (const uint8_t id : {1, 2}) {
      EXPECT_THAT(Create("photos", id), StatusIs(absl::StatusCode::kAlreadyExists, "move it away"));
    }
    EXPECT_EQ(Tree(Folder("photos")), before);
  }
}

TEST_F(FileRegistryTest, BlobsThatCameAfterTheStartAreLeftAloneAndRefused) {
  ASSERT_OK(Open());
  WriteFile(Folder("photos") + "/storage/packs/00/pack", "precious");
  const auto before = Tree(Folder("photos"));
  EXPECT_THAT(Create("photos", 1), StatusIs(absl::StatusCode::kAlreadyExists, "move it away"));
  EXPECT_EQ(Tree(Folder("photos")), before);
  fs::remove_all(Folder("photos"));
  EXPECT_OK(Create("photos", 1));
}

TEST_F(FileRegistryTest, AStorageThatCannotBeLookedAtIsNotTakenForUnfinished) {
  WriteFile(Folder("photos") + "/storage", "a file where the storage should be");
  ASSERT_OK(Open());
  EXPECT_THAT(Names(), ElementsAre("photos")) << "listed with its error";
  EXPECT_THAT(Create("photos", 1), StatusIs(absl::StatusCode::kFailedPrecondition, "storage"));
  fs::remove(Folder("photos") + "/storage");
  EXPECT_OK(Create("photos", 1));
  ExpectUsable("photos", 1);
}

// --- server.key and config ----------------------------------------------------------------------------------------

TEST_F(FileRegistryTest, AServerKeyOfAnotherSizeIsDamage) {
  ASSERT_OK(Open());
  registry_.reset();
  for (const size_t size : {0, 31, 33, 4096}) {
    const std::string bytes(size, 'k');
    WriteFile(data() + "/server.key", bytes);
    EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss, "server.key")) << size;
    EXPECT_EQ(ReadFile(data() + "/server.key"), bytes);
  }
}

TEST_F(FileRegistryTest, UnderAnotherServerKeyNothingOpensAndNothingIsOverwritten) {
  ASSERT_OK(Open());
  ASSERT_OK(Create("photos", 1));
  registry_.reset();
  const std::string key = ReadFile(data() + "/server.key");
  const std::string config = ReadFile(Folder("photos") + "/config");
  std::string damaged = key;
  damaged[7] ^= 1;
  WriteFile(data() + "/server.key", damaged);
  ASSERT_OK(Open());
  EXPECT_THAT(registry_->Find("photos"), StatusIs(absl::StatusCode::kDataLoss, "server.key"));
  EXPECT_THAT(Create("photos", 1), StatusIs(absl::StatusCode::kDataLoss, "server.key"));
  EXPECT_EQ(ReadFile(Folder("photos") + "/config"), config);
  registry_.reset();
  WriteFile(data() + "/server.key", key);
  ASSERT_OK(Open());
  ExpectUsable("photos", 1);
}

TEST_F(FileRegistryTest, MakesNoNewServerKeyWhileThereAreRepositories) {
  ASSERT_OK(Open());
  ASSERT_OK(Create("photos", 1));
  registry_.reset();
  const std::string key = ReadFile(data() + "/server.key");
  fs::remove(data() + "/server.key");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss,
                               "server.key is missing, and without it no repository opens, such as photos"));
  EXPECT_FALSE(fs::exists(data() + "/server.key"));
  WriteFile(data() + "/server.key", key);
  ASSERT_OK(Open());
  ExpectUsable("photos", 1);
}

TEST_F(FileRegistryTest, MakesAServerKeyWhenOnlyHalfMadeRepositoriesAreThere) {
  fs::create_directories(Folder("photos") + "/storage");
  fs::create_directories(data() + "/repositories/lost+found/config");
  ASSERT_OK(Open());
  EXPECT_TRUE(fs::exists(data() + "/server.key"));
}

TEST_F(FileRegistryTest, ADamagedConfigIsNamedForWhatItIsAndNeverOverwritten) {
  ASSERT_OK(Open());
  ASSERT_OK(Create("photos", 1));
  ASSERT_OK(Create("mail", 2));
  registry_.reset();
  const std::string path = Folder("photos") + "/config";
  const std::string config = ReadFile(path);
  for (const std::string& damaged : {std::string(), config.substr(0, config.size() - 1), std::string(4096, 'x')}) {
    WriteFile(path, damaged);
    ASSERT_OK(Open());
    EXPECT_THAT(Names(), ElementsAre("mail", "photos"));
    ExpectUsable("mail", 2);
    EXPECT_THAT(registry_->Find("photos"), StatusIs(absl::StatusCode::kDataLoss, "repository photos is not open: "));
    for (const uint8_t id : {1, 2}) EXPECT_THAT(Create("photos", id), StatusIs(absl::StatusCode::kDataLoss, "config"));
    EXPECT_EQ(ReadFile(path), damaged);
  }
  // Repaired, the same creation says so without a restart.
  WriteFile(path, config);
  EXPECT_THAT(Create("photos", 2), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_OK(Create("photos", 1));
  ExpectUsable("photos", 1);
}

TEST_F(FileRegistryTest, ADamagedConfigThatCameAfterTheStartIsNotOverwritten) {
  ASSERT_OK(Open());
  WriteFile(Folder("photos") + "/config", "damaged");
  EXPECT_THAT(Create("photos", 1), StatusIs(absl::StatusCode::kDataLoss, "config"));
  EXPECT_EQ(ReadFile(Folder("photos") + "/config"), "damaged");
  EXPECT_FALSE(fs::exists(Folder("photos") + "/storage"));
}

// --- Others --------------------------------------------------------------------------------------------------------

TEST_F(FileRegistryTest, TwoServersDoNotShareADataDirectory) {
  ASSERT_OK(Open());
  ASSERT_OK(Create("photos", 1));
  EXPECT_THAT(FileRegistry::Open(io_, {data(), "another", nullptr}),
              StatusIs(absl::StatusCode::kFailedPrecondition, "another holdfastd is using " + data()));
  ExpectUsable("photos", 1);
  registry_.reset();
  EXPECT_OK(FileRegistry::Open(io_, {data(), "another", nullptr}));
}

TEST_F(FileRegistryTest, ADataDirectoryThatCannotBeMadeOrLockedIsAnError) {
  WriteFile(data(), "a file");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, data()));
  fs::remove(data());
  fs::create_directories(data() + "/lock");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition, "opening"));
}

TEST_F(FileRegistryTest, OneThatDoesNotOpenStopsNoOtherAndIsTriedAgainEveryFiveSeconds) {
  ASSERT_OK(Open());
  for (const char* name : {"a", "broken", "c"}) ASSERT_OK(Create(name, 1));
  registry_.reset();
  const std::string spool = Folder("broken") + "/spool";
  fs::remove_all(spool);
  WriteFile(spool, "in the way");
  ASSERT_OK(Open());
  EXPECT_THAT(Names(), ElementsAre("a", "broken", "c"));
  ExpectUsable("a", 1);
  ExpectUsable("c", 1);
  auto listed = registry_->List()[1];
  EXPECT_THAT(listed->error(), StatusIs(absl::StatusCode::kFailedPrecondition, "spool"));
  EXPECT_EQ(listed->id(), Request("broken", 1).id) << "whose it is can be told";
  EXPECT_EQ(listed->Statistics().packs, 0u);

  const std::string config = Folder("broken") + "/config";
  const auto refused = AllOf(StatusIs(absl::StatusCode::kFailedPrecondition, "repository broken is not open: "),
                             StatusIs(absl::StatusCode::kFailedPrecondition, "spool"));
  uint64_t attempts = files_.opened(config);
  EXPECT_THAT(registry_->Find("broken"), refused);
  EXPECT_EQ(files_.opened(config), ++attempts);
  for (const absl::Duration later : {absl::ZeroDuration(), absl::Seconds(5) - absl::Nanoseconds(1)}) {
    clock_.now += later;
    EXPECT_THAT(registry_->Find("broken"), refused);
    EXPECT_EQ(files_.opened(config), attempts);
  }
  clock_.now += absl::Nanoseconds(1);
  EXPECT_THAT(registry_->Find("broken"), refused);
  EXPECT_EQ(files_.opened(config), ++attempts);

  // Repaired: found out with the next attempt, and not looked at again.
  fs::remove(spool);
  EXPECT_THAT(registry_->Find("broken"), refused);
  clock_.now += absl::Seconds(5);
  ExpectUsable("broken", 1);
  EXPECT_EQ(files_.opened(config), ++attempts);
  clock_.now += absl::Seconds(5);
  ExpectUsable("broken", 1);
  EXPECT_EQ(files_.opened(config), attempts);
}

TEST_F(FileRegistryTest, OpeningRestoresKeyCopiesThatAreMissingAndNamesDamagedOnes) {
  ASSERT_OK(Open());
  ASSERT_OK(Create("photos", 1));
  registry_.reset();
  const std::string keys = Folder("photos") + "/storage/keys/";
  const std::string slots = ReadFile(keys + "slots-00000001-0");
  fs::remove(keys + "slots-00000001-0");
  fs::remove(keys + "slots-00000001-2");
  WriteFile(keys + "ring-00000001-0", "damaged");
  ASSERT_OK(Open());
  EXPECT_EQ(ReadFile(keys + "slots-00000001-0"), slots);
  EXPECT_EQ(ReadFile(keys + "slots-00000001-2"), slots);
  ExpectUsable("photos", 1);
  EXPECT_THAT(registry_->List()[0]->Warnings(), Contains(HasSubstr("ring-00000001-0 is damaged")));
}

TEST_F(FileRegistryTest, KeysThatAreLostMakeItUnhealthyAlthoughItIsOpen) {
  ASSERT_OK(Open());
  ASSERT_OK(Create("photos", 1));
  registry_.reset();
  for (const char* copy : {"0", "1"}) {
    WriteFile(Folder("photos") + "/storage/keys/ring-00000001-" + copy, "damaged");
  }
  ASSERT_OK(Open());
  auto hosted = registry_->Find("photos");
  ASSERT_OK(hosted);
  EXPECT_THAT((*hosted)->Health(), StatusIs(absl::StatusCode::kDataLoss, "keyring"));
}

}  // namespace
}  // namespace holdfast
