#include "storage/memory/memory_blob_store.h"

#include "core/base/status_testing.h"
#include "storage/conformance/blob_store_conformance.h"

namespace holdfast {
namespace {

INSTANTIATE_TEST_SUITE_P(Memory, BlobStoreConformance, testing::Values(BlobStoreFactory([] {
                           BlobStoreUnderTest t;
                           t.store = std::make_unique<MemoryBlobStore>();
                           return t;
                         })));

TEST(MemoryBlobStore, IsFullAtItsCapacity) {
  MemoryBlobStore store(10);
  ASSERT_OK(PutBytes(store, BlobName::FromTrusted("a"), "123456", PutMode::kIfAbsent));
  EXPECT_THAT(PutBytes(store, BlobName::FromTrusted("b"), "12345", PutMode::kIfAbsent),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(PutBytes(store, BlobName::FromTrusted("b"), "1234", PutMode::kIfAbsent));
  EXPECT_OK(PutBytes(store, BlobName::FromTrusted("a"), "123456", PutMode::kOverwrite));
  ASSERT_OK(store.Delete(BlobName::FromTrusted("a")));
  EXPECT_OK(PutBytes(store, BlobName::FromTrusted("c"), "123456", PutMode::kIfAbsent));
}

}  // namespace
}  // namespace holdfast
