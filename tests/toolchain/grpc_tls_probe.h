#pragma once

#include <string>

namespace holdfast::toolchain {

// Starts a gRPC server with TLS on a loopback port, calls it, and compares the echo. The key and
// certificate are made for this one call with the openssl program. Returns what went wrong, or "".
std::string ProbeGrpcTls();

}  // namespace holdfast::toolchain
