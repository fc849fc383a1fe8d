#include "client/cli/output.h"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "core/base/utf8.h"

namespace holdfast {
namespace {

bool IsUnsafe(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f || code == 0x2028 ||
         code == 0x2029 || (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

}  // namespace

std::string EscapeForTerminal(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    uint32_t code = 0;
    const size_t n = DecodeUtf8Character(bytes, &code);
    const std::string_view character = bytes.substr(0, n == 0 ? 1 : n);
    if (n != 0 && code == '\n') {
      out += "\\n";
    } else if (n != 0 && code == '\t') {
      out += "\\t";
    } else if (n == 0 || IsUnsafe(code)) {
      AppendHexEscapes(character, &out);
    } else {
      out += character;
    }
    bytes.remove_prefix(character.size());
  }
  return out;
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
  const auto s = static_cast<uint64_t>(std::llround(seconds));
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
