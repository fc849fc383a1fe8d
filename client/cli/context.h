// What every command needs: the options that all have, the server, the keys, the snapshot that was meant.
#ifndef HOLDFAST_CLIENT_CLI_CONTEXT_H_
#define HOLDFAST_CLIENT_CLI_CONTEXT_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/output.h"
#include "client/cli/password.h"
#include "client/keys/repository_access.h"
#include "client/rpc/repository_client.h"
#include "client/snapshots/open_snapshot.h"
#include "client/snapshots/snapshot_list.h"
#include "core/io/io.h"
#include "core/io/machine_paths.h"

namespace holdfast {

struct CommonOptions {
  std::string server;  // empty: HOLDFAST_SERVER, else this machine's default
  PasswordSources password;
  bool json = false;
};

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

  // As the functions of client/snapshots, with this command's server and keys. `source` is as a person gave it.
  absl::StatusOr<std::vector<ListedSnapshot>> ListSnapshots(const std::string& repository, const std::string& source);
  absl::StatusOr<ListedSnapshot> FindSnapshot(const std::string& repository, const std::string& text,
                                              const std::string& source);
  absl::StatusOr<std::unique_ptr<OpenSnapshot>> Open(const std::string& repository, const ListedSnapshot& listed);

 private:
  const CommonOptions& options_;
  Io& io_;
  Stdout out_;
  std::optional<MachinePaths> paths_;
  std::unique_ptr<RepositoryClient> server_;
  std::map<std::string, std::unique_ptr<RepositoryAccess>> agents_, owners_;  // by repository
};

// user@host of this process.
std::string UserAtHost();
// The fields every list of snapshots has.
Json SnapshotJson(const ListedSnapshot& snapshot);

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_CLI_CONTEXT_H_
