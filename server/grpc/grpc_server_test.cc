#include "server/grpc/grpc_server.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "core/base/limits.h"
#include "core/base/status_testing.h"
#include "core/format/record.h"
#include "core/io/posix.h"
#include "proto/holdfast/v1/message_layout.h"
#include "proto/holdfast/v1/raw_messages.h"
#include "proto/holdfast/v1/service.grpc.pb.h"
#include "proto/holdfast/v1/service.pb.h"
#include "server/grpc/test_services.h"
#include "server/repository/memory_registry.h"
#include "server/repository/repository.h"
#include "server/repository/test_chunks.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

class GrpcServerTest : public testing::Test {
 protected:
  ~GrpcServerTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  absl::StatusOr<std::unique_ptr<GrpcServer>> Start() { return GrpcServer::Start(socket_, registry_, "1.2.3"); }
  // On a connection of its own.
  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel("unix:" + socket_, grpc::InsecureChannelCredentials(), arguments);
  }
  // The version of the server that answers, or an error.
  absl::StatusOr<std::string> Version() const {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(1));
    v1::GetServerInfoReply reply;
    RETURN_IF_ERROR(FromGrpcStatus(v1::HoldfastService::NewStub(NewChannel())->GetServerInfo(&context, {}, &reply)));
    return reply.version();
  }
  // A stream that uploads into a new session of the repository "r", which is made.
  std::unique_ptr<TestStream> NewUpload(std::shared_ptr<grpc::Channel> channel) const {
    auto stub = v1::HoldfastService::NewStub(channel);
    grpc::ClientContext create, open;
    v1::CreateRepositoryReply created;
    EXPECT_OK(FromGrpcStatus(stub->CreateRepository(&create, NewRepositoryRequest("r"), &created)));
    v1::OpenSessionRequest request;
    request.set_repository("r");
    request.set_source("home");
    request.set_agent(1);
    v1::OpenSessionReply session;
    EXPECT_OK(FromGrpcStatus(stub->OpenSession(&open, request, &session)));
    auto stream = std::make_unique<TestStream>(channel, kUploadMethod);
    v1::UploadRequest attach;
    attach.mutable_attach()->set_repository("r");
    attach.mutable_attach()->set_session(session.session());
    EXPECT_TRUE(stream->Write(attach.SerializeAsString()));
    EXPECT_TRUE(stream->Read());
    return stream;
  }
  static mode_t ModeOf(const std::string& path) {
    struct stat st {};
    EXPECT_EQ(::stat(path.c_str(), &st), 0) << path;
    return st.st_mode & 07777;
  }
  bool SocketIsThere() const { return std::filesystem::exists(std::filesystem::symlink_status(socket_)); }
  // What a server leaves that was killed.
  void LeaveStaleSocket() const {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, socket_.c_str(), sizeof(address.sun_path) - 1);
    ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ::close(fd);
    ASSERT_TRUE(SocketIsThere());
  }
  static std::string RecordsMessage(const TestChunk& chunk) {
    v1::UploadRequest request;
    request.set_records(chunk.header_bytes + chunk.body);
    return request.SerializeAsString();
  }

  const std::string directory_ = NewTestDirectory();
  const std::string socket_ = directory_ + "/run/socket";
  MemoryRegistry registry_{PosixIo(), directory_ + "/spool"};
};

TEST_F(GrpcServerTest, ListensWhenStartReturns) {
  auto server = Start();
  ASSERT_OK(server);
  EXPECT_THAT(Version(), IsOkAndHolds("1.2.3"));
}

TEST_F(GrpcServerTest, LetsOnlyItsOwnerIn) {
  auto server = Start();
  ASSERT_OK(server);
  EXPECT_EQ(ModeOf(socket_), 0600u);
  EXPECT_EQ(ModeOf(directory_ + "/run"), 0700u);
}

TEST_F(GrpcServerTest, PreparingListensNotYet) {
  EXPECT_OK(GrpcServer::Prepare(socket_));
  EXPECT_EQ(ModeOf(directory_ + "/run"), 0700u);
  EXPECT_FALSE(SocketIsThere());
}

TEST_F(GrpcServerTest, RefusesADirectoryThatOthersMayEnter) {
  ASSERT_EQ(::mkdir((directory_ + "/run").c_str(), 0755), 0);
  ASSERT_EQ(::chmod((directory_ + "/run").c_str(), 0755), 0);
  EXPECT_THAT(GrpcServer::Prepare(socket_), StatusIs(kPrecondition));
  EXPECT_THAT(Start(), StatusIs(kPrecondition));
  EXPECT_FALSE(SocketIsThere());
}

TEST_F(GrpcServerTest, RefusesPathsThatAreNoneForASocket) {
  for (const std::string& path : {directory_ + "/run/" + std::string(107, 's'), directory_ + "/run/a,b"}) {
    EXPECT_THAT(GrpcServer::Prepare(path), StatusIs(kInvalid));
    EXPECT_THAT(GrpcServer::Start(path, registry_, "1.2.3"), StatusIs(kInvalid));
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/run"));
}

TEST_F(GrpcServerTest, LeavesAServerAloneThatListensThere) {
  auto server = Start();
  ASSERT_OK(server);
  EXPECT_THAT(GrpcServer::Prepare(socket_), StatusIs(kPrecondition, "already listening"));
  EXPECT_THAT(GrpcServer::Start(socket_, registry_, "another"), StatusIs(kPrecondition, "already listening"));
  EXPECT_THAT(Version(), IsOkAndHolds("1.2.3"));
}

TEST_F(GrpcServerTest, LeavesASocketAloneOfWhichItCannotFindOutWhoListens) {
  auto server = Start();
  ASSERT_OK(server);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit no_more_files{0, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &no_more_files), 0);
  const absl::Status prepared = GrpcServer::Prepare(socket_);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_THAT(prepared, StatusIs(kPrecondition));
  EXPECT_THAT(Version(), IsOkAndHolds("1.2.3"));
}

