// The machine itself: Linux files, CLOCK_MONOTONIC, getrandom, std::thread. See io.h for the contract.
#ifndef HOLDFAST_CORE_IO_POSIX_H_
#define HOLDFAST_CORE_IO_POSIX_H_

#include "core/io/io.h"

namespace holdfast {

// Borrows objects that live as long as the process.
Io PosixIo();

// Opens /dev/null for those of the descriptors 0 to 2 that are closed: another file must not get such a number, and
// messages. Call before anything is opened.
void OccupyStandardDescriptors();

// Lets this process open as many files as it may: the usual soft limit of 1,024 is for programs that use select().
void RaiseOpenFilesLimit();

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_POSIX_H_
