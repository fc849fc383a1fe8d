#include "server/http/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "absl/strings/str_cat.h"

namespace holdfast {
namespace {

[[noreturn]] void Crash(std::string_view name, const char* why) {
  std::fprintf(stderr, "metric %.*s: %s\n", static_cast<int>(name.size()), name.data(), why);
  std::abort();
}

bool IsName(std::string_view s, bool colon) {
  if (s.empty() || (s[0] >= '0' && s[0] <= '9')) return false;
  return std::all_of(s.begin(), s.end(), [colon](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || (colon && c == ':');
  });
}

std::string Escaped(std::string_view s, bool quote) {
  std::string out;
  for (char c : s) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quote) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

std::string Number(double v) {
  if (std::isnan(v)) return "NaN";
  if (std::isinf(v)) return v > 0 ? "+Inf" : "-Inf";
  if (v == std::floor(v) && std::fabs(v) < 1e15) return absl::StrCat(static_cast<int64_t>(v));
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), "%.17g", v);
  return buffer;
}

}  // namespace

struct MetricsRegistry::Series {
  Counter counter;
  Gauge gauge;
  std::function<double()> read;
};

struct MetricsRegistry::Family {
  std::string help;
  bool counter = false;
  std::map<std::string, std::unique_ptr<Series>> series;  // by formatted labels
};

MetricsRegistry::MetricsRegistry() = default;
MetricsRegistry::~MetricsRegistry() = default;

MetricsRegistry::Series& MetricsRegistry::FindOrAdd(std::string_view name, std::string_view help, MetricLabels labels,
                                                    bool counter) {
  if (!IsName(name, true)) Crash(name, "not a metric name");
  if (counter && !(name.size() > 6 && name.substr(name.size() - 6) == "_total")) {
    Crash(name, "a counter's name ends in _total");
  }
  std::sort(labels.begin(), labels.end());
  std::string formatted;
  for (const auto& [key, value] : labels) {
    if (!IsName(key, false)) Crash(name, "not a label name");
    absl::StrAppend(&formatted, formatted.empty() ? "{" : ",", key, "=\"", Escaped(value, true), "\"");
  }
  if (!formatted.empty()) formatted += '}';

  auto family = families_.find(name);
  if (family == families_.end()) {
    family = families_.emplace(std::string(name), std::make_unique<Family>()).first;
    family->second->help = std::string(help);
    family->second->counter = counter;
  }
  if (family->second->counter != counter) Crash(name, "is a counter and a gauge");
  std::unique_ptr<Series>& series = family->second->series[formatted];
  if (series == nullptr) {
    if (++series_count_ > kMetricSeriesMax) Crash(name, "too many label values");
    series = std::make_unique<Series>();
  }
  return *series;
}

Counter& MetricsRegistry::AddCounter(std::string_view name, std::string_view help, MetricLabels labels) {
  absl::MutexLock lock(&mu_);
  return FindOrAdd(name, help, std::move(labels), true).counter;
}

Gauge& MetricsRegistry::AddGauge(std::string_view name, std::string_view help, MetricLabels labels) {
  absl::MutexLock lock(&mu_);
  return FindOrAdd(name, help, std::move(labels), false).gauge;
}

void MetricsRegistry::AddGaugeCallback(std::string_view name, std::string_view help, MetricLabels labels,
                                       std::function<double()> read) {
  absl::MutexLock lock(&mu_);
  FindOrAdd(name, help, std::move(labels), false).read = std::move(read);
}

std::string MetricsRegistry::TextFormat() const {
  struct Line {
    std::string head;  // comments of its family, before the first
    std::string name;
    std::string value;
    std::function<double()> read;
  };
  std::vector<Line> lines;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [name, family] : families_) {
      std::string head = absl::StrCat("# HELP ", name, " ", Escaped(family->help, false), "\n# TYPE ", name,
                                      family->counter ? " counter\n" : " gauge\n");
      for (const auto& [labels, series] : family->series) {
        Line line{std::move(head), name + labels, "", series->read};
        head.clear();
        line.value = family->counter ? absl::StrCat(series->counter.value()) : Number(series->gauge.value());
        lines.push_back(std::move(line));
      }
    }
  }
  std::string out;
  for (const Line& line : lines) {
    absl::StrAppend(&out, line.head, line.name, " ", line.read ? Number(line.read()) : line.value, "\n");
  }
  return out;
}

}  // namespace holdfast
