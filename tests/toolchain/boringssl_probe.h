#pragma once

#include <string>

namespace holdfast::toolchain {

// Runs AEADs, key derivation, hashes and signatures of BoringSSL, and BLAKE3, against published answers or there and
// back. Returns the name of the first that is wrong, or "" if all are right.
std::string ProbeBoringSsl();

}  // namespace holdfast::toolchain
