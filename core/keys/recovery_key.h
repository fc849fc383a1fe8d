// The printed recovery key: 160 random bits and a checksum as nine groups of four characters (docs/format.md, section
// 3), such as "7QK4-...". It is a password that nobody has to remember. Pure functions.
#ifndef HOLDFAST_CORE_KEYS_RECOVERY_KEY_H_
#define HOLDFAST_CORE_KEYS_RECOVERY_KEY_H_

#include <string_view>

#include "core/base/secret.h"
#include "core/base/status.h"
#include "core/io/io.h"

namespace holdfast {

inline constexpr size_t kRecoveryKeyCharacters = 36;

// A new one in its canonical spelling: 36 characters, upper case, no separators.
SecretString GenerateRecoveryKey(Random& random);
// From the canonical spelling to the one to print: groups of four joined by '-'.
SecretString FormatRecoveryKey(const SecretString& canonical);
// What a person typed, to the canonical spelling: accepts lower case, white space and dashes anywhere or nowhere, I and
// L for 1, O for 0. INVALID_ARGUMENT says whether a character, the length or the checksum is wrong, and repeats nothing
// of what was typed.
absl::StatusOr<SecretString> ParseRecoveryKey(std::string_view typed);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_KEYS_RECOVERY_KEY_H_
