#include "server/index/rocks_kv_store.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "rocksdb/cache.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/listener.h"
#include "rocksdb/table.h"
#include "rocksdb/write_batch.h"

namespace holdfast {
namespace {

// The one place where a RocksDB status becomes ours.
absl::Status FromRocks(const rocksdb::Status& s, std::string_view what) {
  if (s.ok()) return absl::OkStatus();
  std::string message = absl::StrCat("index database: ", AbslView(what), ": ", s.ToString());
  if (s.IsCorruption()) return absl::DataLossError(message);
  // A file that the manifest names and that is gone.
  if (s.IsPathNotFound()) return absl::DataLossError(message);
  if (s.IsNoSpace() || s.subcode() == rocksdb::Status::kSpaceLimit || s.IsMemoryLimit()) {
    return absl::ResourceExhaustedError(message);
  }
  if (s.IsIOError()) {
    // EIO: what is on that sector is gone, and the index is made anew elsewhere.
    if (message.find("No such file or directory") != std::string::npos ||
        message.find("Input/output error") != std::string::npos) {
      return absl::DataLossError(message);
    }
    // RocksDB reports EDQUOT and EMFILE by their text only.
    if (message.find("quota") != std::string::npos || message.find("Too many open files") != std::string::npos) {
      return absl::ResourceExhaustedError(message);
    }
    return absl::UnavailableError(message);
  }
  // Options or a comparator that do not fit: written by something else.
  if (s.IsInvalidArgument() || s.IsNotSupported()) return absl::DataLossError(message);
  return absl::UnavailableError(message);
}

rocksdb::Slice ToSlice(std::string_view s) { return {s.data(), s.size()}; }
std::string_view FromSlice(const rocksdb::Slice& s) { return {s.data(), s.size()}; }

// Keeps the first error of a flush or compaction thread: RocksDB's own recovery can say that all is
// well while writes still fail (design, section 10), so that nothing but opening again clears it.
class ErrorLatch : public rocksdb::EventListener {
 public:
  void OnBackgroundError(rocksdb::BackgroundErrorReason, rocksdb::Status* s) override {
    if (!s->ok()) Set(FromRocks(*s, "background work failed"));
  }
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status, bool* auto_recovery) override {
    *auto_recovery = false;
  }
  void Set(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    if (status_.ok()) status_ = status;
  }
  absl::Status status() const {
    absl::MutexLock lock(&mu_);
    return status_;
  }

 private:
  mutable absl::Mutex mu_;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

class RocksKvStore : public KvStore {
 public:
  RocksKvStore(std::unique_ptr<rocksdb::DB> db, std::shared_ptr<ErrorLatch> latch,
               std::shared_ptr<rocksdb::Cache> cache)
      : latch_(std::move(latch)), cache_(std::move(cache)), db_(std::move(db)) {
    write_options_.disableWAL = true;
  }
  ~RocksKvStore() override {
    if (latch_->status().ok()) (void)Flush();
    (void)db_->Close();
  }

  absl::StatusOr<std::optional<std::string>> Get(std::string_view key) override {
    std::string value;
    rocksdb::Status s = db_->Get(rocksdb::ReadOptions(), ToSlice(key), &value);
    if (s.IsNotFound()) return std::optional<std::string>();
    if (!s.ok()) return FromRocks(s, "read");
    return std::optional<std::string>(std::move(value));
  }

  absl::StatusOr<std::vector<std::optional<std::string>>> MultiGet(absl::Span<const std::string> keys) override {
    std::vector<std::optional<std::string>> out(keys.size());
    std::vector<rocksdb::Slice> slices;
    std::vector<rocksdb::PinnableSlice> values;
    std::vector<rocksdb::Status> statuses;
    rocksdb::ReadOptions options;
    for (size_t start = 0; start < keys.size(); start += kMultiGetKeysMax) {
      const size_t n = std::min(kMultiGetKeysMax, keys.size() - start);
      slices.clear();
      for (size_t i = 0; i < n; ++i) slices.push_back(ToSlice(keys[start + i]));
      values = std::vector<rocksdb::PinnableSlice>(n);
      statuses.assign(n, rocksdb::Status());
      db_->MultiGet(options, db_->DefaultColumnFamily(), n, slices.data(), values.data(), statuses.data());
      for (size_t i = 0; i < n; ++i) {
        if (statuses[i].IsNotFound()) continue;
        if (!statuses[i].ok()) return FromRocks(statuses[i], "read");
        out[start + i] = values[i].ToString();
      }
    }
    return out;
  }

  absl::Status Write(const KvBatch& batch) override {
    RETURN_IF_ERROR(CheckKvLimits(batch));
    RETURN_IF_ERROR(latch_->status());
    rocksdb::WriteBatch out;
    for (const KvBatch::Operation& op : batch.operations()) {
      rocksdb::Status s =
          op.value.has_value() ? out.Put(ToSlice(op.key), ToSlice(*op.value)) : out.Delete(ToSlice(op.key));
      if (!s.ok()) return FromRocks(s, "prepare a batch");
    }
    return Latched(FromRocks(db_->Write(write_options_, &out), "write"));
  }

  absl::Status Scan(std::string_view prefix, std::string_view from, const Visitor& visit) override {
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    options.readahead_size = 256u << 10;
    std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options));
    for (it->Seek(ToSlice(std::max(prefix, from))); it->Valid() && it->key().starts_with(ToSlice(prefix)); it->Next()) {
      if (!visit(FromSlice(it->key()), FromSlice(it->value()))) return absl::OkStatus();
    }
    return FromRocks(it->status(), "scan");
  }

