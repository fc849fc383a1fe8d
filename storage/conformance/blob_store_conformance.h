// What every BlobStore has to do. A backend's test includes this, says how to make an empty store and runs all of it:
//
//   INSTANTIATE_TEST_SUITE_P(File, BlobStoreConformance, testing::Values(BlobStoreFactory([] { ... })));
#ifndef HOLDFAST_STORAGE_CONFORMANCE_BLOB_STORE_CONFORMANCE_H_
#define HOLDFAST_STORAGE_CONFORMANCE_BLOB_STORE_CONFORMANCE_H_

#include <functional>
#include <memory>

#include "core/io/io.h"
#include "gtest/gtest.h"
#include "storage/blob_store.h"

namespace holdfast {

struct BlobStoreUnderTest {
  std::shared_ptr<void> keep;  // whatever has to outlive the store
  std::unique_ptr<BlobStore> store;
  Threads* threads = nullptr;  // where the suite's threads run; null = the machine's
};
using BlobStoreFactory = std::function<BlobStoreUnderTest()>;

class BlobStoreConformance : public testing::TestWithParam<BlobStoreFactory> {
 protected:
  BlobStoreConformance();
  ~BlobStoreConformance() override;
  BlobStore& store() { return *under_test_.store; }
  absl::Status Put(std::string_view name, std::string_view bytes, PutMode mode = PutMode::kIfAbsent);
  absl::StatusOr<std::string> Get(std::string_view name);
  std::vector<std::string> Names(std::string_view prefix, std::string_view after = "", int limit = 1000);

  BlobStoreUnderTest under_test_;
};

}  // namespace holdfast

#endif  // HOLDFAST_STORAGE_CONFORMANCE_BLOB_STORE_CONFORMANCE_H_
