#include "client/verify/verifier.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/hash/hash.h"
#include "core/tree/file_content.h"

namespace holdfast {
namespace {

constexpr int kThreads = 3;
constexpr size_t kBatchesQueuedMax = 3;
constexpr uint64_t kBatchBytes = 16u << 20;  // plaintext, estimated
constexpr size_t kBatchUsesMax = 8192;
constexpr uint64_t kBundleBytesEstimate = 256u << 10;

}  // namespace

struct Verifier::File {
  std::string path;
  std::atomic<bool> failed{false};
};

// What one file expects of a chunk.
struct Verifier::Use {
  std::shared_ptr<File> file;
  bool is_slice = false;
  uint64_t offset = 0, length = 0;   // of a chunk: its length
  std::optional<FileDigest> digest;  // of a slice

  uint64_t SliceHash(const ChunkId& id) const {
    return absl::HashOf(id, offset, length, digest.has_value(), digest.value_or(FileDigest{}));
  }
};

struct Verifier::Job {
  ChunkRef ref;
  std::vector<Use> uses;
};

struct Verifier::Batch {
  std::vector<Job> jobs;
  absl::flat_hash_map<ChunkRef, size_t> by_ref;
  uint64_t bytes = 0;
  size_t uses = 0;
};

// One call of Verify.
struct Verifier::Run {
  explicit Run(const SnapshotReader& s) : snapshot(s) {}

  const SnapshotReader& snapshot;
  VerifyResult result;  // of the planning thread, but for damaged_files
  std::atomic<uint64_t> damaged_files{0};
  Batch batch;  // being filled

  absl::Mutex mu;
  std::deque<Batch> queue ABSL_GUARDED_BY(mu);
  bool ended ABSL_GUARDED_BY(mu) = false;
  absl::Status failed ABSL_GUARDED_BY(mu);
};

class Verifier::Sink : public ChunkSink {
 public:
  Sink(Verifier& verifier, Run& run, Batch& batch)
      : verifier_(verifier), run_(run), batch_(batch), delivered_(batch.jobs.size()) {}
  absl::Status OnChunk(size_t index, const absl::StatusOr<OpenedChunk>& chunk) override {
    if (verifier_.cancel_.load()) return absl::CancelledError("cancelled");
    if (!chunk.ok() && !IsOfTheObject(chunk.status())) return chunk.status();
    if (index >= delivered_.size() || delivered_[index]) return absl::InternalError("a chunk nobody asked for");
    delivered_[index] = true;
    verifier_.Check(run_, batch_.jobs[index], chunk);
    return absl::OkStatus();
  }
  bool delivered(size_t index) const { return delivered_[index]; }

