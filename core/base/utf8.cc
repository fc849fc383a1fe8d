#include "core/base/utf8.h"

namespace holdfast {

size_t DecodeUtf8Character(std::string_view s, uint32_t* code) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  auto is_next = [&](size_t i) { return i < s.size() && (byte(i) & 0xc0) == 0x80; };
  const uint32_t b0 = byte(0);
  if (b0 < 0x80) {
    *code = b0;
    return 1;
  }
  if (b0 >= 0xc2 && b0 < 0xe0 && is_next(1)) {
    *code = (b0 & 0x1f) << 6 | (byte(1) & 0x3fu);
    return 2;
  }
  if (b0 >= 0xe0 && b0 < 0xf0 && is_next(1) && is_next(2)) {
    *code = (b0 & 0x0f) << 12 | (byte(1) & 0x3fu) << 6 | (byte(2) & 0x3fu);
    return *code < 0x800 || (*code >= 0xd800 && *code < 0xe000) ? 0 : 3;
  }
  if (b0 >= 0xf0 && b0 < 0xf5 && is_next(1) && is_next(2) && is_next(3)) {
    *code = (b0 & 0x07) << 18 | (byte(1) & 0x3fu) << 12 | (byte(2) & 0x3fu) << 6 | (byte(3) & 0x3fu);
    return *code < 0x10000 || *code > 0x10ffff ? 0 : 4;
  }
  return 0;
}

bool IsUtf8(std::string_view bytes) {
  uint32_t code;
  while (!bytes.empty()) {
    const size_t n = DecodeUtf8Character(bytes, &code);
    if (n == 0) return false;
    bytes.remove_prefix(n);
  }
  return true;
}

void AppendHexEscapes(std::string_view bytes, std::string* out) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const char c : bytes) {
    *out += "\\x";
    *out += kDigits[static_cast<unsigned char>(c) >> 4];
    *out += kDigits[c & 0xf];
  }
}

std::string EscapeInvalidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  uint32_t code;
  while (!bytes.empty()) {
    const size_t n = DecodeUtf8Character(bytes, &code);
    if (n == 0) {
      AppendHexEscapes(bytes.substr(0, 1), &out);
    } else {
      out += bytes.substr(0, n);
    }
    bytes.remove_prefix(n == 0 ? 1 : n);
  }
  return out;
}

}  // namespace holdfast
