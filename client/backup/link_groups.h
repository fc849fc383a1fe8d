// Hard links: all names of one object share what is read under the first of them.
#ifndef HOLDFAST_CLIENT_BACKUP_LINK_GROUPS_H_
#define HOLDFAST_CLIENT_BACKUP_LINK_GROUPS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "client/scan/scanner.h"
#include "core/tree/entry.h"

namespace holdfast {

// What all names of one object share.
class SharedContent {
 public:
  explicit SharedContent(const SourceStat& seen) : seen_(seen) {}
  const SourceStat& seen() const { return seen_; }  // by the walk, at the first name
  // The rest was read from that very object.
  bool usable() const { return usable_; }
  void Set(const Entry& read);
  void CopyTo(Entry& entry) const;

 private:
  const SourceStat seen_;
  bool usable_ = false;
  Content content_;
  std::vector<Hole> holes_;
  std::optional<ChunkRef> hole_chunk_;
  std::vector<Xattr> xattrs_;
  std::optional<ChunkRef> xattr_chunk_;
  std::optional<FileDigest> digest_;
  uint64_t size_ = 0;
  uint32_t flags_ = 0;
};

// One thread. Memory: at most kGroupsMax groups whose last name has not come; names beyond are read one by one.
class LinkGroups {
 public:
  static constexpr size_t kGroupsMax = 1u << 18;
  explicit LinkGroups(size_t groups_max = kGroupsMax) : groups_max_(groups_max) {}

  struct Membership {
    std::shared_ptr<SharedContent> content;  // null: in no group
    bool reads = false;                      // this name fills it

    // The name that was to be read is gone, or has become another file.
    bool MustReadItself() const { return content && !reads && !content->usable(); }
  };
  // The next name of the walk.
  Membership Join(const SourceStat& stat);
  size_t size() const { return groups_.size(); }

 private:
  struct Group {
    std::shared_ptr<SharedContent> content;
    uint32_t names_to_come = 0;
  };
  const size_t groups_max_;
  std::map<FileIdentity, Group> groups_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_BACKUP_LINK_GROUPS_H_
