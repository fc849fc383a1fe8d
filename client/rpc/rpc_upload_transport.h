// UploadTransport over a ChunkTransfer.Upload stream.
#ifndef HOLDFAST_CLIENT_RPC_RPC_UPLOAD_TRANSPORT_H_
#define HOLDFAST_CLIENT_RPC_RPC_UPLOAD_TRANSPORT_H_

#include <memory>
#include <string>

#include "client/rpc/connection.h"
#include "client/upload/upload_transport.h"

namespace holdfast {

class RpcUploadTransport : public UploadTransport {
 public:
  // Attaches to the session. `connection` is borrowed.
  static absl::StatusOr<std::unique_ptr<RpcUploadTransport>> Open(Connection& connection, const std::string& repository,
                                                                  const std::string& session, uint64_t credit_bytes);
  absl::Status SendHave(absl::Span<const ChunkId> ids) override;
  std::unique_ptr<RecordBuffer> NewBuffer(size_t capacity) override;
  absl::Status SendRecords(std::unique_ptr<RecordBuffer> buffer, size_t bytes) override;
  absl::StatusOr<UploadAnswer> Receive() override;
  uint64_t credit_bytes() const override { return credit_bytes_; }

 private:
  RpcUploadTransport(std::unique_ptr<RawStream> stream, uint64_t credit_bytes)
      : stream_(std::move(stream)), credit_bytes_(credit_bytes) {}
  std::unique_ptr<RawStream> stream_;
  const uint64_t credit_bytes_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_RPC_UPLOAD_TRANSPORT_H_
