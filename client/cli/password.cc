#include "client/cli/password.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "core/io/errno_status.h"

namespace holdfast {
namespace {

constexpr size_t kPasswordBytesMax = 4096;

// Bytes up to the first line end; wiped.
class LineBuffer {
 public:
  ~LineBuffer() { WipeMemory(bytes_, sizeof(bytes_)); }
  // False when the line is complete.
  bool Add(char c) {
    if (c == '\n') return false;
    if (size_ < sizeof(bytes_)) bytes_[size_] = c;
    ++size_;
    return true;
  }
  absl::StatusOr<SecretString> Take(std::string_view what) {
    if (size_ > sizeof(bytes_)) {
      return absl::InvalidArgumentError(
          absl::StrCat(AbslView(what), " gives more than ", kPasswordBytesMax, " bytes in its first line"));
    }
    if (size_ > 0 && bytes_[size_ - 1] == '\r') --size_;
    if (size_ == 0) return absl::InvalidArgumentError(absl::StrCat(AbslView(what), " gives an empty password"));
    return SecretString(std::string_view(bytes_, size_));
  }

 private:
  char bytes_[kPasswordBytesMax];
  size_t size_ = 0;
};

absl::StatusOr<SecretString> ReadLine(int fd, std::string_view what) {
  LineBuffer line;
  char c;
  for (;;) {
    const ssize_t n = ::read(fd, &c, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "read", what);
    if (n == 0 || !line.Add(c)) break;
  }
  return line.Take(what);
}

absl::StatusOr<SecretString> FromFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "open the password file", path);
  absl::StatusOr<SecretString> out = ReadLine(fd, "the password file " + path);
  ::close(fd);
  return out;
}

absl::StatusOr<SecretString> FromCommand(const std::string& command) {
  FILE* pipe = ::popen(command.c_str(), "re");
  if (pipe == nullptr) return ErrnoStatus(errno, "run", "the password command");
  setvbuf(pipe, nullptr, _IONBF, 0);  // no copy in a buffer of the library
  LineBuffer line;
  bool in_line = true;
  for (int c; (c = fgetc(pipe)) != EOF;) {
    if (in_line) in_line = line.Add(static_cast<char>(c));
  }
  const int status = ::pclose(pipe);
  if (status != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the password command failed",
                     WIFEXITED(status) ? absl::StrCat(" with exit status ", WEXITSTATUS(status)) : ""));
  }
  return line.Take("the password command");
}

// The terminal with echo off, and with Ctrl-C as the end of a line: as a signal it would leave the terminal without
// echo.
class QuietTerminal {
 public:
  explicit QuietTerminal(int fd) : fd_(fd) {
    if (tcgetattr(fd, &old_) != 0) return;
    termios quiet = old_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO | ISIG);
    quiet.c_cc[VEOL] = kInterrupt;
    changed_ = tcsetattr(fd, TCSAFLUSH, &quiet) == 0;
  }
  ~QuietTerminal() {
    if (changed_) tcsetattr(fd_, TCSAFLUSH, &old_);
  }
  static constexpr char kInterrupt = '\x03';

 private:
  const int fd_;
  termios old_{};
  bool changed_ = false;
};

// While it lives, signals that end the process wait, whichever thread gets them: the terminal comes first.
class SignalsLater {
 public:
  SignalsLater() {
    came.store(0);
    for (size_t i = 0; i < std::size(kSignals); ++i) {
      sigaction(kSignals[i], nullptr, &old_[i]);
      if (old_[i].sa_handler == SIG_IGN) continue;
      struct sigaction action {};
      action.sa_handler = [](int signal) { came.store(signal); };
      sigaction(kSignals[i], &action, nullptr);
    }
  }
  ~SignalsLater() {
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &old_[i], nullptr);
    if (const int signal = came.load(); signal != 0) ::raise(signal);
  }
  bool has_come() const { return came.load() != 0; }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
  static inline std::atomic<int> came{0};
  struct sigaction old_[std::size(kSignals)];
};
constexpr int kLookAtSignals = 200;  // ms: a signal may have gone to another thread

void Say(int fd, std::string_view text) { (void)!::write(fd, text.data(), text.size()); }

absl::StatusOr<SecretString> PromptOnce(int fd, const std::string& prompt) {
  Say(fd, prompt);
  LineBuffer line;
  bool cancelled = false;
  {
    SignalsLater later;
    QuietTerminal quiet(fd);
    for (char c;;) {
      pollfd ready{fd, POLLIN, 0};
      const int polled = ::poll(&ready, 1, kLookAtSignals);
      cancelled = later.has_come();
      if (!cancelled && (polled == 0 || (polled < 0 && errno == EINTR))) continue;
      if (cancelled) break;
      const ssize_t n = ::read(fd, &c, 1);
      if (n < 0 && errno == EINTR) continue;
      if (n == 1 && c == QuietTerminal::kInterrupt) cancelled = true;
      if (n <= 0 || cancelled || !line.Add(c)) break;
    }
  }
  Say(fd, "\n");
  if (cancelled) return absl::CancelledError("interrupted");
  return line.Take("the terminal");
}

}  // namespace

bool HasPassword(const PasswordSources& sources) {
  const char* value = getenv(sources.environment);
  return !sources.file.empty() || !sources.command.empty() || (value != nullptr && *value != '\0');
}

bool CanPrompt() {
  if (!isatty(STDIN_FILENO)) return false;
  const int fd = ::open("/dev/tty", O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  ::close(fd);
  return true;
}

absl::StatusOr<SecretString> GetPassword(const PasswordSources& sources, const std::string& prompt, bool confirm) {
  if (!sources.file.empty()) return FromFile(sources.file);
  if (!sources.command.empty()) return FromCommand(sources.command);
  const char* value = getenv(sources.environment);
  if (value != nullptr && *value != '\0') return SecretString(value);
  if (!CanPrompt()) {
    const std::string option =
        sources.environment == std::string_view("HOLDFAST_NEW_PASSWORD") ? "--new-password-file" : "--password-file";
    return absl::FailedPreconditionError(
        absl::StrCat("a password is needed and there is no terminal to ask for it\n"
                     "  Give it with ",
                     option, ", ", option == "--password-file" ? "--password-command, " : "", "or ",
                     sources.environment, ".\n  For unattended backups run once: holdfast repository unlock"));
  }
  const int fd = ::open("/dev/tty", O_RDWR | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "open", "/dev/tty");
  absl::StatusOr<SecretString> first = PromptOnce(fd, prompt + ": ");
  if (first.ok() && confirm) {
    absl::StatusOr<SecretString> second = PromptOnce(fd, prompt + " again: ");
    if (!second.ok()) {
      first = std::move(second);
    } else if (first->ExposeView() != second->ExposeView()) {
      first = absl::InvalidArgumentError("the two passwords differ");
    }
  }
  ::close(fd);
  return first;
}

bool AskYesNo(const std::string& question, bool otherwise) {
  if (!CanPrompt()) return otherwise;
  FILE* tty = fopen("/dev/tty", "r+e");
  if (tty == nullptr) return otherwise;
  fprintf(tty, "%s [%s] ", question.c_str(), otherwise ? "Y/n" : "y/N");
  fflush(tty);
  char answer[16] = "";
  const bool got = fgets(answer, sizeof(answer), tty) != nullptr;
  fclose(tty);
  if (!got || answer[0] == '\n') return otherwise;
  return answer[0] == 'y' || answer[0] == 'Y';
}

}  // namespace holdfast
