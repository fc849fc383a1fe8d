// ChunkTransfer: the bulk of the bytes, on raw slices. A thread per stream, which blocks; credit bounds what a stream
// may have unanswered, and HTTP/2 flow control does the rest.
#ifndef HOLDFAST_SERVER_GRPC_TRANSFER_SERVICE_H_
#define HOLDFAST_SERVER_GRPC_TRANSFER_SERVICE_H_

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/support/sync_stream.h>

#include "server/repository/registry.h"

namespace holdfast {

inline constexpr uint64_t kUploadCreditBytes = 12u << 20;  // per stream

class TransferService final : public grpc::Service {
 public:
  using Stream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

  explicit TransferService(RepositoryRegistry& registry);  // borrowed

 private:
  grpc::Status Upload(grpc::ServerContext* context, Stream* stream);
  grpc::Status Read(grpc::ServerContext* context, Stream* stream);

  RepositoryRegistry& registry_;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_GRPC_TRANSFER_SERVICE_H_
