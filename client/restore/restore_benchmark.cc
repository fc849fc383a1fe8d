// restore_benchmark DIRECTORY [threads [files]]: writes small files (1-8 KiB, 100 per directory), then one file of 2
// GiB, from chunks in memory. DIRECTORY should be on a fresh file system: ext4 is slower for minutes after a large
// delete.
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "client/restore/fake_snapshot.h"

namespace holdfast {
namespace {

double Seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

struct PrintingObserver : RestoreObserver {
  void OnProblem(const RestoreProblem& p) override {
    if (++problems < 10) std::printf("%s: %s: %s\n", p.path.c_str(), p.operation.c_str(), p.status.ToString().c_str());
  }
  int problems = 0;
};

void Run(const char* what, FakeSnapshot& snapshot, const RestoreOptions& options) {
  PrintingObserver observer;
  const double wall = Seconds(CLOCK_MONOTONIC), cpu = Seconds(CLOCK_PROCESS_CPUTIME_ID);
  absl::StatusOr<RestoreStats> stats = Restore(snapshot, {}, options, observer);
  std::printf(
      "%s: %.2f s, %.2f CPU-s, %s\n", what, Seconds(CLOCK_MONOTONIC) - wall, Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu,
      stats.ok() ? absl::StrCat(stats->files, " files, ", stats->bytes, " bytes, ", stats->errors(), " errors").c_str()
                 : stats.status().ToString().c_str());
}

int Main(int argc, char** argv) {
  if (argc < 2) return 2;
  RestoreOptions options;
  options.threads = argc > 2 ? std::atoi(argv[2]) : 3;
  const int files = argc > 3 ? std::atoi(argv[3]) : 300'000;
  const std::string data(8192, 'x');
  {
    FakeSnapshot snapshot;
    snapshot.Put("", EntryType::kDirectory, 0755);
    size_t bundled = 0;
    for (int i = 0; i < files; ++i) {
      char path[64];
      std::snprintf(path, sizeof(path), "dir%05d", i / 100);
      if (i % 100 == 0) snapshot.Put(path, EntryType::kDirectory, 0755);
      std::snprintf(path, sizeof(path), "dir%05d/file%06d", i / 100, i);
      const size_t size = 1024 + (i * 2654435761u) % 7168;
      snapshot.PutInBundle(path, std::string_view(data).substr(0, size));
      if ((bundled += size) > 256 << 10) {
        snapshot.EndBundle();
        bundled = 0;
      }
    }
    snapshot.EndBundle();
    options.target = std::string(argv[1]) + "/small";
    Run("small files", snapshot, options);
  }
  FakeSnapshot snapshot;
  snapshot.Put("", EntryType::kDirectory, 0755);
  std::vector<std::string> piece(1, std::string(2 << 20, 'y'));
  Entry& e = snapshot.PutChunked("large", piece);
  e.content.chunks.resize(1024, e.content.chunks[0]);
  // Each its own chunk with the same bytes.
  for (size_t i = 0; i < e.content.chunks.size(); ++i) {
    e.content.chunks[i].ref.id.bytes[0] = static_cast<uint8_t>(i);
    e.content.chunks[i].ref.id.bytes[1] = static_cast<uint8_t>(i >> 8);
  }
  for (const ChunkPiece& p : e.content.chunks) snapshot.chunks[p.ref.id] = piece[0];
  e.size = 1024ull * (2 << 20);
  options.target = std::string(argv[1]) + "/large";
  Run("large file", snapshot, options);
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) { return holdfast::Main(argc, argv); }
