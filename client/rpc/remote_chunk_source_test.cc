#include "client/rpc/remote_chunk_source.h"

#include <map>

#include "client/rpc/test_server.h"
#include "core/base/status_testing.h"

namespace holdfast {
namespace {

using ::testing::ElementsAre;

// A server that answers by script.
class ScriptedClient : public InProcessRepositoryClient {
 public:
  struct Question {
    std::vector<ChunkId> ids;
    bool verify, unopenable;
  };
  using Answer = std::function<absl::Status(const Question&, RecordSink&)>;
  explicit ScriptedClient(RepositoryRegistry& registry) : InProcessRepositoryClient(registry) {}
  std::unique_ptr<RecordStream> NewRecordStream() override {
    ++streams;
    return std::make_unique<Stream>(*this);
  }
  int streams = 0;
  std::vector<Question> questions;
  Answer answer;

 private:
  class Stream : public RecordStream {
   public:
    explicit Stream(ScriptedClient& client) : client_(client) {}
    absl::Status Ask(const RecordQuestion& q, RecordSink& sink) override {
      client_.questions.push_back({{q.ids.begin(), q.ids.end()}, q.verify, q.unopenable});
      return client_.answer(client_.questions.back(), sink);
    }

   private:
    ScriptedClient& client_;
  };
};

class Collector : public ChunkSink {
 public:
  absl::Status OnChunk(size_t index, const absl::StatusOr<OpenedChunk>& chunk) override {
    EXPECT_TRUE(got.emplace(index, chunk.ok() ? std::string(chunk->plaintext) : chunk.status().ToString()).second);
    return status;
  }
  std::map<size_t, std::string> got;
  absl::Status status;
};

class RemoteChunkSourceTest : public testing::Test {
 protected:
  ChunkRef Ref(std::string_view plaintext) { return ComputeChunkRef(keys_, ChunkType::kData, {}, plaintext); }
  std::string Record(std::string_view plaintext) {
    std::string record(RecordBytesMax(plaintext.size(), 0), '\0');
    record.resize(RecordSealer(keys_).Seal(ChunkType::kData, Ref(plaintext), {}, plaintext, 1, false, record.data()));
    return record;
  }
  std::string Damaged(std::string_view plaintext) {
    std::string record = Record(plaintext);
    record.back() ^= 1;
    return record;
  }

