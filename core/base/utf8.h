// What is UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF), and the form in which other bytes
// become text that is.
#ifndef HOLDFAST_CORE_BASE_UTF8_H_
#define HOLDFAST_CORE_BASE_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace holdfast {

// Bytes of the character that `bytes`, not empty, begins with, and its code point; 0: with none.
size_t DecodeUtf8Character(std::string_view bytes, uint32_t* code);
bool IsUtf8(std::string_view bytes);
// Appends every byte as \xNN.
void AppendHexEscapes(std::string_view bytes, std::string* out);
// UTF-8 as it is, every other byte as \xNN: also what source labels are made of.
std::string EscapeInvalidUtf8(std::string_view bytes);

}  // namespace holdfast

#endif  // HOLDFAST_CORE_BASE_UTF8_H_
