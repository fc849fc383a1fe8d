#include "client/backup/entry_maker.h"

namespace holdfast {

Entry EntryMaker::Make(const SourceEntry& source) {
  const SourceStat& stat = source.stat;
  Entry e;
  e.name = source.name;
  e.type = stat.type;
  e.flags = source.flags;
  e.birth_time = stat.birth_time;
  e.size = stat.type == EntryType::kFile ? stat.size : 0;
  e.device_major = stat.device_major;
  e.device_minor = stat.device_minor;
  SetMetadata(stat, e);
  return e;
}

void EntryMaker::SetMetadata(const SourceStat& stat, Entry& e) {
  e.mode = stat.mode;
  e.uid = stat.uid;
  e.gid = stat.gid;
  e.owner_name = owners_.User(stat.uid);
  e.group_name = owners_.Group(stat.gid);
  e.mtime = stat.mtime;
  e.ctime = stat.ctime;
  e.inode = stat.identity.inode;
  e.device = devices_.try_emplace(stat.identity.device, static_cast<uint32_t>(devices_.size())).first->second;
  e.link_count = stat.link_count;
}

}  // namespace holdfast
