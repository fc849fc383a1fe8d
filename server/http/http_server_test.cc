#include "server/http/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "core/base/status_testing.h"
#include "httplib.h"

namespace holdfast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class HttpServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Not below the test's own folder: paths of sockets are short.
    char name[] = "/tmp/hf_http_XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    options_.unix_socket = folder_ + "/run/http.sock";
    options_.io_timeout = absl::Seconds(2);
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }
  absl::Status Start() {
    auto server = HttpServer::Start(options_, routes_);
    if (server.ok()) server_ = *std::move(server);
    return server.status();
  }
  httplib::Client Client() {
    httplib::Client client(options_.unix_socket);
    client.set_address_family(AF_UNIX);
    client.set_connection_timeout(2);
    client.set_read_timeout(5);
    return client;
  }
  int Connect() {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, options_.unix_socket.c_str());
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const timeval limit{10, 0};
    EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    return fd;
  }
  static std::string Exchange(int fd, std::string_view request) {
    (void)::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
    return ReadAll(fd);
  }
  static std::string ReadAll(int fd) {
    std::string out;
    char buffer[4096];
    ssize_t n;
    while ((n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0) out.append(buffer, n);
    ::close(fd);
    return out;
  }

  std::string folder_;
  HttpServerOptions options_;
  std::vector<HttpRoute> routes_ = {
      {"GET", "/version",
       [](const HttpRequest&) {
         return HttpReply{200, "text/plain", "1.2.3\n"};
       }},
      {"POST", "/echo",
       [](const HttpRequest& request) {
         return HttpReply{201, "text/html", request.body + "!"};
       }},
  };
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersByItsRoutes) {
  ASSERT_OK(Start());
  auto client = Client();
  auto res = client.Get("/version");
  ASSERT_TRUE(res);
  EXPECT_EQ(res->status, 200);
  EXPECT_EQ(res->body, "1.2.3\n");
  EXPECT_EQ(res->get_header_value("Content-Type"), "text/plain");
  EXPECT_EQ(res->get_header_value("Cache-Control"), "no-store");
  EXPECT_EQ(res->get_header_value("X-Content-Type-Options"), "nosniff");
  res = client.Head("/version");
  ASSERT_TRUE(res);
  EXPECT_EQ(res->status, 200);
  EXPECT_EQ(res->body, "");
  res = client.Post("/echo", "hello", "text/plain");
  ASSERT_TRUE(res);
  EXPECT_EQ(res->status, 201);
  EXPECT_EQ(res->body, "hello!");
  EXPECT_EQ(res->get_header_value("Content-Type"), "text/html");
}

TEST_F(HttpServerTest, EachMethodHasRoutesOfItsOwn) {
  for (const char* method : {"GET", "POST", "PUT", "DELETE"}) {
    routes_.push_back({method, "/same", [method](const HttpRequest&) { return HttpReply{200, "text/plain", method}; }});
  }
  ASSERT_OK(Start());
  auto client = Client();
  EXPECT_EQ(client.Get("/same")->body, "GET");
  EXPECT_EQ(client.Post("/same", "", "text/plain")->body, "POST");
  EXPECT_EQ(client.Put("/same", "", "text/plain")->body, "PUT");
  EXPECT_EQ(client.Delete("/same")->body, "DELETE");
  EXPECT_EQ(client.Patch("/same", "", "text/plain")->status, 404);
}

TEST_F(HttpServerTest, RefusesRoutesThatAreNone) {
  const auto good = routes_;
  for (const auto& [method, path] : std::vector<std::pair<std::string, std::string>>{
           {"get", "/x"}, {"", "/x"}, {"TRACE", "/x"}, {"GET", ""}, {"GET", "x"}, {"GET", "/.*"}, {"GET", "/a b"}}) {
    routes_ = good;
    routes_.push_back({method, path, [](const HttpRequest&) { return HttpReply(); }});
    EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kInvalidArgument)) << method << " " << path;
  }
  EXPECT_FALSE(std::filesystem::exists(options_.unix_socket));
}

