#include "client/cli/output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace holdfast {
namespace {

// The length of the well-formed character at the start, with its code point; 0 when it is not UTF-8.
size_t DecodeCharacter(std::string_view s, uint32_t* code) {
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

bool IsUnsafe(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f || code == 0x2028 ||
         code == 0x2029 || (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

void AppendHex(std::string_view bytes, std::string* out) {
  for (char c : bytes) absl::StrAppendFormat(out, "\\x%02x", static_cast<unsigned char>(c));
}

std::string Escape(std::string_view bytes, bool also_unsafe) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    uint32_t code = 0;
    const size_t n = DecodeCharacter(bytes, &code);
    if (n == 0) {
      AppendHex(bytes.substr(0, 1), &out);
      bytes.remove_prefix(1);
      continue;
    }
    if (also_unsafe && code == '\n') {
      out += "\\n";
    } else if (also_unsafe && code == '\t') {
      out += "\\t";
    } else if (also_unsafe && IsUnsafe(code)) {
      AppendHex(bytes.substr(0, n), &out);
    } else {
      out += bytes.substr(0, n);
    }
    bytes.remove_prefix(n);
  }
  return out;
}

}  // namespace

std::string EscapeForTerminal(std::string_view bytes) { return Escape(bytes, true); }
std::string EscapeInvalidUtf8(std::string_view bytes) { return Escape(bytes, false); }

bool IsUtf8(std::string_view bytes) {
  uint32_t code;
  while (!bytes.empty()) {
    const size_t n = DecodeCharacter(bytes, &code);
    if (n == 0) return false;
    bytes.remove_prefix(n);
  }
  return true;
}

void SetName(Json& object, std::string_view key, std::string_view bytes) {
  object[std::string(key)] = EscapeInvalidUtf8(bytes);
  if (!IsUtf8(bytes)) object[std::string(key) + "_raw_base64"] = absl::Base64Escape(AbslView(bytes));
}

std::string FormatBytes(uint64_t bytes) {
  if (bytes < 1024) return absl::StrFormat("%d B", bytes);
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  int unit = -1;
  while (value >= 1023.95 && unit < 5) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string FormatDuration(double seconds) {
  if (seconds < 0) seconds = 0;
  const auto s = static_cast<uint64_t>(seconds + 0.5);
  if (s >= 3600) return absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
  return absl::StrFormat("%d:%02d", s / 60, s % 60);
}

std::string FormatTimeJson(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E9SZ", time, absl::UTCTimeZone());
}

std::string FormatTimeJson(int64_t unix_ns) { return FormatTimeJson(absl::FromUnixNanos(unix_ns)); }

std::string FormatTimeHuman(int64_t unix_ns) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixNanos(unix_ns), absl::LocalTimeZone());
}

absl::Status Stdout::Write(std::string_view text) {
  if (!failed_.ok()) return failed_;
  has_written_ = has_written_ || !text.empty();
  if (text.empty() || fwrite(text.data(), 1, text.size(), stdout) == text.size()) return absl::OkStatus();
  const int error = errno;
  failed_ = error == EPIPE
                ? absl::CancelledError("nobody reads the output any more")
                : absl::FailedPreconditionError(absl::StrCat("cannot write to standard output: ", strerror(error)));
  return failed_;
}

absl::Status Stdout::WriteJson(const Json& value) {
  return Write(value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

absl::Status Stdout::Flush() {
  if (!failed_.ok()) return failed_;
  if (fflush(stdout) == 0) return absl::OkStatus();
  const int error = errno;
  failed_ = error == EPIPE
                ? absl::CancelledError("nobody reads the output any more")
                : absl::FailedPreconditionError(absl::StrCat("cannot write to standard output: ", strerror(error)));
  return failed_;
}

}  // namespace holdfast
