// Counters and gauges with labels, served in the Prometheus text format. A metric is registered
// once, at start; the returned handle lives as long as the registry and is lock-free. Never put
// ids, names of files or anything else that a client chooses into labels: label sets must be few
// and fixed.
#ifndef HOLDFAST_SERVER_HTTP_METRICS_H_
#define HOLDFAST_SERVER_HTTP_METRICS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace holdfast {

inline constexpr size_t kMetricSeriesMax = 2000;  // above it AddX crashes: a label has a value that somebody chooses

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Gauge {
 public:
  void Set(double v) { value_.store(v, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

// Thread-safe.
class MetricsRegistry {
 public:
  MetricsRegistry();
  ~MetricsRegistry();
  // Names as Prometheus wants them ([a-z_:][a-z0-9_:]*, counters end in _total; crashes otherwise).
  // The same name and labels give the same object; one name has one type.
  Counter& AddCounter(std::string_view name, std::string_view help, MetricLabels labels = {});
  Gauge& AddGauge(std::string_view name, std::string_view help, MetricLabels labels = {});
  // Asked at each scrape, from the HTTP thread, with no lock of the registry held. What it refers
  // to must live until the server that scrapes is stopped.
  void AddGaugeCallback(std::string_view name, std::string_view help, MetricLabels labels,
                        std::function<double()> read);
  // Sorted by name and labels.
  std::string TextFormat() const;

 private:
  struct Family;
  struct Series;
  Series& FindOrAdd(std::string_view name, std::string_view help, MetricLabels labels, bool counter)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  std::map<std::string, std::unique_ptr<Family>, std::less<>> families_ ABSL_GUARDED_BY(mu_);
  size_t series_count_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_HTTP_METRICS_H_
