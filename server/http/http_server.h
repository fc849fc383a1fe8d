// A small HTTP server for supervisors and monitoring, on a Unix socket or on a loopback TCP port. It asks nobody who
// they are, so other addresses are refused. What it serves is its users' business: they bring the routes. One listener
// thread and a bounded pool of workers; Stop() ends all of them within seconds, whatever clients do.
#ifndef HOLDFAST_SERVER_HTTP_HTTP_SERVER_H_
#define HOLDFAST_SERVER_HTTP_HTTP_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/base/status.h"

namespace holdfast {

struct HttpRequest {
  std::string body;
};

struct HttpReply {
  int status = 200;
  std::string content_type;
  std::string body;
};

struct HttpRoute {
  std::string method;  // "GET" (which serves HEAD, too), "POST", "PUT" or "DELETE"
  std::string path;    // the whole of it: letters, digits and "/_-"
  // Called by several workers at once; may block only briefly, as it holds one of them. A path or method without a
  // route is 404.
  std::function<HttpReply(const HttpRequest&)> handler;
};

struct HttpServerOptions {
  // Exactly one of the two. The folder of the socket is created with mode 0700 when it is missing; the socket is 0600.
  std::string unix_socket;
  std::string loopback_address;                  // "127.0.0.1:9464", "[::1]:0" (port 0: any free one; see port())
  int workers = 4;                               // requests at the same time
  int queued_connections_max = 64;               // further ones are closed at once
  size_t body_bytes_max = 4096;                  // of a request
  absl::Duration io_timeout = absl::Seconds(5);  // to send a request or take a reply
};

class HttpServer {
 public:
  // Listens when it returns OK. INVALID_ARGUMENT: not loopback, a bad path, or a bad route. ALREADY_EXISTS: somebody
  // answers at that socket or port. A stale socket is replaced.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(HttpServerOptions options, std::vector<HttpRoute> routes);
  ~HttpServer();     // stops
  void Stop();       // idempotent; no handler runs afterwards
  int port() const;  // of loopback TCP, else 0

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_HTTP_HTTP_SERVER_H_
