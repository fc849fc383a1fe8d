#include "server/repository/repository.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "core/base/status_testing.h"
#include "core/crypto/blake3.h"
#include "core/format/manifest.h"
#include "core/io/posix.h"
#include "core/io/sim/sim_world.h"
#include "server/index/memory_kv_store.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/pack/pack_writer.h"
#include "storage/wrappers/faulty_blob_store.h"

namespace holdfast {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr HaveAnswer kNone = HaveAnswer::kNone, kOwn = HaveAnswer::kOwn, kForeign = HaveAnswer::kForeign;

CatalogKey Key() {
  CatalogKey key;
  key.repository.bytes.fill(7);
  key.key.MutableBytes()[0] = 42;
  return key;
}

// --- The machine ----------------------------------------------------------------------------------------------------

// What a KvStore has on disk: its batches in order, so that a crash can lose the newest ones.
struct KvDisk {
  absl::Mutex mu;
  std::vector<KvBatch> batches;
  int destroyed = 0;
  absl::Status write_failure;  // of stores that are open or will be; a store that met it stays broken

  void Keep(size_t n) { batches.resize(n); }
  size_t value_count() const {
    size_t n = 0;
    for (const KvBatch& b : batches) {
      for (const auto& op : b.operations()) n += op.value.has_value();
    }
    return n;
  }
  // Changes one byte of the value number `which`, counted over all batches.
  void Corrupt(size_t which, std::mt19937_64& random) {
    for (KvBatch& b : batches) {
      KvBatch changed;
      for (const auto& op : b.operations()) {
        if (!op.value) {
          changed.Delete(op.key);
          continue;
        }
        std::string value = *op.value;
        if (which-- == 0 && !value.empty()) value[random() % value.size()] ^= static_cast<char>(1u << (random() % 8));
        changed.Put(op.key, value);
      }
      b = changed;
    }
  }
};

class KvOnDisk : public KvStore {
 public:
  explicit KvOnDisk(KvDisk& disk) : disk_(disk) {
    absl::MutexLock lock(&disk_.mu);
    for (const KvBatch& b : disk_.batches) EXPECT_OK(memory_.Write(b));
  }
  absl::StatusOr<std::optional<std::string>> Get(std::string_view key) override { return memory_.Get(key); }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) override {
    return memory_.MultiGet(keys);
  }
  absl::Status Write(const KvBatch& batch) override {
    absl::MutexLock lock(&disk_.mu);
    if (broken_.ok()) broken_ = disk_.write_failure;
    RETURN_IF_ERROR(broken_);
    RETURN_IF_ERROR(memory_.Write(batch));
    disk_.batches.push_back(batch);
    return absl::OkStatus();
  }
  absl::Status Scan(std::string_view prefix, std::string_view from, const Visitor& visit) override {
    return memory_.Scan(prefix, from, visit);
  }
  absl::Status Flush() override { return absl::OkStatus(); }
  uint64_t ApproximateMemory() override { return 0; }

 private:
  KvDisk& disk_;
  absl::Status broken_;
  MemoryKvStore memory_;
};

// A storage that goes away with the power of a simulated machine. Every operation is two file calls, before and after
// it was done, so that the power can go at either.
class PoweredStore : public BlobStore {
 public:
  PoweredStore(BlobStore& inner, SimWorld* world) : inner_(inner), world_(world) {}
  Capabilities capabilities() const override { return inner_.capabilities(); }
  absl::Status Put(const BlobName& name, BlobSource& source, PutMode mode) override {
    std::string bytes(source.size(), '\0');  // first: the memory store must not make file calls under its mutex
    RETURN_IF_ERROR(source.ReadAt(0, absl::MakeSpan(bytes)));
    RETURN_IF_ERROR(Power());
    absl::Status status = PutBytes(inner_, name, bytes, mode);
    RETURN_IF_ERROR(Power());
    return status;
  }
  absl::Status Get(const BlobName& name, uint64_t offset, absl::Span<char> out) override {
    RETURN_IF_ERROR(Power());
    return inner_.Get(name, offset, out);
  }
  absl::StatusOr<BlobInfo> Stat(const BlobName& name) override {
    RETURN_IF_ERROR(Power());
    return inner_.Stat(name);
  }
  absl::StatusOr<std::vector<BlobInfo>> List(std::string_view prefix, std::string_view after, int limit) override {
    RETURN_IF_ERROR(Power());
    return inner_.List(prefix, after, limit);
  }
  absl::Status Delete(const BlobName& name) override {
    RETURN_IF_ERROR(Power());
    absl::Status status = inner_.Delete(name);
    RETURN_IF_ERROR(Power());
    return status;
  }

 private:
  absl::Status Power() {
    if (world_ == nullptr) return absl::OkStatus();
    (void)world_->io().files.Stat("/spool");
    return world_->is_off() ? absl::UnavailableError("the power is off") : absl::OkStatus();
  }
  BlobStore& inner_;
  SimWorld* const world_;
};

// Everything that outlives a server process.
struct Machine {
  Machine(Io io_in, std::string spool_in, uint64_t seed, SimWorld* world)
      : io(io_in), faulty(blobs, seed), store(faulty, world) {
    options.spool_directory = std::move(spool_in);
    options.server_id = "test";
    EXPECT_OK(io.files.MakeDirectories(options.spool_directory));
  }
  absl::StatusOr<std::unique_ptr<Repository>> TryOpen() {
    KvStoreFactory factory;
    factory.open = [this]() -> absl::StatusOr<std::unique_ptr<KvStore>> { return std::make_unique<KvOnDisk>(kv); };
    factory.destroy = [this] {
      absl::MutexLock lock(&kv.mu);
      kv.batches.clear();
      ++kv.destroyed;
      return absl::OkStatus();
    };
    return Repository::Open(io, store, factory, Key(), options);
  }
  std::unique_ptr<Repository> Open() {
    auto repository = TryOpen();
    EXPECT_OK(repository);
    if (!repository.ok()) std::abort();
    return *std::move(repository);
  }
  std::vector<std::string> Names(std::string_view prefix) {
    auto all = ListAll(blobs, prefix);
    EXPECT_OK(all);
    std::vector<std::string> out;
    for (const BlobInfo& b : *all) out.push_back(b.name);
    return out;
  }
  std::string Blob(const std::string& name) {
    return GetWholeBlob(blobs, BlobName::FromTrusted(name), 1u << 30).value_or("");
  }
  void Remove(const std::string& name) { EXPECT_OK(blobs.Delete(BlobName::FromTrusted(name))); }
  void Replace(const std::string& name, std::string_view bytes) {
    Remove(name);
    EXPECT_OK(PutBytes(blobs, BlobName::FromTrusted(name), bytes, PutMode::kIfAbsent));
  }
  // The first byte at which `bytes` stand in the blob is changed; false when they are not in it.
  bool Damage(const std::string& name, std::string_view bytes) {
    std::string blob = Blob(name);
    size_t at = blob.find(bytes);
    if (at == std::string::npos) return false;
    blob[at] ^= 1;
    Replace(name, blob);
    return true;
  }

  Io io;
  MemoryBlobStore blobs;
  FaultyBlobStore faulty;
  PoweredStore store;
  KvDisk kv;
  RepositoryOptions options;
};

struct SimMachine : SimWorld, Machine {
  explicit SimMachine(uint64_t seed = 1) : SimWorld(seed), Machine(SimWorld::io(), "/spool", seed, this) {}
  using Machine::io;
};

// --- Clients --------------------------------------------------------------------------------------------------------

struct Chunk {
  RecordHeader header;
  std::string header_bytes, body;
  const ChunkId& id() const { return header.id; }
};

Chunk MakeChunk(ChunkType type, int number, uint32_t agent, std::vector<ChunkId> children, size_t bytes = 80) {
  Chunk c;
  c.header.type = type;
  c.header.aead = 1;
  c.header.epoch = 1;
  c.header.uploader = agent;
  c.header.sealed_length = static_cast<uint32_t>(bytes);
  c.header.id.bytes = Blake3Digest(absl::StrCat(static_cast<int>(type), "/", number)).bytes;
  std::sort(children.begin(), children.end());
  children.erase(std::unique(children.begin(), children.end()), children.end());
  c.header.children = std::move(children);
  c.header_bytes = EncodeRecordHeader(c.header);
  std::mt19937_64 random(static_cast<uint64_t>(number) * 2 + (type == ChunkType::kTree));
  for (size_t i = 0; i < bytes; ++i) c.body.push_back(static_cast<char>(random()));
  return c;
}
// The same number is the same chunk, whoever uploads it.
Chunk Data(int number, uint32_t agent = 1) { return MakeChunk(ChunkType::kData, number, agent, {}); }
Chunk Page(int number, const std::vector<Chunk>& children, uint32_t agent = 1) {
  std::vector<ChunkId> ids;
  for (const Chunk& c : children) ids.push_back(c.id());
  return MakeChunk(ChunkType::kTree, number, agent, ids);
}

struct Snapshot {
  ManifestId id;
  std::string source;
  std::vector<Chunk> chunks;
};

// One upload session.
class Client {
 public:
  Client(Repository& repository, std::string source, uint32_t agent = 1, std::string who = "anna")
      : repository_(repository), source_(std::move(source)), agent_(agent), who_{std::move(who)} {}

