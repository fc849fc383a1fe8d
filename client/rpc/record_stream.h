// One ordered stream of questions for chunk records: the seam between reading and the network.
#ifndef HOLDFAST_CLIENT_RPC_RECORD_STREAM_H_
#define HOLDFAST_CLIENT_RPC_RECORD_STREAM_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/base/status.h"

namespace holdfast {

struct RecordQuestion {
  static constexpr size_t kIdsMax = 4096;

  std::string_view repository;
  absl::Span<const ChunkId> ids;  // at most kIdsMax, each once
  bool verify = false;            // compare with the stored digests and look for an undamaged copy
  bool unopenable = false;  // the reader got them and could open none: they are taken again when somebody sends them
};

// An error returned ends the answer with that error.
class RecordSink {
 public:
  virtual ~RecordSink() = default;
  // Header and sealed body; valid during the call. Nobody has looked at it: it may be anything.
  virtual absl::Status OnRecord(std::string_view record) = 0;
  // NOT_FOUND or DATA_LOSS.
  virtual absl::Status OnFailure(const ChunkId& id, const absl::Status& failure) = 0;
};

// One thread at a time.
class RecordStream {
 public:
  virtual ~RecordStream() = default;
  // An honest server answers every id once, in any order. After an error the stream may be in the middle of an answer:
  // it is not used again. UNAVAILABLE: the server went away.
  virtual absl::Status Ask(const RecordQuestion& question, RecordSink& sink) = 0;
};

}  // namespace holdfast

#endif  // HOLDFAST_CLIENT_RPC_RECORD_STREAM_H_