 private:
  Verifier& verifier_;
  Run& run_;
  Batch& batch_;
  std::vector<bool> delivered_;
};

Verifier::Verifier(OnProblem on_problem, Io& io, const std::atomic<bool>& cancel)
    : on_problem_(std::move(on_problem)), io_(io), cancel_(cancel) {}
Verifier::~Verifier() = default;

void Verifier::Fail(Run& run, File& file, const absl::Status& status) {
  if (file.failed.exchange(true)) return;
  run.damaged_files.fetch_add(1);
  absl::MutexLock lock(&mu_);
  on_problem_(file.path, status);
}

void Verifier::Check(Run& run, Job& job, const absl::StatusOr<OpenedChunk>& chunk) {
  absl::Status status = chunk.status();
  if (status.ok()) {
    chunks_fetched.fetch_add(1);
    chunk_bytes_fetched.fetch_add(chunk->plaintext.size());
    if (chunk->type != ChunkType::kData) status = absl::DataLossError("a chunk of file content is of another type");
  }
  {
    absl::MutexLock lock(&mu_);
    if (status.ok()) {
      good_.emplace(job.ref, chunk->plaintext.size());
    } else {
      bad_.emplace(job.ref, status);
    }
  }
  if (!status.ok()) {
    for (Use& use : job.uses) Fail(run, *use.file, status);
    return;
  }
  for (Use& use : job.uses) {
    if (!use.is_slice) {
      if (use.length != chunk->plaintext.size()) {
        Fail(run, *use.file, absl::DataLossError("a chunk has another length than the file says"));
      }
      continue;
    }
    if (use.offset > chunk->plaintext.size() || use.length > chunk->plaintext.size() - use.offset) {
      Fail(run, *use.file, absl::DataLossError("the file is not within its bundle"));
      continue;
    }
    if (use.digest) {
      if (SliceDigest(chunk->plaintext.substr(use.offset, use.length)) != *use.digest) {
        Fail(run, *use.file, absl::DataLossError("the content is not what its digest was made of"));
        continue;
      }
    }
    absl::MutexLock lock(&mu_);
    good_slices_.insert(use.SliceHash(job.ref.id));
  }
}

absl::Status Verifier::AddUse(Run& run, const ChunkRef& ref, Use use) {
  absl::Status known_bad;
  {
    absl::MutexLock lock(&mu_);
    if (auto it = bad_.find(ref); it != bad_.end()) {
      known_bad = it->second;
    } else if (auto good = good_.find(ref); good != good_.end()) {
      const bool is_known = use.is_slice ? good_slices_.contains(use.SliceHash(ref.id)) : good->second == use.length;
      if (is_known) return absl::OkStatus();
    }
  }
  if (!known_bad.ok()) {
    Fail(run, *use.file, known_bad);
    return absl::OkStatus();
  }
  Batch& batch = run.batch;
  auto [it, is_new] = batch.by_ref.try_emplace(ref, batch.jobs.size());
  if (is_new) {
    batch.jobs.push_back({ref, {}});
    batch.bytes += use.is_slice ? kBundleBytesEstimate : use.length;
  }
  batch.jobs[it->second].uses.push_back(std::move(use));
  if (batch.bytes >= kBatchBytes || ++batch.uses >= kBatchUsesMax) return Push(run);
  return absl::OkStatus();
}

absl::Status Verifier::Push(Run& run) {
  if (run.batch.jobs.empty()) return absl::OkStatus();
  absl::MutexLock lock(&run.mu);
  auto has_room = [&run]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(run.mu) {
    return run.queue.size() < kBatchesQueuedMax || !run.failed.ok();
  };
  run.mu.Await(absl::Condition(&has_room));
  RETURN_IF_ERROR(run.failed);
  run.queue.push_back(std::move(run.batch));
  run.batch = Batch();
  return absl::OkStatus();
}

void Verifier::Work(Run& run) {
  for (;;) {
    Batch batch;
    {
      absl::MutexLock lock(&run.mu);
      auto has_work = [&run]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(run.mu) {
        return !run.queue.empty() || run.ended || !run.failed.ok();
      };
      run.mu.Await(absl::Condition(&has_work));
      if (!run.failed.ok() || run.queue.empty()) return;
      batch = std::move(run.queue.front());
      run.queue.pop_front();
    }
    std::vector<ChunkRef> refs;
    refs.reserve(batch.jobs.size());
    for (const Job& job : batch.jobs) refs.push_back(job.ref);
    Sink sink(*this, run, batch);
    const absl::Status status = run.snapshot.source().Fetch(refs, sink);
    if (!status.ok()) {
      absl::MutexLock lock(&run.mu);
      if (run.failed.ok()) run.failed = status;
      return;
    }
    for (size_t i = 0; i < batch.jobs.size(); ++i) {
      if (!sink.delivered(i)) {
        Check(run, batch.jobs[i], absl::NotFoundError("the chunk source passed the chunk over"));
      }
    }
  }
}

absl::Status Verifier::AddFile(Run& run, const Entry& original, const Components& directory) {
  auto file = std::make_shared<File>();
  for (const std::string& name : directory) absl::StrAppend(&file->path, "/", name);
  absl::StrAppend(&file->path, "/", original.name);
  Entry resolved;
  const Entry* entry = &original;
  if (original.xattr_chunk || original.hole_chunk) {
    resolved = original;
    absl::Status status = run.snapshot.ResolveSideChunks(resolved);
    if (!status.ok()) {
      if (!IsOfTheObject(status)) return status;
      Fail(run, *file, status);
      return absl::OkStatus();
    }
    entry = &resolved;
  }
  if (entry->type != EntryType::kFile) return absl::OkStatus();
  ++run.result.files;
  run.result.bytes += entry->size;
  files_done.fetch_add(1);
  bytes_done.fetch_add(entry->size);
  if (entry->flags & kEntryReadFailed) {
    ++run.result.not_in_snapshot;
    return absl::OkStatus();
  }
  const absl::StatusOr<uint64_t> stored = StoredLength(*entry);
  if (!stored.ok()) {
    Fail(run, *file, stored.status());
    return absl::OkStatus();
  }
  const uint64_t length = *stored;
  const Content& content = entry->content;
  absl::Status contradiction = absl::DataLossError("the content contradicts the size of the file");
  switch (content.kind) {
    case Content::Kind::kNone:
      if (length != 0) Fail(run, *file, contradiction);
      return absl::OkStatus();
    case Content::Kind::kInline:
      if (length != content.inline_bytes.size()) Fail(run, *file, contradiction);
      return absl::OkStatus();
    case Content::Kind::kSlice:
      if (length != content.length) Fail(run, *file, contradiction);
      return AddUse(run, content.ref, {file, true, content.offset, content.length, entry->digest});
    case Content::Kind::kChunks:
    case Content::Kind::kList:
      break;
  }
  uint64_t planned = 0;
  ChunkedFileDigest digest;
  absl::Status transport;
  absl::Status status = run.snapshot.ForEachPiece(content, [&](const ChunkPiece& piece) -> absl::Status {
    planned += piece.length;
    if (planned > length) return contradiction;  // a hostile list may have no end
    digest.Add(piece);
    transport = AddUse(run, piece.ref, {file, false, 0, piece.length, std::nullopt});
    return transport;
  });
  RETURN_IF_ERROR(transport);
  if (!status.ok() && !IsOfTheObject(status)) return status;
  if (status.ok() && planned != length) status = contradiction;
  if (status.ok() && entry->digest && digest.Finish(entry->size, entry->holes) != *entry->digest) {
    status = absl::DataLossError("the chunks are not those that the digest was made of");
  }
  if (!status.ok()) Fail(run, *file, status);
  return absl::OkStatus();
}

absl::Status Verifier::Plan(Run& run) {
  std::unique_ptr<EntryIterator> it = run.snapshot.Scan(KeyRange::All());
  while (it->Next()) {
    if (cancel_.load()) return absl::CancelledError("cancelled");
    ++run.result.entries;
    RETURN_IF_ERROR(AddFile(run, it->entry(), it->directory()));
  }
  RETURN_IF_ERROR(it->status());
  auto shown = [](const std::string& key) {
    Components directory;
    std::string name;
    if (key.empty() || !ParseEntryKey(key, &directory, &name)) return std::string();
    std::string out;
    for (const std::string& component : directory) absl::StrAppend(&out, "/", component);
    return out + "/" + name;
  };
  for (const KeyGap& gap : it->gaps()) {
    ++run.result.damaged;
    std::string what = "all entries from " + shown(gap.range.begin);
    what += gap.range.end.empty() ? " to the end" : " up to " + shown(gap.range.end);
    absl::MutexLock lock(&mu_);
    on_problem_(what, gap.status);
  }
  return Push(run);
}

absl::StatusOr<VerifyResult> Verifier::Verify(const SnapshotReader& snapshot) {
  Run run(snapshot);
  std::vector<std::unique_ptr<Thread>> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.push_back(io_.threads.Spawn("verify", [this, &run] { Work(run); }));
  }
  const absl::Status planned = Plan(run);
  {
    absl::MutexLock lock(&run.mu);
    run.ended = true;
    if (!planned.ok() && run.failed.ok()) run.failed = planned;
  }
  threads.clear();
  absl::MutexLock lock(&run.mu);
  RETURN_IF_ERROR(run.failed);
  run.result.damaged += run.damaged_files.load();
  return run.result;
}

}  // namespace holdfast