  absl::Status Begin() {
    ASSIGN_OR_RETURN(info_, repository_.OpenSession(who_, source_, agent_, std::nullopt));
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<HaveAnswer>> Have(const std::vector<Chunk>& chunks) {
    std::vector<ChunkId> ids;
    for (const Chunk& c : chunks) ids.push_back(c.id());
    return repository_.Have(who_, info_.id, ids);
  }
  absl::Status Send(const std::vector<Chunk>& chunks) {
    std::vector<IncomingRecord> records;
    for (const Chunk& c : chunks) {
      std::string_view body = c.body;
      records.push_back({c.header, c.header_bytes, {body.substr(0, 10), body.substr(10)}});
    }
    return repository_.Append(who_, info_.id, records);
  }
  absl::Status Barrier() { return repository_.Barrier(who_, info_.id); }
  std::string Manifest(const ChunkId& root) {
    pb::ManifestCore core;
    core.set_repository_id(std::string(repository_.id().view()));
    core.set_source(source_);
    core.set_agent(agent_);
    core.set_sequence(info_.head_sequence + 1);
    if (info_.head) core.set_previous_manifest(std::string(info_.head->view()));
    core.set_root_id(std::string(root.view()));
    core.set_root_level(1);
    core.set_key_epoch(1);
    ManifestKeys keys;
    keys.repository = repository_.id();
    keys.agent = agent_;
    auto bytes = SealManifest(core, pb::ManifestSealed(), ChunkRef(), keys, PosixIo().random);
    EXPECT_OK(bytes);
    return *bytes;
  }
  absl::StatusOr<CommitResult> CommitManifest(std::string_view manifest) {
    missing_.clear();
    return repository_.Commit(who_, info_.id, manifest, &missing_);
  }
  absl::StatusOr<CommitResult> Commit(const Chunk& root) { return CommitManifest(Manifest(root.id())); }
  absl::Status Close() { return repository_.CloseSession(who_, info_.id); }

  const SessionInfo& info() const { return info_; }
  const Principal& who() const { return who_; }
  const std::vector<ChunkId>& missing() const { return missing_; }

 private:
  Repository& repository_;
  const std::string source_;
  const uint32_t agent_;
  const Principal who_;
  SessionInfo info_;
  std::vector<ChunkId> missing_;
};

// A whole backup: `data`, and page number `page` over it. Uploads what `have` says is needed. Fills `snapshot` before
// the commit, so that the caller knows what may be there whatever the answer is.
absl::Status Backup(Repository& repository, const std::string& source, std::vector<Chunk> data, int page,
                    Snapshot* snapshot, uint32_t agent = 1, bool barrier = false) {
  for (Chunk& c : data) {
    c.header.uploader = agent;
    c.header_bytes = EncodeRecordHeader(c.header);
  }
  Client client(repository, source, agent);
  RETURN_IF_ERROR(client.Begin());
  auto run = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(std::vector<HaveAnswer> have, client.Have(data));
    std::vector<Chunk> needed;
    for (size_t i = 0; i < data.size(); ++i) {
      if (have[i] == kNone) needed.push_back(data[i]);
    }
    RETURN_IF_ERROR(client.Send(needed));
    if (barrier) RETURN_IF_ERROR(client.Barrier());
    Chunk root = Page(page, data, agent);
    RETURN_IF_ERROR(client.Send({root}));
    std::string manifest = client.Manifest(root.id());
    snapshot->id = ManifestIdOf(manifest);
    snapshot->source = source;
    snapshot->chunks = data;
    snapshot->chunks.push_back(root);
    return client.CommitManifest(manifest).status();
  };
  absl::Status status = run();
  (void)client.Close();
  return status;
}
Snapshot MustBackup(Repository& repository, const std::string& source, std::vector<Chunk> data, int page,
                    uint32_t agent = 1) {
  Snapshot snapshot;
  EXPECT_OK(Backup(repository, source, std::move(data), page, &snapshot, agent));
  return snapshot;
}

class Answers : public RecordReadSink {
 public:
  absl::Status OnRecord(size_t index, absl::StatusOr<ReadRecord> record) override {
    absl::StatusOr<std::string> body =
        record.ok() ? absl::StatusOr<std::string>(std::string(record->body)) : record.status();
    EXPECT_TRUE(answers.emplace(index, std::move(body)).second) << "answered twice";
    return absl::OkStatus();
  }
  std::map<size_t, absl::StatusOr<std::string>> answers;
};
// One answer per chunk.
std::vector<absl::StatusOr<std::string>> Read(Repository& repository, const std::vector<Chunk>& chunks,
                                              bool verify = true) {
  std::vector<ChunkId> ids;
  for (const Chunk& c : chunks) ids.push_back(c.id());
  Answers sink;
  EXPECT_OK(repository.Read({"anna"}, ids, verify, sink));
  EXPECT_EQ(sink.answers.size(), ids.size());
  std::vector<absl::StatusOr<std::string>> out;
  for (auto& [index, body] : sink.answers) out.push_back(body);
  return out;
}
absl::StatusOr<std::string> ReadOne(Repository& repository, const Chunk& chunk, bool verify = true) {
  return Read(repository, {chunk}, verify).at(0);
}
void ExpectWhole(Repository& repository, const Snapshot& snapshot) {
  auto found = repository.catalog().Find(snapshot.id);
  ASSERT_TRUE(found.has_value()) << snapshot.source;
  EXPECT_EQ(found->source, snapshot.source);
  EXPECT_FALSE(found->deleted);
  EXPECT_OK(repository.GetManifest({"anna"}, snapshot.id));
  auto bodies = Read(repository, snapshot.chunks);
  for (size_t i = 0; i < bodies.size(); ++i) EXPECT_THAT(bodies[i], IsOkAndHolds(snapshot.chunks[i].body));
}
// Every source's snapshots are numbered 1, 2, ... and each names the one before it.
void ExpectChains(Repository& repository) {
  std::set<std::string> sources;
  std::string after;
  do {
    auto page = repository.catalog().List({std::nullopt, true}, after, Catalog::kPageMax);
    ASSERT_OK(page);
    for (const CatalogSnapshot& s : page->snapshots) sources.insert(s.source);
    after = page->next;
  } while (!after.empty());
  for (const std::string& source : sources) {
    std::string previous;
    uint64_t sequence = 0;
    for (const CatalogSnapshot& s : repository.catalog().Chain(source)) {
      auto core = ParseManifestCore(s.core);
      ASSERT_OK(core);
      EXPECT_EQ(s.sequence, ++sequence) << source;
      EXPECT_EQ(core->previous_manifest(), previous) << source;
      previous = s.id.view();
    }
  }
}

// --- Uploads --------------------------------------------------------------------------------------------------------

class RepositoryTest : public testing::Test {
 protected:
  void Restart() {
    repository_.reset();
    repository_ = machine_.Open();
  }
  // As if the process were killed: nothing that the destructor does has an effect.
  void Kill(CrashMode mode = CrashMode::kKeep) {
    machine_.PowerOffAtCall(machine_.calls() + 1);
    repository_.reset();
    machine_.Crash(1, mode);
    repository_ = machine_.Open();
  }
  Client Session(const std::string& source, uint32_t agent = 1, const std::string& who = "anna") {
    Client client(*repository_, source, agent, who);
    EXPECT_OK(client.Begin());
    return client;
  }
  absl::StatusOr<std::vector<HaveAnswer>> Have(const std::vector<Chunk>& chunks, uint32_t agent = 1) {
    Client client(*repository_, "asks", agent);
    RETURN_IF_ERROR(client.Begin());
    auto answers = client.Have(chunks);
    EXPECT_OK(client.Close());
    return answers;
  }

  SimMachine machine_;
  std::unique_ptr<Repository> repository_ = machine_.Open();
};

TEST_F(RepositoryTest, GivesBackWhatWasCommitted) {
  Client client = Session("home");
  EXPECT_FALSE(client.info().head.has_value());
  std::vector<Chunk> data = {Data(1), Data(2), Data(3)};
  Chunk root = Page(1, data);
  ASSERT_OK(client.Send(data));
  ASSERT_OK(client.Send({root}));
  std::string manifest = client.Manifest(root.id());
  ASSERT_OK_AND_ASSIGN(CommitResult result, client.CommitManifest(manifest));
  EXPECT_EQ(result.id, ManifestIdOf(manifest));
  for (int run = 0; run < 2; ++run) {
    EXPECT_THAT(repository_->GetManifest({"anna"}, result.id), IsOkAndHolds(manifest));
    ExpectWhole(*repository_, {result.id, "home", {data[0], root, data[2], data[1]}});
    EXPECT_EQ(repository_->statistics().snapshots, 1u);
    EXPECT_EQ(repository_->statistics().chunks, 4u);
    EXPECT_EQ(repository_->statistics().packs, 2u);
    Restart();
  }
  EXPECT_THAT(repository_->warnings(), IsEmpty());
  EXPECT_EQ(Session("home").info().head, result.id);
}

TEST_F(RepositoryTest, TellsTheStorageNeitherSourcesNorManifests) {
  Client client = Session("home-of-anna");
  Chunk root = Page(1, {});
  ASSERT_OK(client.Send({root}));
  std::string manifest = client.Manifest(root.id());
  ASSERT_OK(client.CommitManifest(manifest));
  for (const std::string& name : machine_.Names("")) {
    std::string blob = machine_.Blob(name);
    EXPECT_EQ(blob.find("home-of-anna"), std::string::npos) << name;
    EXPECT_EQ(blob.find(root.id().view()), std::string::npos) << name;
  }
}

TEST_F(RepositoryTest, SaysWhoseCopyItHas) {
  MustBackup(*repository_, "home", {Data(1)}, 1, /*agent=*/1);
  EXPECT_THAT(Have({Data(1), Data(2), Page(1, {})}, 1), IsOkAndHolds(ElementsAre(kOwn, kNone, kOwn)));
  EXPECT_THAT(Have({Data(1), Data(2), Page(1, {})}, 2), IsOkAndHolds(ElementsAre(kForeign, kNone, kForeign)));
}