  absl::Status Flush() override {
    RETURN_IF_ERROR(latch_->status());
    rocksdb::FlushOptions options;
    options.wait = true;
    RETURN_IF_ERROR(Latched(FromRocks(db_->Flush(options), "flush")));
    return latch_->status();
  }

  uint64_t ApproximateMemory() override {
    uint64_t memtables = 0, readers = 0;
    db_->GetIntProperty(rocksdb::DB::Properties::kCurSizeAllMemTables, &memtables);
    db_->GetIntProperty(rocksdb::DB::Properties::kEstimateTableReadersMem, &readers);
    return memtables + readers + cache_->GetUsage();
  }

 private:
  // Bounds what one call of RocksDB pins in memory.
  static constexpr size_t kMultiGetKeysMax = 256;

  absl::Status Latched(absl::Status status) {
    if (!status.ok()) latch_->Set(status);
    return status;
  }

  const std::shared_ptr<ErrorLatch> latch_;
  const std::shared_ptr<rocksdb::Cache> cache_;
  rocksdb::WriteOptions write_options_;
  std::unique_ptr<rocksdb::DB> db_;
};

rocksdb::Options MakeOptions(const RocksKvStoreOptions& in, std::shared_ptr<rocksdb::Cache> cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = std::move(cache);
  table.cache_index_and_filter_blocks = true;
  table.cache_index_and_filter_blocks_with_high_priority = true;
  table.pin_l0_filter_and_index_blocks_in_cache = false;  // pinned blocks would not be bounded
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;  // a whole filter of 10^9 keys would not fit into the cache
  table.metadata_block_size = 4096;
  table.filter_policy.reset(rocksdb::NewRibbonFilterPolicy(/*bloom_equivalent_bits_per_key=*/10));
  table.optimize_filters_for_memory = true;
  table.format_version = 5;
  table.block_size = 8192;
  table.checksum = rocksdb::kXXH3;

  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.compression = rocksdb::kNoCompression;  // ids do not compress
  options.write_buffer_size = in.memtable_bytes;
  options.max_write_buffer_number = 2;
  options.db_write_buffer_size = 2 * in.memtable_bytes;
  options.max_open_files = in.open_files_max;
  options.max_file_opening_threads = 1;  // not 16 threads at each open
  options.max_background_jobs = std::max(2, in.background_threads_max);
  options.max_subcompactions = 1;
  options.level_compaction_dynamic_level_bytes = true;
  options.bytes_per_sync = 1u << 20;
  options.target_file_size_base = 64u << 20;
  // Without a log the order of flushes is the order of writes: losing the tail keeps a prefix.
  options.avoid_flush_during_shutdown = true;  // we flush ourselves, and see the error
  options.max_bgerror_resume_count = 0;
  // Its own log: next to the data, at most 2 files of 1 MiB.
  options.info_log_level = rocksdb::WARN_LEVEL;
  options.max_log_file_size = 1u << 20;
  options.keep_log_file_num = 2;
  options.max_manifest_file_size = 16u << 20;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  options.skip_checking_sst_file_sizes_on_db_open = false;
  return options;
}

// RocksDB makes a write-ahead log at each open, though ours stays empty, and removes it late or never.
void RemoveEmptyLogs(const std::string& path) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->path().extension() == ".log" && it->file_size(ignored) == 0 && !ignored) {
      std::filesystem::remove(it->path(), ignored);
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvStore>> OpenRocksKvStore(const std::string& path, const RocksKvStoreOptions& options) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    const int error = errno;
    std::string message = absl::StrCat("index folder ", path, ": ", std::strerror(error));
    if (error == ENOSPC || error == EDQUOT) return absl::ResourceExhaustedError(message);
    if (error == ENOENT) return absl::NotFoundError(message);
    if (error == EACCES || error == EPERM) return absl::PermissionDeniedError(message);
    return absl::UnavailableError(message);
  }
  RemoveEmptyLogs(path);
  auto cache = rocksdb::NewLRUCache(options.block_cache_bytes, /*num_shard_bits=*/4,
                                    /*strict_capacity_limit=*/false, /*high_pri_pool_ratio=*/0.5);
  auto latch = std::make_shared<ErrorLatch>();
  rocksdb::Options rocks = MakeOptions(options, cache);
  rocks.listeners.push_back(latch);
  rocksdb::DB* raw = nullptr;
  rocksdb::Status s = rocksdb::DB::Open(rocks, path, &raw);
  if (!s.ok()) {
    if (s.IsIOError() &&
        (s.ToString().find("lock file") != std::string::npos || s.ToString().find("lock hold") != std::string::npos)) {
      return absl::UnavailableError(absl::StrCat("index database ", path, " is open already: ", s.ToString()));
    }
    return FromRocks(s, absl::StrCat("open ", path));
  }
  return std::make_unique<RocksKvStore>(std::unique_ptr<rocksdb::DB>(raw), std::move(latch), std::move(cache));
}

absl::Status DestroyRocksKvStore(const std::string& path) {
  // Not rocksdb::DestroyDB: it leaves what it does not know, and needs a readable database.
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat("remove ", path, ": ", error.message()));
  }
  return absl::OkStatus();
}

}  // namespace holdfast
