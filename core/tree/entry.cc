#include "core/tree/entry.h"

namespace holdfast {

void TreeSums::Add(const Entry& entry) {
  const bool is_file = entry.type == EntryType::kFile;
  Add(TreeSums{1, is_file, entry.type == EntryType::kDirectory, is_file ? entry.size : 0});
}

void TreeSums::Add(const TreeSums& sums) {
  const auto add = [](uint64_t& to, uint64_t n) { to = n > UINT64_MAX - to ? UINT64_MAX : to + n; };
  add(entries, sums.entries);
  add(files, sums.files);
  add(directories, sums.directories);
  add(bytes, sums.bytes);
}

std::string DirectoryKeyPrefix(const Components& directory) {
  std::string key;
  for (size_t i = 0; i < directory.size(); ++i) {
    if (i != 0) key.push_back('\0');
    key.append(directory[i]);
  }
  key.append(2, '\0');
  return key;
}

std::string EntryKey(const Components& directory, std::string_view name) {
  std::string key = DirectoryKeyPrefix(directory);
  key.append(name);
  return key;
}

const std::string& EntryKeyCursor::Key(const Components& directory, std::string_view name) {
  if (directory != directory_) {
    directory_ = directory;
    key_ = DirectoryKeyPrefix(directory);
    prefix_bytes_ = key_.size();
  }
  key_.resize(prefix_bytes_);
  key_.append(name);
  return key_;
}

bool ParseEntryKey(std::string_view key, Components* directory, std::string* name) {
  directory->clear();
  // Components are neither empty nor contain 0x00, so the first pair of zeros ends the directory.
  size_t end = key.find(std::string_view("\0\0", 2));
  if (end == std::string_view::npos) return false;
  std::string_view dir = key.substr(0, end);
  std::string_view rest = key.substr(end + 2);
  if (rest.find('\0') != std::string_view::npos) return false;
  while (!dir.empty()) {
    size_t zero = dir.find('\0');
    if (zero == 0) return false;
    directory->emplace_back(dir.substr(0, zero));
    if (zero == std::string_view::npos) break;
    dir.remove_prefix(zero + 1);
    if (dir.empty()) return false;
  }
  name->assign(rest);
  return true;
}

}  // namespace holdfast