TEST_F(RepositoryTest, PromisesDataThatIsNotYetStored) {
  Client first = Session("home");
  ASSERT_OK(first.Send({Data(1)}));
  Client second = Session("work", 2);
  EXPECT_THAT(second.Have({Data(1)}), IsOkAndHolds(ElementsAre(kForeign)));
  // W2: a commit stores what it was promised, too.
  Chunk root = Page(1, {Data(1)}, 2);
  ASSERT_OK(second.Send({root}));
  ASSERT_OK_AND_ASSIGN(CommitResult result, second.Commit(root));
  Kill(CrashMode::kDrop);
  ExpectWhole(*repository_, {result.id, "work", {Data(1), root}});
}

TEST_F(RepositoryTest, CallsAChunkOwnAsSoonAsTheAgentHasACopyOfItsOwn) {
  MustBackup(*repository_, "home", {Data(1)}, 1, 1);
  Client client = Session("work", 2);
  EXPECT_THAT(client.Have({Data(1)}), IsOkAndHolds(ElementsAre(kForeign)));
  ASSERT_OK(client.Send({Data(1, 2), Data(2, 2)}));
  Chunk root = Page(2, {Data(1), Data(2)}, 2);
  ASSERT_OK(client.Send({root}));
  ASSERT_OK(client.Commit(root));
  EXPECT_THAT(Have({Data(1)}, 1), IsOkAndHolds(ElementsAre(kOwn)));
  EXPECT_THAT(Have({Data(1)}, 2), IsOkAndHolds(ElementsAre(kOwn)));
  EXPECT_THAT(Have({Data(1)}, 3), IsOkAndHolds(ElementsAre(kForeign)));
  // A third copy is not kept.
  const uint64_t bytes = repository_->statistics().stored_bytes;
  ASSERT_OK(client.Send({Data(1, 2)}));
  Restart();
  EXPECT_EQ(repository_->statistics().stored_bytes, bytes);
}

TEST_F(RepositoryTest, KeepsAnAgentsCopyBesideAForeignOneThatIsNotYetStored) {
  Client bad = Session("evil", 2), good = Session("home", 1);
  Chunk poisoned = Data(1, 2);
  poisoned.body.assign(poisoned.body.size(), 'x');
  ASSERT_OK(bad.Send({poisoned}));
  EXPECT_THAT(good.Have({Data(1)}), IsOkAndHolds(ElementsAre(kForeign)));
  ASSERT_OK(good.Send({Data(1, 1)}));
  Chunk root = Page(1, {Data(1)});
  ASSERT_OK(good.Send({root}));
  ASSERT_OK(good.Commit(root));
  bool stored = false;
  for (const std::string& name : machine_.Names("packs/d/")) {
    stored = stored || machine_.Blob(name).find(Data(1).body) != std::string::npos;
  }
  EXPECT_TRUE(stored);
}

TEST_F(RepositoryTest, StoresAChunkOnceHoweverOftenItIsSent) {
  Client first = Session("home"), second = Session("work");
  ASSERT_OK(first.Send({Data(1)}));
  ASSERT_OK(second.Send({Data(1)}));
  ASSERT_OK(first.Send({Data(1)}));
  Chunk root = Page(1, {Data(1)});
  ASSERT_OK(first.Send({root}));
  ASSERT_OK(first.Commit(root));
  ASSERT_OK(second.Send({Data(1)}));
  Restart();
  ASSERT_EQ(machine_.Names("packs/d/").size(), 1u);
  std::string pack = machine_.Blob(machine_.Names("packs/d/")[0]);
  EXPECT_EQ(pack.find(Data(1).body), pack.rfind(Data(1).body));
}

TEST_F(RepositoryTest, PromisesAPageOnlyOnceACommittedSnapshotReachesIt) {
  Client first = Session("home");
  std::vector<Chunk> data = {Data(1)};
  Chunk lower = Page(1, data), root = Page(2, {lower}), stray = Page(3, data);
  ASSERT_OK(first.Send(data));
  ASSERT_OK(first.Send({lower, root, stray}));
  Client second = Session("work");
  EXPECT_THAT(second.Have({lower, root, stray}), IsOkAndHolds(ElementsAre(kNone, kNone, kNone)));
  EXPECT_THAT(first.Have({lower, root, stray}), IsOkAndHolds(ElementsAre(kOwn, kOwn, kOwn)));
  // Also when they are stored: a commit of another session stores everything.
  ASSERT_OK(second.Send({Page(4, {})}));
  ASSERT_OK(second.Commit(Page(4, {})));
  EXPECT_THAT(second.Have({lower, root, stray}), IsOkAndHolds(ElementsAre(kNone, kNone, kNone)));
  ASSERT_OK(first.Commit(root));
  EXPECT_THAT(second.Have({lower, root, stray}), IsOkAndHolds(ElementsAre(kOwn, kOwn, kNone)));
  Restart();
  EXPECT_THAT(Have({lower, root, stray}), IsOkAndHolds(ElementsAre(kOwn, kOwn, kNone)));
}

