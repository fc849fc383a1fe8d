#include "server/http/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <filesystem>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/io/machine_paths.h"
#include "httplib.h"

namespace holdfast {
namespace {

// Start line and headers of a request together; the library itself has no limit for them.
constexpr size_t kHeaderBytesMax = 16u << 10;
// How soon a worker that waits for a client notices Stop().
constexpr int kStopPollMs = 50;

using SteadyClock = std::chrono::steady_clock;

// One connection, with an end: at most so many bytes in, at most so long for all of it (a client that sends a byte now
// and then would otherwise hold its worker for ever), and nothing once the server stops.
class BoundedStream : public httplib::Stream {
 public:
  BoundedStream(int fd, size_t bytes_max, SteadyClock::duration time_max, const std::atomic<bool>& stopping)
      : fd_(fd),
        bytes_left_(bytes_max),
        deadline_(SteadyClock::now() + time_max),
        time_max_(time_max),
        stopping_(stopping) {}

  bool is_readable() const override { return Wait(POLLIN); }
  bool is_writable() const override { return Wait(POLLOUT); }
  ssize_t read(char* out, size_t size) override {
    if (begin_ == end_) {
      if (bytes_left_ == 0 || !Wait(POLLIN)) return -1;
      ssize_t n = 0;
      do {
        n = ::recv(fd_, buffer_, std::min(sizeof(buffer_), bytes_left_), MSG_DONTWAIT);
      } while (n < 0 && errno == EINTR);
      if (n <= 0) return n;
      bytes_left_ -= static_cast<size_t>(n);
      begin_ = 0;
      end_ = static_cast<size_t>(n);
    }
    const size_t n = std::min(size, end_ - begin_);
    std::memcpy(out, buffer_ + begin_, n);
    begin_ += n;
    return static_cast<ssize_t>(n);
  }
  ssize_t write(const char* data, size_t size) override {
    if (!replying_) {  // the reply gets its own time
      replying_ = true;
      deadline_ = SteadyClock::now() + time_max_;
    }
    if (!Wait(POLLOUT)) return -1;
    ssize_t n = 0;
    do {
      n = ::send(fd_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n;
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    ip.clear();
    port = 0;
  }
  socket_t socket() const override { return fd_; }

 private:
  bool Wait(short events) const {
    if (begin_ != end_ && events == POLLIN) return true;
    while (!stopping_.load()) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - SteadyClock::now());
      if (left.count() <= 0) return false;
      pollfd p{fd_, events, 0};
      const int n = ::poll(&p, 1, static_cast<int>(std::min<int64_t>(left.count(), kStopPollMs)));
      if (n > 0) return true;
      if (n < 0 && errno != EINTR) return false;
    }
    return false;
  }

