// RecordStream over a ChunkTransfer.Read stream.
#ifndef HOLDFAST_CLIENT_RPC_RPC_RECORD_STREAM_H_
#define HOLDFAST_CLIENT_RPC_RPC_RECORD_STREAM_H_

#include <memory>
#include <string>

#include "client/rpc/connection.h"
#include "client/rpc/record_stream.h"

namespace holdfast {

class RpcRecordStream : public RecordStream {
 public:
  explicit RpcRecordStream(std::unique_ptr<RawStream> stream) : stream_(std::move(stream)) {}
  // INTERNAL: the answer cannot be parsed.
  absl::Status Ask(const RecordQuestion& question, RecordSink& sink) override;

 private:
  // One message of the answer; true: it was the last one.
  absl::StatusOr<bool> ReadMessage(RecordSink& sink);

  const std::unique_ptr<RawStream> stream_;
  std::string record_;  // keeps its memory
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_RPC_RECORD_STREAM_H_
