#include "server/repository/manifest_store.h"

#include <string>

#include "core/base/status_testing.h"
#include "core/format/manifest.h"
#include "core/io/posix.h"
#include "server/repository/manifest_blob.h"
#include "storage/memory/memory_blob_store.h"
#include "storage/wrappers/faulty_blob_store.h"

namespace holdfast {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

CatalogKey Key(uint8_t byte = 42) {
  CatalogKey key;
  key.repository.bytes.fill(7);
  key.key.MutableBytes()[0] = byte;
  return key;
}

class ManifestStoreTest : public testing::Test {
 protected:
  std::string Blob(const ManifestId& id) { return GetWholeBlob(blobs_, ManifestBlobName(id), 1u << 30).value_or(""); }
  void Replace(const ManifestId& id, std::string_view bytes) {
    ASSERT_OK(blobs_.Delete(ManifestBlobName(id)));
    ASSERT_OK(PutBytes(blobs_, ManifestBlobName(id), bytes, PutMode::kIfAbsent));
  }

  const std::string bytes_ = "of a manifest", other_bytes_ = "of another";
  const ManifestId id_ = ManifestIdOf(bytes_), other_ = ManifestIdOf(other_bytes_);
  MemoryBlobStore blobs_;
  FaultyBlobStore store_{blobs_, 1};
  ManifestStore manifests_{store_, Key(), PosixIo().random};
};

TEST_F(ManifestStoreTest, GivesBackWhatWasPutAndShowsItToNobodyElse) {
  ASSERT_OK(manifests_.Put(id_, bytes_));
  EXPECT_THAT(manifests_.Get(id_), IsOkAndHolds(bytes_));
  EXPECT_EQ(Blob(id_).find(bytes_), std::string::npos);
  EXPECT_THAT(ManifestStore(store_, Key(43), PosixIo().random).Get(id_), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ManifestStoreTest, LeavesOneThatIsThereAsItIs) {
  ASSERT_OK(manifests_.Put(id_, bytes_));
  const std::string blob = Blob(id_);
  EXPECT_OK(manifests_.Put(id_, bytes_));
  EXPECT_EQ(Blob(id_), blob);
}

TEST_F(ManifestStoreTest, TellsMissingDamagedAndOutOfReachApart) {
  EXPECT_THAT(manifests_.Get(id_), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_OK(manifests_.Put(id_, bytes_));
  std::string blob = Blob(id_);
  blob.back() ^= 1;
  Replace(id_, blob);
  EXPECT_THAT(manifests_.Get(id_), StatusIs(absl::StatusCode::kDataLoss, "is damaged"));
  Replace(id_, std::string(64u << 20, 'x'));
  EXPECT_THAT(manifests_.Get(id_), StatusIs(absl::StatusCode::kDataLoss)) << "larger than any manifest";
  store_.AddFault({.operation = BlobOperation::kGet, .prefix = "snapshots/", .count = 100});
  store_.AddFault({.operation = BlobOperation::kStat, .prefix = "snapshots/", .count = 100});
  EXPECT_THAT(manifests_.Get(id_), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(ManifestStoreTest, TakesAnotherManifestUnderTheNameForDamage) {
  ASSERT_OK(manifests_.Put(id_, bytes_));
  ASSERT_OK(manifests_.Put(other_, other_bytes_));
  Replace(id_, Blob(other_));
  EXPECT_THAT(manifests_.Get(id_), StatusIs(absl::StatusCode::kDataLoss));
  // Sealed under this name, but not what the name says.
  Replace(id_, SealManifestBlob(other_bytes_, id_, Key(), PosixIo().random));
  EXPECT_THAT(manifests_.Get(id_), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ManifestStoreTest, SaysWhenItCannotPut) {
  store_.AddFault({.operation = BlobOperation::kPut, .prefix = "snapshots/"});
  EXPECT_THAT(manifests_.Put(id_, bytes_), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(manifests_.Get(id_), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ManifestStoreTest, ListsManifestsAndPassesOtherBlobsOver) {
  EXPECT_THAT(manifests_.List(), IsOkAndHolds(IsEmpty()));
  ASSERT_OK(manifests_.Put(id_, bytes_));
  ASSERT_OK(manifests_.Put(other_, other_bytes_));
  for (const char* name : {"snapshots/readme.txt", "snapshots/abcd", "log/1"}) {
    ASSERT_OK(PutBytes(blobs_, BlobName::FromTrusted(name), "x", PutMode::kIfAbsent));
  }
  EXPECT_THAT(manifests_.List(), IsOkAndHolds(UnorderedElementsAre(id_, other_)));
  store_.AddFault({.operation = BlobOperation::kList, .prefix = "snapshots/"});
  EXPECT_THAT(manifests_.List(), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace holdfast
