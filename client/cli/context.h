// What every command needs: the options that all have, the server, the keys, and finding the snapshot that was meant.
#ifndef HOLDFAST_CLIENT_CLI_CONTEXT_H_
#define HOLDFAST_CLIENT_CLI_CONTEXT_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "client/cli/password.h"
#include "client/keys/repository_access.h"
#include "client/rpc/remote_chunk_source.h"
#include "client/rpc/repository_client.h"
#include "core/io/io.h"
#include "core/io/machine_paths.h"
#include "core/tree/snapshot_reader.h"

namespace holdfast {

struct CommonOptions {
  std::string server;  // empty: HOLDFAST_SERVER, else this machine's default
  PasswordSources password;
  bool json = false;
};

// A snapshot in the list that the server keeps. Nothing in it is authenticated: for display and for choosing, of which
// Open checks that it chose right.
struct ListedSnapshot {
  ManifestId id;
  pb::ManifestCore core;
  int64_t server_time_unix_ns = 0;
};

// An opened and authenticated snapshot. Not movable: the parts refer to each other.
struct OpenSnapshot {
  ManifestId id;
  RepositoryAccess::Snapshot opened;
  std::unique_ptr<RemoteChunkSource> source;
  std::unique_ptr<SnapshotReader> reader;
};

// SNAPSHOT[:PATH] as given on the command line.
struct SnapshotPath {
  std::string snapshot;
  Components path;
};
SnapshotPath ParseSnapshotPath(const std::string& text);
std::string JoinComponents(const Components& path);  // with '/', no '/' in front

// One command's run. One thread.
class Context {
 public:
  explicit Context(const CommonOptions& options, Io& io) : options_(options), io_(io) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const CommonOptions& options() const { return options_; }
  bool json() const { return options_.json; }
  Io& io() { return io_; }
  Stdout& out() { return out_; }
  absl::StatusOr<const MachinePaths*> paths();
  // Standard error, a line.
  void Say(std::string_view line);
  // The same, but for people only: not with --json.
  void Note(std::string_view line);

  absl::StatusOr<RepositoryClient*> server();
  absl::StatusOr<std::vector<v1::RepositoryInfo>> ListRepositories();

  // Unlocked, or with a password from the sources.
  absl::StatusOr<RepositoryAccess*> Access(const std::string& repository);
  // With a password, whether unlocked or not.
  absl::StatusOr<RepositoryAccess*> OwnerAccess(const std::string& repository);
  absl::StatusOr<SecretString> Password(const std::string& repository);
  absl::StatusOr<RepositoryAccess::Place> PlaceOf(const std::string& repository);
  // OwnerAccess is possible without asking a person, or unlocked.
  bool CanAccessQuietly(const std::string& repository);

  // All live snapshots, by source and sequence; `source` as SourceMatches.
  absl::StatusOr<std::vector<ListedSnapshot>> ListSnapshots(const std::string& repository, const std::string& source,
                                                            const std::string& id_prefix = "");
  // An id, a unique prefix, or "latest". NOT_FOUND; INVALID_ARGUMENT when several match.
  absl::StatusOr<ListedSnapshot> FindSnapshot(const std::string& repository, const std::string& text,
                                              const std::string& source);
  // DATA_LOSS also when the snapshot is not what the list said of it: then it was chosen by a lie.
  absl::StatusOr<std::unique_ptr<OpenSnapshot>> Open(const std::string& repository, const ListedSnapshot& listed);

 private:
  const CommonOptions& options_;
  Io& io_;
  Stdout out_;
  std::optional<MachinePaths> paths_;
  std::unique_ptr<RepositoryClient> server_;
  std::map<std::string, std::unique_ptr<RepositoryAccess>> agents_, owners_;  // by repository
};

// True when `given` is the label, or the path in the label.
bool SourceMatches(std::string_view label, std::string_view given);
// user@host of this process.
std::string UserAtHost();
// The fields every list of snapshots has.
Json SnapshotJson(const ListedSnapshot& snapshot);
std::string ShortId(const ManifestId& id);
// The last component of the source's path: what a snapshot of a single file is called.
std::string SourceName(const OpenSnapshot& snapshot);
// Marks an error as the caller's: exit status 64 and not 2.
absl::Status AsUsage(absl::Status status);
bool IsUsage(const absl::Status& status);
// The message of a failed command, with what to do about it.
std::string ExplainFailure(const absl::Status& status);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_CONTEXT_H_
