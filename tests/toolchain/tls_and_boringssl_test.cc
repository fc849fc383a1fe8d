// gRPC's TLS uses OpenSSL 3, data encryption uses BoringSSL; both define the same names. They must work in one process,
// whichever runs first. The build runs each case in a process of its own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/toolchain/boringssl_probe.h"
#include "tests/toolchain/grpc_tls_probe.h"

namespace holdfast::toolchain {
namespace {

TEST(TlsAndBoringSsl, both_work_with_tls_first) {
  EXPECT_EQ(ProbeGrpcTls(), "");
  EXPECT_EQ(ProbeBoringSsl(), "");
  EXPECT_EQ(ProbeGrpcTls(), "");
}

TEST(TlsAndBoringSsl, both_work_with_boringssl_first) {
  EXPECT_EQ(ProbeBoringSsl(), "");
  EXPECT_EQ(ProbeGrpcTls(), "");
  EXPECT_EQ(ProbeBoringSsl(), "");
}

}  // namespace
}  // namespace holdfast::toolchain
