#include "client/scan/sorted_names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace holdfast {
namespace {

constexpr size_t kFirstChunkBytes = 2 << 10;
constexpr size_t kRecordHeader = 3;  // u16 length, u8 type

std::string_view NameOf(const char* record) {
  uint16_t n;
  std::memcpy(&n, record, 2);
  return {record + kRecordHeader, n};
}

uint64_t PrefixOf(std::string_view name) {
  uint64_t v = 0;
  std::memcpy(&v, name.data(), std::min<size_t>(name.size(), 8));
  return __builtin_bswap64(v);
}

}  // namespace

SpillFile::~SpillFile() {
  if (fd_ >= 0) close(fd_);
}

int SpillFile::Append(const std::string& directory, std::string_view bytes) {
  if (fd_ < 0) {
    fd_ = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd_ < 0) {  // a file system without O_TMPFILE
      std::string path = directory + "/holdfast-scan-XXXXXX";
      fd_ = mkostemp(path.data(), O_CLOEXEC);
      if (fd_ < 0) return errno;
      unlink(path.c_str());
    }
  }
  uint64_t at = size_;
  while (!bytes.empty()) {
    ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n == 0 ? EIO : errno;
    at += n;
    bytes.remove_prefix(n);
  }
  size_ = at;
  return 0;
}

int SpillFile::Read(uint64_t offset, size_t size, std::string* out) const {
  size_t old = out->size();
  out->resize(old + size);
  size_t done = 0;
  int error = 0;
  while (done < size) {
    ssize_t n = pread(fd_, out->data() + old + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) error = errno;
    if (n <= 0) break;
    done += n;
  }
  out->resize(old + done);
  if (error == 0 && done == 0 && size != 0) error = EIO;
  return error;
}

// A sorted run in the spill file, read through a buffer.
struct SortedNames::Run {
  uint64_t next, end;  // not read yet
  size_t buffer_size;
  std::string buffer;
  size_t pos = 0;

  const char* record() const { return buffer.data() + pos; }
  // Makes record() whole. False at the end of the run or on an error.
  bool Fill(const SpillFile& file, int* error) {
    while (true) {
      size_t have = buffer.size() - pos;
      if (have >= kRecordHeader && have >= kRecordHeader + NameOf(record()).size()) return true;
      if (next == end) return false;
      buffer.erase(0, pos);
      pos = 0;
      size_t want = std::min<uint64_t>(buffer_size, end - next);
      size_t before = buffer.size();
      if (int e = file.Read(next, want, &buffer); e != 0) {
        *error = e;
        next = end;
        return false;
      }
      next += buffer.size() - before;
    }
  }
  void Skip() { pos += kRecordHeader + NameOf(record()).size(); }
};

SortedNames::SortedNames(uint64_t bytes_max, std::string spill_directory)
    : bytes_max_(bytes_max), spill_directory_(std::move(spill_directory)) {}
SortedNames::~SortedNames() = default;

uint64_t SortedNames::bytes() const {
  return chunk_bytes_ + std::max<uint64_t>(in_memory_, keys_.capacity()) * sizeof(Key);
}

void SortedNames::Add(std::string_view name, uint8_t type) {
  size_t need = kRecordHeader + name.size();
  if (chunks_.empty() || chunks_.back().size - chunks_.back().used < need) {
    // Small directories get a small first chunk: there are many of them.
    size_t size = chunks_.empty() ? kFirstChunkBytes : kChunkBytes;
    size = std::max(size, need);
    chunks_.push_back({std::unique_ptr<char[]>(new char[size]), size, 0});
    chunk_bytes_ += size;
  }
  Chunk& chunk = chunks_.back();
  char* r = chunk.data.get() + chunk.used;
  uint16_t n = static_cast<uint16_t>(name.size());
  std::memcpy(r, &n, 2);
  r[2] = static_cast<char>(type);
  std::memcpy(r + kRecordHeader, name.data(), name.size());
  chunk.used += need;
  ++in_memory_;
  ++count_;
  if (chunk_bytes_ + in_memory_ * sizeof(Key) > bytes_max_ && error_ == 0) SpillMemory();
}

void SortedNames::SortMemory() {
  keys_.clear();
  keys_.reserve(in_memory_);
  for (const Chunk& chunk : chunks_) {
    const char* end = chunk.data.get() + chunk.used;
    for (const char* r = chunk.data.get(); r < end;) {
      std::string_view name = NameOf(r);
      keys_.push_back({PrefixOf(name), r});
      r += kRecordHeader + name.size();
    }
  }
  std::sort(keys_.begin(), keys_.end(), [](const Key& a, const Key& b) {
    if (a.prefix != b.prefix) return a.prefix < b.prefix;
    return NameOf(a.record) < NameOf(b.record);
  });
  next_key_ = 0;
}