  TestServer server_;
  const SealingKeys keys_ = TestServer::Keys();
  ScriptedClient client_{server_.registry()};
  RemoteChunkSource source_{client_, "r", keys_.repository};
  Collector sink_;
};

TEST_F(RemoteChunkSourceTest, AsksForAChunkOnceHoweverOftenItIsWanted) {
  client_.answer = [&](const auto& q, RecordSink& sink) -> absl::Status {
    EXPECT_THAT(q.ids, ElementsAre(Ref("a").id, Ref("b").id));
    EXPECT_FALSE(q.verify);
    RETURN_IF_ERROR(sink.OnRecord(Record("b")));
    return sink.OnRecord(Record("a"));
  };
  const std::vector<ChunkRef> refs{Ref("a"), Ref("b"), Ref("a")};
  ASSERT_OK(source_.Fetch(refs, sink_));
  EXPECT_THAT(sink_.got, ElementsAre(testing::Pair(0, "a"), testing::Pair(1, "b"), testing::Pair(2, "a")));
  EXPECT_EQ(client_.questions.size(), 1u);
}

TEST_F(RemoteChunkSourceTest, GivesAChunkOnlyToReferencesWithItsKey) {
  client_.answer = [&](const auto&, RecordSink& sink) { return sink.OnRecord(Record("a")); };
  ChunkRef wrong = Ref("a");
  wrong.key.MutableBytes()[0] ^= 1;
  const std::vector<ChunkRef> refs{wrong, Ref("a"), wrong, Ref("a")};
  ASSERT_OK(source_.Fetch(refs, sink_));
  EXPECT_THAT(sink_.got, ElementsAre(testing::Pair(0, testing::HasSubstr("DATA_LOSS")), testing::Pair(1, "a"),
                                     testing::Pair(2, testing::HasSubstr("DATA_LOSS")), testing::Pair(3, "a")));
  EXPECT_EQ(client_.questions.size(), 1u) << "the record is sound";
}

TEST_F(RemoteChunkSourceTest, AsksInPartsAndKeepsItsStream) {
  client_.answer = [&](const auto& q, RecordSink& sink) -> absl::Status {
    for (const ChunkId& id : q.ids) RETURN_IF_ERROR(sink.OnFailure(id, absl::NotFoundError("none")));
    return absl::OkStatus();
  };
  std::vector<ChunkRef> refs;
  for (int i = 0; i < 1500; ++i) refs.push_back(Ref(absl::StrCat(i)));
  ASSERT_OK(source_.Fetch(refs, sink_));
  EXPECT_EQ(sink_.got.size(), 1500u);
  EXPECT_EQ(client_.questions.size(), 4u) << "two parts, each asked for again";
  ASSERT_OK(source_.Fetch({}, sink_));
  EXPECT_EQ(client_.streams, 1);
}

TEST_F(RemoteChunkSourceTest, ADamagedChunkIsAskedForOnceMoreFromAnotherCopy) {
  client_.answer = [&](const auto& q, RecordSink& sink) -> absl::Status {
    if (!q.verify) {
      RETURN_IF_ERROR(sink.OnRecord(Damaged("a")));
      return sink.OnRecord(Record("b"));
    }
    EXPECT_THAT(q.ids, ElementsAre(Ref("a").id)) << "only what did not open";
    EXPECT_TRUE(q.unopenable) << "so that it is taken again when somebody sends it";
    return sink.OnRecord(Record("a"));
  };
  const std::vector<ChunkRef> refs{Ref("a"), Ref("b")};
  ASSERT_OK(source_.Fetch(refs, sink_));
  EXPECT_THAT(sink_.got, ElementsAre(testing::Pair(0, "a"), testing::Pair(1, "b")));
}

TEST_F(RemoteChunkSourceTest, AChunkThatIsNotThereIsNoDamage) {
  client_.answer = [&](const auto& q, RecordSink& sink) -> absl::Status {
    EXPECT_FALSE(q.unopenable);
    return sink.OnFailure(q.ids[0], absl::NotFoundError("none"));
  };
  const std::vector<ChunkRef> refs{Ref("a")};
  ASSERT_OK(source_.Fetch(refs, sink_));
  EXPECT_THAT(sink_.got, ElementsAre(testing::Pair(0, "NOT_FOUND: none")));
}

TEST_F(RemoteChunkSourceTest, WhatNeverOpensIsDamaged) {
  client_.answer = [&](const auto&, RecordSink& sink) { return sink.OnRecord(Damaged("a")); };
  const std::vector<ChunkRef> refs{Ref("a")};
  ASSERT_OK(source_.Fetch(refs, sink_));
  EXPECT_THAT(sink_.got[0], testing::HasSubstr("DATA_LOSS"));
}

TEST_F(RemoteChunkSourceTest, AnswersToAnotherQuestionAreRefused) {
  const std::vector<ChunkRef> refs{Ref("a")};
  client_.answer = [&](const auto&, RecordSink& sink) { return sink.OnRecord(Record("b")); };
  EXPECT_THAT(source_.Fetch(refs, sink_), StatusIs(absl::StatusCode::kInternal, "malformed"));
  client_.answer = [&](const auto&, RecordSink& sink) { return sink.OnRecord("short"); };
  EXPECT_THAT(source_.Fetch(refs, sink_), StatusIs(absl::StatusCode::kInternal, "malformed"));
  client_.answer = [&](const auto&, RecordSink& sink) { return sink.OnFailure(Ref("b").id, absl::NotFoundError("")); };
  EXPECT_THAT(source_.Fetch(refs, sink_), StatusIs(absl::StatusCode::kInternal, "malformed"));
  client_.answer = [](const auto&, RecordSink&) { return absl::OkStatus(); };
  EXPECT_THAT(source_.Fetch(refs, sink_), StatusIs(absl::StatusCode::kInternal, "did not answer for every chunk"));
  EXPECT_EQ(client_.streams, 4) << "a stream in the middle of an answer is not used again";
}

TEST_F(RemoteChunkSourceTest, ErrorsOfTheServerAndTheSinkEndIt) {
  const std::vector<ChunkRef> refs{Ref("a")};
  client_.answer = [](const auto&, RecordSink&) { return absl::UnavailableError("gone"); };
  EXPECT_THAT(source_.Fetch(refs, sink_), StatusIs(absl::StatusCode::kUnavailable));
  client_.answer = [&](const auto&, RecordSink& sink) { return sink.OnRecord(Record("a")); };
  sink_.status = absl::CancelledError("enough");
  EXPECT_THAT(source_.Fetch(refs, sink_), StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace holdfast
