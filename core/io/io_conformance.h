// What every Io has to do. An implementation's test includes this and says how to make one:
//
//   INSTANTIATE_TEST_SUITE_P(Posix, IoConformance, testing::Values(IoFactory([] { ... })));
#ifndef HOLDFAST_CORE_IO_IO_CONFORMANCE_H_
#define HOLDFAST_CORE_IO_IO_CONFORMANCE_H_

#include <functional>
#include <memory>
#include <string>

#include "core/io/io.h"
#include "gtest/gtest.h"

namespace holdfast {

struct IoUnderTest {
  std::shared_ptr<void> keep;  // whatever has to outlive the Io
  std::shared_ptr<Io> io;
  std::string directory;  // empty, exists
};
using IoFactory = std::function<IoUnderTest()>;

class IoConformance : public testing::TestWithParam<IoFactory> {
 protected:
  IoConformance() : under_test_(GetParam()()), io_(*under_test_.io) {}
  std::string Path(std::string_view name) const { return under_test_.directory + "/" + std::string(name); }
  absl::Status Write(std::string_view name, std::string_view content);
  absl::StatusOr<std::string> Read(std::string_view name);

  IoUnderTest under_test_;
  Io& io_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_IO_IO_CONFORMANCE_H_
