#include "core/crypto/signature.h"

#include <cstdio>
#include <cstdlib>

#include "openssl/curve25519.h"

namespace holdfast {
namespace {

const uint8_t* Bytes(std::string_view s) { return reinterpret_cast<const uint8_t*>(s.data()); }

// BoringSSL's private key is the seed and the public key, one behind the other.
using PrivateKey = FixedSecret<struct Ed25519PrivateKeyTag, ED25519_PRIVATE_KEY_LEN>;

PrivateKey Expand(const SigningSeed& seed, VerifyingKey* public_key) {
  PrivateKey key;
  ED25519_keypair_from_seed(public_key->bytes.data(), key.MutableBytes(), seed.ExposeBytes());
  return key;
}

}  // namespace

VerifyingKey VerifyingKeyOf(const SigningSeed& seed) {
  VerifyingKey public_key;
  Expand(seed, &public_key);
  return public_key;
}

Ed25519Signature Ed25519Sign(const SigningSeed& seed, std::string_view message) {
  VerifyingKey public_key;
  const PrivateKey key = Expand(seed, &public_key);
  Ed25519Signature signature;
  if (ED25519_sign(signature.data(), Bytes(message), message.size(), key.ExposeBytes()) != 1) {
    std::fprintf(stderr, "holdfast: signing failed\n");  // cannot be: it allocates nothing
    std::abort();
  }
  return signature;
}

bool Ed25519Verify(const VerifyingKey& key, std::string_view message, std::string_view signature) {
  return signature.size() == ED25519_SIGNATURE_LEN &&
         ED25519_verify(Bytes(message), message.size(), Bytes(signature), key.bytes.data()) == 1;
}

}  // namespace holdfast
