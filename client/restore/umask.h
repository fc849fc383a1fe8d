// The mode bits that the process takes from what it makes. Read, never set: that would be felt by every thread.
#ifndef HOLDFAST_CLIENT_RESTORE_UMASK_H_
#define HOLDFAST_CLIENT_RESTORE_UMASK_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace holdfast {

// Of this process. Where that cannot be found out: all bits, so that every mode is set again.
uint32_t ReadUmask();

// Of the text of /proc/self/status.
std::optional<uint32_t> ParseUmask(std::string_view proc_status);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RESTORE_UMASK_H_
