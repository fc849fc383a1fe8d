#include "client/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "client/cli/output.h"

namespace holdfast {
namespace {

constexpr absl::Duration kLiveInterval = absl::Milliseconds(200);
constexpr absl::Duration kPlainInterval = absl::Seconds(10);
constexpr double kRateWeight = 0.1;  // of the newest sample: the rate of about the last two seconds

size_t TerminalColumns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 10) return size.ws_col;
  return 80;
}

bool IsLive() {
  const char* term = getenv("TERM");
  return isatty(STDERR_FILENO) && (term == nullptr || std::string_view(term) != "dumb");
}

}  // namespace

std::string ProgressLine(const ProgressState& s, double bytes_per_second, double elapsed_seconds) {
  std::string out = absl::StrFormat("%s  %s", FormatDuration(elapsed_seconds), std::string(s.activity));
  if (s.bytes_expected != 0) {
    const double share = std::min(1.0, static_cast<double>(s.bytes) / static_cast<double>(s.bytes_expected));
    absl::StrAppendFormat(&out, "  %.0f%%", 100 * share);
  }
  absl::StrAppendFormat(&out, "  %d", s.files);
  if (s.files_expected != 0) absl::StrAppendFormat(&out, "/%d", std::max(s.files, s.files_expected));
  out += " files  " + FormatBytes(s.bytes);
  if (s.bytes_expected != 0) out += " of " + FormatBytes(std::max(s.bytes, s.bytes_expected));
  if (bytes_per_second > 0) {
    out += "  " + FormatBytes(static_cast<uint64_t>(bytes_per_second)) + "/s";
    if (s.bytes_expected > s.bytes) {
      out += "  ETA " + FormatDuration(static_cast<double>(s.bytes_expected - s.bytes) / bytes_per_second);
    }
  }
  return out;
}

Progress::Progress(bool quiet, std::function<ProgressState()> state, Io& io)
    : quiet_(quiet), live_(!quiet && IsLive()), state_(std::move(state)), io_(io), stop_(io.threads.NewEvent()) {
  if (!quiet_) thread_ = io_.threads.Spawn("progress", [this] { Run(); });
}

Progress::~Progress() {
  stop_->Notify();
  thread_.reset();
  absl::MutexLock lock(&mu_);
  Erase();
}

void Progress::Erase() {
  if (!line_shown_) return;
  fputs("\r\x1b[K", stderr);
  fflush(stderr);
  line_shown_ = false;
}

void Progress::Message(std::string_view line) {
  absl::MutexLock lock(&mu_);
  Erase();
  std::string out(line);
  out += '\n';
  fwrite(out.data(), 1, out.size(), stderr);
  fflush(stderr);
}

void Progress::Run() {
  const absl::Duration start = io_.clock.Monotonic();
  const absl::Duration interval = live_ ? kLiveInterval : kPlainInterval;
  absl::Duration last = start;
  uint64_t last_bytes = 0;
  double rate = 0;
  while (!stop_->WaitUntil(last + interval)) {
    const absl::Duration now = io_.clock.Monotonic();
    const ProgressState state = state_();
    const double seconds = absl::ToDoubleSeconds(now - last);
    if (seconds > 0) {
      const double sample = state.bytes > last_bytes ? static_cast<double>(state.bytes - last_bytes) / seconds : 0;
      rate = rate == 0 || !live_ ? sample : rate + kRateWeight * (sample - rate);
    }
    last = now;
    last_bytes = state.bytes;
    std::string line = ProgressLine(state, rate, absl::ToDoubleSeconds(now - start));
    absl::MutexLock lock(&mu_);
    if (live_) {
      line.resize(std::min(line.size(), TerminalColumns() - 1));
      fputs(("\r" + line + "\x1b[K").c_str(), stderr);
      line_shown_ = true;
    } else {
      fputs((line + "\n").c_str(), stderr);
    }
    fflush(stderr);
  }
}

}  // namespace holdfast