  const int fd_;
  size_t bytes_left_;
  SteadyClock::time_point deadline_;
  const SteadyClock::duration time_max_;
  const std::atomic<bool>& stopping_;
  bool replying_ = false;
  char buffer_[4096] = {};
  size_t begin_ = 0;
  size_t end_ = 0;
};

// Set while a connection is handed over only to be closed.
thread_local bool refuse_connection = false;

// A fixed number of threads and a queue with an end.
class BoundedTaskQueue : public httplib::TaskQueue {
 public:
  BoundedTaskQueue(int threads, size_t queued_max) : queued_max_(queued_max) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
  }
  void enqueue(std::function<void()> task) override {
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (tasks_.size() < queued_max_) {
        tasks_.push_back(std::move(task));
        wake_.notify_one();
        return;
      }
    }
    refuse_connection = true;
    task();
    refuse_connection = false;
  }
  void shutdown() override {
    {
      std::lock_guard<std::mutex> lock(mu_);
      done_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

 private:
  void Run() {
    while (true) {
      std::function<void()> task;
      {
        std::unique_lock<std::mutex> lock(mu_);
        wake_.wait(lock, [this] { return done_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }

  const size_t queued_max_;
  std::vector<std::thread> threads_;
  std::mutex mu_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool done_ = false;
};

class BoundedServer : public httplib::Server {
 public:
  explicit BoundedServer(const HttpServerOptions& options)
      : bytes_max_(kHeaderBytesMax + options.body_bytes_max),
        time_max_(absl::ToChronoNanoseconds(options.io_timeout)) {}
  std::atomic<bool>& stopping() { return stopping_; }
  // The library's backlog of 5 would turn clients away that come together.
  void WidenBacklog(int n) { (void)::listen(svr_sock_, n); }

 private:
  bool process_and_close_socket(socket_t fd) override {
    bool ok = false;
    if (!refuse_connection && !stopping_.load()) {
      BoundedStream stream(fd, bytes_max_, time_max_, stopping_);
      bool closed = false;
      ok = process_request(stream, /*close_connection=*/true, closed, nullptr);
    }
    ::shutdown(fd, SHUT_RDWR);
    ::close(fd);
    return ok;
  }

  const size_t bytes_max_;
  const SteadyClock::duration time_max_;
  std::atomic<bool> stopping_{false};
};

struct Endpoint {
  std::string host;
  int port = 0;
  int family = AF_INET;
};

absl::StatusOr<Endpoint> ParseLoopback(const std::string& address) {
  auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("HTTP address \"", address, "\": ", AbslView(why)));
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return refuse("needs a port");
  Endpoint out;
  const std::string port = address.substr(colon + 1);
  out.host = address.substr(0, colon);
  if (port.empty() || port.size() > 5 || port.find_first_not_of("0123456789") != std::string::npos ||
      !absl::SimpleAtoi(port, &out.port) || out.port > 65535) {
    return refuse("the port is not a number up to 65535");
  }
  if (out.host == "localhost") out.host = "127.0.0.1";
  if (out.host.size() > 2 && out.host.front() == '[' && out.host.back() == ']') {
    out.host = out.host.substr(1, out.host.size() - 2);
    out.family = AF_INET6;
    in6_addr v6{};
    if (::inet_pton(AF_INET6, out.host.c_str(), &v6) != 1) return refuse("not an IPv6 address");
    if (!IN6_IS_ADDR_LOOPBACK(&v6)) return refuse("only loopback addresses are allowed");
    return out;
  }
  in_addr v4{};
  if (::inet_pton(AF_INET, out.host.c_str(), &v4) != 1) return refuse("not an IPv4 address");
  if ((ntohl(v4.s_addr) >> 24) != 127) return refuse("only loopback addresses are allowed");
  return out;
}

absl::Status FromErrno(int error, std::string_view what) {
  std::string message = absl::StrCat(AbslView(what), ": ", std::strerror(error));
  switch (error) {
    case EADDRINUSE:
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    case ENOTDIR:
    case ENAMETOOLONG:
    case EADDRNOTAVAIL:
      return absl::InvalidArgumentError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::Status PrepareSocketPath(const std::string& path) {
  if (path.size() >= sizeof(sockaddr_un::sun_path) || path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("HTTP socket path is too long: ", path));
  }
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("HTTP socket path needs a folder: ", path));
  }
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return FromErrno(errno, absl::StrCat("make ", folder.string()));
  }
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0) return FromErrno(errno, folder.string());
  // Where others may rename files, they could put their socket in place of ours.
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (info.st_mode & S_ISVTX) == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the folder of the HTTP socket may be written by others: ", folder.string()));
  }
  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus() : FromErrno(errno, path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(path, " is there and no socket"));
  }
  if (SomebodyListens(path)) {
    return absl::AlreadyExistsError(absl::StrCat("another process answers at ", path));
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return FromErrno(errno, path);
  return absl::OkStatus();
}

}  // namespace

struct HttpServer::Impl {
  explicit Impl(HttpServerOptions o) : options(std::move(o)), server(options) {}

  void SetLimits();
  absl::Status Add(HttpRoute route);
  absl::Status Listen();
  void Stop();

  const HttpServerOptions options;
  BoundedServer server;
  int port = 0;
  std::optional<std::pair<dev_t, ino_t>> socket_file;  // what we made, to remove nothing else
  std::thread listener;
  std::mutex stop_mu;
};

