// Is it worth trying to compress a chunk? Four samples of 4 KiB, spread over it; if even the order-0 entropy of every
// one is 7.9 bits per byte or more, compression would gain nothing (media, archives, ciphertext). A few microseconds.
#ifndef HOLDFAST_CORE_COMPRESSION_PROBE_H_
#define HOLDFAST_CORE_COMPRESSION_PROBE_H_

#include <string_view>

namespace holdfast {

// False for inputs below 4 KiB: too few bytes to tell, and cheap to try.
bool LooksIncompressible(std::string_view chunk);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_COMPRESSION_PROBE_H_
