// The parts of an engine beside each other, for the tests of one of them: in a simulated machine, over a storage in
// memory that fails on request.
#ifndef HOLDFAST_SERVER_REPOSITORY_TEST_ENGINE_H_
#define HOLDFAST_SERVER_REPOSITORY_TEST_ENGINE_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status_testing.h"
#include "core/format/manifest.h"
#include "core/io/sim/sim_world.h"
#include "server/index/chunk_index.h"
#include "server/index/memory_kv_store.h"
#include "server/log/catalog.h"
#include "server/log/repository_log.h"
#include "server/repository/live_index.h"
#include "server/repository/manifest_blob.h"
#include "server/repository/manifest_store.h"
#include "server/repository/pack_reconciler.h"
#include "server/repository/page_marks.h"
#include "server/repository/test_chunks.h"
#include "server/repository/warnings.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/pack/pack_reader.h"
#include "storage/pack/pack_writer.h"
#include "storage/pack/spool_file.h"
#include "storage/wrappers/faulty_blob_store.h"

namespace holdfast {

inline CatalogKey TestCatalogKey() {
  CatalogKey key;
  key.repository.bytes.fill(7);
  key.key.MutableBytes()[0] = 42;
  return key;
}

// The index's disk: outlives the KvStores that are opened on it.
struct TestKvDisk {
  std::shared_ptr<MemoryKvStore> content = std::make_shared<MemoryKvStore>();
  std::vector<std::string> written;  // keys, in order
  int writes_left = -1;              // until they fail; below 0: they do not
  int destroyed = 0;
  absl::Status open_failure;
};

class TestKv : public KvStore {
 public:
  explicit TestKv(TestKvDisk& disk) : disk_(disk), content_(disk.content) {}
  absl::StatusOr<std::optional<std::string>> Get(std::string_view key) override { return content_->Get(key); }
  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) override {
    return content_->MultiGet(keys);
  }
  absl::Status Write(const KvBatch& batch) override {
    if (disk_.writes_left == 0) return absl::UnavailableError("bad disk");
    if (disk_.writes_left > 0) --disk_.writes_left;
    for (const auto& op : batch.operations()) disk_.written.push_back(op.key);
    return content_->Write(batch);
  }
  absl::Status Scan(std::string_view prefix, std::string_view from, const Visitor& visit) override {
    return content_->Scan(prefix, from, visit);
  }
  absl::Status Flush() override { return content_->Flush(); }
  uint64_t ApproximateMemory() override { return content_->ApproximateMemory(); }

 private:
  TestKvDisk& disk_;
  const std::shared_ptr<MemoryKvStore> content_;
};

// One thread only, or threads of io().
struct TestEngine {
  explicit TestEngine(uint64_t seed = 1) : world(seed), store(blobs, seed) {
    EXPECT_OK(world.io().files.MakeDirectories("/spool"));
  }
  Io io() { return world.io(); }
  KvStoreFactory KvFactory() {
    return {[this]() -> absl::StatusOr<std::unique_ptr<KvStore>> {
              RETURN_IF_ERROR(kv.open_failure);
              return std::make_unique<TestKv>(kv);
            },
            [this] {
              kv.content = std::make_shared<MemoryKvStore>();
              kv.open_failure = absl::OkStatus();
              ++kv.destroyed;
              return absl::OkStatus();
            }};
  }

