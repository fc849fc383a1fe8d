#include "client/scan/pseudo_file_system.h"

#include <sys/vfs.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace holdfast {
namespace {

// Not in every linux/magic.h.
constexpr uint32_t kPseudoFileSystems[] = {
    0x9fa0,      // proc
    0x62656572,  // sysfs
    0x1cd1,      // devpts
    0x27e0eb,    // cgroup
    0x63677270,  // cgroup2
    0x64626720,  // debugfs
    0x74726163,  // tracefs
    0x73636673,  // securityfs
    0x6165676c,  // pstore
    0xcafe4a11,  // bpf
    0x62656570,  // configfs
    0x65735543,  // fusectl
    0x19800202,  // mqueue
    0x958458f6,  // hugetlbfs
    0x42494e4d,  // binfmt_misc
    0x0187,      // autofs: looking inside would mount
    0xde5e81e4,  // efivarfs
    0x67596969,  // rpc_pipefs
    0x6e736673,  // nsfs
    0xf97cff8c,  // selinux
    0x43415d53,  // smack
};

}  // namespace

bool IsPseudoFileSystem(int fd) {
  struct statfs fs {};
  if (fstatfs(fd, &fs) != 0) return false;
  uint32_t type = static_cast<uint32_t>(fs.f_type);
  return std::find(std::begin(kPseudoFileSystems), std::end(kPseudoFileSystems), type) != std::end(kPseudoFileSystems);
}

}  // namespace holdfast
