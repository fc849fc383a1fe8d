// KvStore over RocksDB: no write-ahead log (what it holds can be rebuilt), Ribbon filters, bounded
// memory, files and threads. Opening and closing a small one costs milliseconds. Not behind the Io
// seam: simulation uses MemoryKvStore.
#ifndef HOLDFAST_SERVER_INDEX_ROCKS_KV_STORE_H_
#define HOLDFAST_SERVER_INDEX_ROCKS_KV_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "server/index/kv_store.h"

namespace holdfast {

struct RocksKvStoreOptions {
  uint64_t block_cache_bytes = 64u << 20;  // data, index and filter blocks together
  uint64_t memtable_bytes = 16u << 20;     // each; at most 2
  int open_files_max = 256;                // file descriptors
  int background_threads_max = 2;          // flushes and compactions
};

// Opens or creates the database in the folder `path` (parents must exist; mode 0700). One process and one KvStore at a
// time: a second open is UNAVAILABLE. DATA_LOSS when anything in it is damaged or foreign: the caller calls
// DestroyRocksKvStore, opens again and rebuilds. The destructor flushes (best effort) and closes.
absl::StatusOr<std::unique_ptr<KvStore>> OpenRocksKvStore(const std::string& path,
                                                          const RocksKvStoreOptions& options = {});

// Removes the folder and all that is in it. Absent is OK. Must not be open.
absl::Status DestroyRocksKvStore(const std::string& path);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_INDEX_ROCKS_KV_STORE_H_
