// One ordered stream of upload messages to the server: the seam between the upload and the network, so that tests need
// no socket. Every message sent is answered by exactly one reply, in order. One thread at a time.
#ifndef HOLDFAST_CLIENT_UPLOAD_UPLOAD_TRANSPORT_H_
#define HOLDFAST_CLIENT_UPLOAD_UPLOAD_TRANSPORT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"

namespace holdfast {

// Memory of the transport's own, into which records are sealed directly.
class RecordBuffer {
 public:
  virtual ~RecordBuffer() = default;
  virtual char* data() = 0;
  virtual size_t capacity() const = 0;
};

struct UploadAnswer {
  std::string have;             // answer to SendHave: a byte per id, 0 = send it; empty for records
  uint64_t appended_bytes = 0;  // answer to SendRecords
};

class UploadTransport {
 public:
  virtual ~UploadTransport() = default;
  virtual absl::Status SendHave(absl::Span<const ChunkId> ids) = 0;
  virtual std::unique_ptr<RecordBuffer> NewBuffer(size_t capacity) = 0;
  // The first `bytes` of the buffer.
  virtual absl::Status SendRecords(std::unique_ptr<RecordBuffer> buffer, size_t bytes) = 0;
  virtual absl::StatusOr<UploadAnswer> Receive() = 0;
  virtual uint64_t credit_bytes() const = 0;  // of records that may be unanswered
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_UPLOAD_UPLOAD_TRANSPORT_H_
