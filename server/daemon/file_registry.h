// The repositories of this server as folders of its data directory: <data>/repositories/<name>/{config, storage, spool,
// index}. `config` holds the repository id, the AEAD and the catalog key, sealed under <data>/server.key (0600).
#ifndef HOLDFAST_SERVER_DAEMON_FILE_REGISTRY_H_
#define HOLDFAST_SERVER_DAEMON_FILE_REGISTRY_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "core/crypto/types.h"
#include "core/io/io.h"
#include "server/repository/registry.h"

namespace holdfast {

struct FileRegistryOptions {
  std::string data_directory;
  std::string server_id;
  std::function<void(std::string_view)> crash_point;
};

class FileRegistry : public RepositoryRegistry {
 public:
  // Opens every repository; one that cannot be opened is listed with its error and does not stop the others.
  // FAILED_PRECONDITION when another server uses the data directory; DATA_LOSS when server.key is damaged, or missing
  // while there are repositories.
  static absl::StatusOr<std::unique_ptr<FileRegistry>> Open(Io io, FileRegistryOptions options);
  ~FileRegistry() override;

  // One that is there and cannot be opened says why, unless it is known to be another's. Overwrites nothing but what
  // IsUnfinished.
  absl::Status Create(const NewRepository& request) override;
  // One that could not be opened is tried again, at most every few seconds.
  absl::StatusOr<std::shared_ptr<HostedRepository>> Find(std::string_view name) override;
  std::vector<std::shared_ptr<HostedRepository>> List() override;

 private:
  FileRegistry(Io io, FileRegistryOptions options) : io_(io), options_(std::move(options)) {}
  std::string Folder(std::string_view name) const;
  absl::Status LoadServerKey();
  absl::Status CheckNothingNeedsTheKey() const;
  // Keys without a config and without a log are what a server left that died while it created a repository: nobody was
  // told that it exists, and nothing can be in it. Changes nothing.
  absl::StatusOr<bool> IsUnfinished(std::string_view name) const;
  absl::Status CreateAnew(const NewRepository& request);  // has no config
  // Only when somebody creates a repository of that name.
  absl::Status RemoveUnfinished(std::string_view name);
  std::shared_ptr<HostedRepository> OpenHosted(const std::string& name);
  absl::Status OpenAndList(const std::string& name);
  std::shared_ptr<HostedRepository> Hosted(std::string_view name);
  bool MayTryAgain(const std::string& name);
  absl::Status OpenParts(const std::string& name, HostedRepository::Parts& parts);

  const Io io_;
  const FileRegistryOptions options_;
  Key256 server_key_;
  int lock_fd_ = -1;

  absl::Mutex create_mu_ ABSL_ACQUIRED_BEFORE(mu_);  // one Create or reopening at a time
  absl::Mutex mu_;
  std::map<std::string, std::shared_ptr<HostedRepository>, std::less<>> repositories_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, absl::Duration, std::less<>> tried_ ABSL_GUARDED_BY(mu_);  // monotonic: last attempt to open
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_DAEMON_FILE_REGISTRY_H_
