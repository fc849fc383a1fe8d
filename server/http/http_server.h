// The daemon's small HTTP endpoint for supervisors and Prometheus: GET /healthz, /version,
// /metrics. On a Unix socket, or on a loopback TCP port when configured; nothing here asks who is
// calling, so other addresses are refused. One listener thread and a bounded pool of workers;
// Stop() ends all of them within seconds, whatever clients do.
#ifndef HOLDFAST_SERVER_HTTP_HTTP_SERVER_H_
#define HOLDFAST_SERVER_HTTP_HTTP_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "core/base/status.h"
#include "server/http/metrics.h"

namespace holdfast {

struct HttpHealth {
  bool healthy = false;         // 200 or 503
  std::string status = "down";  // one word or sentence for people: "ok", "starting", "superseded by another server"
  // Further facts, as JSON strings.
  std::vector<std::pair<std::string, std::string>> details;
};

struct HttpServerOptions {
  // Exactly one of the two. The folder of the socket is created with mode 0700 when it is missing;
  // the socket is 0600.
  std::string unix_socket;
  std::string loopback_address;                  // "127.0.0.1:9464", "[::1]:0" (port 0: any free one; see port())
  std::string version = "unknown";               // for /version
  int workers = 4;                               // requests at the same time
  int queued_connections_max = 64;               // further ones are closed at once
  size_t body_bytes_max = 4096;                  // of a request
  absl::Duration io_timeout = absl::Seconds(5);  // to send a request or take a reply
};

class HttpServer {
 public:
  using HealthCallback = std::function<HttpHealth()>;  // called by several workers at once; must not block
  // Listens when it returns OK. `metrics` is borrowed. INVALID_ARGUMENT: not loopback, or a bad
  // path. ALREADY_EXISTS: somebody answers at that socket or port. A stale socket is replaced.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(HttpServerOptions options, MetricsRegistry& metrics,
                                                           HealthCallback health);
  ~HttpServer();     // stops
  void Stop();       // idempotent; no callback runs afterwards
  int port() const;  // of loopback TCP, else 0

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_HTTP_HTTP_SERVER_H_
