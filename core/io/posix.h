// The machine itself: Linux files, CLOCK_MONOTONIC, getrandom, std::thread. See io.h for the contract.
#ifndef HOLDFAST_CORE_IO_POSIX_H_
#define HOLDFAST_CORE_IO_POSIX_H_

#include "core/io/io.h"

namespace holdfast {

// Borrows objects that live as long as the process.
Io PosixIo();

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_POSIX_H_
