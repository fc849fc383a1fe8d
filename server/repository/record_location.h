// From what the index says to what the pack reader takes.
#ifndef HOLDFAST_SERVER_REPOSITORY_RECORD_LOCATION_H_
#define HOLDFAST_SERVER_REPOSITORY_RECORD_LOCATION_H_

#include "server/index/chunk_index.h"
#include "storage/pack/pack_reader.h"

namespace holdfast {

inline RecordLocation ToRecordLocation(const ChunkLocation& l, const ChunkId& id) {
  RecordLocation out;
  out.kind = l.kind;
  out.pack = l.pack;
  out.frame_number = l.frame_number;
  out.body_offset = l.body_offset;
  out.sealed_length = l.sealed_length;
  out.child_count = l.child_count;
  out.id = id;
  return out;
}

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_RECORD_LOCATION_H_