TEST_F(RepositoryTest, RefusesAPageWhoseChildTheSessionDoesNotKnow) {
  MustBackup(*repository_, "work", {Data(1)}, 1);
  Client client = Session("home");
  // It is there, but was not promised to this session.
  EXPECT_THAT(client.Send({Page(2, {Data(1)})}), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(client.Send({Page(2, {Data(9)})}), StatusIs(absl::StatusCode::kFailedPrecondition));
  // A page before its child.
  Chunk child = Page(3, {});
  EXPECT_THAT(client.Send({Page(4, {child}), child}), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(client.Send({child, Page(4, {child})}));
  EXPECT_THAT(client.Have({Data(1)}), IsOkAndHolds(ElementsAre(kOwn)));
  EXPECT_OK(client.Send({Page(2, {Data(1)})}));
}

TEST_F(RepositoryTest, ListsARootThatWasNeverUploadedAsMissing) {
  Client client = Session("home");
  Chunk root = Page(1, {});
  EXPECT_THAT(client.Commit(root), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(client.missing(), Contains(root.id()));
  EXPECT_THAT(machine_.Names("snapshots/"), IsEmpty());
  ASSERT_OK(client.Send({root}));
  EXPECT_OK(client.Commit(root));
}

TEST_F(RepositoryTest, AnswersACommitTwiceTheSame) {
  Client client = Session("home");
  Chunk root = Page(1, {});
  ASSERT_OK(client.Send({root}));
  std::string manifest = client.Manifest(root.id());
  ASSERT_OK_AND_ASSIGN(CommitResult first, client.CommitManifest(manifest));
  auto expect_same = [&](Client& asks) {
    auto again = asks.CommitManifest(manifest);
    ASSERT_OK(again);
    EXPECT_EQ(again->id, first.id);
    EXPECT_EQ(again->server_time, first.server_time);
  };
  expect_same(client);
  ASSERT_OK(client.Close());
  expect_same(client);
  Restart();
  Client later = Session("home");
  expect_same(later);
  EXPECT_EQ(repository_->statistics().snapshots, 1u);
}

TEST_F(RepositoryTest, BindsASessionToItsPrincipal) {
  Client client = Session("home", 1, "anna");
  const Principal bert{"bert"};
  std::vector<ChunkId> missing, ids = {Data(1).id()};
  Chunk data = Data(1);
  IncomingRecord record{data.header, data.header_bytes, {data.body}};
  EXPECT_THAT(repository_->StreamBegan(bert, client.info().id), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(repository_->Have(bert, client.info().id, ids), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(repository_->Append(bert, client.info().id, {&record, 1}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(repository_->Barrier(bert, client.info().id), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(repository_->Commit(bert, client.info().id, client.Manifest(data.id()), &missing),
              StatusIs(absl::StatusCode::kAborted));
  (void)repository_->CloseSession(bert, client.info().id);
  EXPECT_OK(client.Send({Data(1)}));
}

TEST_F(RepositoryTest, DoesNothingForNobody) {
  Client client = Session("home", 1, "anna");
  ASSERT_OK(client.Send({Data(1)}));
  const Principal nobody;
  const SessionId session = client.info().id;
  const Chunk page = Page(1, {});
  const ChunkId id = Data(1).id();
  const IncomingRecord record{page.header, page.header_bytes, {page.body}};
  std::vector<ChunkId> missing;
  struct Sink : RecordReadSink {
    absl::Status OnRecord(size_t, absl::StatusOr<ReadRecord>) override { return absl::InternalError("answered"); }
  } sink;
  const auto denied = StatusIs(absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(repository_->OpenSession(nobody, "other", 1, std::nullopt), denied);
  EXPECT_THAT(repository_->StreamBegan(nobody, session), denied);
  EXPECT_THAT(repository_->Have(nobody, session, {&id, 1}), denied);
  EXPECT_THAT(repository_->Append(nobody, session, {&record, 1}), denied);
  EXPECT_THAT(repository_->Barrier(nobody, session), denied);
  EXPECT_THAT(repository_->Commit(nobody, session, client.Manifest(id), &missing), denied);
  EXPECT_THAT(repository_->CloseSession(nobody, session), denied);
  EXPECT_THAT(repository_->Read(nobody, {&id, 1}, false, sink), denied);
  EXPECT_THAT(repository_->NoteUnopenable(nobody, {&id, 1}), denied);
  EXPECT_THAT(repository_->GetManifest(nobody, ManifestId()), denied);
  EXPECT_THAT(repository_->DeleteSnapshot(nobody, ManifestId(), ""), denied);
}

TEST_F(RepositoryTest, AbortsCallsOfAClosedSession) {
  Client client = Session("home");
  ASSERT_OK(client.Send({Page(1, {})}));
  ASSERT_OK(client.Close());
  EXPECT_THAT(client.Have({Data(1)}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(client.Send({Data(1)}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(client.Barrier(), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(client.Commit(Page(1, {})), StatusIs(absl::StatusCode::kAborted));
  EXPECT_OK(client.Close());
}

TEST_F(RepositoryTest, ForgetsSessionsAtARestart) {
  Client client = Session("home");
  SessionId id = client.info().id;
  Restart();
  EXPECT_THAT(repository_->Have({"anna"}, id, {}), StatusIs(absl::StatusCode::kAborted));
}

TEST_F(RepositoryTest, AllowsOneSessionPerSourceUnlessItIsIdle) {
  Client first = Session("home"), second(*repository_, "home");
  EXPECT_THAT(second.Begin(), StatusIs(absl::StatusCode::kAlreadyExists));  // it has not had its first stream yet
  ASSERT_OK(repository_->StreamBegan(first.who(), first.info().id));
  ASSERT_OK(repository_->StreamBegan(first.who(), first.info().id));
  machine_.Advance(absl::Hours(1));
  EXPECT_THAT(second.Begin(), StatusIs(absl::StatusCode::kAlreadyExists));
  repository_->StreamEnded(first.info().id);
  EXPECT_THAT(second.Begin(), StatusIs(absl::StatusCode::kAlreadyExists));
  repository_->StreamEnded(first.info().id);
  EXPECT_OK(second.Begin());
  EXPECT_THAT(first.Send({Data(1)}), StatusIs(absl::StatusCode::kAborted));
  EXPECT_OK(first.Close());  // must not close the second one
  EXPECT_OK(second.Send({Data(1)}));
  // Never used: replaced after a while.
  machine_.Advance(absl::Seconds(61));
  EXPECT_OK(Client(*repository_, "home").Begin());
}

TEST_F(RepositoryTest, CommitsOnlyTheNextSnapshotOfASource) {
  Client client = Session("home");
  Chunk root = Page(1, {}), other = Page(2, {});
  ASSERT_OK(client.Send({root, other}));
  std::string stale = client.Manifest(other.id());
  ASSERT_OK(client.Commit(root));
  EXPECT_THAT(client.CommitManifest(stale), StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK(client.Close());
  Client next = Session("home");
  EXPECT_EQ(next.info().head_sequence, 1u);
  ASSERT_OK(next.Send({other}));
  EXPECT_OK(next.Commit(other));
  ExpectChains(*repository_);
}

TEST_F(RepositoryTest, RefusesManifestsOfOthers) {
  Client home = Session("home"), work = Session("work", 2);
  Chunk root = Page(1, {});
  ASSERT_OK(home.Send({root}));
  EXPECT_THAT(home.CommitManifest(work.Manifest(root.id())), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(home.CommitManifest("nonsense"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(RepositoryTest, RefusesRecordsOfAnotherAgent) {
  Client client = Session("home", 1);
  EXPECT_THAT(client.Send({Data(1, 2)}), StatusIs(absl::StatusCode::kInvalidArgument));
  Chunk unknown = Data(1);
  unknown.header.aead = 77;
  unknown.header_bytes = EncodeRecordHeader(unknown.header);
  EXPECT_THAT(client.Send({unknown}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(RepositoryTest, ARecordThatIsNoRecordHurtsNobodyElse) {
  Client good = Session("home"), bad = Session("evil", 2);
  ASSERT_OK(good.Send({Data(1)}));
  Chunk broken = Data(2, 2);
  broken.body.pop_back();
  EXPECT_THAT(bad.Send({broken}), StatusIs(absl::StatusCode::kInvalidArgument));
  Chunk root = Page(1, {Data(1)});
  EXPECT_OK(good.Send({root}));
  ASSERT_OK_AND_ASSIGN(CommitResult result, good.Commit(root));
  ExpectWhole(*repository_, {result.id, "home", {Data(1), root}});
}

TEST_F(RepositoryTest, BoundsSessionsAndWhatTheyKnow) {
  repository_.reset();
  machine_.options.sessions.sessions_max = 2;
  machine_.options.sessions.weight_max = 3;
  repository_ = machine_.Open();
  Client first = Session("a"), second = Session("b"), third(*repository_, "c");
  EXPECT_THAT(third.Begin(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(first.Send({Data(1), Data(2), Data(3)}));
  EXPECT_OK(first.Send({Data(3)}));
  EXPECT_THAT(first.Send({Data(4)}), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(first.Barrier(), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(second.Have({Data(1), Data(2), Data(3), Data(4)}), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(RepositoryTest, DeletedSnapshotsStayDeleted) {
  Snapshot snapshot = MustBackup(*repository_, "home", {Data(1)}, 1);
  EXPECT_THAT(repository_->DeleteSnapshot({"anna"}, ManifestId(), ""), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(repository_->DeleteSnapshot({"anna"}, snapshot.id, "old"));
  ASSERT_OK(repository_->DeleteSnapshot({"anna"}, snapshot.id, "old"));
  Restart();
  EXPECT_TRUE(repository_->catalog().Find(snapshot.id)->deleted);
  EXPECT_EQ(repository_->statistics().snapshots, 0u);
  MustBackup(*repository_, "home", {Data(1)}, 2);
  ExpectChains(*repository_);
}

// A client that gave up waiting closes its session while the commit is still under way, and its next run commits.
TEST(RepositoryRaces, TwoRunsOfASourceNeverCommitTheSameNumber) {
  for (std::string point : {"manifest-put", "log-put-before", "log-put-after"}) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      SCOPED_TRACE(absl::StrCat(point, " seed ", seed));
      SimMachine machine(seed);
      std::unique_ptr<Repository> repository;
      std::unique_ptr<Thread> next_run;
      std::unique_ptr<Client> first;
      machine.options.crash_point = [&](std::string_view at) {
        if (at != point || next_run != nullptr) return;
        next_run = machine.io.threads.Spawn("next run", [&] {
          (void)first->Close();
          Client second(*repository, "home");
          if (!second.Begin().ok()) return;
          if (second.Send({Page(2, {})}).ok()) (void)second.Commit(Page(2, {}));
        });
        machine.io.threads.NewEvent()->WaitUntil(machine.io.clock.Monotonic() + absl::Seconds(1));
      };
      repository = machine.Open();
      first = std::make_unique<Client>(*repository, "home");
      ASSERT_OK(first->Begin());
      ASSERT_OK(first->Send({Page(1, {})}));
      EXPECT_OK(first->Commit(Page(1, {})));
      ASSERT_NE(next_run, nullptr);
      next_run.reset();
      ExpectChains(*repository);
      repository.reset();
    }
  }
}

TEST(RepositoryRaces, ACommitOfUnknownOutcomeIsNotOvertakenByAnotherOfItsSource) {
  for (bool written : {false, true}) {
    SCOPED_TRACE(written);
    SimMachine machine;
    auto repository = machine.Open();
    Snapshot first, second;
    machine.faulty.AddFault(
        {BlobOperation::kPut, written ? BlobFault::kFailAfter : BlobFault::kFailBefore, "log/", 0, 1});
    machine.faulty.AddFault({BlobOperation::kPut, BlobFault::kFailBefore, "log/", 0, 1000});
    machine.faulty.AddFault({BlobOperation::kGet, BlobFault::kFailBefore, "log/", 0, 1000});
    EXPECT_THAT(Backup(*repository, "home", {Data(1)}, 1, &first), StatusIs(absl::StatusCode::kUnavailable));
    // Still away: nothing goes through, and nothing is lost.
    EXPECT_THAT(Backup(*repository, "home", {Data(2)}, 2, &second), StatusIs(absl::StatusCode::kUnavailable));
    machine.faulty.ClearFaults();
    // The outcome is found out before the head is told, so that the run is not for nothing.
    EXPECT_OK(Backup(*repository, "home", {Data(3)}, 3, &second));
    ExpectChains(*repository);
    Snapshot third = MustBackup(*repository, "home", {Data(4)}, 4);
    MustBackup(*repository, "work", {Data(4)}, 4);
    ExpectChains(*repository);
    ExpectWhole(*repository, third);
    repository.reset();
    repository = machine.Open();
    ExpectChains(*repository);
    ExpectWhole(*repository, third);
  }
}

// --- Restarts -------------------------------------------------------------------------------------------------------

TEST_F(RepositoryTest, KeepsWhatABarrierCoveredOverAPowerFailure) {
  for (CrashMode mode : {CrashMode::kDrop, CrashMode::kTorn, CrashMode::kKeep}) {
    const int n = 10 * static_cast<int>(mode);
    Client client = Session(absl::StrCat("home", n));
    ASSERT_OK(client.Send({Data(n + 1), Data(n + 2)}));
    ASSERT_OK(client.Barrier());
    ASSERT_OK(client.Send({Data(n + 3)}));
    Kill(mode);
    ASSERT_OK_AND_ASSIGN(auto have, Have({Data(n + 1), Data(n + 2), Data(n + 3)}));
    EXPECT_EQ(have[0], kOwn);
    EXPECT_EQ(have[1], kOwn);
    if (mode == CrashMode::kDrop) {
      EXPECT_EQ(have[2], kNone);
    }
    if (mode == CrashMode::kKeep) {
      EXPECT_EQ(have[2], kOwn);
    }
    EXPECT_THAT(ReadOne(*repository_, Data(n + 1)), IsOkAndHolds(Data(n + 1).body));
    EXPECT_THAT(machine_.io.files.List("/spool"), IsOkAndHolds(IsEmpty()));
  }
  EXPECT_THAT(repository_->warnings(), IsEmpty());
}

TEST_F(RepositoryTest, StopsInAnOrderlyWayWithoutLosingUploads) {
  Client client = Session("home");
  ASSERT_OK(client.Send({Data(1)}));
  Restart();
  EXPECT_THAT(machine_.io.files.List("/spool"), IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(Have({Data(1)}), IsOkAndHolds(ElementsAre(kOwn)));
}

TEST_F(RepositoryTest, LeavesFilesAloneThatAreNotItsOwn) {
  repository_.reset();
  ASSERT_OK(WriteFileAtomically(machine_.io, "/spool/notes.txt", "mine"));
  ASSERT_OK(machine_.io.files.MakeDirectories("/spool/lost+found"));
  // Set aside by an earlier start, because another key had written it.
  CatalogKey other_key = Key();
  other_key.key.MutableBytes()[0] = 43;
  auto writer = PackWriter::Create(machine_.io, "/spool", PackKind::kData, other_key);
  ASSERT_OK(writer);
  Chunk data = Data(1);
  ASSERT_OK((*writer)->Append(data.header, data.header_bytes, {data.body}));
  std::string path = (*writer)->spool_path() + ".unreadable";
  writer->reset();
  for (int run = 0; run < 3; ++run) {
    repository_ = machine_.Open();
    EXPECT_OK(machine_.io.files.Stat("/spool/notes.txt"));
    EXPECT_OK(machine_.io.files.Stat("/spool/lost+found"));
    EXPECT_OK(machine_.io.files.Stat(path));
    repository_.reset();
  }
}

// Three sources, shared chunks, two levels of pages.
class IndexTest : public RepositoryTest {
 protected:
  IndexTest() {
    snapshots_.push_back(MustBackup(*repository_, "home", {Data(1), Data(2)}, 1, 1));
    snapshots_.push_back(MustBackup(*repository_, "work", {Data(2), Data(3)}, 2, 2));
    Chunk lower = Page(3, {Data(1)});
    snapshots_.push_back(MustBackup(*repository_, "home", {Data(1), lower}, 5, 1));
    Client loose(*repository_, "loose");
    EXPECT_OK(loose.Begin());
    EXPECT_OK(loose.Send({Data(7), Page(7, {})}));
    EXPECT_OK(loose.Close());
    Restart();
    for (int i = 0; i < 9; ++i) asked_.push_back(Data(i));
    for (int i = 0; i < 9; ++i) asked_.push_back(Page(i, {}));
    before_ = Ask();
    chunks_ = repository_->statistics().chunks;
  }
  // All answers as text. Damage that a call finds may make it fail once: the next session has a good index again.
  std::string Ask() {
    for (int attempt = 0;; ++attempt) {
      std::string out;
      absl::Status status;
      for (uint32_t agent : {1u, 2u}) {
        auto have = Have(asked_, agent);
        if (!have.ok()) {
          status = have.status();
          break;
        }
        for (HaveAnswer a : *have) absl::StrAppend(&out, static_cast<int>(a));
      }
      if (status.ok()) return out;
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss));
      if (attempt == 1) return status.ToString();
    }
  }
  void ExpectAsBefore() {
    EXPECT_EQ(Ask(), before_);
    for (const Snapshot& s : snapshots_) ExpectWhole(*repository_, s);
    EXPECT_EQ(repository_->statistics().chunks, chunks_);
  }

  std::vector<Snapshot> snapshots_;
  std::vector<Chunk> asked_;
  std::string before_;
  uint64_t chunks_ = 0;
};

TEST_F(IndexTest, MayBeDestroyed) {
  repository_.reset();
  machine_.kv.batches.clear();
  repository_ = machine_.Open();
  ExpectAsBefore();
}

TEST_F(IndexTest, MayLagBehindTheStorageAtAnyBatch) {
  repository_.reset();
  const std::vector<KvBatch> all = machine_.kv.batches;
  ASSERT_GT(all.size(), 5u);
  for (size_t n = 0; n <= all.size(); ++n) {
    SCOPED_TRACE(absl::StrCat(n, " of ", all.size(), " batches survived"));
    machine_.kv.batches = all;
    machine_.kv.Keep(n);
    repository_ = machine_.Open();
    ExpectAsBefore();
    EXPECT_THAT(repository_->warnings(), IsEmpty());
    repository_.reset();
  }
}

TEST_F(IndexTest, MayBeDamagedAnywhere) {
  repository_.reset();
  const std::vector<KvBatch> all = machine_.kv.batches;
  const size_t values = machine_.kv.value_count();
  for (size_t which = 0; which < values; ++which) {
    SCOPED_TRACE(absl::StrCat("value ", which, " of ", values));
    std::mt19937_64 random(which);
    machine_.kv.batches = all;
    machine_.kv.Corrupt(which, random);
    repository_ = machine_.Open();
    ExpectAsBefore();
    // And an upload of everything works.
    MustBackup(*repository_, "again", {Data(1), Data(2), Data(3), Data(7)}, 1);
    ExpectAsBefore();
    repository_.reset();
    repository_ = machine_.Open();
    ExpectAsBefore();
    repository_.reset();
  }
}

TEST_F(IndexTest, OfAnotherRepositoryIsReplaced) {
  repository_.reset();
  machine_.kv.batches.clear();
  KvOnDisk kv(machine_.kv);
  RepositoryId other;
  other.bytes.fill(9);
  ASSERT_OK(ChunkIndex::Open(kv, other));
  repository_ = machine_.Open();
  EXPECT_THAT(repository_->warnings(), Contains(HasSubstr("index")));
  ExpectAsBefore();
}

TEST_F(IndexTest, ThatCannotBeWrittenFailsTheSessionsOfTheMomentOnly) {
  machine_.kv.write_failure = absl::ResourceExhaustedError("full");
  Snapshot snapshot;
  EXPECT_THAT(Backup(*repository_, "next", {Data(20)}, 20, &snapshot), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_FALSE(repository_->catalog().Find(snapshot.id).has_value());
  for (const Snapshot& s : snapshots_) ExpectWhole(*repository_, s);
  machine_.kv.write_failure = absl::OkStatus();
  snapshot = MustBackup(*repository_, "next", {Data(20)}, 20);
  ExpectWhole(*repository_, snapshot);
  Restart();
  ExpectWhole(*repository_, snapshot);
  for (const Snapshot& s : snapshots_) ExpectWhole(*repository_, s);
}

// --- Damage ---------------------------------------------------------------------------------------------------------

TEST_F(RepositoryTest, NamesAMissingPackAndKeepsTheOthers) {
  Snapshot first = MustBackup(*repository_, "home", {Data(1)}, 1);
  std::string lost = machine_.Names("packs/d/").at(0);
  Snapshot second = MustBackup(*repository_, "work", {Data(2)}, 2);
  machine_.Remove(lost);
  EXPECT_THAT(ReadOne(*repository_, Data(1)), StatusIs(absl::StatusCode::kDataLoss));
  ExpectWhole(*repository_, second);
  Restart();
  EXPECT_THAT(repository_->warnings(), Contains(HasSubstr(lost.substr(lost.size() - 32))));
  EXPECT_THAT(ReadOne(*repository_, Data(1)), StatusIs(absl::StatusCode::kNotFound));
  ExpectWhole(*repository_, second);
  // The client sends it again, and the old snapshot is whole again. The page above it is not promised either: a client
  // that took it as it is would never look at what is below.
  EXPECT_THAT(Have({Data(1), Data(2), Page(1, {Data(1)}), Page(2, {Data(2)})}),
              IsOkAndHolds(ElementsAre(kNone, kOwn, kNone, kOwn)));
  MustBackup(*repository_, "home", {Data(1)}, 3);
  ExpectWhole(*repository_, first);
}

TEST_F(RepositoryTest, TakesAChunkAgainThatItFoundDamaged) {
  MustBackup(*repository_, "home", {Data(1), Data(2)}, 1);
  ASSERT_TRUE(machine_.Damage(machine_.Names("packs/d/").at(0), Data(1).body));
  EXPECT_THAT(Have({Data(1)}), IsOkAndHolds(ElementsAre(kOwn)));  // nobody has looked yet
  EXPECT_THAT(ReadOne(*repository_, Data(1)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(Have({Data(1), Data(2)}), IsOkAndHolds(ElementsAre(kNone, kOwn)));
  MustBackup(*repository_, "work", {Data(1)}, 2);
  EXPECT_THAT(ReadOne(*repository_, Data(1)), IsOkAndHolds(Data(1).body));
  EXPECT_THAT(Have({Data(1)}), IsOkAndHolds(ElementsAre(kOwn)));
  Restart();
  EXPECT_THAT(ReadOne(*repository_, Data(1)), IsOkAndHolds(Data(1).body));
}

TEST_F(RepositoryTest, TakesAPageAgainThatTheWalkFoundDamaged) {
  Snapshot first = MustBackup(*repository_, "home", {Data(1)}, 1);
  const Chunk page = first.chunks.back();
  repository_.reset();
  const std::string pack = machine_.Names("packs/t/").at(0);
  const std::string blob = machine_.Blob(pack);
  ASSERT_TRUE(machine_.Damage(pack, std::string_view(blob).substr(blob.find(page.body) - 30, 30)));
  machine_.kv.batches.clear();  // so that all pages are walked; the trailer is good
  repository_ = machine_.Open();
  EXPECT_THAT(Have({Data(1), page}), IsOkAndHolds(ElementsAre(kOwn, kNone)));
  Snapshot second = MustBackup(*repository_, "home", {Data(1)}, 1);
  ExpectWhole(*repository_, second);
  ExpectWhole(*repository_, first);
  Restart();
  EXPECT_THAT(Have({page}), IsOkAndHolds(ElementsAre(kOwn)));
}

TEST_F(RepositoryTest, RemembersDamageAndWhatIsAboveItOverARestart) {
  Snapshot home = MustBackup(*repository_, "home", {Data(1), Data(2)}, 1);
  MustBackup(*repository_, "work", {Data(3)}, 2);
  EXPECT_THAT(Have({Page(1, {Data(1), Data(2)}), Page(2, {Data(3)})}), IsOkAndHolds(ElementsAre(kOwn, kOwn)));
  for (const std::string& name : machine_.Names("packs/d/")) (void)machine_.Damage(name, Data(1).body);
  EXPECT_THAT(ReadOne(*repository_, Data(1)), StatusIs(absl::StatusCode::kDataLoss));
  for (bool restarted : {false, true}) {
    SCOPED_TRACE(restarted);
    if (restarted) Restart();
    // Whoever is promised the page never asks for what is below it.
    EXPECT_THAT(Have({Data(1), Data(2), Page(1, {Data(1), Data(2)}), Page(2, {Data(3)})}),
                IsOkAndHolds(ElementsAre(kNone, kOwn, kNone, kOwn)));
  }
  MustBackup(*repository_, "home", {Data(1), Data(2)}, 1);
  ExpectWhole(*repository_, home);
  EXPECT_THAT(Have({Data(1), Page(1, {Data(1), Data(2)})}), IsOkAndHolds(ElementsAre(kOwn, kOwn)));
}

TEST_F(RepositoryTest, DoesNotForgetDamageWhenTheChunkCannotBeStoredAgain) {
  MustBackup(*repository_, "home", {Data(1)}, 1);
  for (const std::string& name : machine_.Names("packs/d/")) (void)machine_.Damage(name, Data(1).body);
  EXPECT_THAT(ReadOne(*repository_, Data(1)), StatusIs(absl::StatusCode::kDataLoss));
  machine_.faulty.AddFault({BlobOperation::kPut, BlobFault::kNoSpace, "packs/", 0, 1000});
  Snapshot snapshot;
  EXPECT_FALSE(Backup(*repository_, "home", {Data(1)}, 1, &snapshot).ok());
  machine_.faulty.ClearFaults();
  Restart();
  MustBackup(*repository_, "home", {Data(1)}, 1);
  EXPECT_THAT(ReadOne(*repository_, Data(1)), IsOkAndHolds(Data(1).body));
}

TEST_F(RepositoryTest, TakesAChunkAgainThatNobodyCanOpen) {
  // The agent's memory was bad when it sent this: the digest is of the wrong bytes.
  Chunk garbage = Data(1);
  garbage.body[20] ^= 1;
  MustBackup(*repository_, "home", {garbage}, 1);
  EXPECT_THAT(Have({Data(1)}), IsOkAndHolds(ElementsAre(kOwn)));
  EXPECT_THAT(ReadOne(*repository_, Data(1)), IsOkAndHolds(garbage.body));
  const ChunkId id = Data(1).id();
  ASSERT_OK(repository_->NoteUnopenable({"anna"}, {&id, 1}));
  EXPECT_THAT(Have({Data(1)}), IsOkAndHolds(ElementsAre(kNone)));
  MustBackup(*repository_, "home", {Data(1)}, 1);
  EXPECT_THAT(ReadOne(*repository_, Data(1)), IsOkAndHolds(Data(1).body));
  // The reader's first answer is the old copy again: that is no reason to store it a third time.
  ASSERT_OK(repository_->NoteUnopenable({"anna"}, {&id, 1}));
  EXPECT_THAT(Have({Data(1)}), IsOkAndHolds(ElementsAre(kOwn)));
}

TEST_F(RepositoryTest, ReadsWhatSurroundsABadSector) {
  std::vector<Chunk> data;
  for (int i = 0; i < 12; ++i) data.push_back(MakeChunk(ChunkType::kData, i, 1, {}, 3000));
  MustBackup(*repository_, "home", data, 1);
  repository_.reset();
  const std::string name = machine_.Names("packs/d/").at(0);
  const std::string pack = machine_.Blob(name);
  // In the trailer, so that the pack must be salvaged, and with it one in the middle.
  machine_.faulty.AddBadSector(name, (pack.size() - 100) & ~uint64_t{4095}, 4096);
  const uint64_t bad = 4 * 4096;
  for (bool middle : {false, true}) {
    SCOPED_TRACE(middle);
    if (middle) machine_.faulty.AddBadSector(name, bad, 4096);
    machine_.kv.batches.clear();
    repository_ = machine_.Open();
    ASSERT_OK_AND_ASSIGN(auto have, Have(data));
    for (size_t i = 0; i < data.size(); ++i) {
      SCOPED_TRACE(i);
      const size_t at = pack.find(data[i].body);
      ASSERT_NE(at, std::string::npos);
      const bool in_last = at + 3000 > ((pack.size() - 100) & ~uint64_t{4095});
      // Its sealed header stands before it.
      const bool in_bad = middle && at - 150 < bad + 4096 && at + 3000 > bad;
      if (in_last) continue;
      EXPECT_EQ(have[i], in_bad ? kNone : kOwn);
      if (in_bad) continue;
      EXPECT_THAT(ReadOne(*repository_, data[i]), IsOkAndHolds(data[i].body));
    }
    repository_.reset();
  }
}

TEST_F(RepositoryTest, GivesAnotherCopyWhenTheFirstOneIsAskedForAgain) {
  // An agent stored something else under the id; only who has the key can tell.
  Chunk garbage = Data(1, 2);
  garbage.body[20] ^= 1;
  Client other = Session("work", 2);
  ASSERT_OK(other.Send({garbage}));
  ASSERT_OK(other.Send({Page(2, {Data(1)}, 2)}));
  ASSERT_OK(other.Commit(Page(2, {Data(1)}, 2)));
  ASSERT_OK(other.Close());
  Client own = Session("home");
  ASSERT_OK(own.Send({Data(1), Page(1, {Data(1)})}));
  ASSERT_OK(own.Commit(Page(1, {Data(1)})));
  EXPECT_THAT(ReadOne(*repository_, Data(1), /*verify=*/false), IsOkAndHolds(garbage.body));
  EXPECT_THAT(ReadOne(*repository_, Data(1), /*verify=*/true), IsOkAndHolds(Data(1).body));
}

TEST_F(RepositoryTest, NamesADamagedPackAndKeepsItsOtherChunks) {
  MustBackup(*repository_, "home", {Data(1), Data(2), Data(3)}, 1);
  std::string pack = machine_.Names("packs/d/").at(0);
  ASSERT_TRUE(machine_.Damage(pack, Data(2).body));
  for (int run = 0; run < 2; ++run) {
    EXPECT_THAT(ReadOne(*repository_, Data(1)), IsOkAndHolds(Data(1).body));
    EXPECT_THAT(ReadOne(*repository_, Data(2)), StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(ReadOne(*repository_, Data(3)), IsOkAndHolds(Data(3).body));
    EXPECT_THAT(repository_->warnings(), Contains(HasSubstr(pack.substr(pack.size() - 32))));
    repository_.reset();
    machine_.kv.batches.clear();  // the trailer is good: the new index has the damaged chunk as well
    repository_ = machine_.Open();
  }
}

TEST_F(RepositoryTest, ReadsWhatCanBeReadOfAPackWithADamagedTrailer) {
  Snapshot snapshot = MustBackup(*repository_, "home", {Data(1), Data(2)}, 1);
  repository_.reset();
  for (const std::string& name : machine_.Names("packs/")) {
    const std::string good = machine_.Blob(name);
    for (size_t at = good.size() - 150; at < good.size(); at += 7) {
      SCOPED_TRACE(absl::StrCat(name, " byte ", at));
      machine_.Replace(name, good);
      machine_.kv.batches.clear();
      machine_.Open();  // an index of the undamaged packs
      std::string bad = good;
      bad[at] ^= 4;
      machine_.Replace(name, bad);
      for (bool rebuilt : {false, true}) {
        if (rebuilt) machine_.kv.batches.clear();
        repository_ = machine_.Open();
        EXPECT_EQ(!repository_->warnings().empty(), rebuilt);
        ExpectWhole(*repository_, snapshot);
        repository_.reset();
      }
    }
    machine_.Replace(name, good);
    machine_.kv.batches.clear();
  }
}

TEST_F(RepositoryTest, PromisesOnlyChunksThatItCanRead) {
  std::vector<Chunk> data = {Data(1), Data(2)};
  Snapshot snapshot = MustBackup(*repository_, "home", data, 1);
  repository_.reset();
  std::string name = machine_.Names("packs/d/").at(0);
  const std::string good = machine_.Blob(name);
  // Also with a second damage, in the trailer, so that the pack is salvaged.
  for (size_t at = 0; at < good.size(); at += 3) {
    SCOPED_TRACE(absl::StrCat("byte ", at));
    std::string bad = good;
    bad[at] ^= 4;
    bad[good.size() - 1] ^= 4;
    machine_.Replace(name, bad);
    machine_.kv.batches.clear();
    repository_ = machine_.Open();
    EXPECT_THAT(repository_->warnings(), Contains(HasSubstr(name.substr(name.size() - 32))));
    ASSERT_OK_AND_ASSIGN(auto have, Have(data));
    for (size_t i = 0; i < data.size(); ++i) {
      auto body = ReadOne(*repository_, data[i]);
      if (have[i] != kNone) {
        EXPECT_THAT(body, IsOkAndHolds(data[i].body));
      } else {
        EXPECT_FALSE(body.ok());
      }
    }
    repository_.reset();
  }
}

TEST_F(RepositoryTest, ReadsTheSecondCopyOfAChunkWhoseFirstIsDamaged) {
  MustBackup(*repository_, "home", {Data(1), Data(2)}, 1, 1);
  std::string first = machine_.Names("packs/d/").at(0);
  Client client = Session("work", 2);
  ASSERT_OK(client.Send({Data(1, 2)}));
  ASSERT_OK(client.Send({Page(2, {Data(1)}, 2)}));
  ASSERT_OK(client.Commit(Page(2, {Data(1)}, 2)));
  ASSERT_OK(client.Close());
  ASSERT_EQ(machine_.Names("packs/d/").size(), 2u);
  const std::string good = machine_.Blob(first);
  ASSERT_TRUE(machine_.Damage(first, Data(1).body));
  EXPECT_THAT(ReadOne(*repository_, Data(1)), IsOkAndHolds(Data(1).body));
  EXPECT_THAT(repository_->warnings(), Contains(HasSubstr(first.substr(first.size() - 32))));
  // A damaged sealed header is noticed without looking at the bodies; then a damaged pack header, then no pack at all.
  std::string bad = good;
  bad[70] ^= 1;
  machine_.Replace(first, bad);
  EXPECT_THAT(ReadOne(*repository_, Data(1), /*verify=*/false), IsOkAndHolds(Data(1).body));
  bad = good;
  bad[40] ^= 1;
  machine_.Replace(first, bad);
  Restart();
  EXPECT_THAT(ReadOne(*repository_, Data(1)), IsOkAndHolds(Data(1).body));
  EXPECT_THAT(ReadOne(*repository_, Data(2)), StatusIs(absl::StatusCode::kDataLoss));
  machine_.Remove(first);
  EXPECT_THAT(ReadOne(*repository_, Data(1)), IsOkAndHolds(Data(1).body));
  // Both gone: one answer, DATA_LOSS.
  machine_.Replace(first, bad);
  for (const std::string& name : machine_.Names("packs/d/")) (void)machine_.Damage(name, Data(1).body);
  EXPECT_THAT(ReadOne(*repository_, Data(1)), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(RepositoryTest, SaysThatAManifestIsDamagedOrMissing) {
  Snapshot a = MustBackup(*repository_, "home", {}, 1), b = MustBackup(*repository_, "work", {}, 2);
  auto name = [](const Snapshot& s) { return absl::StrCat("snapshots/", HexEncode(s.id.view())); };
  const std::string good = machine_.Blob(name(a));
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] ^= 1;
    machine_.Replace(name(a), bad);
    auto read = repository_->GetManifest({"anna"}, a.id);
    // Reserved bytes are authenticated, too.
    EXPECT_THAT(read, StatusIs(absl::StatusCode::kDataLoss)) << at;
  }
  machine_.Replace(name(a), machine_.Blob(name(b)));
  EXPECT_THAT(repository_->GetManifest({"anna"}, a.id), StatusIs(absl::StatusCode::kDataLoss));
  machine_.Remove(name(a));
  EXPECT_THAT(repository_->GetManifest({"anna"}, a.id), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(repository_->GetManifest({"anna"}, ManifestId()), StatusIs(absl::StatusCode::kNotFound));
  ExpectWhole(*repository_, b);
}

// --- The log --------------------------------------------------------------------------------------------------------

TEST_F(RepositoryTest, RecoversSnapshotsWhoseLogSlotsAreLost) {
  std::vector<Snapshot> snapshots;
  for (int i = 1; i <= 3; ++i) snapshots.push_back(MustBackup(*repository_, "home", {Data(i)}, i));
  repository_.reset();
  std::vector<std::string> slots = machine_.Names("log/");
  std::map<std::string, std::string> good;
  for (const std::string& slot : slots) good[slot] = machine_.Blob(slot);
  ASSERT_EQ(slots.size(), 4u);
  // Any set of slots lost or damaged.
  for (int bits = 1; bits < 1 << 4; ++bits) {
    for (bool damage : {false, true}) {
      SCOPED_TRACE(absl::StrCat(damage ? "damaged " : "lost ", bits));
      for (const std::string& slot : machine_.Names("log/")) machine_.Remove(slot);
      for (int i = 0; i < 4; ++i) {
        std::string bytes = good[slots[i]];
        if ((bits & 1 << i) != 0) {
          if (!damage) continue;
          bytes[60] ^= 1;
        }
        machine_.Replace(slots[i], bytes);
      }
      repository_ = machine_.Open();
      for (const Snapshot& s : snapshots) ExpectWhole(*repository_, s);
      ExpectChains(*repository_);
      EXPECT_EQ(repository_->statistics().snapshots, 3u);
      if (bits > 1) {
        EXPECT_THAT(repository_->warnings(), Contains(HasSubstr("recovered from its manifest")));
      }
      EXPECT_EQ(Session("home").info().head, snapshots[2].id);
      Restart();
      for (const Snapshot& s : snapshots) ExpectWhole(*repository_, s);
      ExpectChains(*repository_);
      repository_.reset();
    }
  }
}

TEST_F(RepositoryTest, DoesNotTakeALeftOverManifestForASnapshot) {
  // Its log slot could not be written; the next run committed another one.
  machine_.faulty.AddFault({BlobOperation::kPut, BlobFault::kNoSpace, "log/", 0, 1});
  Snapshot left_over, committed;
  EXPECT_THAT(Backup(*repository_, "home", {Data(1)}, 1, &left_over), StatusIs(absl::StatusCode::kResourceExhausted));
  committed = MustBackup(*repository_, "home", {Data(2)}, 2);
  ASSERT_EQ(machine_.Names("snapshots/").size(), 2u);
  Restart();
  EXPECT_FALSE(repository_->catalog().Find(left_over.id).has_value());
  ExpectWhole(*repository_, committed);
  ExpectChains(*repository_);
  EXPECT_EQ(repository_->statistics().snapshots, 1u);
}

TEST_F(RepositoryTest, AServerThatWasTakenOverCommitsNothingMore) {
  Client old = Session("home");
  ASSERT_OK(old.Send({Page(1, {})}));
  KvDisk kv;
  KvStoreFactory factory;
  factory.open = [&]() -> absl::StatusOr<std::unique_ptr<KvStore>> { return std::make_unique<KvOnDisk>(kv); };
  factory.destroy = [] { return absl::OkStatus(); };
  RepositoryOptions options = machine_.options;
  options.spool_directory = "/spool2";
  ASSERT_OK(machine_.io.files.MakeDirectories("/spool2"));
  auto successor = Repository::Open(machine_.io, machine_.store, factory, Key(), options);
  ASSERT_OK(successor);
  EXPECT_THAT(old.Commit(Page(1, {})), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(repository_->status(), StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(Client(*repository_, "work").Begin(), StatusIs(absl::StatusCode::kAborted));
  MustBackup(**successor, "home", {Data(1)}, 1);
}

// --- No space -------------------------------------------------------------------------------------------------------

// Runs a backup under a fault that `inject` arranges; everything else has to go on, and afterwards everything works.
// Returns whether the backup failed.
bool SurvivesAFault(uint64_t seed, const std::function<void(SimMachine&)>& inject) {
  SimMachine machine(seed);
  auto repository = machine.Open();
  Snapshot before = MustBackup(*repository, "before", {Data(1), Data(2)}, 1);
  Client other(*repository, "other");
  EXPECT_OK(other.Begin());
  inject(machine);
  Snapshot snapshot;
  absl::Status status = Backup(*repository, "home", {Data(2), Data(3), Data(4)}, 2, &snapshot, 1, /*barrier=*/true);
  if (!status.ok()) {
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_FALSE(repository->catalog().Find(snapshot.id).has_value());
  }
  ExpectWhole(*repository, before);
  EXPECT_OK(repository->status());
  machine.faulty.ClearFaults();
  machine.ClearFaults();
  Snapshot after = MustBackup(*repository, "home", {Data(2), Data(3), Data(4)}, 3);
  ExpectWhole(*repository, before);
  ExpectWhole(*repository, after);
  if (status.ok()) ExpectWhole(*repository, snapshot);
  repository.reset();
  repository = machine.Open();
  ExpectWhole(*repository, before);
  ExpectWhole(*repository, after);
  if (repository->catalog().Find(snapshot.id).has_value()) ExpectWhole(*repository, snapshot);
  ExpectChains(*repository);
  return !status.ok();
}

TEST(RepositoryWithoutSpace, InTheStorageGoesOn) {
  int failed = 0;
  for (int put = 0; put < 6; ++put) {
    SCOPED_TRACE(absl::StrCat("put ", put));
    failed += SurvivesAFault(static_cast<uint64_t>(put), [&](SimMachine& m) {
      m.faulty.AddFault({BlobOperation::kPut, BlobFault::kNoSpace, "", put, 1});
    });
    failed += SurvivesAFault(static_cast<uint64_t>(put), [&](SimMachine& m) {
      m.faulty.AddFault({BlobOperation::kPut, BlobFault::kNoSpace, "", put, 1000});
    });
  }
  EXPECT_EQ(failed, 8);  // two packs, manifest, log slot
}

TEST(RepositoryWithoutSpace, InTheSpoolGoesOn) {
  int failed = 0, last_failed = 0;
  for (int bytes = 0; bytes < 1500; bytes += 23) {
    SCOPED_TRACE(absl::StrCat(bytes, " bytes left"));
    bool fails = SurvivesAFault(static_cast<uint64_t>(bytes),
                                [&](SimMachine& m) { m.LimitSpace(static_cast<uint64_t>(bytes)); });
    failed += fails;
    if (fails) last_failed = bytes;
  }
  EXPECT_GT(failed, 20);
  EXPECT_LT(last_failed, 1450);
}

TEST(RepositoryWithoutSpace, AtAnyFileCallGoesOn) {
  int failed = 0;
  for (uint64_t call = 1; call < 60; ++call) {
    SCOPED_TRACE(absl::StrCat("call ", call));
    failed += SurvivesAFault(
        call, [&](SimMachine& m) { m.FailCall(m.calls() + call, absl::ResourceExhaustedError("quota")); });
  }
  EXPECT_GT(failed, 8);
}

// --- Crashes --------------------------------------------------------------------------------------------------------

// What a server promised before it died.
struct Promised {
  std::vector<Snapshot> committed, attempted;
  std::vector<Chunk> barriered;
};

absl::Status Workload(SimMachine& machine, Promised& promised) {
  ASSIGN_OR_RETURN(std::unique_ptr<Repository> repository, machine.TryOpen());
  auto backup = [&](const std::string& source, std::vector<Chunk> data, int page, uint32_t agent = 1) {
    Snapshot snapshot;
    absl::Status status = Backup(*repository, source, std::move(data), page, &snapshot, agent, page % 2 == 0);
    if (!snapshot.chunks.empty()) promised.attempted.push_back(snapshot);
    if (status.ok()) promised.committed.push_back(snapshot);
    return status;
  };
  RETURN_IF_ERROR(backup("home", {Data(1), Data(2)}, 1));
  Client loose(*repository, "loose");
  RETURN_IF_ERROR(loose.Begin());
  RETURN_IF_ERROR(loose.Send({Data(3)}));
  RETURN_IF_ERROR(loose.Barrier());
  promised.barriered = {Data(3)};
  RETURN_IF_ERROR(backup("work", {Data(1), Data(3), Data(4)}, 2, 2));
  return backup("home", {Data(2), Data(5)}, 4);
}

void ExpectPromisesKept(SimMachine& machine, const Promised& promised) {
  auto repository = machine.Open();
  for (const Snapshot& s : promised.committed) ExpectWhole(*repository, s);
  for (const Snapshot& s : promised.attempted) {
    if (repository->catalog().Find(s.id).has_value()) ExpectWhole(*repository, s);
  }
  ExpectChains(*repository);
  Client client(*repository, "asks");
  ASSERT_OK(client.Begin());
  EXPECT_THAT(client.Have(promised.barriered), IsOkAndHolds(testing::Each(kOwn)));
  std::vector<Snapshot> later = {MustBackup(*repository, "home", {Data(2), Data(8)}, 8),
                                 MustBackup(*repository, "work", {Data(1), Data(9)}, 9, 2)};
  repository.reset();
  repository = machine.Open();
  for (const Snapshot& s : promised.committed) ExpectWhole(*repository, s);
  for (const Snapshot& s : later) ExpectWhole(*repository, s);
  ExpectChains(*repository);
}

void CrashAndCheck(SimMachine& machine, const Promised& promised, CrashMode mode, uint64_t seed) {
  std::mt19937_64 random(seed);
  machine.Crash(seed, mode);
  if (mode != CrashMode::kKeep) machine.kv.Keep(random() % (machine.kv.batches.size() + 1));
  ExpectPromisesKept(machine, promised);
}

TEST(RepositoryCrash, AtAnyCallKeepsItsPromises) {
  bool completed = false;
  uint64_t call = 1;
  for (; !completed; ++call) {
    for (CrashMode mode : {CrashMode::kDrop, CrashMode::kTorn, CrashMode::kKeep}) {
      SCOPED_TRACE(absl::StrCat("seed and call ", call, " mode ", static_cast<int>(mode)));
      SimMachine machine(call);
      machine.PowerOffAtCall(call);
      Promised promised;
      absl::Status status = Workload(machine, promised);
      completed = !machine.is_off();
      if (completed) {
        EXPECT_OK(status);
      }
      CrashAndCheck(machine, promised, mode, call);
      if (testing::Test::HasFailure()) return;
    }
  }
  EXPECT_GT(call, 80u);
}

TEST(RepositoryCrash, AtANamedPointKeepsItsPromises) {
  std::map<std::string, int> points;
  {
    SimMachine machine;
    machine.options.crash_point = [&](std::string_view name) { ++points[std::string(name)]; };
    Promised promised;
    ASSERT_OK(Workload(machine, promised));
    ExpectPromisesKept(machine, promised);
  }
  std::vector<std::string> names;
  for (const auto& [name, count] : points) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("index-write", "log-put-after", "log-put-before", "manifest-put", "pack-finish",
                                 "pack-put", "spool-append"));
  for (const auto& [name, count] : points) {
    for (int n = 1; n <= count; ++n) {
      for (CrashMode mode : {CrashMode::kDrop, CrashMode::kTorn, CrashMode::kKeep}) {
        SCOPED_TRACE(absl::StrCat(name, " number ", n, " mode ", static_cast<int>(mode)));
        SimMachine machine;
        int seen = 0;
        machine.options.crash_point = [&, name = name](std::string_view at) {
          if (at == name && ++seen == n) machine.PowerOffAtCall(machine.calls() + 1);
        };
        Promised promised;
        (void)Workload(machine, promised);
        machine.options.crash_point = nullptr;
        CrashAndCheck(machine, promised, mode, static_cast<uint64_t>(n));
      }
    }
  }
}

// --- Many at once ---------------------------------------------------------------------------------------------------

// `threads` clients make backups of overlapping chunks. Returns what was committed. Failures are fine when `faults`.
std::vector<Snapshot> ManyClients(Machine& machine, Repository& repository, int threads, int backups, uint64_t seed,
                                  bool faults) {
  absl::Mutex mu;
  std::vector<Snapshot> committed;
  std::vector<std::unique_ptr<Thread>> running;
  for (int t = 0; t < threads; ++t) {
    running.push_back(machine.io.threads.Spawn(absl::StrCat("client", t), [&, t] {
      std::mt19937_64 random(seed * 100 + static_cast<uint64_t>(t));
      const uint32_t agent = 1 + static_cast<uint32_t>(t % 2);
      for (int b = 0; b < backups; ++b) {
        std::vector<Chunk> data;
        std::set<int> numbers;
        for (int i = 0; i < 6; ++i) numbers.insert(static_cast<int>(random() % 30));
        for (int n : numbers) data.push_back(Data(n, agent));
        Snapshot snapshot;
        absl::Status status = Backup(repository, absl::StrCat("source", t), data, 1000 * (t + 1) + b, &snapshot, agent,
                                     random() % 3 == 0);
        if (!faults) {
          EXPECT_OK(status);
        }
        if (!status.ok()) continue;
        if (!faults) ExpectWhole(repository, snapshot);
        absl::MutexLock lock(&mu);
        committed.push_back(snapshot);
      }
    }));
  }
  running.clear();
  return committed;
}

void ExpectAllWhole(Machine& machine, std::unique_ptr<Repository> repository, const std::vector<Snapshot>& committed) {
  for (int run = 0; run < 2; ++run) {
    for (const Snapshot& s : committed) ExpectWhole(*repository, s);
    ExpectChains(*repository);
    repository.reset();
    repository = machine.Open();
  }
}

class RepositoryThreads : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Faults, RepositoryThreads, testing::Bool());

TEST_P(RepositoryThreads, CommitInAnySchedule) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    SimMachine machine(seed);
    auto repository = machine.Open();
    if (GetParam()) {
      machine.faulty.SetRate(BlobFault::kFailBefore, 20);
      machine.faulty.SetRate(BlobFault::kFailAfter, 20);
      machine.faulty.SetRate(BlobFault::kNoSpace, 20);
    }
    std::vector<Snapshot> committed = ManyClients(machine, *repository, 4, 4, seed, GetParam());
    machine.faulty.ClearFaults();
    if (!GetParam()) {
      EXPECT_EQ(committed.size(), 16u);
    }
    ExpectAllWhole(machine, std::move(repository), committed);
    if (HasFailure()) return;
  }
}

TEST_P(RepositoryThreads, CommitOnRealThreads) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  const std::string spool = absl::StrCat(testing::TempDir(), "/spool", seed);
  Machine machine(PosixIo(), spool, seed, nullptr);
  auto repository = machine.Open();
  if (GetParam()) {
    machine.faulty.SetRate(BlobFault::kFailBefore, 10);
    machine.faulty.SetRate(BlobFault::kFailAfter, 10);
    machine.faulty.SetRate(BlobFault::kNoSpace, 10);
  }
  std::vector<Snapshot> committed = ManyClients(machine, *repository, 4, 20, seed, GetParam());
  machine.faulty.ClearFaults();
  if (!GetParam()) {
    EXPECT_EQ(committed.size(), 80u);
  }
  EXPECT_FALSE(committed.empty());
  ExpectAllWhole(machine, std::move(repository), committed);
  EXPECT_THAT(machine.io.files.List(spool), IsOkAndHolds(IsEmpty()));
}

}  // namespace
}  // namespace holdfast