TEST_F(GrpcServerTest, ReplacesASocketThatNobodyListensOn) {
  ASSERT_OK(GrpcServer::Prepare(socket_));
  LeaveStaleSocket();
  auto server = Start();
  ASSERT_OK(server);
  EXPECT_THAT(Version(), IsOkAndHolds("1.2.3"));
}

TEST_F(GrpcServerTest, SaysThatItCannotListen) {
  ASSERT_OK(GrpcServer::Prepare(socket_));
  ASSERT_EQ(::mkdir(socket_.c_str(), 0700), 0);
  EXPECT_THAT(Start(), StatusIs(kUnavailable, "cannot listen on " + socket_));
}

TEST_F(GrpcServerTest, LeavesAFileAloneThatIsNoSocket) {
  ASSERT_OK(GrpcServer::Prepare(socket_));
  std::ofstream(socket_) << "precious";
  EXPECT_THAT(Start(), StatusIs(kUnavailable, "cannot listen on " + socket_));
  EXPECT_TRUE(std::filesystem::is_regular_file(socket_));
}

TEST_F(GrpcServerTest, ListensAtPathsThatAUriWouldSpellOtherwise) {
  const std::string path = directory_ + "/run/a b%41#?";
  auto server = GrpcServer::Start(path, registry_, "1.2.3");
  ASSERT_OK(server);
  EXPECT_EQ(ModeOf(path), 0600u);
}

TEST_F(GrpcServerTest, TakesMessagesOf12MiB) {
  auto server = Start();
  ASSERT_OK(server);
  TestChunk large = TestData(1);
  large.header.sealed_length = kChunkSealedBytesMax;
  large.header_bytes = EncodeRecordHeader(large.header);
  large.body.assign(kChunkSealedBytesMax, 'b');
  auto stream = NewUpload(NewChannel());
  EXPECT_TRUE(stream->Write(RecordsMessage(large)));
  EXPECT_TRUE(stream->Read());

  const std::string most = FieldHeader(v1::UploadRequest::kRecordsFieldNumber, kMessageBytesMax - 5);
  ASSERT_EQ(most.size(), 5u);
  (void)stream->Write(most + std::string(kMessageBytesMax - 5, 'x'));
  EXPECT_THAT(stream->Finish(), StatusIs(kInvalid)) << "it was looked at";
  stream = NewUpload(NewChannel());
  (void)stream->Write(most + std::string(kMessageBytesMax - 4, 'x'));
  EXPECT_THAT(stream->Finish(), StatusIs(absl::StatusCode::kResourceExhausted));
}

// --- Stopping --------------------------------------------------------------------------------------------------------

TEST_F(GrpcServerTest, StoppingRemovesTheSocket) {
  auto server = Start();
  ASSERT_OK(server);
  (*server)->Stop();
  EXPECT_FALSE(SocketIsThere());
  EXPECT_THAT(Version(), StatusIs(kUnavailable));
  (*server)->Stop();
  server = Start();
  ASSERT_OK(server);
  EXPECT_THAT(Version(), IsOkAndHolds("1.2.3"));
}

TEST_F(GrpcServerTest, StopsWhenItIsDestroyed) {
  auto server = Start();
  ASSERT_OK(server);
  server->reset();
  EXPECT_FALSE(SocketIsThere());
}

TEST_F(GrpcServerTest, StoppingLeavesTheSocketOfTheServerThatTookOver) {
  auto server = Start();
  ASSERT_OK(server);
  ASSERT_EQ(::unlink(socket_.c_str()), 0);
  auto next = GrpcServer::Start(socket_, registry_, "next");
  ASSERT_OK(next);
  (*server)->Stop();
  EXPECT_THAT(Version(), IsOkAndHolds("next"));
  EXPECT_FALSE(std::filesystem::exists(socket_ + ".kept"));
  (*next)->Stop();
  EXPECT_FALSE(SocketIsThere());
}

TEST_F(GrpcServerTest, StoppingCutsStreamsOffAndKeepsWhatTheyUploaded) {
  auto server = Start();
  ASSERT_OK(server);
  auto channel = NewChannel();
  auto upload = NewUpload(channel);
  ASSERT_TRUE(upload->Write(RecordsMessage(TestData(1))));
  ASSERT_TRUE(upload->Read());
  TestStream reading(channel, kReadMethod);
  v1::ReadRequest question;
  question.set_repository("r");
  ASSERT_TRUE(reading.Write(question.SerializeAsString()));
  ASSERT_TRUE(reading.Read());

  (*server)->Stop();
  EXPECT_FALSE(upload->Finish().ok());
  EXPECT_FALSE(reading.Finish().ok());
  auto hosted = registry_.Find("r");
  ASSERT_OK(hosted);
  const Principal who{"local"};
  auto session = (*hosted)->engine().OpenSession(who, "home", 1, std::nullopt);
  ASSERT_OK(session) << "the stream no longer holds its session";
  const ChunkId id = TestData(1).id();
  EXPECT_THAT((*hosted)->engine().Have(who, session->id, {&id, 1}), IsOkAndHolds(ElementsAre(HaveAnswer::kOwn)));
}

}  // namespace
}  // namespace holdfast
