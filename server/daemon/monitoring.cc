#include "server/daemon/monitoring.h"

#include <utility>

#include "nlohmann/json.hpp"
#include "prometheus/metric_family.h"
#include "prometheus/text_serializer.h"

namespace holdfast {
namespace {

using Json = nlohmann::ordered_json;

HttpReply JsonReply(int status, const Json& json) {
  // Messages may quote bytes that are no UTF-8.
  return {status, "application/json", json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"};
}

HttpReply Health(RepositoryRegistry& registry) {
  Json unusable = Json::object();
  for (const auto& repository : registry.List()) {
    absl::Status s = repository->Health();
    if (!s.ok()) unusable[repository->name()] = std::string(s.message());
  }
  if (unusable.empty()) return JsonReply(200, {{"status", "ok"}, {"healthy", true}});
  return JsonReply(503, {{"status", "a repository is not usable"}, {"healthy", false}, {"repositories", unusable}});
}

prometheus::MetricFamily Gauge(std::string name, std::string help, uint64_t value) {
  prometheus::ClientMetric metric;
  metric.gauge.value = static_cast<double>(value);
  return {std::move(name), std::move(help), prometheus::MetricType::Gauge, {metric}};
}

HttpReply Metrics(RepositoryRegistry& registry) {
  RepositoryStatistics sum;
  uint64_t unavailable = 0;
  for (const auto& repository : registry.List()) {
    const RepositoryStatistics s = repository->Statistics();
    sum.snapshots += s.snapshots;
    sum.packs += s.packs;
    sum.stored_bytes += s.stored_bytes;
    sum.chunks += s.chunks;
    sum.sessions += s.sessions;
    sum.bytes_appended += s.bytes_appended;
    sum.bytes_read += s.bytes_read;
    unavailable += !repository->Health().ok();
  }
  return {200, "text/plain; version=0.0.4; charset=utf-8",
          prometheus::TextSerializer().Serialize({
              Gauge("holdfast_appended_bytes", "Bytes of chunk records received since the start.", sum.bytes_appended),
              Gauge("holdfast_chunks", "Distinct chunks.", sum.chunks),
              Gauge("holdfast_packs", "Packs in storage.", sum.packs),
              Gauge("holdfast_read_bytes", "Bytes of chunk records sent since the start.", sum.bytes_read),
              Gauge("holdfast_repositories_unavailable", "Repositories that cannot be used.", unavailable),
              Gauge("holdfast_snapshots", "Snapshots that can be restored.", sum.snapshots),
              Gauge("holdfast_stored_bytes", "Bytes of packs in storage.", sum.stored_bytes),
              Gauge("holdfast_upload_sessions", "Upload sessions that are open.", sum.sessions),
          })};
}

}  // namespace

std::vector<HttpRoute> MonitoringRoutes(RepositoryRegistry& registry, std::string version) {
  return {
      {"GET", "/healthz", [&registry](const HttpRequest&) { return Health(registry); }},
      {"GET", "/version",
       [version = std::move(version)](const HttpRequest&) {
         return JsonReply(200, {{"name", "holdfastd"}, {"version", version}});
       }},
      {"GET", "/metrics", [&registry](const HttpRequest&) { return Metrics(registry); }},
  };
}

}  // namespace holdfast
