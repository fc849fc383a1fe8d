#include "core/crypto/hpke.h"

#include <vector>

#include "openssl/curve25519.h"
#include "openssl/err.h"
#include "openssl/hpke.h"

namespace holdfast {
namespace {

const uint8_t* Bytes(std::string_view s) { return reinterpret_cast<const uint8_t*>(s.data()); }

// Wipes itself: both hold key bytes.
class Context {
 public:
  Context() { EVP_HPKE_CTX_zero(&context_); }
  ~Context() {
    EVP_HPKE_CTX_cleanup(&context_);
    WipeMemory(&context_, sizeof(context_));
  }
  EVP_HPKE_CTX* get() { return &context_; }

 private:
  EVP_HPKE_CTX context_;
};

class Recipient {
 public:
  Recipient() { EVP_HPKE_KEY_zero(&key_); }
  ~Recipient() {
    EVP_HPKE_KEY_cleanup(&key_);
    WipeMemory(&key_, sizeof(key_));
  }
  EVP_HPKE_KEY* get() { return &key_; }

 private:
  EVP_HPKE_KEY key_;
};

}  // namespace

KemPublicKey KemPublicKeyOf(const KemPrivateKey& key) {
  KemPublicKey public_key;
  X25519_public_from_private(public_key.bytes.data(), key.ExposeBytes());
  return public_key;
}

absl::StatusOr<HpkeMessage> HpkeSeal(const KemPublicKey& key, std::string_view info, std::string_view aad,
                                     std::string_view plaintext) {
  Context context;
  uint8_t encapsulated[EVP_HPKE_MAX_ENC_LENGTH];
  size_t encapsulated_size = 0;
  if (EVP_HPKE_CTX_setup_sender(context.get(), encapsulated, &encapsulated_size, sizeof(encapsulated),
                                EVP_hpke_x25519_hkdf_sha256(), EVP_hpke_hkdf_sha256(), EVP_hpke_aes_256_gcm(),
                                key.bytes.data(), key.bytes.size(), Bytes(info), info.size()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError("hpke: not a usable public key");
  }
  HpkeMessage message;
  message.encapsulated.assign(reinterpret_cast<const char*>(encapsulated), encapsulated_size);
  message.ciphertext.resize(plaintext.size() + EVP_HPKE_CTX_max_overhead(context.get()));
  size_t written = 0;
  if (EVP_HPKE_CTX_seal(context.get(), reinterpret_cast<uint8_t*>(message.ciphertext.data()), &written,
                        message.ciphertext.size(), Bytes(plaintext), plaintext.size(), Bytes(aad), aad.size()) != 1) {
    ERR_clear_error();
    return absl::InternalError("hpke: sealing failed");
  }
  message.ciphertext.resize(written);
  return message;
}

absl::StatusOr<SecretString> HpkeOpen(const KemPrivateKey& key, std::string_view info, std::string_view aad,
                                      const HpkeMessage& message) {
  const auto failed = [] {
    ERR_clear_error();
    return absl::DataLossError("hpke: was not sealed to this key, or is damaged");
  };
  Recipient recipient;
  Context context;
  if (EVP_HPKE_KEY_init(recipient.get(), EVP_hpke_x25519_hkdf_sha256(), key.ExposeBytes(),
                        KemPrivateKey::kSizeInBytes) != 1) {
    return failed();
  }
  if (EVP_HPKE_CTX_setup_recipient(context.get(), recipient.get(), EVP_hpke_hkdf_sha256(), EVP_hpke_aes_256_gcm(),
                                   Bytes(message.encapsulated), message.encapsulated.size(), Bytes(info),
                                   info.size()) != 1) {
    return failed();
  }
  std::string plaintext(message.ciphertext.size(), '\0');
  size_t written = 0;
  const bool opened =
      EVP_HPKE_CTX_open(context.get(), reinterpret_cast<uint8_t*>(plaintext.data()), &written, plaintext.size(),
                        Bytes(message.ciphertext), message.ciphertext.size(), Bytes(aad), aad.size()) == 1;
  if (!opened) return failed();
  SecretString result(std::string_view(plaintext).substr(0, written));
  WipeMemory(plaintext.data(), plaintext.size());
  return result;
}

}  // namespace holdfast
