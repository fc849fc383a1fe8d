// A published vector (the test vectors of RFC 9180: base mode, X25519, HKDF-SHA256, AES-256-GCM), and damage.
#include "core/crypto/hpke.h"

#include "core/base/status_testing.h"

namespace holdfast {
namespace {

std::string Unhex(std::string_view hex) { return *HexDecode(hex); }
KemPrivateKey Private(std::string_view bytes) { return KemPrivateKey(reinterpret_cast<const uint8_t*>(bytes.data())); }
KemPrivateKey SomeKey(char c = 'k') { return Private(std::string(32, c)); }

TEST(Hpke, OpensThePublishedVector) {
  const KemPrivateKey key = Private(Unhex("497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d"));
  EXPECT_EQ(HexEncode(KemPublicKeyOf(key).view()), "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c");
  const HpkeMessage message = {
      Unhex("6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256"),
      Unhex("e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a")};
  absl::StatusOr<SecretString> opened =
      HpkeOpen(key, Unhex("4f6465206f6e2061204772656369616e2055726e"), Unhex("436f756e742d30"), message);
  ASSERT_OK(opened.status());
  EXPECT_EQ(opened->ExposeView(), "Beauty is truth, truth beauty");
}

TEST(Hpke, OpensWhatWasSealedToTheKey) {
  for (const size_t size : {0, 1, 1000, 100'000}) {
    const std::string text(size, 'x');
    absl::StatusOr<HpkeMessage> message = HpkeSeal(KemPublicKeyOf(SomeKey()), "info", "aad", text);
    ASSERT_OK(message.status());
    EXPECT_EQ(message->encapsulated.size(), 32u);
    EXPECT_EQ(message->ciphertext.size(), size + 16);
    absl::StatusOr<SecretString> opened = HpkeOpen(SomeKey(), "info", "aad", *message);
    ASSERT_OK(opened.status());
    EXPECT_EQ(opened->ExposeView(), text);
  }
}

TEST(Hpke, SealsTheSameTextDifferentlyEachTime) {
  const KemPublicKey key = KemPublicKeyOf(SomeKey());
  const HpkeMessage a = *HpkeSeal(key, "", "", "text"), b = *HpkeSeal(key, "", "", "text");
  EXPECT_NE(a.encapsulated, b.encapsulated);
  EXPECT_NE(a.ciphertext, b.ciphertext);
}

TEST(Hpke, OpensNothingWithAnotherKeyInfoOrAssociatedData) {
  const HpkeMessage message = *HpkeSeal(KemPublicKeyOf(SomeKey()), "info", "aad", "text");
  EXPECT_TRUE(absl::IsDataLoss(HpkeOpen(SomeKey('l'), "info", "aad", message).status()));
  EXPECT_TRUE(absl::IsDataLoss(HpkeOpen(SomeKey(), "infp", "aad", message).status()));
  EXPECT_TRUE(absl::IsDataLoss(HpkeOpen(SomeKey(), "info", "aae", message).status()));
}

TEST(Hpke, OpensNothingThatIsDamaged) {
  const HpkeMessage good = *HpkeSeal(KemPublicKeyOf(SomeKey()), "info", "aad", "text");
  for (size_t i = 0; i < 32; ++i) {
    HpkeMessage bad = good;
    bad.encapsulated[i] ^= 1;
    EXPECT_TRUE(absl::IsDataLoss(HpkeOpen(SomeKey(), "info", "aad", bad).status())) << i;
  }
  for (size_t i = 0; i < good.ciphertext.size(); ++i) {
    HpkeMessage bad = good;
    bad.ciphertext[i] ^= 1;
    EXPECT_TRUE(absl::IsDataLoss(HpkeOpen(SomeKey(), "info", "aad", bad).status())) << i;
  }
  for (const size_t size : {0, 15, 19}) {
    HpkeMessage bad = good;
    bad.ciphertext.resize(size);
    EXPECT_TRUE(absl::IsDataLoss(HpkeOpen(SomeKey(), "info", "aad", bad).status())) << size;
  }
  for (const size_t size : {0, 31, 33}) {
    HpkeMessage bad = good;
    bad.encapsulated.resize(size);
    EXPECT_TRUE(absl::IsDataLoss(HpkeOpen(SomeKey(), "info", "aad", bad).status())) << size;
  }
}

TEST(Hpke, SealsToNoPointOfLowOrder) {
  EXPECT_TRUE(absl::IsInvalidArgument(HpkeSeal(KemPublicKey(), "info", "aad", "text").status()));
}

}  // namespace
}  // namespace holdfast