// On failure the names stay where they are, and error_ stops further attempts.
void SortedNames::SpillMemory() {
  SortMemory();
  auto run = std::make_unique<Run>();
  run->next = spill_.size();
  std::string buffer;
  auto flush = [&] {
    error_ = spill_.Append(spill_directory_, buffer);
    buffer.clear();
    return error_ == 0;
  };
  for (const Key& key : keys_) {
    if (buffer.size() >= kChunkBytes && !flush()) return;
    buffer.append(key.record, kRecordHeader + NameOf(key.record).size());
  }
  if (!flush()) return;
  run->end = spill_.size();
  runs_.push_back(std::move(run));
  keys_ = {};
  chunks_.clear();
  chunk_bytes_ = in_memory_ = 0;
}

void SortedNames::Sort() {
  SortMemory();
  size_t buffer_size = std::clamp<size_t>((2 << 20) / std::max<size_t>(runs_.size(), 1), 8 << 10, 128 << 10);
  for (auto& run : runs_) {
    run->buffer_size = buffer_size;
    run->Fill(spill_, &error_);
  }
}

// Source 0 is memory, k is run k - 1.
const char* SortedNames::Current(size_t source) const {
  if (source == 0) return next_key_ < keys_.size() ? keys_[next_key_].record : nullptr;
  const Run& run = *runs_[source - 1];
  return run.pos < run.buffer.size() ? run.record() : nullptr;
}

void SortedNames::Advance(size_t source) {
  if (source == 0) {
    ++next_key_;
    return;
  }
  Run& run = *runs_[source - 1];
  run.Skip();
  if (!run.Fill(spill_, &error_)) {
    run.buffer.clear();
    run.pos = 0;
  }
}

bool SortedNames::Next(std::string_view* name, uint8_t* type) {
  while (true) {
    // Few runs (one per bytes_max of names): looking at all of them beats keeping a heap.
    size_t best = 0;
    const char* record = Current(0);
    for (size_t s = 1; s <= runs_.size(); ++s) {
      const char* r = Current(s);
      if (r != nullptr && (record == nullptr || NameOf(r) < NameOf(record))) {
        best = s;
        record = r;
      }
    }
    if (record == nullptr) return false;
    std::string_view found = NameOf(record);
    bool repeated = any_ && found == last_;
    if (!repeated) {
      last_.assign(found);
      *type = static_cast<uint8_t>(record[2]);
    }
    Advance(best);
    if (repeated) continue;
    any_ = true;
    *name = last_;
    return true;
  }
}

void RecordQueue::Push(std::string_view record) {
  uint16_t n = static_cast<uint16_t>(record.size());
  tail_.append(reinterpret_cast<const char*>(&n), 2);
  tail_.append(record);
  ++count_;
  if (tail_.size() > bytes_max_ && error_ == 0) {
    error_ = spill_.Append(spill_directory_, tail_);
    if (error_ == 0) tail_.clear();
  }
}

bool RecordQueue::Pop(std::string* record) {
  constexpr size_t kReadBytes = 64 << 10;
  while (count_ > 0) {
    size_t have = head_.size() - head_pos_;
    uint16_t n = 0;
    if (have >= 2) std::memcpy(&n, head_.data() + head_pos_, 2);
    if (have >= 2 && have - 2 >= n) {
      record->assign(head_, head_pos_ + 2, n);
      head_pos_ += 2 + n;
      --count_;
      return true;
    }
    head_.erase(0, head_pos_);
    head_pos_ = 0;
    if (spill_pos_ < spill_.size()) {
      size_t before = head_.size();
      int e = spill_.Read(spill_pos_, std::min<uint64_t>(kReadBytes, spill_.size() - spill_pos_), &head_);
      if (e != 0) {  // what the file held is lost; the tail begins at a record
        error_ = e;
        spill_pos_ = spill_.size();
        head_.clear();
        continue;
      }
      spill_pos_ += head_.size() - before;
    } else if (!tail_.empty()) {
      head_.append(tail_);
      tail_.clear();
    } else {
      count_ = 0;
    }
  }
  head_ = {};
  return false;
}

}  // namespace holdfast
