#include "client/backup/backup.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "absl/synchronization/mutex.h"
#include "client/rpc/remote_chunk_source.h"
#include "client/rpc/test_server.h"
#include "client/scan/fake_source_fs.h"
#include "core/base/status_testing.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

constexpr char kSource[] = "anna@laptop:/home";

std::string RandomBytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out;
  while (out.size() < size) out += static_cast<char>(random());
  return out;
}

BackupKeys Keys(uint32_t agent = 1) {
  BackupKeys keys;
  keys.sealing = TestServer::Keys(agent);
  keys.manifest.repository = TestServer::Id();
  keys.manifest.agent = agent;
  keys.manifest.agent_mac_key.MutableBytes()[0] = static_cast<uint8_t>(agent);
  keys.manifest.agent_reader_key.MutableBytes()[1] = static_cast<uint8_t>(agent);
  keys.chunker = {.min_bytes = 16 << 10, .max_bytes = 64 << 10, .mask_bits = 13};
  return keys;
}

struct Heard : BackupObserver {
  void OnSourceError(const SourceError& e) override { errors.push_back(e.path + ": " + e.operation); }
  void OnSkipped(std::string_view path, SkipReason) override { skipped.emplace_back(path); }
  void OnVanished(std::string_view path) override { vanished.emplace_back(path); }
  void OnNote(std::string_view message) override { notes.emplace_back(message); }
  std::vector<std::string> errors, skipped, vanished, notes;
};

