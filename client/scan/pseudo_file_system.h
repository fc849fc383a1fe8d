// File systems that have no files of anybody in them: /proc, /sys and their like.
#ifndef HOLDFAST_CLIENT_SCAN_PSEUDO_FILE_SYSTEM_H_
#define HOLDFAST_CLIENT_SCAN_PSEUDO_FILE_SYSTEM_H_

namespace holdfast {

// Of what is open as `fd`; false when that cannot be found out.
bool IsPseudoFileSystem(int fd);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_SCAN_PSEUDO_FILE_SYSTEM_H_
