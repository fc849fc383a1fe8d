// What supervisors and Prometheus ask over HTTP, answered from the registry: GET /healthz (200 or 503, JSON), /version
// (JSON), /metrics (Prometheus' text format). Nothing in it is secret. Label sets are few and fixed: nothing that a
// client chooses becomes a label.
#ifndef HOLDFAST_SERVER_DAEMON_MONITORING_H_
#define HOLDFAST_SERVER_DAEMON_MONITORING_H_

#include <string>
#include <vector>

#include "server/http/http_server.h"
#include "server/repository/registry.h"

namespace holdfast {

// `registry` is borrowed for as long as the routes are served.
std::vector<HttpRoute> MonitoringRoutes(RepositoryRegistry& registry, std::string version);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_DAEMON_MONITORING_H_
