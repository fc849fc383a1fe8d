#include "server/daemon/server.h"

#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/base/status_testing.h"
#include "core/base/version.h"
#include "core/crypto/blake3.h"
#include "core/io/posix.h"
#include "proto/holdfast/v1/service.grpc.pb.h"

namespace holdfast {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// An intact blob (docs/format.md, sections 1, 3 and 4).
std::string Blob(std::string_view magic) {
  std::string bytes = absl::StrCat(AbslView(magic), std::string(1, '\0'), std::string(64, 'k'));
  return bytes + std::string(Blake3Digest(bytes).view());
}

sockaddr_un Address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  return address;
}

// The whole answer to a GET; "" when nobody takes it.
std::string HttpGet(const std::string& socket, const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_un address = Address(socket);
  std::string out;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = "GET " + path + " HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    EXPECT_EQ(::send(fd, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    char buffer[4096];
    ssize_t n;
    while ((n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0) out.append(buffer, static_cast<size_t>(n));
  }
  ::close(fd);
  return out;
}

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Not below the test's own folder: paths of sockets are short.
    char name[] = "/tmp/hf_server_XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    options_ = Options("run", "data");
  }
  void TearDown() override {
    server_.reset();
    fs::remove_all(folder_);
  }

  ServerOptions Options(const std::string& run, const std::string& data) {
    ServerOptions options;
    options.config.data_directory = folder_ + "/" + data;
    options.config.socket = folder_ + "/" + run + "/holdfastd.sock";
    options.config.http_socket = folder_ + "/" + run + "/http.sock";
    options.server_id = "the server";
    options.log = [this](std::string_view message) { log_.emplace_back(message); };
    return options;
  }
  absl::Status Start() {
    server_.reset();
    auto server = Server::Start(PosixIo(), options_);
    RETURN_IF_ERROR(server.status());
    server_ = *std::move(server);
    return absl::OkStatus();
  }

  static std::unique_ptr<v1::HoldfastService::Stub> Stub(const std::string& socket) {
    return v1::HoldfastService::NewStub(grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials()));
  }
  // The version that answers at that socket, or the error.
  static std::string GrpcVersion(const std::string& socket) {
    grpc::ClientContext context;
    v1::GetServerInfoReply reply;
    grpc::Status s = Stub(socket)->GetServerInfo(&context, {}, &reply);
    return s.ok() ? reply.version() : s.error_message();
  }
  void CreateRepository(const std::string& name) {
    grpc::ClientContext context;
    v1::CreateRepositoryRequest request;
    request.set_name(name);
    request.set_repository_id(std::string(16, 'i'));
    request.set_aead(1);
    request.set_settings(Blob("HFREPO1"));
    request.set_key_slots(Blob("HFSLOT1"));
    request.set_keyring(Blob("HFRING1"));
    request.set_catalog_key(std::string(32, 'c'));
    v1::CreateRepositoryReply reply;
    grpc::Status s = Stub(options_.config.socket)->CreateRepository(&context, request, &reply);
    EXPECT_TRUE(s.ok()) << s.error_message();
  }
  std::vector<std::string> Repositories() {
    grpc::ClientContext context;
    v1::ListRepositoriesReply reply;
    grpc::Status s = Stub(options_.config.socket)->ListRepositories(&context, {}, &reply);
    EXPECT_TRUE(s.ok()) << s.error_message();
    std::vector<std::string> out;
    for (const v1::RepositoryInfo& info : reply.repositories()) out.push_back(info.name() + ": " + info.error());
    return out;
  }
  void ExpectAnswers() {
    EXPECT_EQ(GrpcVersion(options_.config.socket), kVersion);
    EXPECT_THAT(HttpGet(options_.config.http_socket, "/healthz"), HasSubstr("200 OK"));
  }

  std::string folder_;
  ServerOptions options_;
  std::vector<std::string> log_;
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, AnswersGrpcAndHttpOnSocketsThatAreItsOwnersAlone) {
  ASSERT_OK(Start());
  ExpectAnswers();
  EXPECT_THAT(HttpGet(options_.config.http_socket, "/version"), HasSubstr(kVersion));
  EXPECT_THAT(HttpGet(options_.config.http_socket, "/metrics"), HasSubstr("holdfast_packs 0"));
  for (const std::string& socket : {options_.config.socket, options_.config.http_socket}) {
    struct stat info {};
    ASSERT_EQ(::stat(socket.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u) << socket;
  }
  EXPECT_THAT(log_, Contains(AllOf(HasSubstr("listens on " + options_.config.socket),
                                   HasSubstr("data in " + options_.config.data_directory))));
}

TEST_F(ServerTest, StopsAndStartsAgainWithWhatWasThere) {
  ASSERT_OK(Start());
  CreateRepository("photos");
  EXPECT_THAT(Repositories(), ElementsAre("photos: "));
  server_->Stop();
  server_->Stop();
  EXPECT_EQ(log_.back(), "stopped");
  EXPECT_EQ(std::count(log_.begin(), log_.end(), "stopped"), 1);
  EXPECT_FALSE(fs::exists(options_.config.socket));
  EXPECT_FALSE(fs::exists(options_.config.http_socket));
  ASSERT_OK(Start());
  ExpectAnswers();
  EXPECT_THAT(Repositories(), ElementsAre("photos: "));
}

TEST_F(ServerTest, WaitReturnsOnceAnotherThreadHasStoppedIt) {
  ASSERT_OK(Start());
  std::thread stopper([this] { server_->Stop(); });
  server_->Wait();
  EXPECT_EQ(HttpGet(options_.config.http_socket, "/healthz"), "");
  EXPECT_FALSE(fs::exists(options_.config.socket));
  stopper.join();
}

TEST_F(ServerTest, HttpListensOnLoopbackInsteadWhenThatIsConfigured) {
  options_.config.http_loopback = "127.0.0.1:0";
  ASSERT_OK(Start());
  EXPECT_EQ(GrpcVersion(options_.config.socket), kVersion);
  EXPECT_FALSE(fs::exists(options_.config.http_socket));
  options_.config.http_loopback = "0.0.0.0:0";
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kInvalidArgument, "only loopback"));
}