TEST_F(HttpServerTest, AHandlerThatThrowsIsAnErrorOfTheServer) {
  routes_.push_back({"GET", "/throws", [](const HttpRequest&) -> HttpReply { throw std::runtime_error("oh"); }});
  ASSERT_OK(Start());
  auto res = Client().Get("/throws");
  ASSERT_TRUE(res);
  EXPECT_EQ(res->status, 500);
  EXPECT_EQ(res->body, "");
  EXPECT_TRUE(Client().Get("/version"));
}

TEST_F(HttpServerTest, OtherPathsAndMethodsAreNotFound) {
  ASSERT_OK(Start());
  auto client = Client();
  for (const char* path : {"/", "/version/x", "/versio", "/version/../etc/passwd", "/nothing", "/echo"}) {
    auto res = client.Get(path);
    ASSERT_TRUE(res) << path;
    EXPECT_EQ(res->status, 404) << path;
  }
  auto res = client.Post("/version", "x", "text/plain");
  ASSERT_TRUE(res);
  EXPECT_EQ(res->status, 404);
}

TEST_F(HttpServerTest, SocketAndItsNewFolderAreForTheOwnerOnly) {
  ASSERT_OK(Start());
  struct stat info {};
  ASSERT_EQ(::stat(options_.unix_socket.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(::stat((folder_ + "/run").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  server_->Stop();
  EXPECT_FALSE(std::filesystem::exists(options_.unix_socket));
}

TEST_F(HttpServerTest, ReplacesAStaleSocketButNotALiveOneOrAFile) {
  ASSERT_OK(Start());
  auto first = std::move(server_);
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_TRUE(Client().Get("/version")) << "the first one still answers";
  first.reset();

  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, options_.unix_socket.c_str());
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ::close(fd);
  ASSERT_TRUE(std::filesystem::exists(options_.unix_socket));
  ASSERT_OK(Start());
  EXPECT_TRUE(Client().Get("/version"));
  server_.reset();

  std::ofstream(options_.unix_socket) << "precious";
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_TRUE(std::filesystem::exists(options_.unix_socket));
}

TEST_F(HttpServerTest, RefusesAFolderThatOthersMayWriteAndBadPaths) {
  std::filesystem::create_directory(folder_ + "/run");
  ::chmod((folder_ + "/run").c_str(), 0777);
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kFailedPrecondition));
  options_.unix_socket = folder_ + "/" + std::string(120, 'x');
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kInvalidArgument));
  options_.unix_socket = "";
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(HttpServerTest, ListensOnLoopbackTcpOnly) {
  options_.unix_socket = "";
  for (const char* address : {"0.0.0.0:0", "10.0.0.1:80", "[::]:0", "[2001:db8::1]:80", "example.org:80", ":80",
                              "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:-1", "128.0.0.1:80", "[::1]"}) {
    options_.loopback_address = address;
    EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kInvalidArgument)) << address;
  }
  options_.loopback_address = "127.0.0.1:0";
  ASSERT_OK(Start());
  ASSERT_GT(server_->port(), 0);
  httplib::Client client("127.0.0.1", server_->port());
  auto res = client.Get("/version");
  ASSERT_TRUE(res);
  EXPECT_EQ(res->status, 200);
  auto first = std::move(server_);
  options_.loopback_address = absl::StrCat("127.0.0.1:", first->port());
  EXPECT_THAT(Start(), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(HttpServerTest, OversizedRequestsAreRefusedAndTheServerGoesOn) {
  ASSERT_OK(Start());
  auto client = Client();
  auto res = client.Post("/echo", std::string(options_.body_bytes_max + 1, 'x'), "text/plain");
  if (res) {
    EXPECT_EQ(res->status, 413);
  }

  // A start line, a header line and many headers, each without an end.
  for (std::string request :
       {"GET /" + std::string(1 << 20, 'a'), "GET /version HTTP/1.1\r\nX: " + std::string(1 << 20, 'b'), [] {
          std::string s = "GET /version HTTP/1.1\r\n";
          for (int i = 0; i < 20000; ++i) absl::StrAppend(&s, "h", i, ": v\r\n");
          return s;
        }()}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THAT(Exchange(Connect(), request), Not(HasSubstr("200 OK")));
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4));
  }
  // A chunked body says no length.
  std::string chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 100; ++i) chunked += "1000\r\n" + std::string(0x1000, 'x') + "\r\n";
  EXPECT_THAT(Exchange(Connect(), chunked), Not(HasSubstr("200 OK")));
  EXPECT_TRUE(Client().Get("/version"));
}

