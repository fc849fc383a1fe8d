// What goes to standard output and to standard error: people's text or JSON. Names from a file system are raw bytes and
// never reach a terminal or a JSON document as they are.
#ifndef HOLDFAST_CLIENT_CLI_OUTPUT_H_
#define HOLDFAST_CLIENT_CLI_OUTPUT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "core/base/status.h"
#include "nlohmann/json.hpp"

namespace holdfast {

using Json = nlohmann::ordered_json;

// Control characters, bytes that are not UTF-8 and characters that change the direction of text become \xNN (\n, \t
// for the usual ones).
std::string EscapeForTerminal(std::string_view bytes);
// Sets object[key] to the text, and object[key + "_raw_base64"] as well when the text is not the exact bytes.
void SetName(Json& object, std::string_view key, std::string_view bytes);

std::string FormatBytes(uint64_t bytes);      // "1.4 GiB"
std::string FormatDuration(double seconds);   // "1:02:03", "0:04"
std::string FormatTimeJson(absl::Time time);  // UTC, RFC 3339
std::string FormatTimeJson(int64_t unix_ns);
std::string FormatTimeHuman(int64_t unix_ns);  // local, to the second

// Standard output. Buffered; a write error is kept and returned by every call from then on, CANCELLED when nobody reads
// any more (EPIPE). One thread.
class Stdout {
 public:
  absl::Status Write(std::string_view text);
  absl::Status WriteJson(const Json& value);  // indented, with a line end
  absl::Status Flush();
  bool has_written() const { return has_written_; }

 private:
  bool has_written_ = false;
  absl::Status failed_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_OUTPUT_H_