TEST_F(ServerTest, SaysAtTheStartWhatIsWrongWithRepositories) {
  ASSERT_OK(Start());
  CreateRepository("photos");
  CreateRepository("mail");
  server_.reset();
  const std::string repositories = options_.config.data_directory + "/repositories/";
  std::ofstream(repositories + "photos/config", std::ios::trunc) << "damaged";
  std::ofstream(repositories + "mail/storage/keys/ring-00000001-0", std::ios::trunc) << "damaged";
  fs::remove(repositories + "mail/storage/format/00000001-0");
  fs::remove(repositories + "mail/storage/format/00000001-1");
  log_.clear();
  ASSERT_OK(Start());
  EXPECT_THAT(log_, Contains(HasSubstr("repository photos is not open: the repository's config is damaged")));
  EXPECT_THAT(log_, Contains("repository mail: the repository has no settings"));
  EXPECT_THAT(log_, Contains("repository mail: warning: keys/ring-00000001-0 is damaged"));
  EXPECT_THAT(HttpGet(options_.config.http_socket, "/healthz"), HasSubstr("503"));
  EXPECT_THAT(Repositories(), Contains(HasSubstr("photos: the repository's config is damaged")));
}

// --- Other servers, and places that are not for sockets -------------------------------------------------------------

TEST_F(ServerTest, TwoServersDoNotShareADataDirectory) {
  ASSERT_OK(Start());
  EXPECT_THAT(Server::Start(PosixIo(), Options("run2", "data")),
              StatusIs(absl::StatusCode::kFailedPrecondition, "another holdfastd is using"));
  EXPECT_THAT(log_, Not(Contains("stopped"))) << "it never started";
  EXPECT_FALSE(fs::exists(folder_ + "/run2/holdfastd.sock"));
  ExpectAnswers();
  EXPECT_OK(Server::Start(PosixIo(), Options("run2", "data2"))) << "two servers in one process";
  ExpectAnswers();
}

TEST_F(ServerTest, TwoServersDoNotShareASocket) {
  ASSERT_OK(Start());
  EXPECT_THAT(Server::Start(PosixIo(), Options("run", "data2")),
              StatusIs(absl::StatusCode::kFailedPrecondition, "already listening on " + options_.config.socket));
  EXPECT_FALSE(fs::exists(folder_ + "/data2")) << "found out before anything is opened";
  ServerOptions other = Options("run2", "data2");
  other.config.http_socket = options_.config.http_socket;
  EXPECT_THAT(Server::Start(PosixIo(), other),
              StatusIs(absl::StatusCode::kAlreadyExists, "answers at " + options_.config.http_socket));
  ExpectAnswers();
}

TEST_F(ServerTest, RefusesPlacesThatAreNotForSocketsAndKeepsNothing) {
  const auto refused = [this](const std::string& socket, absl::StatusCode code, const std::string& why) {
    ServerOptions options = options_;
    options.config.socket = socket;
    EXPECT_THAT(Server::Start(PosixIo(), options), StatusIs(code, why));
  };
  refused(folder_ + "/" + std::string(120, 'x') + "/s", absl::StatusCode::kInvalidArgument, "only 107 fit");
  refused(folder_ + "/a,b/s", absl::StatusCode::kInvalidArgument, "has a comma");
  fs::create_directory(folder_ + "/open");
  ASSERT_EQ(::chmod((folder_ + "/open").c_str(), 0755), 0);
  refused(folder_ + "/open/s", absl::StatusCode::kFailedPrecondition, "chmod 700 " + folder_ + "/open");
  std::ofstream(folder_ + "/file") << "x";
  refused(folder_ + "/file/s", absl::StatusCode::kFailedPrecondition, folder_ + "/file must be a directory");
  EXPECT_FALSE(fs::exists(options_.config.data_directory));

  ServerOptions options = options_;
  options.config.http_socket = folder_ + "/run/" + std::string(120, 'x');
  EXPECT_THAT(Server::Start(PosixIo(), options), StatusIs(absl::StatusCode::kInvalidArgument, "HTTP socket path"));
  // Whatever a failed start had is free again.
  ASSERT_OK(Start());
  ExpectAnswers();
}

TEST_F(ServerTest, ReplacesSocketsThatNobodyListensOn) {
  fs::create_directory(folder_ + "/run");
  ASSERT_EQ(::chmod((folder_ + "/run").c_str(), 0700), 0);
  for (const std::string& socket : {options_.config.socket, options_.config.http_socket}) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_un address = Address(socket);
    ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    ::close(fd);
    ASSERT_TRUE(fs::exists(socket));
  }
  ASSERT_OK(Start());
  ExpectAnswers();
}

}  // namespace
}  // namespace holdfast
