#include "client/restore/umask.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>

namespace holdfast {

std::optional<uint32_t> ParseUmask(std::string_view proc_status) {
  constexpr std::string_view kLabel = "\nUmask:\t";
  const size_t at = proc_status.find(kLabel);
  if (at == proc_status.npos) return std::nullopt;
  std::string_view digits = proc_status.substr(at + kLabel.size());
  digits = digits.substr(0, digits.find('\n'));
  uint32_t mask = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), mask, 8);
  if (error != std::errc() || end != digits.data() + digits.size() || mask > 0777) return std::nullopt;
  return mask;
}

uint32_t ReadUmask() {
  const int fd = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0777;
  char text[4096];  // it is the second line
  const ssize_t n = ::read(fd, text, sizeof(text));
  ::close(fd);
  return n < 0 ? 0777 : ParseUmask({text, static_cast<size_t>(n)}).value_or(0777);
}

}  // namespace holdfast