class BackupTest : public testing::Test {
 protected:
  BackupTest() {
    options_.repository = TestServer::kRepository;
    options_.source = kSource;
    options_.workers = 3;
    options_.scan.root = "/home";
  }
  // A directory with small files, a large file and a link.
  void AddTree() {
    fs_.AddDirectory("d");
    fs_.AddFile("empty", "");
    fs_.AddFile("tiny", "inline");
    for (int i = 0; i < 20; ++i) fs_.AddFile(absl::StrCat("d/small", i), RandomBytes(3000 + i, i));
    fs_.AddFile("d/large", RandomBytes(700'000, 99));
    fs_.AddLink("link", "d/large");
  }
  absl::StatusOr<BackupResult> Run(uint32_t agent = 1) {
    heard_ = std::make_unique<Heard>();
    keys_ = Keys(agent);
    return Backup(server_.client(), fs_, keys_, options_, *heard_);
  }
  BackupResult MustRun() {
    auto result = Run();
    EXPECT_OK(result);
    return result.ok() ? *result : BackupResult();
  }
  struct Read {
    std::map<std::string, Entry> entries;
    std::map<std::string, std::string> contents;  // of files, without large holes
    pb::ManifestSealed sealed;
  };
  Read ReadBack(const ManifestId& id) {
    Read out;
    auto bytes = server_.client().GetManifest(TestServer::kRepository, id);
    EXPECT_OK(bytes);
    if (!bytes.ok()) return out;
    const BackupKeys keys = Keys();
    auto manifest = OpenManifest(
        *bytes, keys.manifest.repository, keys.manifest.aead, [&](uint32_t) { return keys.manifest.agent_reader_key; },
        keys.manifest.agent_mac_key);
    EXPECT_OK(manifest);
    if (!manifest.ok()) return out;
    out.sealed = manifest->sealed;
    RemoteChunkSource source(server_.client(), TestServer::kRepository, keys.sealing.repository);
    SnapshotReader reader(source, manifest->root, manifest->core.root_level(), SumsOf(manifest->core));
    auto entries = reader.Scan(KeyRange::All());
    while (entries->Next()) {
      std::string path;
      for (const std::string& c : entries->directory()) path += c + "/";
      path += entries->entry().name;
      Entry e = entries->entry();
      EXPECT_OK(reader.ResolveSideChunks(e));
      out.contents[path] = ContentOf(reader, e);
      out.entries[path] = std::move(e);
    }
    EXPECT_OK(entries->status());
    EXPECT_THAT(entries->gaps(), IsEmpty());
    return out;
  }
  static std::string ContentOf(SnapshotReader& reader, const Entry& e) {
    std::string out;
    if (e.content.kind == Content::Kind::kInline) return e.content.inline_bytes;
    EXPECT_OK(reader.ForEachPiece(e.content, [&](const ChunkPiece& piece) -> absl::Status {
      ASSIGN_OR_RETURN(OwnedChunk chunk, FetchOne(reader.source(), piece.ref));
      out += e.content.kind == Content::Kind::kSlice ? chunk.plaintext.substr(e.content.offset, e.content.length)
                                                     : chunk.plaintext;
      return absl::OkStatus();
    }));
    if (e.content.kind == Content::Kind::kSlice && out.empty()) {
      auto chunk = FetchOne(reader.source(), e.content.ref);
      EXPECT_OK(chunk);
      out = chunk->plaintext.substr(e.content.offset, e.content.length);
    }
    return out;
  }
  std::string Bytes(const std::string& path) {
    std::string bytes;
    fs_.Change(path, [&](FakeSourceFs::Object& o) { bytes = o.bytes; });
    return bytes;
  }
  Repository& engine() { return (*server_.registry().Find(TestServer::kRepository))->engine(); }

  TestServer server_;
  FakeSourceFs fs_;
  BackupKeys keys_;
  BackupOptions options_;
  std::unique_ptr<Heard> heard_;
};

TEST_F(BackupTest, StoresATree) {
  AddTree();
  options_.description = "first\xff";
  options_.scan.exclude_patterns = {"*.tmp"};
  const BackupResult result = MustRun();
  EXPECT_TRUE(result.core.complete());
  EXPECT_EQ(result.core.sequence(), 1u);
  EXPECT_EQ(result.core.files(), 23u);
  EXPECT_EQ(result.core.directories(), 2u);
  EXPECT_EQ(result.core.others(), 1u);
  EXPECT_EQ(result.entries, 26u);
  EXPECT_EQ(result.statistics.files_read(), 23u);
  EXPECT_EQ(result.statistics.files_unchanged(), 0u);
  EXPECT_EQ(result.statistics.bytes_read(), result.core.bytes());
  EXPECT_GT(result.statistics.bytes_sent(), 700'000u);
  EXPECT_EQ(heard_->files_seen, 23u);
  EXPECT_EQ(heard_->files_done, 23u);
  EXPECT_EQ(heard_->bytes_done, result.core.bytes());
  EXPECT_THAT(heard_->notes, IsEmpty());
  Read read = ReadBack(result.id);
  EXPECT_EQ(read.entries.size(), 26u);
  for (const auto& [path, e] : read.entries) {
    EXPECT_EQ(read.contents[path], e.type == EntryType::kFile ? Bytes(path) : "") << path;
    EXPECT_EQ(e.flags, 0u) << path;
  }
  EXPECT_EQ(read.entries["link"].symlink_target, "d/large");
  EXPECT_EQ(read.entries["tiny"].content.kind, Content::Kind::kInline);
  EXPECT_EQ(read.entries["d/small3"].content.kind, Content::Kind::kSlice);
  EXPECT_EQ(read.entries["d/large"].content.kind, Content::Kind::kChunks);
  EXPECT_EQ(read.entries["empty"].content.kind, Content::Kind::kNone);
  EXPECT_EQ(read.entries["tiny"].owner_name, "root");
  EXPECT_EQ(read.sealed.root_path(), "/home");
  EXPECT_EQ(read.sealed.description(), "first\\xff");
  EXPECT_THAT(read.sealed.excludes(), ElementsAre("*.tmp"));
}

TEST_F(BackupTest, ReadsNothingOfWhatIsUnchanged) {
  AddTree();
  MustRun();
  const uint64_t opens = fs_.opens();
  const BackupResult second = MustRun();
  EXPECT_EQ(fs_.opens(), opens);
  EXPECT_EQ(second.core.sequence(), 2u);
  EXPECT_EQ(second.statistics.files_unchanged(), 23u);
  EXPECT_EQ(second.statistics.files_read(), 0u);
  EXPECT_EQ(second.statistics.bytes_sent(), 0u);
  EXPECT_EQ(heard_->files_expected, 23u);
  EXPECT_GT(heard_->bytes_expected, 700'000u);
  Read read = ReadBack(second.id);
  EXPECT_EQ(read.contents["d/large"], Bytes("d/large"));
  EXPECT_EQ(read.entries["link"].symlink_target, "d/large");
}

TEST_F(BackupTest, ReadsWhatChangedAndFollowsWhatCameAndWent) {
  AddTree();
  MustRun();
  fs_.Write("tiny", "different");
  fs_.AddFile("added", RandomBytes(500, 5));
  fs_.AddFile("d/zz", "last");
  fs_.Remove("d/small0");
  const uint64_t opens = fs_.opens();
  const BackupResult second = MustRun();
  EXPECT_EQ(fs_.opens(), opens + 3);
  EXPECT_EQ(second.statistics.files_read(), 3u);
  EXPECT_EQ(second.statistics.files_unchanged(), 21u);
  Read read = ReadBack(second.id);
  EXPECT_EQ(read.contents["tiny"], "different");
  EXPECT_EQ(read.contents["added"], Bytes("added"));
  EXPECT_EQ(read.contents["d/zz"], "last");
  EXPECT_FALSE(read.entries.contains("d/small0"));
}

TEST_F(BackupTest, SendsOnlyTheChangedPartOfALargeFile) {
  AddTree();
  MustRun();
  std::string bytes = Bytes("d/large");
  bytes.insert(300'000, "inserted");
  fs_.Write("d/large", bytes);
  const BackupResult second = MustRun();
  EXPECT_EQ(second.statistics.files_read(), 1u);
  EXPECT_LT(second.statistics.bytes_sent(), 200'000u);
  EXPECT_EQ(ReadBack(second.id).contents["d/large"], bytes);
}

TEST_F(BackupTest, ReadsEverythingWhenAskedTo) {
  AddTree();
  MustRun();
  options_.force_full = true;
  const BackupResult second = MustRun();
  EXPECT_EQ(second.statistics.files_read(), 23u);
  EXPECT_LT(second.statistics.bytes_sent(), 1000u) << "all chunks are known";
}

TEST_F(BackupTest, ReadsAgainWhatMayHaveChangedUnseen) {
  fs_.AddFile("new", "just written");
  fs_.Change("new", [](FakeSourceFs::Object& o) { o.stat.ctime.seconds = o.stat.mtime.seconds = time(nullptr); });
  EXPECT_EQ(ReadBack(MustRun().id).entries["new"].flags, kEntryRacy);
  EXPECT_EQ(MustRun().statistics.files_read(), 1u);
}

// --- Faults of the source --------------------------------------------------------------------------------------------

TEST_F(BackupTest, AnUnreadableFileIsNamedAndTheOthersAreStored) {
  AddTree();
  fs_.Fail("d/small3", "open", EACCES);
  fs_.Fail("d/large", "read", EIO);
  fs_.Fail("link", "link", EIO);
  fs_.Fail("d", "attributes", EACCES);
  fs_.AddScanError({"secret", "list", EACCES});
  const BackupResult result = MustRun();
  EXPECT_FALSE(result.core.complete());
  EXPECT_EQ(result.core.errors(), 5u);
  EXPECT_THAT(heard_->errors, UnorderedElementsAre("secret: list", "d: read attributes", "link: read link",
                                                   "d/small3: open", "d/large: read"));
  Read read = ReadBack(result.id);
  EXPECT_EQ(read.sealed.failures_size(), 5);
  EXPECT_EQ(read.entries["d/small3"].flags, kEntryReadFailed);
  EXPECT_EQ(read.entries["d/small3"].content.kind, Content::Kind::kNone);
  EXPECT_EQ(read.entries["d/large"].flags, kEntryReadFailed);
  EXPECT_EQ(read.entries["d"].flags, kEntryReadFailed);
  EXPECT_EQ(read.contents["d/small4"], Bytes("d/small4"));
  // They are tried again.
  fs_.Change("d/small3", [](FakeSourceFs::Object& o) { o.errors.clear(); });
  fs_.Change("d/large", [](FakeSourceFs::Object& o) { o.errors.clear(); });
  const BackupResult second = MustRun();
  EXPECT_EQ(second.statistics.files_read(), 2u);
  EXPECT_EQ(ReadBack(second.id).contents["d/large"], Bytes("d/large"));
}

TEST_F(BackupTest, WhatVanishesIsLeftOut) {
  AddTree();
  fs_.Fail("tiny", "open", ENOENT);
  fs_.Fail("d/large", "open", ENOENT);
  fs_.Fail("link", "link", ENOENT);
  fs_.Change("link", [](FakeSourceFs::Object& o) { o.errors["link"] = absl::NotFoundError("gone"); });
  const BackupResult result = MustRun();
  EXPECT_TRUE(result.core.complete()) << "normal on a live system";
  EXPECT_EQ(result.vanished, 3u);
  EXPECT_THAT(heard_->vanished, UnorderedElementsAre("tiny", "d/large", "link"));
  Read read = ReadBack(result.id);
  EXPECT_FALSE(read.entries.contains("tiny"));
  EXPECT_FALSE(read.entries.contains("d/large"));
  EXPECT_FALSE(read.entries.contains("link"));
  EXPECT_EQ(read.entries.size(), 23u);
}

TEST_F(BackupTest, AMachineThatRanShortEndsTheBackup) {
  AddTree();
  fs_.Fail("d/small3", "open", EMFILE);
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kResourceExhausted, "ulimit -n"));
  EXPECT_THAT(heard_->errors, IsEmpty());
  fs_.Change("d/small3", [](FakeSourceFs::Object& o) { o.errors.clear(); });
  EXPECT_EQ(MustRun().core.sequence(), 1u) << "nothing was committed";
}

TEST_F(BackupTest, SaysThatAFileChangedWhileItWasRead) {
  fs_.AddFile("log", "0");
  fs_.SetHook([&, n = 0](std::string_view path, std::string_view operation) mutable {
    if (path == "log" && operation == "read") fs_.Write("log", std::string(++n, 'x'));
  });
  const BackupResult result = MustRun();
  EXPECT_THAT(heard_->notes, ElementsAre(HasSubstr("log: it changed while it was read")));
  EXPECT_EQ(ReadBack(result.id).entries["log"].flags & kEntryChangedWhileRead, kEntryChangedWhileRead);
}

TEST_F(BackupTest, APathThatIsTooLongIsNamed) {
  AddTree();
  std::string path;
  for (int i = 0; i < 300; ++i) {
    path += (i ? "/" : "") + std::string(250, 'n');
    fs_.AddDirectory(path);
  }
  const BackupResult result = MustRun();
  EXPECT_THAT(heard_->errors, Contains(HasSubstr("store: the path is too long")));
  EXPECT_EQ(result.core.files(), 23u);
}

TEST_F(BackupTest, AnEntryThatNoPageMayHoldIsNamed) {
  AddTree();
  fs_.Change("link", [](FakeSourceFs::Object& o) { o.stat.mtime.nanos = 2'000'000'000; });
  const BackupResult result = MustRun();
  EXPECT_THAT(heard_->errors, ElementsAre(HasSubstr("link: store: ")));
  EXPECT_FALSE(ReadBack(result.id).entries.contains("link"));
}

// --- Attributes, holes and links -------------------------------------------------------------------------------------

TEST_F(BackupTest, KeepsAttributesLargeOnesAside) {
  AddTree();
  auto set = [&](const std::string& path, size_t bytes) {
    fs_.Change(path, [&](FakeSourceFs::Object& o) { o.xattrs = {{"user.a", std::string(bytes, 'v')}}; });
  };
  set("tiny", 10);
  set("d", 20'000);
  set("d/small1", 5000);
  set("d/small2", 30'000);
  set("d/large", 30'000);
  set("d/small4", kChunkPlaintextBytesMax);
  for (int run = 0; run < 2; ++run) {
    const BackupResult result = MustRun();
    EXPECT_THAT(heard_->errors, ElementsAre("d/small4: store: too many attributes"));
    Read read = ReadBack(result.id);
    for (const char* path : {"tiny", "d", "d/small1", "d/small2", "d/large"}) {
      std::vector<Xattr> xattrs;
      fs_.Change(path, [&](FakeSourceFs::Object& o) { xattrs = o.xattrs; });
      EXPECT_EQ(read.entries[path].xattrs, xattrs) << path;
    }
    EXPECT_EQ(result.statistics.files_read(), run == 0 ? 23u : 1u) << "what is not complete is read again";
  }
}

TEST_F(BackupTest, AttributesThatCannotBeReadAgainAreNamed) {
  fs_.AddFile("f", "bytes");
  fs_.Change("f", [](FakeSourceFs::Object& o) { o.xattrs = {{"user.a", std::string(5000, 'v')}}; });
  fs_.SetHook([&, n = 0](std::string_view path, std::string_view operation) mutable {
    if (path == "f" && operation == "attributes" && ++n == 2) fs_.Fail("f", "attributes", EIO);
  });
  const BackupResult result = MustRun();
  EXPECT_THAT(heard_->errors, ElementsAre("f: read attributes"));
  Read read = ReadBack(result.id);
  EXPECT_EQ(read.contents["f"], "bytes");
  EXPECT_EQ(read.entries["f"].flags, kEntryRacy);
}

TEST_F(BackupTest, LargeHolesAreNotStored) {
  const std::string head = RandomBytes(200'000, 1), tail = RandomBytes(100'000, 2);
  fs_.AddFile("sparse", head + std::string(3u << 20, '\0') + tail);
  fs_.Change("sparse", [&](FakeSourceFs::Object& o) {
    o.stat.blocks = 600;
    o.data = {{{0, head.size()}, {head.size() + (3u << 20), o.bytes.size()}}};
  });
  const BackupResult result = MustRun();
  Read read = ReadBack(result.id);
  EXPECT_EQ(read.contents["sparse"], head + tail);
  EXPECT_EQ(read.entries["sparse"].size, head.size() + tail.size() + (3u << 20));
  EXPECT_THAT(read.entries["sparse"].holes, ElementsAre(Hole{head.size(), 3u << 20}));
  // Again with a changed tail: the hints of the version before step over the hole, too.
  fs_.Change("sparse", [&](FakeSourceFs::Object& o) {
    o.bytes.back() ^= 1;
    o.stat.mtime.seconds++;
  });
  const BackupResult second = MustRun();
  EXPECT_LT(second.statistics.bytes_sent(), 150'000u);
  std::string changed = tail;
  changed.back() ^= 1;
  EXPECT_EQ(ReadBack(second.id).contents["sparse"], head + changed);
}

TEST_F(BackupTest, ManyHolesGoAside) {
  const size_t step = 8192;
  fs_.AddFile("swiss", std::string(1500 * step, '\0'));
  fs_.Change("swiss", [&](FakeSourceFs::Object& o) {
    o.stat.blocks = 1;
    o.data.emplace();
    for (size_t i = 0; i < 1500; ++i) o.data->push_back({i * step, i * step + 4096});
  });
  EXPECT_EQ(ReadBack(MustRun().id).entries["swiss"].holes.size(), 1500u);
}

TEST_F(BackupTest, ReadsTheNamesOfOneFileOnce) {
  fs_.AddDirectory("d");
  fs_.AddFile("a", RandomBytes(300'000, 3));
  fs_.AddHardLink("b", "a");
  fs_.AddHardLink("d/c", "a");
  fs_.AddFile("s1", "small file of more than sixty-four bytes, so that it is in a bundle and not inline");
  fs_.AddHardLink("s2", "s1");
  const BackupResult result = MustRun();
  EXPECT_EQ(fs_.opens(), 2u);
  EXPECT_EQ(result.statistics.files_read(), 2u);
  Read read = ReadBack(result.id);
  for (const char* name : {"a", "b", "d/c"}) {
    EXPECT_EQ(read.contents[name], Bytes("a")) << name;
    EXPECT_EQ(read.entries[name].content, read.entries["a"].content) << name;
    EXPECT_EQ(read.entries[name].link_count, 3u) << name;
  }
  EXPECT_EQ(read.contents["s2"], Bytes("s1"));
  const BackupResult second = MustRun();
  EXPECT_EQ(second.statistics.files_unchanged(), 5u);
}

TEST_F(BackupTest, ReadsUnderTheNextNameWhenTheFirstIsGone) {
  fs_.AddFile("a", RandomBytes(300'000, 3));
  fs_.AddHardLink("b", "a");
  fs_.AddFile("s1", std::string(1000, 's'));
  fs_.AddHardLink("s2", "s1");
  fs_.SetHook([&](std::string_view path, std::string_view operation) {
    if (operation == "open" && (path == "a" || path == "s1")) fs_.Remove(std::string(path));
  });
  const BackupResult result = MustRun();
  EXPECT_THAT(heard_->vanished, UnorderedElementsAre("a", "s1"));
  Read read = ReadBack(result.id);
  EXPECT_EQ(read.contents["b"], Bytes("b"));
  EXPECT_EQ(read.contents["s2"], std::string(1000, 's'));
}

TEST_F(BackupTest, ANameThatWasAddedToAnUnchangedFileIsNotRead) {
  fs_.AddFile("a", RandomBytes(3000, 3));
  fs_.AddHardLink("b", "a");
  MustRun();
  fs_.AddHardLink("c", "a");
  const uint64_t opens = fs_.opens();
  const BackupResult second = MustRun();
  EXPECT_EQ(fs_.opens(), opens);
  EXPECT_EQ(ReadBack(second.id).contents["c"], Bytes("a"));
}

// --- The previous snapshot -------------------------------------------------------------------------------------------

TEST_F(BackupTest, ASnapshotOfAnotherAgentIsNoBase) {
  AddTree();
  MustRun();
  auto second = Run(/*agent=*/2);
  ASSERT_OK(second);
  EXPECT_THAT(heard_->notes, ElementsAre("reading every file: the previous snapshot was made by another agent"));
  EXPECT_EQ(second->statistics.files_read(), 23u);
  EXPECT_EQ(second->core.sequence(), 2u);
}

TEST_F(BackupTest, ADeletedSnapshotIsNoBaseAndNoSurprise) {
  AddTree();
  const BackupResult first = MustRun();
  ASSERT_OK(server_.client().DeleteSnapshot(TestServer::kRepository, first.id, "test"));
  EXPECT_EQ(MustRun().statistics.files_read(), 23u);
  EXPECT_THAT(heard_->notes, IsEmpty());
}

TEST_F(BackupTest, ABaseThatCannotBeReadCostsTimeOnly) {
  AddTree();
  MustRun();
  server_.client().SetHook(
      [](std::string_view call) { return call == "GetManifest" ? absl::DataLossError("damaged") : absl::OkStatus(); });
  auto second = Run();
  ASSERT_OK(second);
  EXPECT_THAT(heard_->notes, ElementsAre(HasSubstr("the previous snapshot cannot be used: damaged")));
  EXPECT_EQ(second->statistics.files_read(), 23u);
}

TEST_F(BackupTest, ADamagedPageOfTheBaseCostsTimeOnly) {
  AddTree();
  const BackupResult first = MustRun();
  // Its root cannot be opened any more.
  auto root = ChunkId::FromBytes(first.core.root_id());
  ASSERT_OK(root);
  std::vector<ChunkId> ids{*root};
  ASSERT_OK(engine().NoteUnopenable({"local"}, ids));
  const BackupResult second = MustRun();
  EXPECT_EQ(ReadBack(second.id).contents["d/large"], Bytes("d/large"));
}

TEST_F(BackupTest, StartsOverWhenTheRepositoryLostAChunkOfTheBase) {
  AddTree();
  const BackupResult first = MustRun();
  Read read = ReadBack(first.id);
  const std::vector<ChunkId> ids{read.entries["d/large"].content.chunks[0].ref.id};
  ASSERT_OK(engine().NoteUnopenable({"local"}, ids));
  fs_.Write("d/small1", "another page comes into being");
  const BackupResult second = MustRun();
  EXPECT_THAT(heard_->notes, Contains("reading every file: the repository lost chunks of the previous snapshot"));
  EXPECT_EQ(second.statistics.files_read(), 23u);
  EXPECT_EQ(ReadBack(second.id).contents["d/large"], Bytes("d/large"));
}

TEST_F(BackupTest, ABundleThatIsMostlyDeadIsWrittenAnew) {
  AddTree();
  const BackupResult first = MustRun();
  for (int i = 0; i < 20; ++i) {
    if (i != 9) fs_.Remove(absl::StrCat("d/small", i));  // the last by name
  }
  const BackupResult second = MustRun();
  EXPECT_THAT(ReadBack(second.id).sealed.sparse_bundles(), Not(IsEmpty()));
  EXPECT_EQ(second.statistics.files_read(), 0u);
  const BackupResult third = MustRun();
  EXPECT_GT(third.statistics.files_read(), 0u);
  Read read = ReadBack(third.id);
  EXPECT_THAT(read.sealed.sparse_bundles(), IsEmpty());
  EXPECT_EQ(read.contents["d/small9"], Bytes("d/small9"));
}

// --- The server ------------------------------------------------------------------------------------------------------

TEST_F(BackupTest, AServerThatGoesAwayEndsTheBackupWhereverItIs) {
  AddTree();
  MustRun();
  fs_.Write("d/large", RandomBytes(700'000, 100));
  for (const char* gone :
       {"OpenSession", "Upload.attach", "GetManifest", "Read", "Upload.have_ids", "Upload.records", "CommitSnapshot"}) {
    server_.client().SetHook(
        [gone](std::string_view call) { return call == gone ? absl::UnavailableError("gone") : absl::OkStatus(); });
    EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kUnavailable, "gone")) << gone;
  }
  server_.client().SetHook(nullptr);
  EXPECT_EQ(MustRun().core.sequence(), 2u) << "no session was left open, nothing was committed";
}

TEST_F(BackupTest, ACommitThatMissesChunksFails) {
  AddTree();
  server_.client().SetHook([](std::string_view call) {
    return call == "CommitSnapshot" ? absl::FailedPreconditionError("chunks are missing") : absl::OkStatus();
  });
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kFailedPrecondition, "committing the snapshot: chunks are missing"));
}

TEST_F(BackupTest, AnotherBackupOfTheSourceIsRefused) {
  AddTree();
  v1::OpenSessionRequest request;
  request.set_repository(TestServer::kRepository);
  request.set_source(kSource);
  request.set_agent(1);
  auto session = server_.client().OpenSession(request);
  ASSERT_OK(session);
  auto transport = server_.client().NewUploadTransport(TestServer::kRepository, *session);
  ASSERT_OK(transport);
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(BackupTest, CancellingEndsItWithoutASnapshot) {
  AddTree();
  fs_.SetHook([&](std::string_view path, std::string_view operation) {
    if (operation == "read") heard_->cancel = true;
  });
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kCancelled));
  fs_.SetHook(nullptr);
  server_.client().SetHook([&](std::string_view call) {
    if (call == "Upload.records") heard_->cancel = true;  // the last pages
    return absl::OkStatus();
  });
  EXPECT_THAT(Run(), StatusIs(absl::StatusCode::kCancelled));
  server_.client().SetHook(nullptr);
  EXPECT_EQ(MustRun().core.sequence(), 1u);
}

TEST_F(BackupTest, ChunksThatThisVersionCannotMakeAreRefused) {
  keys_ = Keys();
  keys_.chunker.max_bytes = 8u << 20;
  heard_ = std::make_unique<Heard>();
  EXPECT_THAT(Backup(server_.client(), fs_, keys_, options_, *heard_),
              StatusIs(absl::StatusCode::kFailedPrecondition, "larger chunks"));
}

TEST_F(BackupTest, StoresARealDirectory) {
  const std::filesystem::path root = std::filesystem::path(testing::TempDir()) / "backup_test_tree";
  std::filesystem::remove_all(root);
  std::filesystem::create_directories(root / "d" / "e");
  std::ofstream(root / "d" / "file") << "some bytes";
  std::ofstream(root / "d" / "e" / "large") << RandomBytes(400'000, 8);
  std::filesystem::create_symlink("d", root / "l");
  options_.scan.root = root;
  options_.workers = 0;
  heard_ = std::make_unique<Heard>();
  keys_ = Keys();
  auto result = Backup(server_.client(), *NewPosixSourceFs(), keys_, options_, *heard_);
  ASSERT_OK(result);
  Read read = ReadBack(result->id);
  EXPECT_EQ(read.contents["d/file"], "some bytes");
  EXPECT_EQ(read.contents["d/e/large"], RandomBytes(400'000, 8));
  EXPECT_EQ(read.entries["l"].symlink_target, "d");
  EXPECT_EQ(read.entries.size(), 6u);
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace holdfast
