// Published vectors of every primitive, and damage.
#include <fstream>
#include <sstream>

#include "core/base/status_testing.h"
#include "core/crypto/aead.h"
#include "core/crypto/aes128.h"
#include "core/crypto/blake3.h"
#include "core/crypto/kdf.h"

namespace holdfast {
namespace {

std::string Unhex(std::string_view hex) { return *HexDecode(hex); }
Key256 Key(std::string_view bytes) {
  Key256 key;  // shorter ones are padded with zeros, as HMAC does by definition
  std::memcpy(key.MutableBytes(), bytes.data(), std::min<size_t>(bytes.size(), 32));
  return key;
}
template <typename T>
std::string Hex(const T& bytes) {
  return HexEncode({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

struct AeadVector {
  const char* source;
  AeadAlgorithm algorithm;
  const char *key, *nonce, *aad, *in, *out;
};
const AeadVector kAeadVectors[] = {
    {"GCM specification (McGrew, Viega) 13", AeadAlgorithm::kAes256Gcm,
     "0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "", "",
     "530f8afbc74536b9a963b4f1c4cb738b"},
    {"GCM specification 14", AeadAlgorithm::kAes256Gcm,
     "0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "",
     "00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"},
    {"GCM specification 15", AeadAlgorithm::kAes256Gcm,
     "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888", "",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
     "b094dac5d93471bdec1a502270e3cc6c"},
    {"GCM specification 16", AeadAlgorithm::kAes256Gcm,
     "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
     "76fc6ece0f4e1768cddf8853bb2d551b"},
    {"NIST CAVP gcmEncryptExtIV256", AeadAlgorithm::kAes256Gcm,
     "73ad7bbbbc640c845a150f67d058b279849370cd2c1f3c67c4dd6c869213e13a", "a330a184fc245812f4820caa", "e91428be04",
     "f0535fe211", "e9b8a896da9115ed79f26a030c14947b3e454db9e7"},
    {"RFC 8439, 2.8.2", AeadAlgorithm::kChaCha20Poly1305,
     "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647",
     "50515253c0c1c2c3c4c5c6c7",
     "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966204920636f"
     "756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e736372"
     "65656e20776f756c642062652069742e",
     "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a"
     "71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4"
     "def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"},
};

AeadNonce Nonce(std::string_view bytes) {
  AeadNonce nonce;
  std::memcpy(nonce.data(), bytes.data(), nonce.size());
  return nonce;
}

TEST(Aead, AgreesWithPublishedVectors) {
  for (const AeadVector& v : kAeadVectors) {
    SCOPED_TRACE(v.source);
    Aead aead(v.algorithm, Key(Unhex(v.key)));
    AeadNonce nonce = Nonce(Unhex(v.nonce));
    std::string sealed = aead.Seal(nonce, Unhex(v.aad), Unhex(v.in));
    EXPECT_EQ(HexEncode(sealed), v.out);
    EXPECT_THAT(aead.Open(nonce, Unhex(v.aad), sealed), IsOkAndHolds(Unhex(v.in)));
  }
}

TEST(Aead, WorksInPlace) {
  for (const AeadVector& v : kAeadVectors) {
    SCOPED_TRACE(v.source);
    Aead aead(v.algorithm, Key(Unhex(v.key)));
    std::string buffer = Unhex(v.in);
    size_t size = buffer.size();
    buffer.resize(size + kAeadTagSizeInBytes);
    aead.Seal(Nonce(Unhex(v.nonce)), Unhex(v.aad), {buffer.data(), size}, buffer.data());
    EXPECT_EQ(HexEncode(buffer), v.out);
    ASSERT_TRUE(aead.Open(Nonce(Unhex(v.nonce)), Unhex(v.aad), buffer, buffer.data()));
    EXPECT_EQ(HexEncode(buffer.substr(0, size)), v.in);
  }
}

class EachAead : public ::testing::TestWithParam<AeadAlgorithm> {};
INSTANTIATE_TEST_SUITE_P(, EachAead, ::testing::Values(AeadAlgorithm::kAes256Gcm, AeadAlgorithm::kChaCha20Poly1305));

TEST_P(EachAead, RefusesEveryFlippedBit) {
  std::string aad = "header", nonce_bytes = "twelve bytes", key_bytes(32, 'k');
  std::string sealed = Aead(GetParam(), Key(key_bytes)).Seal(Nonce(nonce_bytes), aad, "a small message");
  for (std::string* part : {&sealed, &aad, &nonce_bytes, &key_bytes}) {
    for (size_t bit = 0; bit < part->size() * 8; ++bit) {
      (*part)[bit / 8] ^= 1 << (bit % 8);
      EXPECT_THAT(Aead(GetParam(), Key(key_bytes)).Open(Nonce(nonce_bytes), aad, sealed),
                  StatusIs(absl::StatusCode::kDataLoss))
          << "bit " << bit;
      (*part)[bit / 8] ^= 1 << (bit % 8);
    }
  }
  EXPECT_THAT(Aead(GetParam(), Key(key_bytes)).Open(Nonce(nonce_bytes), aad, sealed),
              IsOkAndHolds(std::string("a small message")));
}

TEST_P(EachAead, RefusesEveryTruncationAndAnExtraByte) {
  Aead aead(GetParam(), Key("k"));
  std::string sealed = aead.Seal(AeadNonce{}, "", "a small message");
  for (size_t n = 0; n < sealed.size(); ++n) {
    EXPECT_THAT(aead.Open(AeadNonce{}, "", sealed.substr(0, n)), StatusIs(absl::StatusCode::kDataLoss)) << n;
  }
  EXPECT_THAT(aead.Open(AeadNonce{}, "", sealed + '\0'), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_P(EachAead, WritesExactlyThePlaintextWhenOpening) {
  Aead aead(GetParam(), Key("k"));
  std::string sealed = aead.Seal(AeadNonce{}, "", "message");
  std::string out = "........guard";
  ASSERT_TRUE(aead.Open(AeadNonce{}, "", sealed, out.data()));
  EXPECT_EQ(out, "message.guard");
}

TEST(Aead, KnowsItsAlgorithms) {
  EXPECT_TRUE(IsKnownAead(1));
  EXPECT_TRUE(IsKnownAead(2));
  EXPECT_FALSE(IsKnownAead(0));
  EXPECT_FALSE(IsKnownAead(3));
  EXPECT_FALSE(IsKnownAead(255));
}

TEST(Blake3, AgreesWithTheOfficialVectors) {
  std::ifstream file("core/crypto/testdata/blake3.txt");
  Key256 key = Key("whats the Elvish word for friend");
  int cases = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    size_t length = 0;
    std::string hash, keyed;
    fields >> length >> hash >> keyed;
    SCOPED_TRACE(length);
    std::string input(length, '\0');
    for (size_t i = 0; i < length; ++i) input[i] = static_cast<char>(i % 251);
    std::array<uint8_t, 64> out;
    Blake3().Update(input).Finish(out.data(), out.size());
    EXPECT_EQ(Hex(out), hash);
    Blake3(key).Update(input).Finish(out.data(), out.size());
    EXPECT_EQ(Hex(out), keyed);
    EXPECT_EQ(HexEncode(Blake3Digest(input).view()), hash.substr(0, 64));
    uint64_t prf;
    std::memcpy(&prf, out.data(), 8);
    EXPECT_EQ(Blake3Prf64(key, input), prf);

    Blake3 pieces;
    for (size_t at = 0; at < length; at += 777) pieces.Update(std::string_view(input).substr(at, 777));
    Blake3 copy = pieces;
    copy.Update("more");
    EXPECT_EQ(pieces.Finish(), Blake3Digest(input)) << "a copy goes its own way";
    EXPECT_EQ(copy.Finish(), Blake3Digest(input + "more"));
    ++cases;
  }
  EXPECT_EQ(cases, 10);
}

TEST(Aes128, AgreesWithFips197) {
  Key128 key(reinterpret_cast<const uint8_t*>(Unhex("000102030405060708090a0b0c0d0e0f").data()));
  std::string block = Unhex("00112233445566778899aabbccddeeff");
  auto* bytes = reinterpret_cast<uint8_t*>(block.data());
  Aes128(key).EncryptBlock(bytes, bytes);
  EXPECT_EQ(HexEncode(block), "69c4e0d86a7b0430d8cdb78070b4c55a");
}

TEST(Hkdf, AgreesWithRfc5869) {
  std::string ikm(22, 0x0b);
  EXPECT_EQ(HexEncode(Hkdf256(ikm, Unhex("000102030405060708090a0b0c"), Unhex("f0f1f2f3f4f5f6f7f8f9")).ExposeView()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
  EXPECT_EQ(HexEncode(Hkdf128(ikm, Unhex("000102030405060708090a0b0c"), Unhex("f0f1f2f3f4f5f6f7f8f9")).ExposeView()),
            "3cb25f25faacd57a90434f64d0362f2a");
  std::string long_ikm, long_salt, long_info;
  for (int i = 0; i < 80; ++i) {
    long_ikm += static_cast<char>(i);
    long_salt += static_cast<char>(0x60 + i);
    long_info += static_cast<char>(0xb0 + i);
  }
  EXPECT_EQ(HexEncode(Hkdf256(long_ikm, long_salt, long_info).ExposeView()),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c");
  EXPECT_EQ(HexEncode(Hkdf256(ikm, "", "").ExposeView()),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
}

TEST(Hmac, AgreesWithRfc4231) {
  EXPECT_EQ(Hex(HmacSha256(Key(std::string(20, 0x0b)), "Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(Hex(HmacSha256(Key("Jefe"), "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(EqualInConstantTime, ComparesLengthAndContent) {
  EXPECT_TRUE(EqualInConstantTime("", ""));
  EXPECT_TRUE(EqualInConstantTime("abc", "abc"));
  EXPECT_FALSE(EqualInConstantTime("abc", "abd"));
  EXPECT_FALSE(EqualInConstantTime("abc", "ab"));
}

// RFC 9106 has a vector with four lanes only. These come from an implementation that shares no code with libargon2:
// OpenSSL's, through Python's `cryptography` 48.
TEST(Argon2id, AgreesWithAnIndependentImplementation) {
  std::string salt = Unhex("000102030405060708090a0b0c0d0e0f");
  struct {
    Argon2Params params;
    const char* out;
  } cases[] = {
      {{19 * 1024, 1},
       "9e2ed5d8c7c13436ef157d807a4b771b23e91c9fdc300876a42251786b3b71db"
       "df360e8b771b3448f0003c5915dabddeeeb8d9579bcfd63058e992b56b609f51"},
      {{64 * 1024, 3},
       "f583c66eb0c983f6be0f1801d34580dba6ce391a35def61fed043c365dc37c52"
       "f1c2815097615f218797ed574c7084ed21fd2609b8d0b3706bffd4dec7e6aeb8"},
      {{19 * 1024, 16},
       "1192ebc5a5c119d1d88edaf34f03f1ffecca6d1abf7e74ca384e76bc8b1fd327"
       "8322599d6f62604b3bab2e31fd64c0c4b0b9b180034900794c110063830f3e88"},
  };
  for (const auto& c : cases) {
    ASSERT_OK_AND_ASSIGN(Key512 out, Argon2id("correct horse battery staple", salt, c.params));
    EXPECT_EQ(HexEncode(out.ExposeView()), c.out);
  }
}

TEST(Argon2id, RefusesParametersOutsideOfTheLimits) {
  std::string salt(16, 's');
  for (Argon2Params params :
       {Argon2Params{19 * 1024 - 1, 1}, Argon2Params{1024 * 1024 + 1, 1}, Argon2Params{19 * 1024, 0},
        Argon2Params{19 * 1024, 17}, Argon2Params{0, 0}, Argon2Params{UINT32_MAX, UINT32_MAX}}) {
    EXPECT_THAT(Argon2id("p", salt, params), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(Argon2id("p", "short salt", {}), StatusIs(absl::StatusCode::kInvalidArgument, "salt"));
}

}  // namespace
}  // namespace holdfast
