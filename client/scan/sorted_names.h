// The names of one directory, sorted by their bytes; a directory of any size in bounded memory. One
// thread at a time.
#ifndef HOLDFAST_CLIENT_SCAN_SORTED_NAMES_H_
#define HOLDFAST_CLIENT_SCAN_SORTED_NAMES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast {

// A file without a name: gone with the process. Errors are errno values, 0 = fine.
class SpillFile {
 public:
  SpillFile() = default;
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;
  ~SpillFile();
  bool is_open() const { return fd_ >= 0; }
  uint64_t size() const { return size_; }
  int Append(const std::string& directory, std::string_view bytes);  // opens it first if needed
  // Appends up to `size` bytes from `offset` to *out.
  int Read(uint64_t offset, size_t size, std::string* out) const;

 private:
  int fd_ = -1;
  uint64_t size_ = 0;
};

// Add() everything, Sort() once, then Next() to the end. Beyond `bytes_max`, sorted runs go to a spill file and are
// merged while reading. If the spill file cannot be written everything stays in memory: error() tells, nothing is lost.
// If it cannot be read, the rest of that run is lost, and error() tells.
class SortedNames {
 public:
  SortedNames(uint64_t bytes_max, std::string spill_directory);
  ~SortedNames();
  void Add(std::string_view name, uint8_t type);
  void Sort();
  // A name equal to the one before is dropped. The view is valid until the next call.
  bool Next(std::string_view* name, uint8_t* type);
  uint64_t size() const { return count_; }  // names added
  uint64_t bytes() const;                   // memory in use now
  int error() const { return error_; }      // errno of the spill file, 0 = fine

 private:
  static constexpr size_t kChunkBytes = 128 << 10;
  struct Key {
    uint64_t prefix;     // first 8 bytes, big-endian, padded with zeros
    const char* record;  // u16 length, u8 type, name
  };
  struct Run;
  void SortMemory();
  void SpillMemory();
  const char* Current(size_t source) const;  // nullptr = this source is at its end
  void Advance(size_t source);

  const uint64_t bytes_max_;
  const std::string spill_directory_;
  struct Chunk {
    std::unique_ptr<char[]> data;
    size_t size = 0, used = 0;
  };
  std::vector<Chunk> chunks_;
  uint64_t chunk_bytes_ = 0;  // allocated
  uint64_t count_ = 0, in_memory_ = 0;
  std::vector<Key> keys_;
  size_t next_key_ = 0;
  SpillFile spill_;
  std::vector<std::unique_ptr<Run>> runs_;
  std::string last_;
  bool any_ = false;
  int error_ = 0;
};

// First in, first out; what is beyond `bytes_max` waits in a spill file. Errors as above.
class RecordQueue {
 public:
  RecordQueue(uint64_t bytes_max, std::string spill_directory)
      : bytes_max_(bytes_max), spill_directory_(std::move(spill_directory)) {}
  void Push(std::string_view record);  // at most 65,535 bytes
  bool Pop(std::string* record);
  bool empty() const { return count_ == 0; }
  int error() const { return error_; }

 private:
  const uint64_t bytes_max_;
  const std::string spill_directory_;
  std::string head_;  // being read from head_pos_
  size_t head_pos_ = 0;
  std::string tail_;  // being written
  SpillFile spill_;   // between the two, from spill_pos_
  uint64_t spill_pos_ = 0;
  uint64_t count_ = 0;
  int error_ = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SCAN_SORTED_NAMES_H_
