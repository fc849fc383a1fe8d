// What clients send on the streams of ChunkTransfer, parsed by hand: messages of service.proto, in parts. Whatever the
// bytes, the answer is a message or an error, and no more memory than the bytes are worth. Knows no gRPC.
#ifndef HOLDFAST_SERVER_GRPC_TRANSFER_MESSAGES_H_
#define HOLDFAST_SERVER_GRPC_TRANSFER_MESSAGES_H_

#include <cstdint>
#include <deque>
#include <string>
#include <variant>
#include <vector>

#include "core/base/ids.h"
#include "core/base/status.h"
#include "proto/holdfast/v1/message_layout.h"
#include "proto/holdfast/v1/service.pb.h"
#include "server/repository/repository.h"

namespace holdfast {

inline constexpr uint64_t kHaveIdsMax = 65536;              // in an UploadRequest
inline constexpr size_t kRecordsPerMessageMax = 16384;      // in an UploadRequest
inline constexpr uint64_t kReadIdsMax = 4096;               // in a ReadRequest
inline constexpr uint64_t kAttachBytesMax = 64u << 10;      // an AttachSession, serialized
inline constexpr uint64_t kRepositoryBytesMax = 64u << 10;  // of the name in a ReadRequest, whatever names may be

struct RecordBatch {
  std::vector<IncomingRecord> records;  // bodies are views of the message, headers of `headers`
  std::deque<std::string> headers;
  uint64_t bytes = 0;  // of all records
};

using UploadMessage = std::variant<v1::AttachSession, std::vector<ChunkId>, RecordBatch>;

// `attached`: whether the stream has a session, which its first message gives it and no other. FAILED_PRECONDITION: the
// first message is something else; INVALID_ARGUMENT: not a message, or too large. The result is valid as long as what
// `message` shows.
absl::StatusOr<UploadMessage> ParseUploadRequest(MessageReader& message, bool attached);

struct ReadQuestion {
  std::string repository;
  std::vector<ChunkId> ids;
  bool verify = false, unopenable = false;
};

// INVALID_ARGUMENT: not a message, or too large.
absl::StatusOr<ReadQuestion> ParseReadRequest(MessageReader& message);

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_GRPC_TRANSFER_MESSAGES_H_
