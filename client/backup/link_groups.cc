#include "client/backup/link_groups.h"

#include "client/backup/file_result.h"

namespace holdfast {

void SharedContent::Set(const Entry& e) {
  usable_ = true;
  content_ = e.content;
  holes_ = e.holes;
  hole_chunk_ = e.hole_chunk;
  xattrs_ = e.xattrs;
  xattr_chunk_ = e.xattr_chunk;
  digest_ = e.digest;
  size_ = e.size;
  flags_ = e.flags & kEntryChangedWhileRead;
}

void SharedContent::CopyTo(Entry& e) const {
  e.content = content_;
  e.holes = holes_;
  e.hole_chunk = hole_chunk_;
  e.xattrs = xattrs_;
  e.xattr_chunk = xattr_chunk_;
  e.digest = digest_;
  e.size = size_;
  e.flags |= flags_;
}

LinkGroups::Membership LinkGroups::Join(const SourceStat& stat) {
  if (stat.link_count <= 1) return {};
  auto it = groups_.find(stat.identity);
  // The inode may have been freed and given to another file since the first name.
  if (it != groups_.end() && !IsSameVersion(it->second.content->seen(), stat)) {
    groups_.erase(it);
    it = groups_.end();
  }
  if (it != groups_.end()) {
    Membership member{it->second.content, /*reads=*/false};
    if (--it->second.names_to_come == 0) groups_.erase(it);
    return member;
  }
  if (groups_.size() >= groups_max_) return {};
  auto content = std::make_shared<SharedContent>(stat);
  groups_[stat.identity] = {content, stat.link_count - 1};
  return {std::move(content), /*reads=*/true};
}

}  // namespace holdfast
