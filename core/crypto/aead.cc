#include "core/crypto/aead.h"

#include <cstdio>
#include <cstdlib>

#include "openssl/aead.h"
#include "openssl/err.h"

namespace holdfast {
namespace {

const uint8_t* Bytes(std::string_view s) { return reinterpret_cast<const uint8_t*>(s.data()); }

const EVP_AEAD* Algorithm(AeadAlgorithm algorithm) {
  switch (algorithm) {
    case AeadAlgorithm::kAes256Gcm:
      return EVP_aead_aes_256_gcm();
    case AeadAlgorithm::kChaCha20Poly1305:
      return EVP_aead_chacha20_poly1305();
  }
  return nullptr;
}

// Only a bug of ours or of the library gets here: going on would write bytes that nobody can open.
[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "holdfast: aead: %s\n", what);
  std::abort();
}

}  // namespace

bool IsKnownAead(uint8_t algorithm) { return Algorithm(static_cast<AeadAlgorithm>(algorithm)) != nullptr; }

struct Aead::Impl {
  EVP_AEAD_CTX context;  // holds the key schedule; wiped by ~Aead
};

Aead::Aead(AeadAlgorithm algorithm, const Key256& key) : impl_(std::make_unique<Impl>()) {
  const EVP_AEAD* aead = Algorithm(algorithm);
  if (aead == nullptr) Die("unknown algorithm");
  if (EVP_AEAD_CTX_init(&impl_->context, aead, key.ExposeBytes(), Key256::kSizeInBytes, kAeadTagSizeInBytes, nullptr) !=
      1) {
    Die("context initialisation failed");
  }
}

Aead::~Aead() {
  EVP_AEAD_CTX_cleanup(&impl_->context);
  // AES-GCM keeps its schedule inside the context, which the cleanup does not overwrite.
  WipeMemory(&impl_->context, sizeof(impl_->context));
}

void Aead::Seal(const AeadNonce& nonce, std::string_view aad, std::string_view in, char* out) const {
  size_t written = 0;
  if (EVP_AEAD_CTX_seal(&impl_->context, reinterpret_cast<uint8_t*>(out), &written, in.size() + kAeadTagSizeInBytes,
                        nonce.data(), nonce.size(), Bytes(in), in.size(), Bytes(aad), aad.size()) != 1 ||
      written != in.size() + kAeadTagSizeInBytes) {
    Die("sealing failed");
  }
}

bool Aead::Open(const AeadNonce& nonce, std::string_view aad, std::string_view in, char* out) const {
  if (in.size() < kAeadTagSizeInBytes) return false;
  size_t size = in.size() - kAeadTagSizeInBytes;
  // The open-gather interface writes exactly `size` bytes; the plain one wants room for the tag as well.
  if (EVP_AEAD_CTX_open_gather(&impl_->context, reinterpret_cast<uint8_t*>(out), nonce.data(), nonce.size(), Bytes(in),
                               size, Bytes(in) + size, kAeadTagSizeInBytes, Bytes(aad), aad.size()) != 1) {
    ERR_clear_error();  // the library keeps a per-thread queue of failures
    return false;
  }
  return true;
}

std::string Aead::Seal(const AeadNonce& nonce, std::string_view aad, std::string_view in) const {
  std::string out(in.size() + kAeadTagSizeInBytes, '\0');
  Seal(nonce, aad, in, out.data());
  return out;
}

absl::StatusOr<std::string> Aead::Open(const AeadNonce& nonce, std::string_view aad, std::string_view in) const {
  if (in.size() < kAeadTagSizeInBytes) {
    return absl::DataLossError("sealed bytes are shorter than an authentication tag");
  }
  std::string out(in.size() - kAeadTagSizeInBytes, '\0');
  if (!Open(nonce, aad, in, out.data())) {
    return absl::DataLossError("sealed bytes do not authenticate");
  }
  return out;
}

}  // namespace holdfast
