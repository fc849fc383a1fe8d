#include "client/restore/overwrite_decision.h"

#include <sys/sysmacros.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

// What is there: every type, and of files and devices everything that may differ.
struct There {
  std::string name;
  std::optional<WhatIsThere> what;
};

WhatIsThere Object(mode_t type) {
  WhatIsThere out;
  out.st.st_mode = type | 0644;
  out.st.st_size = 10;
  out.st.st_mtim = {1000, 7};
  out.st.st_nlink = 1;
  out.st.st_rdev = makedev(8, 3);
  return out;
}

std::vector<There> AllThere() {
  std::vector<There> out = {{"nothing", std::nullopt},     {"directory", Object(S_IFDIR)},
                            {"file", Object(S_IFREG)},     {"other link", Object(S_IFLNK)},
                            {"fifo", Object(S_IFIFO)},     {"socket", Object(S_IFSOCK)},
                            {"char 8:3", Object(S_IFCHR)}, {"block 8:3", Object(S_IFBLK)}};
  auto add = [&](const char* name, mode_t type, auto change) {
    WhatIsThere what = Object(type);
    change(what);
    out.push_back({name, what});
  };
  add("file, other size", S_IFREG, [](WhatIsThere& w) { w.st.st_size = 11; });
  add("file, other second", S_IFREG, [](WhatIsThere& w) { w.st.st_mtim.tv_sec = 1001; });
  add("file, other nanosecond", S_IFREG, [](WhatIsThere& w) { w.st.st_mtim.tv_nsec = 8; });
  add("file, more names", S_IFREG, [](WhatIsThere& w) { w.st.st_nlink = 2; });
  add("same link", S_IFLNK, [](WhatIsThere& w) { w.is_same_symlink = true; });
  add("char 8:4", S_IFCHR, [](WhatIsThere& w) { w.st.st_rdev = makedev(8, 4); });
  add("block 9:3", S_IFBLK, [](WhatIsThere& w) { w.st.st_rdev = makedev(9, 3); });
  return out;
}

// The only pairs of what is there and what is to be that may stay.
bool IsSame(const std::string& there, EntryType type) {
  switch (type) {
    case EntryType::kFile:
      return there == "file";
    case EntryType::kSymlink:
      return there == "same link";
    case EntryType::kFifo:
      return there == "fifo";
    case EntryType::kSocket:
      return there == "socket";
    case EntryType::kCharDevice:
      return there == "char 8:3";
    case EntryType::kBlockDevice:
      return there == "block 8:3";
    default:
      return false;
  }
}

OverwriteDecision Expected(OverwriteMode mode, const std::string& there, EntryType type, bool rights, bool further) {
  if (there == "nothing") return OverwriteDecision::kCreate;
  if (mode == OverwriteMode::kSkip) return OverwriteDecision::kSkip;
  if (there == "directory") return OverwriteDecision::kRefuseDirectory;
  if (mode == OverwriteMode::kNever) return OverwriteDecision::kRefuse;
  if (mode == OverwriteMode::kAlways || further || (rights && type == EntryType::kFile)) {
    return OverwriteDecision::kReplace;
  }
  return IsSame(there, type) ? OverwriteDecision::kOnlySetMetadata : OverwriteDecision::kReplace;
}

TEST(OverwriteDecision, IsAsTheTableSaysForEveryCombination) {
  int combinations = 0;
  for (OverwriteMode mode :
       {OverwriteMode::kNever, OverwriteMode::kIfChanged, OverwriteMode::kAlways, OverwriteMode::kSkip}) {
    for (const There& there : AllThere()) {
      for (EntryType type : {EntryType::kFile, EntryType::kSymlink, EntryType::kFifo, EntryType::kSocket,
                             EntryType::kCharDevice, EntryType::kBlockDevice}) {
        Entry entry;
        entry.type = type;
        entry.size = 10;
        entry.mtime = {1000, 7};
        entry.device_major = 8;
        entry.device_minor = 3;
        for (bool rights : {false, true}) {
          for (bool further : {false, true}) {
            ++combinations;
            EXPECT_EQ(DecideOverwrite(mode, there.what, {entry, rights, further}),
                      Expected(mode, there.name, type, rights, further))
                << "mode " << static_cast<int>(mode) << ", there: " << there.name << ", wanted type "
                << static_cast<int>(type) << (rights ? ", with rights" : "") << (further ? ", a further name" : "");
          }
        }
      }
    }
  }
  EXPECT_EQ(combinations, 4 * 15 * 6 * 4);
}

TEST(OverwriteDecision, AFileMayHaveAsManyNamesAsTheSnapshotKnows) {
  WhatIsThere there = Object(S_IFREG);
  Entry entry;
  entry.size = 10;
  entry.mtime = {1000, 7};
  entry.link_count = 3;
  there.st.st_nlink = 3;
  EXPECT_EQ(DecideOverwrite(OverwriteMode::kIfChanged, there, {entry}), OverwriteDecision::kOnlySetMetadata);
  there.st.st_nlink = 4;
  EXPECT_EQ(DecideOverwrite(OverwriteMode::kIfChanged, there, {entry}), OverwriteDecision::kReplace);
  entry.link_count = 0;  // unknown
  there.st.st_nlink = 1;
  EXPECT_EQ(DecideOverwrite(OverwriteMode::kIfChanged, there, {entry}), OverwriteDecision::kOnlySetMetadata);
}

}  // namespace
}  // namespace holdfast
