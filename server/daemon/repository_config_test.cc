#include "server/daemon/repository_config.h"

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

// 1, 2, 3, ...
class CountingRandom : public Random {
 public:
  void Fill(absl::Span<uint8_t> out) override {
    for (uint8_t& byte : out) byte = ++last_;
  }

 private:
  uint8_t last_ = 0;
};

Key256 Key(uint8_t first) {
  Key256 key;
  key.MutableBytes()[0] = first;
  return key;
}

RepositoryConfig Config(AeadAlgorithm aead = AeadAlgorithm::kAes256Gcm) {
  RepositoryConfig config;
  config.id.bytes.fill(7);
  config.aead = aead;
  config.catalog_key = Key(42);
  return config;
}

TEST(RepositoryConfigTest, GivesBackWhatWasEncoded) {
  CountingRandom random;
  for (AeadAlgorithm aead : {AeadAlgorithm::kAes256Gcm, AeadAlgorithm::kChaCha20Poly1305}) {
    auto config = DecodeRepositoryConfig(EncodeRepositoryConfig(Config(aead), Key(1), random), Key(1));
    ASSERT_OK(config);
    EXPECT_EQ(config->id, Config().id);
    EXPECT_EQ(config->aead, aead);
    EXPECT_TRUE(config->catalog_key == Config().catalog_key);
  }
}

TEST(RepositoryConfigTest, HasItsLayoutForEver) {
  CountingRandom random;
  const std::string bytes = EncodeRepositoryConfig(Config(), Key(1), random);
  EXPECT_EQ(HexEncode(bytes),
            "48465352565231"                    // magic
            "01"                                // version
            "07070707070707070707070707070707"  // repository id
            "01"                                // AEAD
            "0102030405060708090a0b0c"          // nonce
            // AES-256-GCM of the catalog key, and its tag
            "a91d74924326cf0089f6dbaabb69f8e9c1ecaa43d08cc6ed7ae22db3dcb3719f"
            "2e080b5310c9325a5e14daad74fcf44a");
}

TEST(RepositoryConfigTest, SealsTheCatalogKeyAnewEveryTime) {
  CountingRandom random;
  const std::string bytes = EncodeRepositoryConfig(Config(), Key(1), random);
  EXPECT_NE(EncodeRepositoryConfig(Config(), Key(1), random), bytes);
  EXPECT_EQ(bytes.find(Config().catalog_key.ExposeView()), std::string::npos);
}

TEST(RepositoryConfigTest, UnderAnotherServerKeyItIsDataLoss) {
  CountingRandom random;
  const std::string bytes = EncodeRepositoryConfig(Config(), Key(1), random);
  EXPECT_THAT(DecodeRepositoryConfig(bytes, Key(2)),
              StatusIs(absl::StatusCode::kDataLoss, "server.key is another server's"));
}

TEST(RepositoryConfigTest, CutAnywhereOrLongerItIsDataLoss) {
  CountingRandom random;
  const std::string bytes = EncodeRepositoryConfig(Config(), Key(1), random);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(DecodeRepositoryConfig(bytes.substr(0, size), Key(1)),
                StatusIs(absl::StatusCode::kDataLoss, "config is damaged"))
        << size;
  }
  EXPECT_THAT(DecodeRepositoryConfig(bytes + '\0', Key(1)), StatusIs(absl::StatusCode::kDataLoss, "config is damaged"));
}

TEST(RepositoryConfigTest, EveryFlippedBitIsDataLoss) {
  CountingRandom random;
  const std::string bytes = EncodeRepositoryConfig(Config(), Key(1), random);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_THAT(DecodeRepositoryConfig(damaged, Key(1)), StatusIs(absl::StatusCode::kDataLoss)) << bit;
  }
  // Still an AEAD that is known, but not the one that was sealed with the key.
  std::string damaged = bytes;
  damaged[24] = 2;
  EXPECT_THAT(DecodeRepositoryConfig(damaged, Key(1)), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(RepositoryConfigTest, AnotherVersionIsNamedAsThePossibleReason) {
  CountingRandom random;
  std::string bytes = EncodeRepositoryConfig(Config(), Key(1), random);
  for (const char version : {0, 2}) {
    bytes[7] = version;
    EXPECT_THAT(DecodeRepositoryConfig(bytes, Key(1)), StatusIs(absl::StatusCode::kDataLoss, "another version"));
  }
}

}  // namespace
}  // namespace holdfast
