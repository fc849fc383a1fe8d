// Published vectors (RFC 8032, section 7.1), and what is no signature.
#include "core/crypto/signature.h"

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

std::string Unhex(std::string_view hex) { return *HexDecode(hex); }
SigningSeed Seed(std::string_view hex) { return SigningSeed(reinterpret_cast<const uint8_t*>(Unhex(hex).data())); }
std::string_view View(const Ed25519Signature& s) { return {reinterpret_cast<const char*>(s.data()), s.size()}; }

struct Vector {
  const char *name, *seed, *key, *message, *signature;
};
const Vector kVectors[] = {
    {"1", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
     "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
     "655141438e7a100b"},
    {"2", "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
     "b00d291612bb0c00"},
};

TEST(Signature, AgreesWithThePublishedVectors) {
  for (const Vector& v : kVectors) {
    SCOPED_TRACE(v.name);
    const SigningSeed seed = Seed(v.seed);
    EXPECT_EQ(HexEncode(VerifyingKeyOf(seed).view()), v.key);
    const Ed25519Signature signature = Ed25519Sign(seed, Unhex(v.message));
    EXPECT_EQ(HexEncode(View(signature)), v.signature);
    EXPECT_TRUE(Ed25519Verify(VerifyingKeyOf(seed), Unhex(v.message), View(signature)));
  }
}

TEST(Signature, OfAnotherMessageKeyOrLengthIsRefused) {
  const SigningSeed seed = Seed(kVectors[0].seed);
  const VerifyingKey key = VerifyingKeyOf(seed);
  const std::string good(View(Ed25519Sign(seed, "message")));
  ASSERT_TRUE(Ed25519Verify(key, "message", good));
  EXPECT_FALSE(Ed25519Verify(key, "messagf", good));
  EXPECT_FALSE(Ed25519Verify(key, "", good));
  EXPECT_FALSE(Ed25519Verify(VerifyingKeyOf(Seed(kVectors[1].seed)), "message", good));
  EXPECT_FALSE(Ed25519Verify(VerifyingKey(), "message", good));
  EXPECT_FALSE(Ed25519Verify(key, "message", ""));
  EXPECT_FALSE(Ed25519Verify(key, "message", good.substr(0, 63)));
  EXPECT_FALSE(Ed25519Verify(key, "message", good + '\0'));
  EXPECT_FALSE(Ed25519Verify(key, "message", std::string(64, '\0')));
}

TEST(Signature, WithOneBitChangedIsRefused) {
  const SigningSeed seed = Seed(kVectors[0].seed);
  std::string signature(View(Ed25519Sign(seed, "message")));
  for (size_t bit = 0; bit < signature.size() * 8; ++bit) {
    signature[bit / 8] ^= 1 << (bit % 8);
    EXPECT_FALSE(Ed25519Verify(VerifyingKeyOf(seed), "message", signature)) << bit;
    signature[bit / 8] ^= 1 << (bit % 8);
  }
}

// Whoever could add the group's order to S would have a second signature of the same message.
TEST(Signature, WithALargerSThanTheOrderIsRefused) {
  const std::string order = Unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
  const SigningSeed seed = Seed(kVectors[0].seed);
  std::string signature(View(Ed25519Sign(seed, "message")));
  int carry = 0;
  for (size_t i = 0; i < 32; ++i) {
    carry += static_cast<uint8_t>(signature[32 + i]) + static_cast<uint8_t>(order[i]);
    signature[32 + i] = static_cast<char>(carry & 0xff);
    carry >>= 8;
  }
  EXPECT_FALSE(Ed25519Verify(VerifyingKeyOf(seed), "message", signature));
}

}  // namespace
}  // namespace holdfast
