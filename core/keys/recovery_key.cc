#include "core/keys/recovery_key.h"

#include <array>
#include <cstdint>
#include <cstring>

#include "core/crypto/blake3.h"

namespace holdfast {
namespace {

// Crockford's base 32: no I, L, O, U.
constexpr char kAlphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr size_t kRandomBytes = 20;
constexpr size_t kChecksumBytes = 2;
constexpr size_t kBytes = kRandomBytes + kChecksumBytes;  // 176 bits, then 4 zero bits
static_assert((kBytes * 8 + 4) / 5 == kRecoveryKeyCharacters);

// The value of a character, 32 for a separator, -1 for none.
int Value(char c) {
  if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  if (c == ' ' || c == '-' || c == '\t' || c == '\n' || c == '\r') return 32;
  if (c == 'I' || c == 'L') return 1;
  if (c == 'O') return 0;
  const char* at = c == '\0' ? nullptr : std::strchr(kAlphabet, c);
  return at == nullptr ? -1 : static_cast<int>(at - kAlphabet);
}

// Wipes a local buffer on every way out.
template <typename T>
struct Wiped {
  T value{};
  ~Wiped() { WipeMemory(&value, sizeof(value)); }
};

}  // namespace

SecretString GenerateRecoveryKey(Random& random) {
  Wiped<std::array<uint8_t, kBytes + 1>> bytes;  // the last byte stays 0
  random.Fill(absl::MakeSpan(bytes.value).subspan(0, kRandomBytes));
  Digest digest = Blake3Digest({reinterpret_cast<const char*>(bytes.value.data()), kRandomBytes});
  std::memcpy(bytes.value.data() + kRandomBytes, digest.bytes.data(), kChecksumBytes);

  Wiped<std::array<char, kRecoveryKeyCharacters>> text;
  for (size_t i = 0; i < kRecoveryKeyCharacters; ++i) {
    size_t bit = i * 5;  // most significant bit first
    unsigned window = bytes.value[bit / 8] << 8;
    if (bit / 8 + 1 < bytes.value.size()) window |= bytes.value[bit / 8 + 1];
    text.value[i] = kAlphabet[(window >> (11 - bit % 8)) & 31];
  }
  return SecretString({text.value.data(), text.value.size()});
}

SecretString FormatRecoveryKey(const SecretString& canonical) {
  Wiped<std::array<char, kRecoveryKeyCharacters / 4 * 5>> text;
  std::string_view in = canonical.ExposeView();
  size_t n = 0;
  for (size_t i = 0; i < in.size() && i < kRecoveryKeyCharacters; ++i) {
    if (i != 0 && i % 4 == 0) text.value[n++] = '-';
    text.value[n++] = in[i];
  }
  return SecretString({text.value.data(), n});
}

absl::StatusOr<SecretString> ParseRecoveryKey(std::string_view typed) {
  Wiped<std::array<char, kRecoveryKeyCharacters>> text;
  Wiped<std::array<uint8_t, kBytes + 1>> bytes;
  size_t count = 0;
  for (char c : typed) {
    int value = Value(c);
    if (value == 32) continue;
    if (value < 0) {
      return absl::InvalidArgumentError(absl::StrCat("recovery key: character ", count + 1,
                                                     " is not one that recovery keys use (letters but U, digits)"));
    }
    if (count < kRecoveryKeyCharacters) {
      text.value[count] = kAlphabet[value];
      size_t bit = count * 5;
      unsigned window = static_cast<unsigned>(value) << (11 - bit % 8);
      bytes.value[bit / 8] |= window >> 8;
      if (bit / 8 + 1 < bytes.value.size()) bytes.value[bit / 8 + 1] |= window & 0xff;
    }
    ++count;
  }
  if (count != kRecoveryKeyCharacters) {
    return absl::InvalidArgumentError(
        absl::StrCat("recovery key: ", count, " characters where ", kRecoveryKeyCharacters, " are expected"));
  }
  Digest digest = Blake3Digest({reinterpret_cast<const char*>(bytes.value.data()), kRandomBytes});
  if (bytes.value[kBytes] != 0 ||
      std::memcmp(bytes.value.data() + kRandomBytes, digest.bytes.data(), kChecksumBytes) != 0) {
    return absl::InvalidArgumentError("recovery key: the checksum does not match, something is mistyped");
  }
  return SecretString({text.value.data(), text.value.size()});
}

}  // namespace holdfast
