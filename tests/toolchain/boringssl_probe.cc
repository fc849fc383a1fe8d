#include "tests/toolchain/boringssl_probe.h"

#include <blake3.h>
#include <openssl/aead.h>
#include <openssl/aes.h>
#include <openssl/crypto.h>
#include <openssl/curve25519.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/hkdf.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#ifndef OPENSSL_IS_BORINGSSL
#error "these must be BoringSSL's headers, not OpenSSL's"
#endif

namespace holdfast::toolchain {
namespace {

std::string Hex(const uint8_t* bytes, size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (size_t i = 0; i < size; ++i) {
    hex += kDigits[bytes[i] >> 4];
    hex += kDigits[bytes[i] & 15];
  }
  return hex;
}

// Seals, opens, and sees that a flipped bit is refused.
bool AeadWorks(const EVP_AEAD* aead) {
  std::vector<uint8_t> key(EVP_AEAD_key_length(aead));
  std::vector<uint8_t> nonce(EVP_AEAD_nonce_length(aead));
  RAND_bytes(key.data(), key.size());
  RAND_bytes(nonce.data(), nonce.size());
  const std::string_view text = "what is written is what comes back";
  const auto* plain = reinterpret_cast<const uint8_t*>(text.data());

  EVP_AEAD_CTX ctx;
  if (!EVP_AEAD_CTX_init(&ctx, aead, key.data(), key.size(), EVP_AEAD_DEFAULT_TAG_LENGTH, nullptr)) {
    return false;
  }
  std::vector<uint8_t> sealed(text.size() + EVP_AEAD_max_overhead(aead));
  size_t sealed_size = 0;
  bool good = EVP_AEAD_CTX_seal(&ctx, sealed.data(), &sealed_size, sealed.size(), nonce.data(), nonce.size(), plain,
                                text.size(), nullptr, 0);
  std::vector<uint8_t> opened(sealed_size);
  size_t opened_size = 0;
  good = good && EVP_AEAD_CTX_open(&ctx, opened.data(), &opened_size, opened.size(), nonce.data(), nonce.size(),
                                   sealed.data(), sealed_size, nullptr, 0);
  good = good && std::string_view(reinterpret_cast<char*>(opened.data()), opened_size) == text;
  sealed[3] ^= 1;
  good = good && !EVP_AEAD_CTX_open(&ctx, opened.data(), &opened_size, opened.size(), nonce.data(), nonce.size(),
                                    sealed.data(), sealed_size, nullptr, 0);
  ERR_clear_error();
  EVP_AEAD_CTX_cleanup(&ctx);
  return good;
}

// Test case 14 of the GCM specification, as submitted to NIST.
bool AesGcmMatchesNist() {
  const std::vector<uint8_t> key(32, 0);
  const std::vector<uint8_t> nonce(12, 0);
  const std::vector<uint8_t> plain(16, 0);
  EVP_AEAD_CTX* ctx = EVP_AEAD_CTX_new(EVP_aead_aes_256_gcm(), key.data(), key.size(), 16);
  std::vector<uint8_t> sealed(32);
  size_t size = 0;
  EVP_AEAD_CTX_seal(ctx, sealed.data(), &size, sealed.size(), nonce.data(), nonce.size(), plain.data(), plain.size(),
                    nullptr, 0);
  EVP_AEAD_CTX_free(ctx);
  return Hex(sealed.data(), size) ==
         "cea7403d4d606b6e074ec5d3baf39d18"
         "d0d1c8a799996bf0265b98b5d48ab919";
}

// FIPS 197, appendix C.3.
bool AesBlockMatchesFips197() {
  uint8_t key[32];
  uint8_t block[16];
  for (int i = 0; i < 32; ++i) key[i] = i;
  for (int i = 0; i < 16; ++i) block[i] = i * 0x11;
  AES_KEY schedule;
  AES_set_encrypt_key(key, 256, &schedule);
  AES_encrypt(block, block, &schedule);
  return Hex(block, 16) == "8ea2b7ca516745bfeafc49904b496089";
}

// RFC 5869, appendix A.1.
bool HkdfMatchesRfc5869() {
  const std::vector<uint8_t> ikm(22, 0x0b);
  std::vector<uint8_t> salt, info;
  for (int i = 0; i < 13; ++i) salt.push_back(i);
  for (int i = 0; i < 10; ++i) info.push_back(0xf0 + i);
  uint8_t okm[42];
  HKDF(okm, sizeof(okm), EVP_sha256(), ikm.data(), ikm.size(), salt.data(), salt.size(), info.data(), info.size());
  return Hex(okm, sizeof(okm)) ==
         "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
}

// FIPS 180-4 example; RFC 4231, test case 2.
bool Sha256AndHmacMatch() {
  uint8_t digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const uint8_t*>("abc"), 3, digest);
  if (Hex(digest, sizeof(digest)) != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") {
    return false;
  }
  unsigned int size = 0;
  const std::string_view data = "what do ya want for nothing?";
  HMAC(EVP_sha256(), "Jefe", 4, reinterpret_cast<const uint8_t*>(data.data()), data.size(), digest, &size);
  return Hex(digest, size) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
}

bool Ed25519Works() {
  uint8_t public_key[32], private_key[64], signature[64];
  ED25519_keypair(public_key, private_key);
  const auto* message = reinterpret_cast<const uint8_t*>("signed");
  if (!ED25519_sign(signature, message, 6, private_key)) return false;
  if (!ED25519_verify(message, 6, signature, public_key)) return false;
  signature[0] ^= 1;
  return !ED25519_verify(message, 6, signature, public_key);
}

bool X25519Works() {
  uint8_t public_a[32], private_a[32], public_b[32], private_b[32], shared_a[32], shared_b[32];
  X25519_keypair(public_a, private_a);
  X25519_keypair(public_b, private_b);
  return X25519(shared_a, private_a, public_b) && X25519(shared_b, private_b, public_a) &&
         CRYPTO_memcmp(shared_a, shared_b, 32) == 0;
}

// The official test vectors: no input, hash.
bool Blake3Matches() {
  blake3_hasher hasher;
  blake3_hasher_init(&hasher);
  uint8_t digest[BLAKE3_OUT_LEN];
  blake3_hasher_finalize(&hasher, digest, sizeof(digest));
  return Hex(digest, sizeof(digest)) == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
}

}  // namespace

std::string ProbeBoringSsl() {
  CRYPTO_library_init();
  if (!AeadWorks(EVP_aead_aes_256_gcm())) return "AES-256-GCM";
  if (!AeadWorks(EVP_aead_chacha20_poly1305())) return "ChaCha20-Poly1305";
  if (!AesGcmMatchesNist()) return "AES-256-GCM test vector";
  if (!AesBlockMatchesFips197()) return "AES test vector";
  if (!HkdfMatchesRfc5869()) return "HKDF test vector";
  if (!Sha256AndHmacMatch()) return "SHA-256 or HMAC test vector";
  if (!Ed25519Works()) return "Ed25519";
  if (!X25519Works()) return "X25519";
  if (!Blake3Matches()) return "BLAKE3 test vector";
  return "";
}

}  // namespace holdfast::toolchain