void HttpServer::Impl::SetLimits() {
  server.new_task_queue = [this] {
    return new BoundedTaskQueue(std::max(1, options.workers),
                                static_cast<size_t>(std::max(1, options.queued_connections_max)));
  };
  server.set_payload_max_length(options.body_bytes_max);
  server.set_keep_alive_max_count(1);
  server.set_exception_handler(
      [](const httplib::Request&, httplib::Response& res, const std::exception_ptr&) { res.status = 500; });
  server.set_default_headers({{"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}});
}

absl::Status HttpServer::Impl::Add(HttpRoute route) {
  // The library takes paths as regular expressions.
  constexpr std::string_view kLiteral = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_-";
  if (route.path.empty() || route.path[0] != '/' || route.path.find_first_not_of(kLiteral) != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("\"", route.path, "\" is not a path of a route"));
  }
  auto handler = [handle = std::move(route.handler)](const httplib::Request& request, httplib::Response& response) {
    const HttpReply reply = handle(HttpRequest{request.body});
    response.status = reply.status;
    response.set_content(reply.body, reply.content_type);
  };
  if (route.method == "GET") {
    server.Get(route.path, std::move(handler));
  } else if (route.method == "POST") {
    server.Post(route.path, std::move(handler));
  } else if (route.method == "PUT") {
    server.Put(route.path, std::move(handler));
  } else if (route.method == "DELETE") {
    server.Delete(route.path, std::move(handler));
  } else {
    return absl::InvalidArgumentError(absl::StrCat("no routes for method ", route.method));
  }
  return absl::OkStatus();
}

absl::Status HttpServer::Impl::Listen() {
  int error = 0;
  if (!options.unix_socket.empty()) {
    RETURN_IF_ERROR(PrepareSocketPath(options.unix_socket));
    server.set_address_family(AF_UNIX);
    // Before bind, so that the file never has another mode.
    server.set_socket_options([](socket_t fd) { (void)::fchmod(fd, 0600); });
    errno = 0;
    if (!server.bind_to_port(options.unix_socket, 80)) {
      error = errno;
      return FromErrno(error, absl::StrCat("listen at ", options.unix_socket));
    }
    (void)::chmod(options.unix_socket.c_str(), 0600);
    struct stat info {};
    if (::lstat(options.unix_socket.c_str(), &info) == 0) {
      socket_file = {info.st_dev, info.st_ino};
    }
  } else {
    ASSIGN_OR_RETURN(Endpoint endpoint, ParseLoopback(options.loopback_address));
    server.set_address_family(endpoint.family);
    // Not SO_REUSEPORT, which the library would set: two daemons would share the port.
    server.set_socket_options([](socket_t fd) {
      const int yes = 1;
      (void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    });
    errno = 0;
    if (endpoint.port == 0) {
      port = server.bind_to_any_port(endpoint.host);
    } else {
      port = server.bind_to_port(endpoint.host, endpoint.port) ? endpoint.port : -1;
    }
    error = errno;
    if (port <= 0) {
      port = 0;
      return FromErrno(error != 0 ? error : EADDRINUSE, absl::StrCat("listen at ", options.loopback_address));
    }
  }
  server.WidenBacklog(options.queued_connections_max);
  listener = std::thread([this] { server.listen_after_bind(); });
  // It listens since bind; this waits until stop() would be heeded.
  while (!server.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return absl::OkStatus();
}

void HttpServer::Impl::Stop() {
  std::lock_guard<std::mutex> lock(stop_mu);
  if (!listener.joinable()) return;
  server.stopping().store(true);
  if (socket_file.has_value()) {
    struct stat info {};
    if (::lstat(options.unix_socket.c_str(), &info) == 0 && socket_file == std::make_pair(info.st_dev, info.st_ino)) {
      ::unlink(options.unix_socket.c_str());
    }
  }
  server.stop();
  listener.join();
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { Stop(); }
void HttpServer::Stop() { impl_->Stop(); }
int HttpServer::port() const { return impl_->port; }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(HttpServerOptions options,
                                                              std::vector<HttpRoute> routes) {
  if (options.unix_socket.empty() == options.loopback_address.empty()) {
    return absl::InvalidArgumentError("HTTP: give either a Unix socket or a loopback address");
  }
  auto impl = std::make_unique<Impl>(std::move(options));
  impl->SetLimits();
  for (HttpRoute& route : routes) RETURN_IF_ERROR(impl->Add(std::move(route)));
  RETURN_IF_ERROR(impl->Listen());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

}  // namespace holdfast
