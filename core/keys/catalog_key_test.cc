#include "core/keys/catalog_key.h"

#include <string>

#include "core/base/ids.h"
#include "core/crypto/kdf.h"
#include "core/crypto/types.h"
#include "core/keys/keys_testing.h"
#include "gtest/gtest.h"

namespace holdfast {
namespace {

const std::string kSalt(32, 0x55);

// The golden file has the keys of packs, index segments and log slots, and none of a stored manifest.
TEST(CatalogKey, OfAStoredManifestIsWhatTheFormatSays) {
  const auto repository = CountingId<RepositoryId>();
  const auto manifest = CountingId<ManifestId>(0x80);
  EXPECT_EQ(DeriveManifestBlobKey(RepeatedKey(0x33), kSalt, repository, manifest),
            Hkdf256(RepeatedKey(0x33).ExposeView(), kSalt,
                    "holdfast/1/manifest-blob" + std::string(repository.view()) + std::string(manifest.view())));
}

TEST(CatalogKey, OfAPackDependsOnEverythingThatItIsDerivedFrom) {
  const auto repository = CountingId<RepositoryId>();
  const auto pack = CountingId<PackId>();
  const Key256 key = DerivePackKey(RepeatedKey(1), kSalt, repository, pack, 1);
  EXPECT_EQ(key, DerivePackKey(RepeatedKey(1), kSalt, repository, pack, 1));
  EXPECT_FALSE(key == DerivePackKey(RepeatedKey(2), kSalt, repository, pack, 1));
  EXPECT_FALSE(key == DerivePackKey(RepeatedKey(1), std::string(32, 0x56), repository, pack, 1));
  EXPECT_FALSE(key == DerivePackKey(RepeatedKey(1), kSalt, CountingId<RepositoryId>(1), pack, 1));
  EXPECT_FALSE(key == DerivePackKey(RepeatedKey(1), kSalt, repository, CountingId<PackId>(1), 1));
  EXPECT_FALSE(key == DerivePackKey(RepeatedKey(1), kSalt, repository, pack, 2));
}

}  // namespace
}  // namespace holdfast