TEST_F(HttpServerTest, NonsenseIsRefusedAndTheServerGoesOn) {
  ASSERT_OK(Start());
  for (std::string_view request :
       {std::string_view("\0\0\0\0\r\n\r\n", 8), std::string_view("GET\r\n\r\n"),
        std::string_view("GET /version HTTP/9.9\r\n\r\n"), std::string_view("\r\n\r\n\r\n"),
        std::string_view("GET /version HTTP/1.1\r\nRange: bytes=0-9999999999999999999999\r\n\r\n"),
        std::string_view("POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string_view("POST /x HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\nx")}) {
    const int fd = Connect();
    (void)::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
    ::shutdown(fd, SHUT_WR);
    ReadAll(fd);
  }
  EXPECT_TRUE(Client().Get("/version"));
}

TEST_F(HttpServerTest, ClientsThatDripBytesAreCutOff) {
  options_.workers = 1;
  options_.io_timeout = absl::Milliseconds(400);
  ASSERT_OK(Start());
  const int fd = Connect();
  bool cut_off = false;
  std::thread drip([fd, &cut_off] {
    // Longer than the client below waits.
    for (int i = 0; i < 200 && !cut_off; ++i) {
      (void)::send(fd, "G", 1, MSG_NOSIGNAL);
      pollfd p{fd, POLLIN, 0};
      cut_off = ::poll(&p, 1, 50) > 0;
    }
  });
  auto res = Client().Get("/version");  // the only worker gets free in time
  EXPECT_TRUE(res);
  drip.join();
  EXPECT_TRUE(cut_off);
  ::close(fd);
}

TEST_F(HttpServerTest, ConnectionsAboveTheQueueAreClosed) {
  options_.workers = 1;
  options_.queued_connections_max = 2;
  options_.io_timeout = absl::Seconds(30);
  absl::Notification busy, go_on;
  routes_.push_back({"GET", "/busy", [&](const HttpRequest&) {
                       busy.Notify();
                       go_on.WaitForNotification();
                       return HttpReply{200, "text/plain", "done"};
                     }});
  ASSERT_OK(Start());
  const int first = Connect();
  constexpr std::string_view kRequest = "GET /busy HTTP/1.1\r\nHost: x\r\n\r\n";
  (void)::send(first, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
  busy.WaitForNotification();
  std::vector<int> others;
  for (int i = 0; i < 5; ++i) others.push_back(Connect());
  char c;
  for (int i = 2; i < 5; ++i) EXPECT_EQ(::recv(others[i], &c, 1, 0), 0) << i;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(::recv(others[i], &c, 1, MSG_DONTWAIT), -1) << i;
  go_on.Notify();
  EXPECT_THAT(ReadAll(first), HasSubstr("done"));
  EXPECT_THAT(Exchange(others[0], "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"), HasSubstr("1.2.3")) << "it had waited";
  for (int i = 1; i < 5; ++i) ::close(others[i]);
}

TEST_F(HttpServerTest, StopsWhileClientsHang) {
  options_.io_timeout = absl::Seconds(60);
  ASSERT_OK(Start());
  std::vector<int> hanging;
  for (int i = 0; i < 10; ++i) hanging.push_back(Connect());
  constexpr std::string_view kRequest =
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
  for (int fd : hanging) (void)::send(fd, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
  // Every worker has the header of one and waits for a body.
  for (int i = 0; i < options_.workers; ++i) {
    char reply[64] = "";
    EXPECT_GT(::recv(hanging[i], reply, sizeof(reply) - 1, 0), 0);
    EXPECT_THAT(std::string(reply), HasSubstr("100 Continue"));
  }
  const auto start = std::chrono::steady_clock::now();
  server_->Stop();
  server_->Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
  for (int fd : hanging) ::close(fd);
}

TEST_F(HttpServerTest, ServesManyClientsAtOnce) {
  std::atomic<int> ok{0};
  ASSERT_OK(Start());
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        auto res = Client().Get("/version");
        if (res && res->status == 200) ++ok;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(ok, 200);
}

}  // namespace
}  // namespace holdfast