  // Writes a spool file of these, and gives its name.
  PackSummary Spool(const std::vector<TestChunk>& chunks) {
    const PackKind kind = chunks.front().header.type == ChunkType::kTree ? PackKind::kTree : PackKind::kData;
    auto writer = PackWriter::Create(io(), "/spool", kind, key);
    EXPECT_OK(writer);
    for (const TestChunk& c : chunks) {
      const std::string_view body = c.body;
      EXPECT_OK((*writer)->Append(c.header, c.header_bytes, {&body, 1}));
    }
    auto summary = (*writer)->Finish();
    EXPECT_OK(summary);
    return *std::move(summary);
  }
  static std::string SpoolPath(const PackSummary& pack) { return "/spool/" + SpoolFileName(pack.kind, pack.id); }
  // A pack of these, which are of one kind, in the storage; not indexed.
  PackSummary Store(const std::vector<TestChunk>& chunks) {
    PackSummary pack = Spool(chunks);
    EXPECT_OK(PutPack(store, io(), SpoolPath(pack), pack));
    return pack;
  }
  PackSummary StoreAndIndex(const std::vector<TestChunk>& chunks) {
    PackSummary pack = Store(chunks);
    EXPECT_OK(index.AddPack(pack));
    return pack;
  }
  void OpenIndex() {
    ASSERT_OK(index.Open());
    ASSERT_OK(index.Complete());
  }
  std::optional<ChunkLocation> Find(const ChunkId& id) {
    auto open = index.Get();
    EXPECT_OK(open);
    auto found = (*open)->Lookup({&id, 1});
    EXPECT_OK(found);
    return found->at(0);
  }
  bool IsMarked(const TestChunk& page) {
    auto found = Find(page.id());
    return found && found->committed;
  }
  // Pages that are not marked although one of these, which stands above them, is: nobody would look at them again.
  std::vector<ChunkId> UnmarkedBelowMarked(const std::vector<TestChunk>& pages) {
    std::vector<ChunkId> unmarked;
    for (const TestChunk& page : pages) {
      if (!IsMarked(page)) continue;
      auto below = (*index.Get())->Lookup(page.header.children);
      EXPECT_OK(below);
      for (size_t i = 0; i < below->size(); ++i) {
        const std::optional<ChunkLocation>& child = (*below)[i];
        if (child && child->type == ChunkType::kTree && !child->committed) unmarked.push_back(page.header.children[i]);
      }
    }
    return unmarked;
  }
  void OpenLog() {
    LogReport report;
    auto opened = RepositoryLog::Open(
        io(), store, key, {.server_id = "test"}, [this](const LogRecord& record) { catalog.Apply(record); }, &report);
    ASSERT_OK(opened);
    log = *std::move(opened);
  }

  std::string Manifest(std::string_view source, uint64_t sequence, const ManifestId* previous, const ChunkId& root,
                       uint32_t agent = 1) {
    return Seal(Core(source, sequence, previous, root, agent));
  }
  pb::ManifestCore Core(std::string_view source, uint64_t sequence, const ManifestId* previous, const ChunkId& root,
                        uint32_t agent = 1) const {
    pb::ManifestCore core;
    core.set_repository_id(std::string(key.repository.view()));
    core.set_source(std::string(source));
    core.set_agent(agent);
    core.set_sequence(sequence);
    if (previous != nullptr) core.set_previous_manifest(std::string(previous->view()));
    core.set_root_id(std::string(root.view()));
    core.set_root_level(1);
    core.set_key_epoch(1);
    return core;
  }
  std::string Seal(const pb::ManifestCore& core) {
    ManifestKeys keys;
    keys.repository = *RepositoryId::FromBytes(core.repository_id());
    keys.agent = core.agent();
    auto bytes = SealManifest(core, pb::ManifestSealed(), ChunkRef(), keys, io().random);
    EXPECT_OK(bytes);
    return *bytes;
  }

  size_t Count(std::string_view prefix) {
    auto all = ListAll(blobs, prefix);
    EXPECT_OK(all);
    return all->size();
  }
  std::string Blob(const BlobName& name) { return GetWholeBlob(blobs, name, 1u << 30).value_or(""); }
  void Replace(const BlobName& name, std::string_view bytes) {
    EXPECT_OK(blobs.Delete(name));
    EXPECT_OK(PutBytes(blobs, name, bytes, PutMode::kIfAbsent));
  }
  // Changes the first of these bytes in the pack.
  void Damage(const PackSummary& pack, std::string_view bytes) {
    const BlobName name = PackBlobName(pack.kind, pack.id);
    std::string blob = Blob(name);
    const size_t at = blob.find(bytes);
    ASSERT_NE(at, std::string::npos);
    blob[at] ^= 1;
    Replace(name, blob);
  }
  void DamageTrailer(const PackSummary& pack) {
    const BlobName name = PackBlobName(pack.kind, pack.id);
    std::string blob = Blob(name);
    blob[blob.size() - kPackFooterBytes - 1] ^= 1;
    Replace(name, blob);
  }
  void Outage(BlobOperation operation, std::string_view prefix, int count = 1'000'000) {
    store.AddFault(
        {.operation = operation, .fault = BlobFault::kFailBefore, .prefix = std::string(prefix), .count = count});
  }

  const CatalogKey key = TestCatalogKey();
  SimWorld world;
  MemoryBlobStore blobs;
  FaultyBlobStore store;
  TestKvDisk kv;
  Warnings warnings;
  std::vector<ChunkId> roots;  // of the live snapshots
  PackReader reader{store, key};
  PackReconciler reconciler{store, reader, key, warnings, {}};
  LiveIndex index{world.io(),
                  KvFactory(),
                  key.repository,
                  reconciler,
                  [this](ChunkIndex& i, PageWalk walk) { return MarkPages(i, reader, roots, walk, warnings); },
                  warnings,
                  {}};
  ManifestStore manifests{store, key, world.io().random};
  Catalog catalog;
  std::unique_ptr<RepositoryLog> log;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_TEST_ENGINE_H_
